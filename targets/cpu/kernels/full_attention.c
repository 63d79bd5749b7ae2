#include "full_attention.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "avx512.h"

enum {
    LANES = 16,
    ROWS = 64, /* tokens that meet keys together: a lane is one of them */
    KEYS = 48, /* at a time: a multiple of every height */
    LINE = 64
};

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t ceiling(int64_t count, int64_t each) { return (count + each - 1) / each; }

/* A bias below which a key counts for nothing beside one that has none: no score of finite rows is as large. */
static const float HIDDEN = -1e37f;

/* c [rows, width] [+]= a [rows, depth] times b [depth, width], width being `vectors` vectors and rows a
 * multiple of `height`; element [m, k] of a is at[m * row + k * step]. */
INLINE void product(const int height, const int vectors, const bool add, int64_t rows, int64_t depth,
                    const float *at, int64_t row, int64_t step, const float *b, float *c) {
    const int64_t width = vectors * LANES;
    for (int64_t first = 0; first < rows; first += height) {
        __m512 sums[16][4];
        const float *a = at + first * row;
        float *out = c + first * width;
#pragma GCC unroll 16
        for (int m = 0; m < height; m++)
#pragma GCC unroll 4
            for (int n = 0; n < vectors; n++)
                sums[m][n] = add ? _mm512_load_ps(out + m * width + n * LANES) : _mm512_setzero_ps();
#pragma GCC unroll 1
        for (int64_t k = 0; k < depth; k++) {
            __m512 line[4];
#pragma GCC unroll 4
            for (int n = 0; n < vectors; n++) line[n] = _mm512_load_ps(b + k * width + n * LANES);
#pragma GCC unroll 16
            for (int m = 0; m < height; m++) {
                const __m512 one = _mm512_set1_ps(a[m * row + k * step]);
#pragma GCC unroll 4
                for (int n = 0; n < vectors; n++) sums[m][n] = _mm512_fmadd_ps(one, line[n], sums[m][n]);
            }
        }
#pragma GCC unroll 16
        for (int m = 0; m < height; m++)
#pragma GCC unroll 4
            for (int n = 0; n < vectors; n++) _mm512_store_ps(out + m * width + n * LANES, sums[m][n]);
    }
}

/* Keys whose sums stay in registers together, by the vectors of tokens; and elements of a value. */
static int64_t height_of(int64_t vectors) { return vectors == 4 ? 6 : 16 / vectors; }

VNNI static void score(int64_t vectors, int64_t keys, int64_t size, const float *key, int64_t step,
                       const float *queries, float *scores) {
    if (vectors == 4)
        product(6, 4, false, keys, size, key, step, 1, queries, scores);
    else if (vectors == 2)
        product(8, 2, false, keys, size, key, step, 1, queries, scores);
    else
        product(16, 1, false, keys, size, key, step, 1, queries, scores);
}

VNNI static void add_values(int64_t vectors, int64_t keys, int64_t size, const float *value, int64_t step,
                            const float *weights, float *sums) {
    if (vectors == 4)
        product(4, 4, true, size, keys, value, 1, step, weights, sums);
    else if (vectors == 2)
        product(8, 2, true, size, keys, value, 1, step, weights, sums);
    else
        product(16, 1, true, size, keys, value, 1, step, weights, sums);
}

/* Tokens [first, first + rows) of a text, in one head. */
typedef struct {
    const FullAttention *a;
    int64_t text, head, first, rows, vectors;
    bool alike; /* all of them have the same bias */
} Tile;

static const float *bias_of(const Tile *t, int64_t row) {
    const FullAttention *a = t->a;
    return a->bias + t->text * a->bias_text + t->head * a->bias_head +
           (t->first + least(row, t->rows - 1)) * a->bias_token;
}

static bool is_alike(const Tile *t) {
    for (int64_t row = 1; t->a->bias_token && row < t->rows; row++)
        if (memcmp(bias_of(t, 0), bias_of(t, row), (size_t)t->a->keys * sizeof(float))) return false;
    return true;
}

