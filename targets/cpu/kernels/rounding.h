/* Floats over a scale as bytes, as onnxruntime's QuantizeLinear rounds them. */
#pragma once
#include "vectors.h"

typedef struct {
    __m512 scale, inverse;
    __m512i zero;
} Rounding;

INLINE Rounding rounding_of(float scale, uint8_t zero) {
    return (Rounding){_mm512_set1_ps(scale), _mm512_set1_ps(1 / scale), _mm512_set1_epi16(zero)};
}

/* Sixteen bytes of a, then of b: to the nearest, even ones of two, plus zero, clipped; what is no number is 0. Of
 * a quotient the product with 1 / scale is off by less than a 10000th, where it is not above 255: it is rounded to
 * the same integer but near halves, where there is a division. */
INLINE __m256i rounded(const Rounding *r, __m512 a, __m512 b) {
    __m512 x = _mm512_mul_ps(a, r->inverse), y = _mm512_mul_ps(b, r->inverse);
    const __m512 left = _mm512_range_ps(_mm512_reduce_ps(x, 0), _mm512_reduce_ps(y, 0), 11); /* the farther one */
    if (_mm512_cmp_ps_mask(left, _mm512_set1_ps(0.4999f), _CMP_GT_OQ))
        x = _mm512_div_ps(a, r->scale), y = _mm512_div_ps(b, r->scale);
    /* None is above what an int32 can be, which becomes the least, as does what is no number. */
    const __m512 most = _mm512_set1_ps(32767);
    const __m512i first = _mm512_cvtps_epi32(_mm512_min_ps(most, x));
    const __m512i second = _mm512_cvtps_epi32(_mm512_min_ps(most, y));
    const __m512i words = _mm512_adds_epi16(_mm512_packs_epi32(first, second), r->zero);
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 0, 0, 0, 0, 0, 0, 0, 0);
    return _mm512_castsi512_si256(_mm512_permutexvar_epi32(order, _mm512_packus_epi16(words, words)));
}
