/* The vectors of the form that a kernel is compiled in: AVX512-VNNI, or with VECTORS_256 those of 256 bits.
 *
 * A kernel is written once, for vectors of LANES words. MM(add_ps) is _mm512_add_ps or _mm256_add_ps; what has
 * another name in one of them has one here. VECTOR says that a function needs the instructions of the form, and
 * FORM(name) is what others call it by. */
#pragma once
#ifdef VECTORS_256
#include "avx2.h"
#else
#include "avx512.h"
#endif

/* e to the power of x, within some units in the last place; 0 below -150 and infinite from 128 on. */
INLINE Floats exponential(Floats x) {
    /* The second where one is NaN. */
    const Floats safe = MM(max_ps)(MM(set1_ps)(-150), MM(min_ps)(MM(set1_ps)(128), x));
    const Floats n = to_whole(MM(mul_ps)(safe, MM(set1_ps)(1.44269504f)));
    Floats r = MM(fnmadd_ps)(n, MM(set1_ps)(0.693359375f), safe);
    r = MM(fnmadd_ps)(n, MM(set1_ps)(-2.12194440e-4f), r);
    Floats sum = MM(set1_ps)(1.f / 720);
    const float terms[] = {1.f / 120, 1.f / 24, 1.f / 6, 0.5f, 1, 1};
#pragma GCC unroll 6
    for (int i = 0; i < 6; i++) sum = MM(fmadd_ps)(sum, r, MM(set1_ps)(terms[i]));
    return scaled(sum, n);
}