/* Whether keys [from, to) count for nothing, and some other does not. */
VNNI static bool is_hidden(const Tile *t, int64_t from, int64_t to) {
    const float *bias = bias_of(t, 0);
    for (int64_t j = from; j < to; j++)
        if (!(bias[j] < HIDDEN)) return false;
    for (int64_t j = 0; j < t->a->keys; j++)
        if (bias[j] > -1) return true;
    return false;
}

/* The bias of 16 tokens, [keys, 16]. */
INLINE void turned_bias(const Tile *t, int64_t row, int64_t key, int64_t count, float *out) {
    if (t->alike) {
        const float *bias = bias_of(t, 0) + key;
        for (int64_t j = 0; j < count; j++) _mm512_store_ps(out + j * LANES, _mm512_set1_ps(bias[j]));
        return;
    }
    for (int64_t j = 0; j < count; j += LANES) {
        const int64_t here = least(LANES, count - j);
        __m512 r[LANES];
        for (int64_t i = 0; i < LANES; i++)
            r[i] = _mm512_maskz_loadu_ps((__mmask16)((1u << here) - 1), bias_of(t, row + i) + key + j);
        transpose_floats(r);
        for (int64_t i = 0; i < LANES; i++) _mm512_store_ps(out + (j + i) * LANES, r[i]);
    }
}

/* Scores [count, 16], `width` apart, to weights; what the tokens' earlier sums are to be multiplied by.
 * `largest` is of all scores so far, `total` of all weights. */
