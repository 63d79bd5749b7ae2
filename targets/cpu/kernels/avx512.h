/* Vectors of 16 words, for functions that need AVX512-VNNI, which is found out before they are called. */
#pragma once
#include <immintrin.h>
#include <stdbool.h>
#include <stdint.h>

#define VECTOR __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")))
#define INLINE VECTOR static inline __attribute__((always_inline))
#define FORM(name) name##_avx512
#define MM(name) _mm512_##name

/* The first `count` of 64 bytes, or all of them. */
static inline __mmask64 first_bytes(int64_t count) {
    return count < 64 ? ((__mmask64)1 << count) - 1 : ~(__mmask64)0;
}

enum {
    LANES = 16,
    REGISTERS = 32,
    TOGETHER_AT_MOST = INT32_MAX /* products that `accumulate` may add up before `add_up` */
};

typedef __m512 Floats;
typedef __m512i Ints;
typedef __mmask16 Mask;

INLINE Ints load_ints(const void *at) { return _mm512_loadu_si512(at); }
INLINE void store_ints(void *at, Ints x) { _mm512_storeu_si512(at, x); }
INLINE Ints and_ints(Ints a, Ints b) { return _mm512_and_si512(a, b); }
INLINE Ints zero_ints(void) { return _mm512_setzero_si512(); }
INLINE Ints four_times(__m128i x) { return _mm512_broadcast_i32x4(x); }
INLINE Ints lane_numbers(void) {
    return _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
}
INLINE int32_t largest_int(Ints x) { return _mm512_reduce_max_epi32(x); }
INLINE int32_t sum_of_ints(Ints x) { return _mm512_reduce_add_epi32(x); }
INLINE float largest_of(Floats x) { return _mm512_reduce_max_ps(x); }
INLINE float least_of(Floats x) { return _mm512_reduce_min_ps(x); }
INLINE float sum_of(Floats x) { return _mm512_reduce_add_ps(x); }
INLINE float first_of(Floats x) { return _mm512_cvtss_f32(x); }

/* The first `count` lanes, all if there are fewer; lanes [from, to). */
INLINE Mask first_lanes(int64_t count) {
    return count < LANES ? (Mask)((1u << (count > 0 ? count : 0)) - 1) : (Mask)0xffff;
}
INLINE Mask lanes_between(int64_t from, int64_t to) { return first_lanes(to) & ~first_lanes(from); }
/* Lanes whose key is in [from, to), those where a < b, and whether some entries are not equal. */
INLINE Mask within(Ints key, Ints from, Ints to) {
    return _mm512_cmplt_epi32_mask(key, to) & ~_mm512_cmplt_epi32_mask(key, from);
}
INLINE Mask is_below(Floats a, Floats b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
INLINE bool differ(Floats a, Floats b) { return _mm512_cmpneq_ps_mask(a, b); }
/* Lanes where a > b, or one is no number; where a is none; and lanes of two masks. */
INLINE Mask is_above(Floats a, Floats b) { return _mm512_cmp_ps_mask(a, b, _CMP_NLE_UQ); }
INLINE Mask is_none(Floats a) { return _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q); }
INLINE Mask either(Mask a, Mask b) { return a | b; }

INLINE Floats choose(Mask mask, Floats yes, Floats no) { return _mm512_mask_mov_ps(no, mask, yes); }
INLINE Floats load_lanes(Mask mask, const float *at) { return _mm512_maskz_loadu_ps(mask, at); }
INLINE Ints load_int_lanes(Mask mask, const int32_t *at) { return _mm512_maskz_loadu_epi32(mask, at); }
INLINE void store_lanes(float *at, Mask mask, Floats x) { _mm512_mask_storeu_ps(at, mask, x); }

/* A vector of bytes, of which `left` are there and the others 0; up to 16 of them, likewise. */
INLINE Ints load_bytes(const uint8_t *at, int64_t left) {
    return _mm512_maskz_loadu_epi8(first_bytes(left), at);
}
INLINE __m128i load_few_bytes(const uint8_t *at, int64_t count) {
    return _mm_maskz_loadu_epi8((__mmask16)((1u << count) - 1), at);
}

/* Lanes to the nearest of int8 or int16, and small integers as floats. */
INLINE void store_int8(void *at, Ints x) { _mm_storeu_si128(at, _mm512_cvtsepi32_epi8(x)); }
INLINE void store_int16(void *at, Ints x) { _mm256_storeu_si256(at, _mm512_cvtsepi32_epi16(x)); }
INLINE Floats floats_of_int8(const void *at) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(at)));
}
INLINE __m128i to_uint8(Ints x) { return _mm512_cvtusepi32_epi8(_mm512_max_epi32(x, _mm512_setzero_si512())); }
INLINE Floats floats_of_uint8(__m128i x) { return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(x)); }
/* Of integers of 4 bits, which plus 8 are halves of bytes, low first. */
INLINE void store_int4(void *at, Ints x) {
    x = _mm512_min_epi32(_mm512_max_epi32(x, _mm512_set1_epi32(-8)), _mm512_set1_epi32(7));
    x = _mm512_add_epi32(x, _mm512_set1_epi32(8));
    _mm_storel_epi64(at, _mm512_cvtepi64_epi8(_mm512_or_si512(x, _mm512_srli_epi64(x, 28))));
}
INLINE Floats floats_of_int4(const void *at) {
    const __m128i pairs = _mm_loadl_epi64(at), half = _mm_set1_epi8(15);
    const __m128i low = _mm_and_si128(pairs, half), high = _mm_and_si128(_mm_srli_epi16(pairs, 4), half);
    const __m128i levels = _mm_sub_epi8(_mm_unpacklo_epi8(low, high), _mm_set1_epi8(8));
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(levels));
}

