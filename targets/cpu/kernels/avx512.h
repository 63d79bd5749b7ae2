/* How functions say that they need AVX512-VNNI, which is found out before they are called. */
#pragma once
#include <immintrin.h>
#include <stdint.h>

#define VNNI __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")))
#define INLINE VNNI static inline __attribute__((always_inline))

/* The first `count` of 64 bytes, or all of them. */
static inline __mmask64 first_bytes(int64_t count) {
    return count < 64 ? ((__mmask64)1 << count) - 1 : ~(__mmask64)0;
}

/* e to the power of x, within some units in the last place; 0 below -150 and infinite from 128 on. */
INLINE __m512 exponential(__m512 x) {
    /* The second where one is NaN. */
    const __m512 safe = _mm512_max_ps(_mm512_set1_ps(-150), _mm512_min_ps(_mm512_set1_ps(128), x));
    const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(safe, _mm512_set1_ps(1.44269504f)), 8);
    __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375f), safe);
    r = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.12194440e-4f), r);
    __m512 sum = _mm512_set1_ps(1.f / 720);
    const float terms[] = {1.f / 120, 1.f / 24, 1.f / 6, 0.5f, 1, 1};
#pragma GCC unroll 6
    for (int i = 0; i < 6; i++) sum = _mm512_fmadd_ps(sum, r, _mm512_set1_ps(terms[i]));
    return _mm512_scalef_ps(sum, n);
}

/* [16, 16] of one row after another to one column after another. */
INLINE void transpose_floats(__m512 r[16]) {
    __m512 t[16];
#pragma GCC unroll 4
    for (int i = 0; i < 16; i += 4) {
        const __m512d a = _mm512_castps_pd(_mm512_unpacklo_ps(r[i], r[i + 1]));
        const __m512d b = _mm512_castps_pd(_mm512_unpackhi_ps(r[i], r[i + 1]));
        const __m512d c = _mm512_castps_pd(_mm512_unpacklo_ps(r[i + 2], r[i + 3]));
        const __m512d d = _mm512_castps_pd(_mm512_unpackhi_ps(r[i + 2], r[i + 3]));
        t[i] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, c));
        t[i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, c));
        t[i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(b, d));
        t[i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(b, d));
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        const __m512 even = _mm512_shuffle_f32x4(t[i], t[4 + i], 0x88);
        const __m512 odd = _mm512_shuffle_f32x4(t[i], t[4 + i], 0xdd);
        const __m512 later_even = _mm512_shuffle_f32x4(t[8 + i], t[12 + i], 0x88);
        const __m512 later_odd = _mm512_shuffle_f32x4(t[8 + i], t[12 + i], 0xdd);
        r[i] = _mm512_shuffle_f32x4(even, later_even, 0x88);
        r[4 + i] = _mm512_shuffle_f32x4(odd, later_odd, 0x88);
        r[8 + i] = _mm512_shuffle_f32x4(even, later_even, 0xdd);
        r[12 + i] = _mm512_shuffle_f32x4(odd, later_odd, 0xdd);
    }
}