INLINE __m512 weigh(float *scores, int64_t width, int64_t count, const float *bias, float *largest,
                    float *total) {
    const __m512 before = _mm512_load_ps(largest);
    __m512 high[2] = {before, before}, sum[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
    for (int64_t j = 0; j < count; j++) {
        float *at = scores + j * width;
        __m512 x = _mm512_load_ps(at);
        if (bias) _mm512_store_ps(at, x = _mm512_add_ps(x, _mm512_load_ps(bias + j * LANES)));
        high[j & 1] = _mm512_max_ps(x, high[j & 1]);
    }
    const __m512 peak = _mm512_max_ps(high[0], high[1]);
    for (int64_t j = 0; j < count; j++) {
        float *at = scores + j * width;
        const __m512 x = exponential(_mm512_sub_ps(_mm512_load_ps(at), peak));
        _mm512_store_ps(at, x);
        sum[j & 1] = _mm512_add_ps(sum[j & 1], x);
    }
    const __m512 factor = exponential(_mm512_sub_ps(before, peak));
    const __m512 all = _mm512_add_ps(sum[0], sum[1]);
    _mm512_store_ps(total, _mm512_fmadd_ps(_mm512_load_ps(total), factor, all));
    _mm512_store_ps(largest, peak);
    return factor;
}

/* Queries times the scale, [size, width]. */
INLINE void turn_queries(const Tile *t, float *out) {
    const FullAttention *a = t->a;
    const int64_t width = t->vectors * LANES;
    const float *query = a->query + (t->text * a->tokens + t->first) * a->query_step + t->head * a->size;
    for (int64_t row = 0; row < width; row += LANES)
        for (int64_t d = 0; d < a->size; d += LANES) {
            __m512 r[LANES];
#pragma GCC unroll 16
            for (int64_t i = 0; i < LANES; i++)
                r[i] = _mm512_mul_ps(_mm512_loadu_ps(query + least(row + i, t->rows - 1) * a->query_step + d),
                                     _mm512_set1_ps(a->scale));
            transpose_floats(r);
#pragma GCC unroll 16
            for (int64_t i = 0; i < LANES; i++) _mm512_store_ps(out + (d + i) * width + row, r[i]);
        }
}

/* Sums [size, width] over totals to rows of y: 0 where no key was seen, as onnxruntime's kernel has it. */
INLINE void put(const Tile *t, const float *sums, const float *totals, const float *largest) {
    const FullAttention *a = t->a;
    const int64_t width = t->vectors * LANES, step = a->heads * a->size;
    float *y = a->y + (t->text * a->tokens + t->first) * step + t->head * a->size;
    for (int64_t row = 0; row < t->rows; row += LANES)
        for (int64_t d = 0; d < a->size; d += LANES) {
            const __m512 total = _mm512_load_ps(totals + row), peak = _mm512_load_ps(largest + row);
            const __mmask16 seen = _mm512_cmp_ps_mask(peak, _mm512_set1_ps(-FLT_MAX), _CMP_NLE_UQ) |
                                   _mm512_cmp_ps_mask(total, total, _CMP_UNORD_Q);
            __m512 r[LANES];
#pragma GCC unroll 16
            for (int64_t i = 0; i < LANES; i++)
                r[i] = _mm512_maskz_div_ps(seen, _mm512_load_ps(sums + (d + i) * width + row), total);
            transpose_floats(r);
            for (int64_t i = 0; i < least(LANES, t->rows - row); i++)
                _mm512_storeu_ps(y + (row + i) * step + d, r[i]);
        }
}

/* Keys, or values, of which the last are zeros if there are too few. */
INLINE const float *whole(const float *at, int64_t step, int64_t count, int64_t rows, int64_t size,
                          float *room) {
    if (count == rows) return at;
    for (int64_t j = 0; j < rows; j++)
        if (j < count)
            memcpy(room + j * size, at + j * step, (size_t)size * sizeof *at);
        else
            memset(room + j * size, 0, (size_t)size * sizeof *at);
    return room;
}

VNNI static void look(const Tile *t) {
    const FullAttention *a = t->a;
    const int64_t size = a->size, width = t->vectors * LANES;
    _Alignas(LINE) float queries[FULL_ATTENTION_SIZE * ROWS], sums[FULL_ATTENTION_SIZE * ROWS],
        scores[KEYS * ROWS], bias[KEYS * LANES], room[KEYS * FULL_ATTENTION_SIZE], largest[ROWS], total[ROWS];
    turn_queries(t, queries);
    memset(sums, 0, (size_t)(size * width) * sizeof *sums);
    for (int64_t i = 0; i < width; i++) largest[i] = -FLT_MAX, total[i] = 0;
    for (int64_t j = 0; j < a->keys; j += KEYS) {
        const int64_t count = least(KEYS, a->keys - j), height = height_of(t->vectors);
        const int64_t rows = ceiling(count, height) * height, at = (t->text * a->keys + j) * a->key_step;
        if (a->bias && t->alike && is_hidden(t, j, j + count)) continue;
        const float *key = whole(a->key + at + t->head * size, a->key_step, count, rows, size, room);
        score(t->vectors, rows, size, key, key == room ? size : a->key_step, queries, scores);
        for (int64_t row = 0; row < width; row += LANES) {
            if (a->bias && (row == 0 || !t->alike)) turned_bias(t, row, j, count, bias);
            const __m512 factor =
                weigh(scores + row, width, count, a->bias ? bias : NULL, largest + row, total + row);
            if (!_mm512_cmpneq_ps_mask(factor, _mm512_set1_ps(1))) continue;
            for (float *sum = sums + row; sum < sums + size * width; sum += width)
                _mm512_store_ps(sum, _mm512_mul_ps(_mm512_load_ps(sum), factor));
        }
        add_values(t->vectors, count, size, a->value + at + t->head * size, a->key_step, scores, sums);
    }
    put(t, sums, total, largest);
}

static void look_task(void *data, size_t task) {
    const FullAttention *a = data;
    const int64_t tiles = ceiling(a->tokens, ROWS), pair = (int64_t)task / tiles;
    const int64_t first = (int64_t)task % tiles * ROWS, rows = least(ROWS, a->tokens - first);
    Tile t = {a, pair / a->heads, pair % a->heads, first, rows, ceiling(rows, LANES), false};
    if (t.vectors == 3) t.vectors = 4;
    t.alike = a->bias && is_alike(&t);
    look(&t);
}

bool attend_fully(const FullAttention *a, Parallel parallel, void *pool) {
    FullAttention copy = *a;
    return parallel(pool, look_task, (size_t)(a->batch * a->heads * ceiling(a->tokens, ROWS)), &copy);
}
