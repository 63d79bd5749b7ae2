/* Vectors of 8 words, for functions that need AVX2 and FMA, or with WITH_AVX_VNNI that too. */
#pragma once
#include <immintrin.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#if defined WITH_AVX_VNNI && defined VNNI_OF_AVX512 /* the same instructions, encoded for what tests run on */
#define VECTOR __attribute__((target("avx2,fma,avx512f,avx512vl,avx512vnni")))
#define VEX
#elif defined WITH_AVX_VNNI
#define VECTOR __attribute__((target("avx2,fma,avxvnni")))
#define VEX "%{vex%} "
#else
#define VECTOR __attribute__((target("avx2,fma")))
#endif
#define INLINE VECTOR static inline __attribute__((always_inline))
#ifdef WITH_AVX_VNNI
#define FORM(name) name##_avx_vnni
#else
#define FORM(name) name##_avx2
#endif
#define MM(name) _mm256_##name

enum {
    LANES = 8,
    REGISTERS = 16,
/* Products that `accumulate` may add up before `added_up`: 16 bits hold those of eight times two pairs of bytes,
 * one of them below 16. */
#ifdef WITH_AVX_VNNI
    TOGETHER_AT_MOST = INT32_MAX
#else
    TOGETHER_AT_MOST = 8
#endif
};

typedef __m256 Floats;
typedef __m256i Ints, Mask;

INLINE Ints load_ints(const void *at) { return _mm256_loadu_si256(at); }
INLINE void store_ints(void *at, Ints x) { _mm256_storeu_si256(at, x); }
INLINE Ints and_ints(Ints a, Ints b) { return _mm256_and_si256(a, b); }
INLINE Ints zero_ints(void) { return _mm256_setzero_si256(); }
INLINE Ints four_times(__m128i x) { return _mm256_broadcastsi128_si256(x); }
INLINE Ints lane_numbers(void) { return _mm256_set_epi32(7, 6, 5, 4, 3, 2, 1, 0); }
INLINE float first_of(Floats x) { return _mm256_cvtss_f32(x); }

INLINE int32_t largest_int(Ints x) {
    __m128i y = _mm_max_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
    y = _mm_max_epi32(y, _mm_shuffle_epi32(y, 0x4e));
    return _mm_cvtsi128_si32(_mm_max_epi32(y, _mm_shuffle_epi32(y, 0xb1)));
}
INLINE int32_t sum_of_ints(Ints x) {
    __m128i y = _mm_add_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
    y = _mm_add_epi32(y, _mm_shuffle_epi32(y, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(y, _mm_shuffle_epi32(y, 0xb1)));
}
INLINE float largest_of(Floats x) {
    __m128 y = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    y = _mm_max_ps(y, _mm_movehl_ps(y, y));
    return _mm_cvtss_f32(_mm_max_ss(y, _mm_movehdup_ps(y)));
}
INLINE float least_of(Floats x) {
    __m128 y = _mm_min_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    y = _mm_min_ps(y, _mm_movehl_ps(y, y));
    return _mm_cvtss_f32(_mm_min_ss(y, _mm_movehdup_ps(y)));
}
INLINE float sum_of(Floats x) {
    __m128 y = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    y = _mm_add_ps(y, _mm_movehl_ps(y, y));
    return _mm_cvtss_f32(_mm_add_ss(y, _mm_movehdup_ps(y)));
}

INLINE Mask below_lane(int64_t count) {
    const int64_t some = count < 0 ? 0 : count < LANES ? count : LANES;
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int32_t)some), lane_numbers());
}
/* The first `count` lanes, all if there are fewer; lanes [from, to). */
INLINE Mask first_lanes(int64_t count) { return below_lane(count); }
INLINE Mask lanes_between(int64_t from, int64_t to) {
    return _mm256_andnot_si256(below_lane(from), below_lane(to));
}
/* Lanes whose key is in [from, to), those where a < b, and whether some entries are not equal. */
INLINE Mask within(Ints key, Ints from, Ints to) {
    return _mm256_andnot_si256(_mm256_cmpgt_epi32(from, key), _mm256_cmpgt_epi32(to, key));
}
INLINE Mask is_below(Floats a, Floats b) { return _mm256_castps_si256(_mm256_cmp_ps(a, b, _CMP_LT_OQ)); }
INLINE bool differ(Floats a, Floats b) { return _mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_NEQ_UQ)); }
/* Lanes where a > b, or one is no number; where a is none; and lanes of two masks. */
INLINE Mask is_above(Floats a, Floats b) { return _mm256_castps_si256(_mm256_cmp_ps(a, b, _CMP_NLE_UQ)); }
INLINE Mask is_none(Floats a) { return _mm256_castps_si256(_mm256_cmp_ps(a, a, _CMP_UNORD_Q)); }
INLINE Mask either(Mask a, Mask b) { return _mm256_or_si256(a, b); }

