#include "attention.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "avx512.h"

enum {
    LANES = 16,
    ROWS = 64, /* pairs of a token and a head that meet keys together */
    KEYS = 64, /* at a time, */
    FEW = 8,   /* rows up to which a lane is a key; above, a lane is a row */
    SOME = 32, /* keys at a time of few rows */
    BROAD = 4, /* vectors of a tile of sums that stay in registers */
    LINE = 64  /* bytes */
};

/* Rows of a tile, by its vectors less one. */
static const int64_t HEIGHTS[BROAD] = {16, 12, 8, 6};

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t most(int64_t a, int64_t b) { return a < b ? b : a; }

static int64_t valid(const Attention *a, int64_t text) {
    return a->valid ? a->valid[text] : least(a->tokens, a->last[text] + 1);
}
static int64_t before(const Attention *a, int64_t text) { return a->last[text] + 1 - valid(a, text); }
static int64_t tiles(const Attention *a) { return (a->tokens * (a->heads / a->kv_heads) + ROWS - 1) / ROWS; }

/* A matrix whose element [m, k] is at[m * row + k * step]. */
typedef struct {
    const float *at;
    int64_t row, step;
} Matrix;

/* Memory that is needed next: asked for bit by bit while something is computed. */
typedef struct {
    const char *at;
    int64_t bytes;
} Ahead;

/* Sums of `rows` rows and `vectors` vectors: c [+]= a [rows, depth] times b [depth, LANES * vectors]. In each
 * step `hurry` bytes more are asked for, from `ahead` on. */
INLINE void tile(const int rows, const int vectors, const bool add, int64_t depth, Matrix a, const float *b,
                 int64_t b_row, float *c, int64_t c_row, const char *ahead, int64_t hurry) {
    __m512 sums[16][BROAD];
#pragma GCC unroll 16
    for (int m = 0; m < rows; m++)
#pragma GCC unroll 4
        for (int n = 0; n < vectors; n++)
            sums[m][n] = add ? _mm512_loadu_ps(c + m * c_row + n * LANES) : _mm512_setzero_ps();
    for (int64_t k = 0; k < depth; k++) {
        __m512 row[BROAD];
        _mm_prefetch(ahead + k * hurry, _MM_HINT_T0);
#pragma GCC unroll 4
        for (int n = 0; n < vectors; n++) row[n] = _mm512_loadu_ps(b + k * b_row + n * LANES);
#pragma GCC unroll 16
        for (int m = 0; m < rows; m++) {
            const __m512 one = _mm512_set1_ps(a.at[m * a.row + k * a.step]);
#pragma GCC unroll 4
            for (int n = 0; n < vectors; n++) sums[m][n] = _mm512_fmadd_ps(one, row[n], sums[m][n]);
        }
    }
#pragma GCC unroll 16
    for (int m = 0; m < rows; m++)
#pragma GCC unroll 4
        for (int n = 0; n < vectors; n++) _mm512_storeu_ps(c + m * c_row + n * LANES, sums[m][n]);
}

#define UP_TO_6(DO, WIDE) DO(1, WIDE) DO(2, WIDE) DO(3, WIDE) DO(4, WIDE) DO(5, WIDE) DO(6, WIDE)
#define UP_TO_8(DO, WIDE) UP_TO_6(DO, WIDE) DO(7, WIDE) DO(8, WIDE)
#define EACH_TILE(DO) UP_TO_8(DO, 1) DO(16, 1) UP_TO_8(DO, 2) DO(12, 2) UP_TO_8(DO, 3) UP_TO_6(DO, 4)
#define KIND(ROWS, VECTORS) ((ROWS) * 8 + (VECTORS))

INLINE void product(const bool add, int64_t rows, int64_t width, int64_t depth, Matrix a, const float *b,
                    int64_t b_row, float *c, int64_t c_row, Ahead ahead) {
    for (int64_t n = 0; n < width; n += BROAD * LANES) {
        const int64_t vectors = least(BROAD, (width - n) / LANES), height = HEIGHTS[vectors - 1];
        const int64_t hurry = ahead.bytes / (depth * ((rows + height - 1) / height));
        for (int64_t m = 0; m < rows; m += height, ahead.at += depth * hurry) {
            const Matrix x = {a.at + m * a.row, a.row, a.step};
            const float *w = b + n;
            float *y = c + m * c_row + n;
            switch (KIND(least(height, rows - m), vectors)) {
#define CASE(HIGH, WIDE)                                                      \
    case KIND(HIGH, WIDE):                                                    \
        tile(HIGH, WIDE, add, depth, x, w, b_row, y, c_row, ahead.at, hurry); \
        break;
                EACH_TILE(CASE)
#undef CASE
            }
        }
    }
}

