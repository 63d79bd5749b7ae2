/* Floats over a scale as bytes, as onnxruntime's QuantizeLinear rounds them. */
#pragma once
#include "avx512.h"

typedef struct {
    __m512 scale, inverse, least, most;
    __m512i zero;
} Rounding;

INLINE Rounding rounding_of(float scale, uint8_t zero) {
    return (Rounding){_mm512_set1_ps(scale), _mm512_set1_ps(1 / scale), _mm512_set1_ps((float)-zero),
                      _mm512_set1_ps((float)(255 - zero)), _mm512_set1_epi32(zero)};
}

/* To the nearest, even ones of two, plus zero, clipped; what is no number is 0. Of a quotient the product with
 * 1 / scale is off by less than a 10000th, where it is not above 255: it is rounded to the same integer but near
 * halves, where there is a division. */
INLINE __m128i rounded(const Rounding *r, __m512 exact) {
    __m512 over = _mm512_mul_ps(exact, r->inverse);
    const __m512 left = _mm512_abs_ps(_mm512_sub_ps(over, _mm512_roundscale_ps(over, 0)));
    if (_mm512_cmp_ps_mask(left, _mm512_set1_ps(0.4999f), _CMP_GT_OQ)) over = _mm512_div_ps(exact, r->scale);
    const __m512i whole = _mm512_cvtps_epi32(_mm512_min_ps(_mm512_max_ps(over, r->least), r->most));
    return _mm512_cvtepi32_epi8(_mm512_add_epi32(whole, r->zero));
}
