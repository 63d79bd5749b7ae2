#include "attention.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "avx512.h"

enum {
    LANES = 16,
    ROWS = 64, /* pairs of a token and a head that meet keys together */
    KEYS = 64, /* at a time */
    FEW = 12,  /* rows up to which keys are not transposed */
    TALL = 6,  /* rows of a tile of sums that stay in registers, */
    BROAD = 4, /* and its vectors */
    LINE = 64  /* bytes */
};

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t most(int64_t a, int64_t b) { return a < b ? b : a; }

static int64_t valid(const Attention *a, int64_t text) {
    return a->valid ? a->valid[text] : least(a->tokens, a->last[text] + 1);
}
static int64_t before(const Attention *a, int64_t text) { return a->last[text] + 1 - valid(a, text); }
static int64_t tiles(const Attention *a) { return (a->tokens * (a->heads / a->kv_heads) + ROWS - 1) / ROWS; }

/* Sums of `rows` rows and `vectors` vectors: c [+]= a [rows, depth] times b [depth, LANES * vectors]. */
INLINE void tile(const int rows, const int vectors, const bool add, int64_t depth, const float *a,
                 int64_t a_row, const float *b, int64_t b_row, float *c, int64_t c_row) {
    __m512 sums[TALL][BROAD];
#pragma GCC unroll 6
    for (int m = 0; m < rows; m++)
#pragma GCC unroll 4
        for (int n = 0; n < vectors; n++)
            sums[m][n] = add ? _mm512_loadu_ps(c + m * c_row + n * LANES) : _mm512_setzero_ps();
    for (int64_t k = 0; k < depth; k++) {
        __m512 row[BROAD];
#pragma GCC unroll 4
        for (int n = 0; n < vectors; n++) row[n] = _mm512_loadu_ps(b + k * b_row + n * LANES);
#pragma GCC unroll 6
        for (int m = 0; m < rows; m++) {
            const __m512 one = _mm512_set1_ps(a[m * a_row + k]);
#pragma GCC unroll 4
            for (int n = 0; n < vectors; n++) sums[m][n] = _mm512_fmadd_ps(one, row[n], sums[m][n]);
        }
    }
#pragma GCC unroll 6
    for (int m = 0; m < rows; m++)
#pragma GCC unroll 4
        for (int n = 0; n < vectors; n++) _mm512_storeu_ps(c + m * c_row + n * LANES, sums[m][n]);
}

#define TILES_OF(DO, ROWS) DO(ROWS, 1) DO(ROWS, 2) DO(ROWS, 3) DO(ROWS, 4)
#define EACH_TILE(DO) \
    TILES_OF(DO, 1) TILES_OF(DO, 2) TILES_OF(DO, 3) TILES_OF(DO, 4) TILES_OF(DO, 5) TILES_OF(DO, 6)
#define KIND(ROWS, VECTORS) ((ROWS) * 8 + (VECTORS))

INLINE void product(const bool add, int64_t rows, int64_t width, int64_t depth, const float *a, int64_t a_row,
                    const float *b, int64_t b_row, float *c, int64_t c_row) {
    for (int64_t m = 0; m < rows; m += TALL)
        for (int64_t n = 0; n < width; n += BROAD * LANES) {
            const float *x = a + m * a_row, *w = b + n;
            float *y = c + m * c_row + n;
            switch (KIND(least(TALL, rows - m), least(BROAD, (width - n) / LANES))) {
#define CASE(HIGH, WIDE)                                            \
    case KIND(HIGH, WIDE):                                          \
        tile(HIGH, WIDE, add, depth, x, a_row, w, b_row, y, c_row); \
        break;
                EACH_TILE(CASE)
#undef CASE
            }
        }
}

VNNI static void scores_of(int64_t rows, int64_t size, const float *queries, const float *keys,
                           float *scores) {
    product(false, rows, KEYS, size, queries, size, keys, KEYS, scores, KEYS);
}

VNNI static void add_values(int64_t rows, int64_t size, int64_t keys, const float *weights,
                            const float *values, float *sums) {
    product(true, rows, size, keys, weights, KEYS, values, size, sums, size);
}

/* 16 numbers of the cache from an element on. */
INLINE __m512 cached(const void *cache, int64_t at, const bool int8) {
    if (!int8) return _mm512_loadu_ps((const float *)cache + at);
    const __m128i bytes = _mm_loadu_si128((const __m128i *)((const int8_t *)cache + at));
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes));
}

