#include "look_up.h"

#include <string.h>

#include "vectors.h"

enum { LINE = 64 };

#define VBMI __attribute__((target("avx512f,avx512bw,avx512vl,avx512vbmi")))

VBMI static void look_up_vectors(const uint8_t *table, const uint8_t *from, int64_t from_step, uint8_t *to,
                                 int64_t to_step, int64_t each, int64_t count) {
    __m512i t[4];
    for (int i = 0; i < 4; i++) t[i] = _mm512_loadu_si512(table + i * LINE);
    for (; count--; from += from_step, to += to_step)
        for (int64_t i = 0; i < each; i += LINE) {
            const __mmask64 there = first_bytes(each - i);
            const __m512i v = _mm512_maskz_loadu_epi8(there, from + i);
            const __m512i low = _mm512_permutex2var_epi8(t[0], v, t[1]);
            const __m512i high = _mm512_permutex2var_epi8(t[2], v, t[3]);
            const __m512i found = _mm512_mask_blend_epi8(_mm512_movepi8_mask(v), low, high);
            _mm512_mask_storeu_epi8(to + i, there, found);
        }
}

VECTOR static void copy_vectors(const uint8_t *from, int64_t from_step, uint8_t *to, int64_t to_step,
                              int64_t each, int64_t count) {
    for (; count--; from += from_step, to += to_step)
        for (int64_t i = 0; i < each; i += LINE) {
            const __mmask64 there = first_bytes(each - i);
            _mm512_mask_storeu_epi8(to + i, there, _mm512_maskz_loadu_epi8(there, from + i));
        }
}

void copy_runs(const uint8_t *table, const uint8_t *from, int64_t from_step, uint8_t *to, int64_t to_step,
               int64_t each, int64_t count) {
    if (!table)
        copy_vectors(from, from_step, to, to_step, each, count);
    else if (__builtin_cpu_supports("avx512vbmi"))
        look_up_vectors(table, from, from_step, to, to_step, each, count);
    else
        for (; count--; from += from_step, to += to_step)
            for (int64_t i = 0; i < each; i++) to[i] = table[from[i]];
}

void look_up(const uint8_t *table, uint8_t *y, int64_t count) { copy_runs(table, y, 0, y, 0, count, 1); }