INLINE Floats choose(Mask mask, Floats yes, Floats no) {
    return _mm256_blendv_ps(no, yes, _mm256_castsi256_ps(mask));
}
INLINE Floats load_lanes(Mask mask, const float *at) { return _mm256_maskload_ps(at, mask); }
INLINE Ints load_int_lanes(Mask mask, const int32_t *at) { return _mm256_maskload_epi32(at, mask); }
INLINE void store_lanes(float *at, Mask mask, Floats x) { _mm256_maskstore_ps(at, mask, x); }

/* A vector of bytes, of which `left` are there and the others 0; up to 8 of them, likewise. */
INLINE Ints load_bytes(const uint8_t *at, int64_t left) {
    if (left >= 32) return load_ints(at);
    uint8_t some[32] = {0};
    memcpy(some, at, (size_t)left);
    return load_ints(some);
}
INLINE __m128i load_few_bytes(const uint8_t *at, int64_t count) {
    int64_t some = 0;
    if (count == 8)
        memcpy(&some, at, 8);
    else if (count == 4)
        memcpy(&some, at, 4);
    else if (count == 2)
        memcpy(&some, at, 2);
    else
        memcpy(&some, at, (size_t)count);
    return _mm_cvtsi64_si128(some);
}

INLINE __m128i to_int16(Ints x) {
    return _mm_packs_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
}
INLINE __m128i to_int8(Ints x) {
    const __m128i words = to_int16(x);
    return _mm_packs_epi16(words, words);
}
/* Lanes to the nearest of int8 or int16, and small integers as floats. */
INLINE void store_int8(void *at, Ints x) { _mm_storel_epi64(at, to_int8(x)); }
INLINE void store_int16(void *at, Ints x) { _mm_storeu_si128(at, to_int16(x)); }
INLINE Floats floats_of_int8(const void *at) {
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(at)));
}
/* As of uint8, but of two bytes each. */
INLINE __m128i to_uint8(Ints x) {
    const __m128i words = _mm_packus_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
    return _mm_min_epu16(words, _mm_set1_epi16(255));
}
INLINE Floats floats_of_uint8(__m128i x) { return _mm256_cvtepi32_ps(_mm256_cvtepu16_epi32(x)); }
/* Of integers of 4 bits, which plus 8 are halves of bytes, low first. */
INLINE void store_int4(void *at, Ints x) {
    x = _mm256_min_epi32(_mm256_max_epi32(x, _mm256_set1_epi32(-8)), _mm256_set1_epi32(7));
    const __m128i levels = _mm_add_epi8(to_int8(x), _mm_set1_epi8(8));
    const __m128i pairs = _mm_maddubs_epi16(levels, _mm_set1_epi16(16 << 8 | 1));
    const int32_t bytes = _mm_cvtsi128_si32(_mm_packus_epi16(pairs, pairs));
    memcpy(at, &bytes, sizeof bytes);
}
INLINE Floats floats_of_int4(const void *at) {
    int32_t bytes;
    memcpy(&bytes, at, sizeof bytes);
    const __m128i pairs = _mm_cvtsi32_si128(bytes), half = _mm_set1_epi8(15);
    const __m128i low = _mm_and_si128(pairs, half), high = _mm_and_si128(_mm_srli_epi16(pairs, 4), half);
    const __m128i levels = _mm_sub_epi8(_mm_unpacklo_epi8(low, high), _mm_set1_epi8(8));
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(levels));
}

INLINE Floats to_whole(Floats x) {
    return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
INLINE Floats power_of_two(Ints n) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(127)), 23));
}
/* x times 2 to the power of n, a whole number between -250 and 250, in two steps of which only the second one
 * rounds. */
INLINE Floats scaled(Floats x, Floats n) {
    const Ints whole = _mm256_cvtps_epi32(n), half = _mm256_srai_epi32(whole, 1);
    x = _mm256_mul_ps(x, power_of_two(half));
    return _mm256_mul_ps(x, power_of_two(_mm256_sub_epi32(whole, half)));
}

/* sum + products of bytes, of which `a` are unsigned, or with `size` 2 of int16: four, or two, to a word; but
 * without VNNI products of bytes are added up in halves of words, two to each. */