VNNI static void set_product(int64_t rows, int64_t width, int64_t depth, Matrix a, const float *b,
                             int64_t b_row, float *c, int64_t c_row, Ahead ahead) {
    product(false, rows, width, depth, a, b, b_row, c, c_row, ahead);
}

VNNI static void add_product(int64_t rows, int64_t width, int64_t depth, Matrix a, const float *b,
                             int64_t b_row, float *c, int64_t c_row, Ahead ahead) {
    product(true, rows, width, depth, a, b, b_row, c, c_row, ahead);
}

/* Bytes of so many elements of the cache. */
static int64_t bytes_of(int64_t elements, int64_t bits) { return elements * bits / 8; }

/* 16 numbers of the cache from an element on. */
INLINE __m512 cached(const char *cache, int64_t at, const int bits) {
    const char *from = cache + bytes_of(at, bits);
    if (bits == 32) return _mm512_loadu_ps(from);
    if (bits == 8)
        return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)from)));
    const __m128i pairs = _mm_loadl_epi64((const __m128i *)from), half = _mm_set1_epi8(15);
    const __m128i low = _mm_and_si128(pairs, half), high = _mm_and_si128(_mm_srli_epi16(pairs, 4), half);
    const __m128i levels = _mm_sub_epi8(_mm_unpacklo_epi8(low, high), _mm_set1_epi8(8));
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(levels));
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