INLINE Floats to_whole(Floats x) { return _mm512_roundscale_ps(x, 8); }
/* x times 2 to the power of n, a whole number. */
INLINE Floats scaled(Floats x, Floats n) { return _mm512_scalef_ps(x, n); }

/* sum + products of bytes, of which `a` are unsigned, or with `size` 2 of int16: four, or two, to a word. */
INLINE Ints add_products(Ints sum, Ints a, Ints b, const int64_t size) {
    return size == 2 ? _mm512_dpwssd_epi32(sum, a, b) : _mm512_dpbusd_epi32(sum, a, b);
}
/* The same without the copy of every sum to another register that gcc makes: a fifth of the speed. */
INLINE void accumulate(Ints *sum, Ints a, Ints b, const int64_t size) {
    if (size == 2)
        __asm__("vpdpwssd %2, %1, %0" : "+v"(*sum) : "v"(a), "v"(b));
    else
        __asm__("vpdpbusd %2, %1, %0" : "+v"(*sum) : "v"(a), "v"(b));
}
/* What sums of products begin with after a word was reached, and the word with what they came to. */
INLINE Ints begun(Ints word, const int64_t size) { return (void)size, word; }
INLINE Ints added_up(Ints word, Ints sum, const int64_t size) { return (void)word, (void)size, sum; }

/* The even words of two vectors, and the odd ones. */
INLINE void halve(Ints *a, Ints *b) {
    const __m512i even = _mm512_set_epi32(30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
    const __m512i first = _mm512_permutex2var_epi32(*a, even, *b);
    *b = _mm512_permutex2var_epi32(*a, _mm512_add_epi32(even, _mm512_set1_epi32(1)), *b);
    *a = first;
}

/* The word of `words` that a lane names; there are four of them. */
INLINE Ints named(Ints lanes, __m128i words) {
    return _mm512_permutexvar_epi32(lanes, _mm512_castsi128_si512(words));
}

/* `each` floats, each in as many lanes. */
INLINE Floats spread(const float *at, const int64_t each) {
    switch (each) {
        case 2:
            return _mm512_mask_mov_ps(_mm512_set1_ps(at[0]), 0xff00, _mm512_set1_ps(at[1]));
        case 4:
            return _mm512_permutexvar_ps(_mm512_srli_epi32(lane_numbers(), 2),
                                         _mm512_castps128_ps512(_mm_loadu_ps(at)));
        case 8:
            return _mm512_permutexvar_ps(_mm512_srli_epi32(lane_numbers(), 1),
                                         _mm512_castps256_ps512(_mm256_loadu_ps(at)));
        default:
            return _mm512_set1_ps(at[0]);
    }
}

/* The sums of four vectors. */
INLINE __m128 sums_of_four(const Floats r[4]) {
    const __m512d a =
        _mm512_castps_pd(_mm512_add_ps(_mm512_unpacklo_ps(r[0], r[1]), _mm512_unpackhi_ps(r[0], r[1])));
    const __m512d b =
        _mm512_castps_pd(_mm512_add_ps(_mm512_unpacklo_ps(r[2], r[3]), _mm512_unpackhi_ps(r[2], r[3])));
    __m512 all =
        _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(a, b)), _mm512_castpd_ps(_mm512_unpackhi_pd(a, b)));
    all = _mm512_add_ps(all, _mm512_shuffle_f32x4(all, all, 0x4e));
    return _mm512_castps512_ps128(_mm512_add_ps(all, _mm512_shuffle_f32x4(all, all, 0xb1)));
}

/* The sums of as many vectors as have lanes. */
INLINE Floats sums_of(Floats r[LANES]) {
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++)
        r[i] = _mm512_add_ps(_mm512_unpacklo_ps(r[2 * i], r[2 * i + 1]),
                             _mm512_unpackhi_ps(r[2 * i], r[2 * i + 1]));
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        const __m512d a = _mm512_castps_pd(r[2 * i]), b = _mm512_castps_pd(r[2 * i + 1]);
        r[i] = _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(a, b)),
                             _mm512_castpd_ps(_mm512_unpackhi_pd(a, b)));
    }
#pragma GCC unroll 2
    for (int i = 0; i < 2; i++)
        r[i] = _mm512_add_ps(_mm512_shuffle_f32x4(r[2 * i], r[2 * i + 1], 0x88),
                             _mm512_shuffle_f32x4(r[2 * i], r[2 * i + 1], 0xdd));
    return _mm512_add_ps(_mm512_shuffle_f32x4(r[0], r[1], 0x88), _mm512_shuffle_f32x4(r[0], r[1], 0xdd));
}

/* Rows of a square matrix to its columns: floats, and words. */
INLINE void transpose_floats(Floats r[LANES]) {
    Floats t[LANES];
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

INLINE void transpose(Ints r[LANES]) {
    Ints t[LANES];
    for (int i = 0; i < LANES; i += 2) {
        t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
    }
    for (int i = 0; i < LANES; i += 4) {
        r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
        r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
        r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
        r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    for (int i = 0; i < 4; i++) {
        t[i] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0x88);
        t[i + 4] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0xdd);
        t[i + 8] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0x88);
        t[i + 12] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0xdd);
    }
    for (int i = 0; i < 4; i++) {
        r[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
        r[i + 4] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0x88);
        r[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd);
        r[i + 12] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0xdd);
    }
}