INLINE Ints add_products(Ints sum, Ints a, Ints b, const int64_t size) {
#ifdef WITH_AVX_VNNI
    if (size == 2)
        __asm__(VEX "vpdpwssd %2, %1, %0" : "+x"(sum) : "x"(a), "xm"(b));
    else
        __asm__(VEX "vpdpbusd %2, %1, %0" : "+x"(sum) : "x"(a), "xm"(b));
    return sum;
#else
    return size == 2 ? _mm256_add_epi32(sum, _mm256_madd_epi16(a, b))
                     : _mm256_add_epi16(sum, _mm256_maddubs_epi16(a, b));
#endif
}
/* The same in this order: gcc multiplies all before it adds, for which there are not registers enough. */
INLINE void accumulate(Ints *sum, Ints a, Ints b, const int64_t size) {
#ifdef WITH_AVX_VNNI
    *sum = add_products(*sum, a, b, size);
#else
    Ints both;
    if (size == 2)
        __asm__("vpmaddwd %3, %2, %1\n\tvpaddd %1, %0, %0" : "+x"(*sum), "=&x"(both) : "x"(a), "x"(b));
    else
        __asm__("vpmaddubsw %3, %2, %1\n\tvpaddw %1, %0, %0" : "+x"(*sum), "=&x"(both) : "x"(a), "x"(b));
#endif
}
/* What sums of products begin with after a word was reached, and the word with what they came to. */
INLINE Ints begun(Ints word, const int64_t size) {
    return size == 2 || TOGETHER_AT_MOST == INT32_MAX ? word : zero_ints();
}
INLINE Ints added_up(Ints word, Ints sum, const int64_t size) {
    if (size == 2 || TOGETHER_AT_MOST == INT32_MAX) return sum;
    return _mm256_add_epi32(word, _mm256_madd_epi16(sum, _mm256_set1_epi16(1)));
}

/* The even words of two vectors, and the odd ones. */
INLINE void halve(Ints *a, Ints *b) {
    const Floats x = _mm256_castsi256_ps(*a), y = _mm256_castsi256_ps(*b);
    *a = _mm256_permute4x64_epi64(_mm256_castps_si256(_mm256_shuffle_ps(x, y, 0x88)), 0xd8);
    *b = _mm256_permute4x64_epi64(_mm256_castps_si256(_mm256_shuffle_ps(x, y, 0xdd)), 0xd8);
}

/* The word of `words` that a lane names; there are four of them. */
INLINE Ints named(Ints lanes, __m128i words) {
    return _mm256_permutevar8x32_epi32(_mm256_castsi128_si256(words), lanes);
}

/* `each` floats, each in as many lanes. */
INLINE Floats spread(const float *at, const int64_t each) {
    switch (each) {
        case 2:
            return _mm256_blend_ps(_mm256_broadcast_ss(at), _mm256_broadcast_ss(at + 1), 0xf0);
        case 4:
            return _mm256_permutevar8x32_ps(_mm256_castps128_ps256(_mm_loadu_ps(at)),
                                            _mm256_srli_epi32(lane_numbers(), 1));
        default:
            return _mm256_broadcast_ss(at);
    }
}

/* The sums of four vectors. */
INLINE __m128 sums_of_four(const Floats r[4]) {
    const Floats all = _mm256_hadd_ps(_mm256_hadd_ps(r[0], r[1]), _mm256_hadd_ps(r[2], r[3]));
    return _mm_add_ps(_mm256_castps256_ps128(all), _mm256_extractf128_ps(all, 1));
}

/* The sums of as many vectors as have lanes. */
INLINE Floats sums_of(Floats r[LANES]) {
    const Floats a = _mm256_hadd_ps(_mm256_hadd_ps(r[0], r[1]), _mm256_hadd_ps(r[2], r[3]));
    const Floats b = _mm256_hadd_ps(_mm256_hadd_ps(r[4], r[5]), _mm256_hadd_ps(r[6], r[7]));
    return _mm256_add_ps(_mm256_permute2f128_ps(a, b, 0x20), _mm256_permute2f128_ps(a, b, 0x31));
}

/* Rows of a square matrix to its columns: floats, and words. */
INLINE void transpose_floats(Floats r[LANES]) {
    Floats t[LANES];
#pragma GCC unroll 2
    for (int i = 0; i < LANES; i += 4) {
        const Floats a = _mm256_unpacklo_ps(r[i], r[i + 1]), b = _mm256_unpackhi_ps(r[i], r[i + 1]);
        const Floats c = _mm256_unpacklo_ps(r[i + 2], r[i + 3]), d = _mm256_unpackhi_ps(r[i + 2], r[i + 3]);
        t[i] = _mm256_shuffle_ps(a, c, 0x44), t[i + 1] = _mm256_shuffle_ps(a, c, 0xee);
        t[i + 2] = _mm256_shuffle_ps(b, d, 0x44), t[i + 3] = _mm256_shuffle_ps(b, d, 0xee);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        r[i] = _mm256_permute2f128_ps(t[i], t[i + 4], 0x20);
        r[i + 4] = _mm256_permute2f128_ps(t[i], t[i + 4], 0x31);
    }
}

INLINE void transpose(Ints r[LANES]) {
    Floats t[LANES];
#pragma GCC unroll 8
    for (int i = 0; i < LANES; i++) t[i] = _mm256_castsi256_ps(r[i]);
    transpose_floats(t);
#pragma GCC unroll 8
    for (int i = 0; i < LANES; i++) r[i] = _mm256_castps_si256(t[i]);
}