/* [16, 16] of one row after another to one column after another. */
INLINE void transpose(__m512 r[LANES]) {
    __m512 t[LANES];
#pragma GCC unroll 4
    for (int i = 0; i < LANES; i += 4) {
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

/* Asks for `bytes` bytes. */
INLINE void ask_for(const char *at, int64_t bytes) {
    for (int64_t i = 0; i < bytes; i += LINE) _mm_prefetch(at + i, _MM_HINT_T0);
}

/* Keys [count, size] to [size, KEYS], with zeros for those that are missing; the next keys and values are
 * asked for meanwhile. */
INLINE void turn(const char *keys, const char *values, int64_t count, int64_t size, const bool int8,
                 float *out) {
    const int64_t strip = LANES * size * (int8 ? 1 : 4);
    for (int64_t j = 0; j < KEYS; j += LANES, keys += strip, values += strip) {
        ask_for(keys + KEYS / LANES * strip, strip);
        ask_for(values + KEYS / LANES * strip, strip);
        for (int64_t d = 0; d < size; d += LANES) {
            __m512 r[LANES];
#pragma GCC unroll 16
            for (int64_t i = 0; i < LANES; i++)
                r[i] = j + i < count ? cached(keys, i * size + d, int8) : _mm512_setzero_ps();
            transpose(r);
#pragma GCC unroll 16
            for (int64_t i = 0; i < LANES; i++) _mm512_store_ps(out + (d + i) * KEYS + j, r[i]);
        }
    }
}

/* The sums of 16 vectors. */
INLINE __m512 sums_of(__m512 r[LANES]) {
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

/* As `scores_of`, from keys [count, size] as they lie: for few rows. The next keys and values are asked for
 * meanwhile. */
INLINE void few_scores_of(int64_t rows, int64_t size, const float *queries, const char *keys, int64_t count,
                          const bool int8, const char *next_keys, const char *next_values, float *scores) {
    const int64_t bytes = int8 ? 1 : 4, strip = LANES * size * bytes,
                  part = (strip / rows + LINE - 1) / LINE * LINE;
    _Alignas(LINE) float wide[LANES * ATTENTION_SIZE];
    for (int64_t j = 0; j < count; j += LANES, next_keys += strip, next_values += strip) {
        const int64_t here = least(LANES, count - j);
        const float *at = (const float *)keys + j * size;
        if (int8) {
            for (int64_t i = 0; i < here * size; i += LANES)
                _mm512_store_ps(wide + i, cached(keys, j * size + i, true));
            at = wide;
        }
        for (int64_t r = 0; r < rows; r++) {
            for (int64_t i = r * part; i < least(strip, (r + 1) * part); i += LINE) {
                _mm_prefetch(next_keys + i, _MM_HINT_T0);
                _mm_prefetch(next_values + i, _MM_HINT_T0);
            }
            const float *query = queries + r * size;
            __m512 sums[LANES];
#pragma GCC unroll 16
            for (int64_t i = 0; i < LANES; i++) sums[i] = _mm512_setzero_ps();
            for (int64_t d = 0; d < size; d += LANES) {
                const __m512 q = _mm512_loadu_ps(query + d);
#pragma GCC unroll 16
                for (int64_t i = 0; i < LANES; i++)
                    sums[i] =
                        _mm512_fmadd_ps(q, _mm512_loadu_ps(at + least(i, here - 1) * size + d), sums[i]);
            }
            _mm512_storeu_ps(scores + r * KEYS + j, sums_of(sums));
        }
    }
}

/* cap * tanh(x / cap). */
INLINE __m512 capped(__m512 x, float cap) {
    const __m512 two = _mm512_set1_ps(2), one = _mm512_set1_ps(1);
    const __m512 power = exponential(_mm512_mul_ps(x, _mm512_set1_ps(2 / cap)));
    return _mm512_mul_ps(_mm512_set1_ps(cap),
                         _mm512_sub_ps(one, _mm512_div_ps(two, _mm512_add_ps(power, one))));
}

/* Scores of a row to weights, those of keys outside [from, to) to 0; what earlier sums are to be multiplied
 * by. `largest` is of all scores so far, `total` of all weights. */
INLINE float weigh(float *scores, float cap, const float *bias, int64_t from, int64_t to, float *largest,
                   float *total) {
    __m512 x[KEYS / LANES], peak = _mm512_set1_ps(*largest), sum = _mm512_setzero_ps();
#pragma GCC unroll 4
    for (int64_t i = 0; i < KEYS / LANES; i++) {
        const int64_t low = most(0, least(LANES, from - i * LANES)),
                      high = most(0, least(LANES, to - i * LANES));
        const __mmask16 seen = (__mmask16)(((1u << high) - 1) & ~((1u << low) - 1));
        x[i] = _mm512_mask_mov_ps(_mm512_set1_ps(-INFINITY), seen, _mm512_loadu_ps(scores + i * LANES));
        if (cap > 0) x[i] = _mm512_mask_mov_ps(x[i], seen, capped(x[i], cap));
        if (bias) x[i] = _mm512_mask_add_ps(x[i], seen, x[i], _mm512_maskz_loadu_ps(seen, bias + i * LANES));
        peak = _mm512_max_ps(peak, x[i]);
    }
    const float high = _mm512_reduce_max_ps(peak);
#pragma GCC unroll 4
    for (int64_t i = 0; i < KEYS / LANES; i++) {
        x[i] = exponential(_mm512_sub_ps(x[i], _mm512_set1_ps(high)));
        sum = _mm512_add_ps(sum, x[i]);
        _mm512_storeu_ps(scores + i * LANES, x[i]);
    }
    const float factor =
        *largest == high ? 1 : _mm512_cvtss_f32(exponential(_mm512_set1_ps(*largest - high)));
    *largest = high;
    *total = *total * factor + _mm512_reduce_add_ps(sum);
    return factor;
}

/* A head's row of a new token, turned to its place. */
VNNI static void turned(const Attention *a, int64_t text, int64_t token, const float *x, float *out) {
    memcpy(out, x, (size_t)a->size * sizeof *x);
    if (!a->cos) return;
    const int64_t place = a->places ? a->places[text * a->tokens + token] : before(a, text) + token;
    const float *cos = a->cos + place * a->half, *sin = a->sin + place * a->half;
    const int64_t each = a->interleaved ? 2 : 1, apart = a->interleaved ? 1 : a->half;
    for (int64_t i = 0; i < a->half; i++) {
        const float first = x[i * each], second = x[i * each + apart];
        out[i * each] = first * cos[i] - second * sin[i];
        out[i * each + apart] = second * cos[i] + first * sin[i];
    }
}

VNNI static void store(const Attention *a, const float *x, const float *scale, void *cache, int64_t at) {
    if (!scale) {
        memcpy((float *)cache + at, x, (size_t)a->size * sizeof *x);
        return;
    }
    for (int64_t i = 0; i < a->size; i += LANES) {
        const __m512 exact = _mm512_div_ps(_mm512_loadu_ps(x + i), _mm512_loadu_ps(scale + i));
        const __m128i bytes = _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(exact));
        _mm_storeu_si128((__m128i *)((int8_t *)cache + at + i), bytes);
    }
}

/* The new tokens of one text and one head of the cache. */
VNNI static void append(const Attention *a, int64_t text, int64_t head) {
    const int64_t from = before(a, text), pair = text * a->kv_heads + head, bytes = a->key_scale ? 1 : 4;
    const int64_t old = pair * a->past * a->size, new = pair * a->present * a->size;
    const size_t kept = (size_t)(from * a->size * bytes);
    if (a->past_key != a->present_key && kept)
        memcpy((char *)a->present_key + new * bytes, (const char *)a->past_key + old * bytes, kept);
    if (a->past_value != a->present_value && kept)
        memcpy((char *)a->present_value + new * bytes, (const char *)a->past_value + old * bytes, kept);
    const float *key_scale = a->key_scale ? a->key_scale + head * a->size : NULL;
    const float *value_scale = a->key_scale ? a->value_scale + head * a->size : NULL;
    for (int64_t token = 0; token < valid(a, text); token++) {
        const int64_t x = (text * a->tokens + token) * a->key_step + head * a->size;
        float key[ATTENTION_SIZE];
        turned(a, text, token, a->key + x, key);
        store(a, key, key_scale, a->present_key, new + (from + token) * a->size);
        store(a, a->value + x, value_scale, a->present_value, new + (from + token) * a->size);
    }
}

/* A tile of rows, the heads of a group of each token after another: what they see of the cache. */
INLINE void look(const Attention *a, int64_t text, int64_t head, int64_t first, const bool int8) {
    const int64_t group = a->heads / a->kv_heads, size = a->size, past = before(a, text);
    const int64_t rows = least(ROWS, valid(a, text) * group - first), bytes = int8 ? 1 : 4;
    const int64_t cache = (text * a->kv_heads + head) * a->present * size * bytes;
    const char *keys = (const char *)a->present_key + cache, *values = (const char *)a->present_value + cache;
    _Alignas(LINE) float queries[ROWS * ATTENTION_SIZE], sums[ROWS * ATTENTION_SIZE], scores[ROWS * KEYS],
        across[ATTENTION_SIZE * KEYS], wide[KEYS * ATTENTION_SIZE];
    float largest[ROWS], total[ROWS];
    const int64_t end = past + (first + rows - 1) / group + 1;
    const int64_t begin = a->window ? most(0, past + first / group + 1 - a->window) / KEYS * KEYS : 0;
    const bool few = rows <= FEW;
    if (!few) {
        ask_for(keys + begin * size * bytes, KEYS * size * bytes);
        ask_for(values + begin * size * bytes, KEYS * size * bytes);
    }
    for (int64_t r = 0; r < rows; r++) {
        const int64_t token = (first + r) / group, q = head * group + (first + r) % group;
        float *row = queries + r * size;
        turned(a, text, token, a->query + (text * a->tokens + token) * a->query_step + q * size, row);
        for (int64_t d = 0; d < size; d++)
            row[d] *= int8 ? a->scale * a->key_scale[head * size + d] : a->scale;
        largest[r] = a->sink ? a->sink[q] : -FLT_MAX;
        total[r] = a->sink ? 1 : 0;
        memset(sums + r * size, 0, (size_t)size * sizeof *sums);
    }
    for (int64_t j = begin; j < end; j += KEYS) {
        const int64_t count = least(KEYS, end - j);
        const int64_t at = j * size * bytes;
        if (few) {
            const int64_t next = (j + KEYS < end ? j + KEYS : begin + a->present) * size * bytes;
            few_scores_of(rows, size, queries, keys + at, count, int8, keys + next, values + next, scores);
        } else {
            turn(keys + at, values + at, count, size, int8, across);
            scores_of(rows, size, queries, across, scores);
        }
        for (int64_t r = 0; r < rows; r++) {
            const int64_t token = (first + r) / group, q = head * group + (first + r) % group;
            const int64_t to = past + token + 1, from = a->window ? to - a->window : 0;
            const float *bias =
                a->bias ? a->bias + text * a->bias_text + q * a->bias_head + token * a->bias_token + j : NULL;
            const float factor =
                weigh(scores + r * KEYS, a->cap, bias, from - j, to - j, largest + r, total + r);
            if (factor == 1) continue;
            float *sum = sums + r * size;
            for (int64_t d = 0; d < size; d += LANES)
                _mm512_storeu_ps(sum + d, _mm512_mul_ps(_mm512_loadu_ps(sum + d), _mm512_set1_ps(factor)));
        }
        const float *meet = (const float *)values + j * size;
        if (int8) {
            for (int64_t i = 0; i < count * size; i += LANES)
                _mm512_store_ps(wide + i, cached(values, j * size + i, int8));
            meet = wide;
        }
        add_values(rows, size, count, scores, meet, sums);
    }
    for (int64_t r = 0; r < rows; r++) {
        const int64_t token = (first + r) / group, q = head * group + (first + r) % group;
        float *y = a->y + ((text * a->tokens + token) * a->heads + q) * size;
        const float *scale = int8 ? a->value_scale + head * size : NULL;
        for (int64_t d = 0; d < size; d++) y[d] = sums[r * size + d] / total[r] * (int8 ? scale[d] : 1);
    }
}

VNNI static void look_at_floats(const Attention *a, int64_t text, int64_t head, int64_t first) {
    look(a, text, head, first, false);
}

VNNI static void look_at_int8(const Attention *a, int64_t text, int64_t head, int64_t first) {
    look(a, text, head, first, true);
}

static void append_task(void *data, size_t task) {
    const Attention *a = data;
    append(a, (int64_t)task / a->kv_heads, (int64_t)task % a->kv_heads);
}

static void look_task(void *data, size_t task) {
    const Attention *a = data;
    const int64_t count = tiles(a), group = a->heads / a->kv_heads, first = (int64_t)task % count * ROWS;
    const int64_t pair = (int64_t)task / count, text = pair / a->kv_heads, head = pair % a->kv_heads;
    const int64_t padding = a->tokens - valid(a, text), width = group * a->size;
    if (count == 1) append(a, text, head);
    if (first < valid(a, text) * group) (a->key_scale ? look_at_int8 : look_at_floats)(a, text, head, first);
    if (first == 0 && padding)
        for (int64_t token = valid(a, text); token < a->tokens; token++)
            memset(a->y + ((text * a->tokens + token) * a->kv_heads + head) * width, 0,
                   (size_t)width * sizeof(float));
}

bool attend(const Attention *a, Parallel parallel, void *pool) {
    Attention copy = *a;
    const size_t pairs = (size_t)(a->batch * a->kv_heads);
    if (tiles(a) > 1 && !parallel(pool, append_task, pairs, &copy)) return false;
    return parallel(pool, look_task, pairs * (size_t)tiles(a), &copy);
}