/* Scores [rows, SOME] of few rows and keys [count, size]; what comes next is asked for meanwhile. */
INLINE void few_scores_of(int64_t rows, int64_t size, const float *queries, const char *keys, int64_t count,
                          const int bits, Ahead next_keys, Ahead next_values, float *scores) {
    const int64_t steps = (count + LANES - 1) / LANES * rows,
                  hurry = (next_keys.bytes + steps * LINE - 1) / (steps * LINE) * LINE;
    _Alignas(LINE) float wide[LANES * ATTENTION_SIZE];
    for (int64_t j = 0; j < count; j += LANES) {
        const int64_t here = least(LANES, count - j);
        const float *at = (const float *)keys + j * size;
        if (bits < 32) {
            for (int64_t i = 0; i < here * size; i += LANES)
                _mm512_store_ps(wide + i, cached(keys, j * size + i, bits));
            at = wide;
        }
        for (int64_t r = 0; r < rows; r++) {
            for (int64_t i = (j / LANES * rows + r) * hurry, end = i + hurry; i < end; i += LINE) {
                _mm_prefetch(next_keys.at + i, _MM_HINT_T0);
                _mm_prefetch(next_values.at + i, _MM_HINT_T0);
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
            _mm512_storeu_ps(scores + r * SOME + j, sums_of(sums));
        }
    }
}

/* cap * tanh(x / cap). Near 0 by its Taylor series, where 1 - 2 / (exp(2 y) + 1) keeps few digits: up to 0.3 the
 * first term that is left out is less than a rounding. */
INLINE __m512 capped(__m512 x, float cap) {
    const __m512 two = _mm512_set1_ps(2), one = _mm512_set1_ps(1);
    const __m512 y = _mm512_mul_ps(x, _mm512_set1_ps(1 / cap)), square = _mm512_mul_ps(y, y);
    const __m512 power = exponential(_mm512_mul_ps(y, two));
    const __m512 far = _mm512_sub_ps(one, _mm512_div_ps(two, _mm512_add_ps(power, one)));
    __m512 near = _mm512_set1_ps(62.0f / 2835);
    near = _mm512_fmadd_ps(near, square, _mm512_set1_ps(-17.0f / 315));
    near = _mm512_fmadd_ps(near, square, _mm512_set1_ps(2.0f / 15));
    near = _mm512_fmadd_ps(near, square, _mm512_set1_ps(-1.0f / 3));
    near = _mm512_mul_ps(y, _mm512_fmadd_ps(near, square, one));
    const __mmask16 is_near = _mm512_cmp_ps_mask(square, _mm512_set1_ps(0.3f * 0.3f), _CMP_LT_OQ);
    return _mm512_mul_ps(_mm512_set1_ps(cap), _mm512_mask_mov_ps(far, is_near, near));
}

/* Scores of a row to weights, those of keys outside [from, to) to 0; what earlier sums are to be multiplied
 * by. `largest` is of all scores so far, `total` of all weights. */
INLINE float weigh(float *scores, float cap, const float *bias, int64_t from, int64_t to, float *largest,
                   float *total) {
    __m512 x[SOME / LANES], peak = _mm512_set1_ps(*largest), sum = _mm512_setzero_ps();
#pragma GCC unroll 2
    for (int64_t i = 0; i < SOME / LANES; i++) {
        const int64_t low = most(0, least(LANES, from - i * LANES)),
                      high = most(0, least(LANES, to - i * LANES));
        const __mmask16 seen = (__mmask16)(((1u << high) - 1) & ~((1u << low) - 1));
        x[i] = _mm512_mask_mov_ps(_mm512_set1_ps(-INFINITY), seen, _mm512_loadu_ps(scores + i * LANES));
        if (cap > 0) x[i] = _mm512_mask_mov_ps(x[i], seen, capped(x[i], cap));
        if (bias) x[i] = _mm512_mask_add_ps(x[i], seen, x[i], _mm512_maskz_loadu_ps(seen, bias + i * LANES));
        peak = _mm512_max_ps(peak, x[i]);
    }
    const float high = _mm512_reduce_max_ps(peak);
#pragma GCC unroll 2
    for (int64_t i = 0; i < SOME / LANES; i++) {
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
    char *to = (char *)cache + bytes_of(at, a->bits);
    if (a->bits == 32) {
        memcpy(to, x, (size_t)a->size * sizeof *x);
        return;
    }
    for (int64_t i = 0; i < a->size; i += LANES, to += 2 * a->bits) {
        const __m512 exact = _mm512_div_ps(_mm512_loadu_ps(x + i), _mm512_loadu_ps(scale + i));
        __m512i level = _mm512_cvtps_epi32(exact);
        if (a->bits == 8) {
            _mm_storeu_si128((__m128i *)to, _mm512_cvtsepi32_epi8(level));
            continue;
        }
        level = _mm512_min_epi32(_mm512_max_epi32(level, _mm512_set1_epi32(-8)), _mm512_set1_epi32(7));
        level = _mm512_add_epi32(level, _mm512_set1_epi32(8));
        const __m512i pairs = _mm512_or_si512(level, _mm512_srli_epi64(level, 28));
        _mm_storel_epi64((__m128i *)to, _mm512_cvtepi64_epi8(pairs));
    }
}

/* The new tokens of one text and one head of the cache. */
VNNI static void append(const Attention *a, int64_t text, int64_t head) {
    const int64_t from = before(a, text), pair = text * a->kv_heads + head, row = bytes_of(a->size, a->bits);
    const int64_t old = pair * a->past * row, new = pair * a->present * row;
    const size_t kept = (size_t)(from * row);
    if (a->past_key != a->present_key && kept)
        memcpy((char *)a->present_key + new, (const char *)a->past_key + old, kept);
    if (a->past_value != a->present_value && kept)
        memcpy((char *)a->present_value + new, (const char *)a->past_value + old, kept);
    const float *key_scale = a->key_scale ? a->key_scale + head * a->size : NULL;
    const float *value_scale = a->key_scale ? a->value_scale + head * a->size : NULL;
    for (int64_t token = 0; token < valid(a, text); token++) {
        const int64_t x = (text * a->tokens + token) * a->key_step + head * a->size;
        float key[ATTENTION_SIZE];
        turned(a, text, token, a->key + x, key);
        const int64_t at = (pair * a->present + from + token) * a->size;
        store(a, key, key_scale, a->present_key, at);
        store(a, a->value + x, value_scale, a->present_value, at);
    }
}

/* A tile of rows, the heads of a group of each token after another, and the keys [begin, end) that they see.
 */
typedef struct {
    const Attention *a;
    int64_t text, head, first, rows, group, past, begin, end;
    const char *keys, *values;
} View;

static View view_of(const Attention *a, int64_t text, int64_t head, int64_t first) {
    const int64_t group = a->heads / a->kv_heads, past = before(a, text);
    const int64_t rows = least(ROWS, valid(a, text) * group - first);
    const int64_t cache = bytes_of((text * a->kv_heads + head) * a->present * a->size, a->bits);
    return (View){
        .a = a,
        .text = text,
        .head = head,
        .first = first,
        .rows = rows,
        .group = group,
        .past = past,
        .begin = a->window ? most(0, past + first / group + 1 - a->window) / KEYS * KEYS : 0,
        .end = past + (first + rows - 1) / group + 1,
        .keys = (const char *)a->present_key + cache,
        .values = (const char *)a->present_value + cache,
    };
}

static int64_t token_of(const View *v, int64_t row) { return (v->first + row) / v->group; }
static int64_t head_of(const View *v, int64_t row) {
    return v->head * v->group + (v->first + row) % v->group;
}

/* The keys [from, to) that a row sees. */
static int64_t to_of(const View *v, int64_t row) { return v->past + token_of(v, row) + 1; }
static int64_t from_of(const View *v, int64_t row) { return v->a->window ? to_of(v, row) - v->a->window : 0; }

static const float *bias_of(const View *v, int64_t row, int64_t key) {
    const Attention *a = v->a;
    return a->bias + v->text * a->bias_text + head_of(v, row) * a->bias_head +
           token_of(v, row) * a->bias_token + key;
}

VNNI static void query_of(const View *v, int64_t row, float *out) {
    const Attention *a = v->a;
    const int64_t at = (v->text * a->tokens + token_of(v, row)) * a->query_step + head_of(v, row) * a->size;
    turned(a, v->text, token_of(v, row), a->query + at, out);
    const float *scale = a->key_scale ? a->key_scale + v->head * a->size : NULL;
    for (int64_t d = 0; d < a->size; d++) out[d] *= scale ? a->scale * scale[d] : a->scale;
}

/* A row's sums of weighted values become its result. */
VNNI static void put(const View *v, int64_t row, const float *sums, float total) {
    const Attention *a = v->a;
    float *y = a->y + ((v->text * a->tokens + token_of(v, row)) * a->heads + head_of(v, row)) * a->size;
    const float *scale = a->key_scale ? a->value_scale + v->head * a->size : NULL;
    for (int64_t d = 0; d < a->size; d++) y[d] = sums[d] / total * (scale ? scale[d] : 1);
}

static float first_largest(const View *v, int64_t row) {
    return v->a->sink ? v->a->sink[head_of(v, row)] : -FLT_MAX;
}

/* [count, size] of the cache as float, and zeros up to `rows` rows. */
INLINE const float *widened(const char *cache, int64_t count, int64_t rows, int64_t size, const int bits,
                            float *out) {
    for (int64_t i = 0; i < count * size; i += LANES) _mm512_store_ps(out + i, cached(cache, i, bits));
    memset(out + count * size, 0, (size_t)((rows - count) * size) * sizeof *out);
    return out;
}

/* Of keys or values what comes after `count` of them from one on: as many more of the head's, or the next
 * head's. Nothing that was not written yet is asked for: a request for memory that is not there is slow. */
static Ahead following(const View *v, const char *cache, int64_t key, int64_t count) {
    const Attention *a = v->a;
    const bool more = key + count < v->end;
    const int64_t bytes = bytes_of(a->size, a->bits), from = more ? key + count : v->begin;
    if (!more && v->head + 1 == a->kv_heads) return (Ahead){cache, 0};
    return (Ahead){cache + (from + (more ? 0 : a->present)) * bytes, least(count, v->end - from) * bytes};
}

/* Where a lane is a key: few rows. */
INLINE void look_few(const View *v, const int bits) {
    const Attention *a = v->a;
    const int64_t size = a->size, rows = v->rows;
    _Alignas(LINE) float queries[FEW * ATTENTION_SIZE], sums[FEW * ATTENTION_SIZE], scores[FEW * SOME],
        wide[SOME * ATTENTION_SIZE];
    float largest[FEW], total[FEW];
    for (int64_t r = 0; r < rows; r++) {
        query_of(v, r, queries + r * size);
        largest[r] = first_largest(v, r);
        total[r] = a->sink ? 1 : 0;
    }
    memset(sums, 0, (size_t)(rows * size) * sizeof *sums);
    for (int64_t j = v->begin; j < v->end; j += SOME) {
        const int64_t count = least(SOME, v->end - j), at = bytes_of(j * size, bits);
        few_scores_of(rows, size, queries, v->keys + at, count, bits, following(v, v->keys, j, SOME),
                      following(v, v->values, j, SOME), scores);
        for (int64_t r = 0; r < rows; r++) {
            const float *bias = a->bias ? bias_of(v, r, j) : NULL;
            const float factor = weigh(scores + r * SOME, a->cap, bias, from_of(v, r) - j, to_of(v, r) - j,
                                       largest + r, total + r);
            if (factor == 1) continue;
            float *sum = sums + r * size;
            for (int64_t d = 0; d < size; d += LANES)
                _mm512_storeu_ps(sum + d, _mm512_mul_ps(_mm512_loadu_ps(sum + d), _mm512_set1_ps(factor)));
        }
        const char *values = v->values + at;
        const float *meet =
            bits < 32 ? widened(values, count, count, size, bits, wide) : (const float *)values;
        add_product(rows, size, count, (Matrix){scores, SOME, 1}, meet, size, sums, size, (Ahead){values, 0});
    }
    for (int64_t r = 0; r < rows; r++) put(v, r, sums + r * size, total[r]);
}

/* Of 16 rows. */
typedef struct {
    __m512i from, to; /* keys that they see */
    __m512 largest, total;
} Softmax;

/* Scores [KEYS, 16] to weights, a row of scores being a key and `step` after the one before; what the rows'
 * earlier sums are to be multiplied by. `bias` [KEYS, 16] is added, if there is any. */
INLINE __m512 weigh_rows(float *scores, int64_t step, float cap, const float *bias, int64_t first_key,
                         const bool masked, Softmax *rows) {
    __m512 peaks[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) peaks[i] = rows->largest;
    for (int64_t j = 0; j < KEYS; j += 4)
#pragma GCC unroll 4
        for (int64_t i = 0; i < 4; i++) {
            float *at = scores + (j + i) * step;
            __m512 x = _mm512_loadu_ps(at);
            if (cap > 0) x = capped(x, cap);
            if (bias) x = _mm512_add_ps(x, _mm512_load_ps(bias + (j + i) * LANES));
            if (masked) {
                const __m512i key = _mm512_set1_epi32((int32_t)(first_key + j + i));
                const __mmask16 seen =
                    _mm512_cmplt_epi32_mask(key, rows->to) & ~_mm512_cmplt_epi32_mask(key, rows->from);
                x = _mm512_mask_mov_ps(_mm512_set1_ps(-INFINITY), seen, x);
            }
            if (masked || cap > 0 || bias) _mm512_storeu_ps(at, x);
            peaks[i] = _mm512_max_ps(peaks[i], x);
        }
    const __m512 high = _mm512_max_ps(_mm512_max_ps(peaks[0], peaks[1]), _mm512_max_ps(peaks[2], peaks[3]));
    __m512 sums[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) sums[i] = _mm512_setzero_ps();
    for (int64_t j = 0; j < KEYS; j += 4)
#pragma GCC unroll 4
        for (int64_t i = 0; i < 4; i++) {
            float *at = scores + (j + i) * step;
            const __m512 x = exponential(_mm512_sub_ps(_mm512_loadu_ps(at), high));
            sums[i] = _mm512_add_ps(sums[i], x);
            _mm512_storeu_ps(at, x);
        }
    const __m512 sum = _mm512_add_ps(_mm512_add_ps(sums[0], sums[1]), _mm512_add_ps(sums[2], sums[3]));
    const __m512 factor = exponential(_mm512_sub_ps(rows->largest, high));
    rows->largest = high;
    rows->total = _mm512_fmadd_ps(rows->total, factor, sum);
    return factor;
}

/* The bias of 16 rows from one on, [KEYS, 16], of `count` keys from one on. */
INLINE void turned_bias(const View *v, int64_t row, int64_t key, int64_t count, float *out) {
    for (int64_t j = 0; j < KEYS; j += LANES) {
        const __mmask16 some = (__mmask16)((1u << most(0, least(LANES, count - j))) - 1);
        __m512 r[LANES];
        for (int64_t i = 0; i < LANES; i++)
            r[i] = _mm512_maskz_loadu_ps(some, bias_of(v, least(row + i, v->rows - 1), key + j));
        transpose_floats(r);
        for (int64_t i = 0; i < LANES; i++) _mm512_store_ps(out + (j + i) * LANES, r[i]);
    }
}

/* Where a lane is a row: many of them. */
INLINE void look_many(const View *v, const int bits) {
    const Attention *a = v->a;
    const int64_t size = a->size, width = (v->rows + LANES - 1) / LANES * LANES;
    _Alignas(LINE) float queries[ATTENTION_SIZE * ROWS], sums[ATTENTION_SIZE * ROWS], scores[KEYS * ROWS],
        wide[KEYS * ATTENTION_SIZE], lines[LANES * ATTENTION_SIZE], bias[KEYS * LANES];
    Softmax softmax[ROWS / LANES];
    for (int64_t row = 0; row < width; row += LANES) {
        _Alignas(LINE) int32_t from[LANES], to[LANES];
        _Alignas(LINE) float largest[LANES];
        for (int64_t i = 0; i < LANES; i++) {
            const int64_t r = least(row + i, v->rows - 1);
            query_of(v, r, lines + i * size);
            largest[i] = first_largest(v, r), from[i] = (int32_t)from_of(v, r), to[i] = (int32_t)to_of(v, r);
        }
        softmax[row / LANES] = (Softmax){_mm512_load_si512(from), _mm512_load_si512(to),
                                         _mm512_load_ps(largest), _mm512_set1_ps(a->sink ? 1 : 0)};
        for (int64_t d = 0; d < size; d += LANES) {
            __m512 r[LANES];
#pragma GCC unroll 16
            for (int64_t i = 0; i < LANES; i++) r[i] = _mm512_load_ps(lines + i * size + d);
            transpose_floats(r);
#pragma GCC unroll 16
            for (int64_t i = 0; i < LANES; i++) _mm512_store_ps(queries + (d + i) * width + row, r[i]);
        }
    }
    memset(sums, 0, (size_t)(size * width) * sizeof *sums);
    for (int64_t j = v->begin; j < v->end; j += KEYS) {
        const int64_t count = least(KEYS, v->end - j), at = bytes_of(j * size, bits);
        const char *keys = v->keys + at, *values = v->values + at;
        const float *meet =
            bits < 32 || count < KEYS ? widened(keys, count, KEYS, size, bits, wide) : (const float *)keys;
        set_product(KEYS, width, size, (Matrix){meet, size, 1}, queries, width, scores, width,
                    following(v, v->keys, j, KEYS));
        const bool masked = j < from_of(v, v->rows - 1) || j + KEYS > to_of(v, 0);
        for (int64_t row = 0; row < width; row += LANES) {
            if (a->bias) turned_bias(v, row, j, count, bias);
            const float *added = a->bias ? bias : NULL;
            Softmax *state = softmax + row / LANES;
            const __m512 factor = masked ? weigh_rows(scores + row, width, a->cap, added, j, true, state)
                                         : weigh_rows(scores + row, width, a->cap, added, j, false, state);
            if (!_mm512_cmpneq_ps_mask(factor, _mm512_set1_ps(1))) continue;
            for (float *sum = sums + row; sum < sums + size * width; sum += width)
                _mm512_store_ps(sum, _mm512_mul_ps(_mm512_load_ps(sum), factor));
        }
        meet = bits < 32 ? widened(values, count, count, size, bits, wide) : (const float *)values;
        add_product(size, width, count, (Matrix){meet, 1, size}, scores, width, sums, width,
                    following(v, v->values, j, KEYS));
    }
    for (int64_t row = 0; row < width; row += LANES) {
        _Alignas(LINE) float total[LANES];
        _mm512_store_ps(total, softmax[row / LANES].total);
        for (int64_t d = 0; d < size; d += LANES) {
            __m512 r[LANES];
#pragma GCC unroll 16
            for (int64_t i = 0; i < LANES; i++) r[i] = _mm512_load_ps(sums + (d + i) * width + row);
            transpose_floats(r);
#pragma GCC unroll 16
            for (int64_t i = 0; i < LANES; i++) _mm512_store_ps(lines + i * size + d, r[i]);
        }
        for (int64_t i = 0; i < least(LANES, v->rows - row); i++) put(v, row + i, lines + i * size, total[i]);
    }
}

INLINE void look(const Attention *a, int64_t text, int64_t head, int64_t first, const int bits) {
    const View v = view_of(a, text, head, first);
    if (v.rows <= FEW)
        look_few(&v, bits);
    else
        look_many(&v, bits);
}

VNNI static void look_at_floats(const Attention *a, int64_t text, int64_t head, int64_t first) {
    look(a, text, head, first, 32);
}

VNNI static void look_at_int8(const Attention *a, int64_t text, int64_t head, int64_t first) {
    look(a, text, head, first, 8);
}

VNNI static void look_at_int4(const Attention *a, int64_t text, int64_t head, int64_t first) {
    look(a, text, head, first, 4);
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
    if (first < valid(a, text) * group)
        (a->bits == 32 ? look_at_floats : a->bits == 8 ? look_at_int8 : look_at_int4)(a, text, head, first);
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
