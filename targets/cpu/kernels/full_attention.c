#include "full_attention.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "vectors.h"

enum {
    ROWS = 64, /* tokens that meet keys together: a lane is one of them */
    KEYS = 48, /* at a time: a multiple of every height */
    LINE = 64
};

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t ceiling(int64_t count, int64_t each) { return (count + each - 1) / each; }

/* A bias below which a key counts for nothing beside one that has none: no score of finite rows is as large. */
static const float HIDDEN = -1e37f;

#ifdef VECTORS_256
INLINE Floats multiplied(const bool halves, Floats x, Floats y, Floats sum) {
    return (void)halves, MM(fmadd_ps)(x, y, sum);
}
#else
/* sum + x * y; or of words of two bfloat16, the products of the first ones and of the second ones. */
INLINE Floats multiplied(const bool halves, Floats x, Floats y, Floats sum) {
    if (!halves) return MM(fmadd_ps)(x, y, sum);
    __asm__("vdpbf16ps %2, %1, %0" : "+v"(sum) : "v"(x), "v"(y));
    return sum;
}

/* Words of two bfloat16 each: entries of `first` and of `second`, rounded to the nearest. */
INLINE Floats words_of(Floats first, Floats second) {
    const Ints turn = MM(set_epi16)(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7,
                                          22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    Ints both;
    __asm__("vcvtne2ps2bf16 %2, %1, %0" : "=v"(both) : "v"(second), "v"(first));
    return MM(castsi512_ps)(MM(permutexvar_epi16)(turn, both));
}
#endif

/* c [rows, width] [+]= a [rows, depth] times b [depth, width], of which `vectors` vectors, rows being a
 * multiple of `height`; element [m, k] of a, a float or a word of two, is at[m * row + k * step]. */
INLINE void product(const int height, const int vectors, const bool add, const bool halves, int64_t rows,
                    int64_t depth, const float *at, int64_t row, int64_t step, const float *b, float *c,
                    int64_t width) {
    for (int64_t first = 0; first < rows; first += height) {
        Floats sums[16][4];
        const float *a = at + first * row;
        float *out = c + first * width;
#pragma GCC unroll 16
        for (int m = 0; m < height; m++)
#pragma GCC unroll 4
            for (int n = 0; n < vectors; n++)
                sums[m][n] = add ? MM(load_ps)(out + m * width + n * LANES) : MM(setzero_ps)();
#pragma GCC unroll 1
        for (int64_t k = 0; k < depth; k++) {
            Floats line[4];
#pragma GCC unroll 4
            for (int n = 0; n < vectors; n++) line[n] = MM(load_ps)(b + k * width + n * LANES);
#pragma GCC unroll 16
            for (int m = 0; m < height; m++) {
                const Floats one = MM(set1_ps)(a[m * row + k * step]);
#pragma GCC unroll 4
                for (int n = 0; n < vectors; n++) sums[m][n] = multiplied(halves, one, line[n], sums[m][n]);
            }
        }
#pragma GCC unroll 16
        for (int m = 0; m < height; m++)
#pragma GCC unroll 4
            for (int n = 0; n < vectors; n++) MM(store_ps)(out + m * width + n * LANES, sums[m][n]);
    }
}

#ifdef VECTORS_256
/* Keys whose sums stay in registers together, by the vectors of tokens. */
static int64_t height_of(int64_t vectors) { return vectors == 1 ? 12 : 6; }
static int64_t padded(int64_t vectors) { return vectors == 1 ? 1 : ceiling(vectors, 2) * 2; }

INLINE void score(const bool halves, int64_t vectors, int64_t keys, int64_t depth, const float *key,
                  int64_t step, const float *queries, float *scores) {
    const int64_t width = vectors * LANES;
    if (vectors == 1) product(12, 1, false, halves, keys, depth, key, step, 1, queries, scores, LANES);
    for (int64_t n = 0; vectors > 1 && n < width; n += 2 * LANES)
        product(6, 2, false, halves, keys, depth, key, step, 1, queries + n, scores + n, width);
}

INLINE void add_values(const bool halves, int64_t vectors, int64_t depth, int64_t size, const float *value,
                       int64_t step, const float *weights, float *sums) {
    const int64_t width = vectors * LANES;
    if (vectors == 1) product(8, 1, true, halves, size, depth, value, 1, step, weights, sums, LANES);
    for (int64_t n = 0; vectors > 1 && n < width; n += 2 * LANES)
        product(4, 2, true, halves, size, depth, value, 1, step, weights + n, sums + n, width);
}
#else
/* Keys whose sums stay in registers together, by the vectors of tokens; and elements of a value. */
static int64_t height_of(int64_t vectors) { return vectors == 4 ? 6 : 16 / vectors; }
static int64_t padded(int64_t vectors) { return vectors == 3 ? 4 : vectors; }

INLINE void score(const bool halves, int64_t vectors, int64_t keys, int64_t depth, const float *key,
                  int64_t step, const float *queries, float *scores) {
    if (vectors == 4)
        product(6, 4, false, halves, keys, depth, key, step, 1, queries, scores, 4 * LANES);
    else if (vectors == 2)
        product(8, 2, false, halves, keys, depth, key, step, 1, queries, scores, 2 * LANES);
    else
        product(16, 1, false, halves, keys, depth, key, step, 1, queries, scores, LANES);
}

INLINE void add_values(const bool halves, int64_t vectors, int64_t depth, int64_t size, const float *value,
                       int64_t step, const float *weights, float *sums) {
    if (vectors == 4)
        product(4, 4, true, halves, size, depth, value, 1, step, weights, sums, 4 * LANES);
    else if (vectors == 2)
        product(8, 2, true, halves, size, depth, value, 1, step, weights, sums, 2 * LANES);
    else
        product(16, 1, true, halves, size, depth, value, 1, step, weights, sums, LANES);
}
#endif

VECTOR static void score_floats(int64_t vectors, int64_t keys, int64_t size, const float *key, int64_t step,
                              const float *queries, float *scores) {
    score(false, vectors, keys, size, key, step, queries, scores);
}

VECTOR static void add_floats(int64_t vectors, int64_t keys, int64_t size, const float *value, int64_t step,
                            const float *weights, float *sums) {
    add_values(false, vectors, keys, size, value, step, weights, sums);
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
VECTOR static bool is_hidden(const Tile *t, int64_t from, int64_t to) {
    const float *bias = bias_of(t, 0);
    for (int64_t j = from; j < to; j++)
        if (!(bias[j] < HIDDEN)) return false;
    for (int64_t j = 0; j < t->a->keys; j++)
        if (bias[j] > -1) return true;
    return false;
}

/* The bias of LANES tokens, [keys, LANES]. */
INLINE void turned_bias(const Tile *t, int64_t row, int64_t key, int64_t count, float *out) {
    if (t->alike) {
        const float *bias = bias_of(t, 0) + key;
        for (int64_t j = 0; j < count; j++) MM(store_ps)(out + j * LANES, MM(set1_ps)(bias[j]));
        return;
    }
    for (int64_t j = 0; j < count; j += LANES) {
        Floats r[LANES];
        for (int64_t i = 0; i < LANES; i++)
            r[i] = load_lanes(first_lanes(count - j), bias_of(t, row + i) + key + j);
        transpose_floats(r);
        for (int64_t i = 0; i < LANES; i++) MM(store_ps)(out + (j + i) * LANES, r[i]);
    }
}

/* Scores [count, LANES], `width` apart, to weights; what the tokens' earlier sums are to be multiplied by.
 * `largest` is of all scores so far, `total` of all weights. */
INLINE Floats weigh(float *scores, int64_t width, int64_t count, const float *bias, float *largest,
                    float *total) {
    const Floats before = MM(load_ps)(largest);
    Floats high[2] = {before, before}, sum[2] = {MM(setzero_ps)(), MM(setzero_ps)()};
    for (int64_t j = 0; j < count; j++) {
        float *at = scores + j * width;
        Floats x = MM(load_ps)(at);
        if (bias) MM(store_ps)(at, x = MM(add_ps)(x, MM(load_ps)(bias + j * LANES)));
        high[j & 1] = MM(max_ps)(x, high[j & 1]);
    }
    const Floats peak = MM(max_ps)(high[0], high[1]);
    for (int64_t j = 0; j < count; j++) {
        float *at = scores + j * width;
        const Floats x = exponential(MM(sub_ps)(MM(load_ps)(at), peak));
        MM(store_ps)(at, x);
        sum[j & 1] = MM(add_ps)(sum[j & 1], x);
    }
    const Floats factor = exponential(MM(sub_ps)(before, peak));
    const Floats all = MM(add_ps)(sum[0], sum[1]);
    MM(store_ps)(total, MM(fmadd_ps)(MM(load_ps)(total), factor, all));
    MM(store_ps)(largest, peak);
    return factor;
}

/* Queries times the scale, [size, width]. */
INLINE void turn_queries(const Tile *t, float *out) {
    const FullAttention *a = t->a;
    const int64_t width = t->vectors * LANES;
    const float *query = a->query + (t->text * a->tokens + t->first) * a->query_step + t->head * a->size;
    for (int64_t row = 0; row < width; row += LANES)
        for (int64_t d = 0; d < a->size; d += LANES) {
            Floats r[LANES];
#pragma GCC unroll 16
            for (int64_t i = 0; i < LANES; i++)
                r[i] = MM(mul_ps)(MM(loadu_ps)(query + least(row + i, t->rows - 1) * a->query_step + d),
                                     MM(set1_ps)(a->scale));
            transpose_floats(r);
#pragma GCC unroll 16
            for (int64_t i = 0; i < LANES; i++) MM(store_ps)(out + (d + i) * width + row, r[i]);
        }
}

/* Sums [size, width] over totals to rows of y: 0 where no key was seen, as onnxruntime's kernel has it. */
INLINE void put(const Tile *t, const float *sums, const float *totals, const float *largest) {
    const FullAttention *a = t->a;
    const int64_t width = t->vectors * LANES, step = a->heads * a->size;
    float *y = a->y + (t->text * a->tokens + t->first) * step + t->head * a->size;
    for (int64_t row = 0; row < t->rows; row += LANES)
        for (int64_t d = 0; d < a->size; d += LANES) {
            const Floats total = MM(load_ps)(totals + row), peak = MM(load_ps)(largest + row);
            const Mask seen = either(is_above(peak, MM(set1_ps)(-FLT_MAX)), is_none(total));
            Floats r[LANES];
#pragma GCC unroll 16
            for (int64_t i = 0; i < LANES; i++)
                r[i] = choose(seen, MM(div_ps)(MM(load_ps)(sums + (d + i) * width + row), total),
                              MM(setzero_ps)());
            transpose_floats(r);
            for (int64_t i = 0; i < least(LANES, t->rows - row); i++)
                MM(storeu_ps)(y + (row + i) * step + d, r[i]);
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

#ifndef VECTORS_256
VECTOR static void score_halves(int64_t vectors, int64_t keys, int64_t words, const float *key,
                              const float *queries, float *scores) {
    score(true, vectors, keys, words, key, words, queries, scores);
}

VECTOR static void add_halves(int64_t vectors, int64_t words, int64_t size, const float *value,
                            const float *weights, float *sums) {
    add_values(true, vectors, words, size, value, size, weights, sums);
}

/* Rows [count, width], each and the next one as a row of words; a last one alone beside zeros. */
INLINE void pair_rows(const float *at, int64_t step, int64_t count, int64_t width, float *out) {
    for (int64_t j = 0; j < count; j += 2, out += width)
        for (int64_t d = 0; d < width; d += LANES) {
            const float *row = at + j * step + d;
            const Floats next = j + 1 < count ? MM(loadu_ps)(row + step) : MM(setzero_ps)();
            MM(store_ps)(out + d, words_of(MM(loadu_ps)(row), next));
        }
}

/* Keys [rows, size], of which those from `count` on are zeros, as words of neighbours [rows, size / 2]. */
INLINE void pair_neighbours(const float *at, int64_t step, int64_t count, int64_t rows, int64_t size,
                            float *out) {
    memset(out + count * size / 2, 0, (size_t)((rows - count) * size / 2) * sizeof *out);
    for (int64_t j = 0; j < count; j++, at += step, out += size / 2)
        for (int64_t d = 0; d < size; d += LANES) {
            __m256i words;
            __asm__("vcvtneps2bf16 %1, %0" : "=v"(words) : "v"(MM(loadu_ps)(at + d)));
            _mm256_storeu_si256((__m256i *)(out + d / 2), words);
        }
}

/* Queries as words; scores of keys, and sums of values: whether they were made of words. */
VECTOR static void to_halves(const Tile *t, float *queries) {
    const int64_t width = t->vectors * LANES;
    if (t->a->halves) pair_rows(queries, width, t->a->size, width, queries);
}

VECTOR static bool score_in_halves(const Tile *t, const float *key, int64_t count, int64_t rows,
                                   const float *queries, float *room, float *scores) {
    const FullAttention *a = t->a;
    if (!a->halves) return false;
    pair_neighbours(key, a->key_step, count, rows, a->size, room);
    score_halves(t->vectors, rows, a->size / 2, room, queries, scores);
    return true;
}

VECTOR static bool add_in_halves(const Tile *t, const float *value, int64_t count, float *scores, float *room,
                                 float *sums) {
    const FullAttention *a = t->a;
    const int64_t width = t->vectors * LANES;
    if (!a->halves) return false;
    pair_rows(value, a->key_step, count, a->size, room);
    pair_rows(scores, width, count, width, scores);
    add_halves(t->vectors, ceiling(count, 2), a->size, room, scores, sums);
    return true;
}
#else
#define to_halves(...)
#define score_in_halves(...) false
#define add_in_halves(...) false
#endif

VECTOR static void look(const Tile *t) {
    const FullAttention *a = t->a;
    const int64_t size = a->size, width = t->vectors * LANES;
    _Alignas(LINE) float queries[FULL_ATTENTION_SIZE * ROWS], sums[FULL_ATTENTION_SIZE * ROWS],
        scores[KEYS * ROWS], bias[KEYS * LANES], room[KEYS * FULL_ATTENTION_SIZE], largest[ROWS], total[ROWS];
    turn_queries(t, queries);
    to_halves(t, queries);
    memset(sums, 0, (size_t)(size * width) * sizeof *sums);
    for (int64_t i = 0; i < width; i++) largest[i] = -FLT_MAX, total[i] = 0;
    for (int64_t j = 0; j < a->keys; j += KEYS) {
        const int64_t count = least(KEYS, a->keys - j), height = height_of(t->vectors);
        const int64_t rows = ceiling(count, height) * height, at = (t->text * a->keys + j) * a->key_step;
        const float *key = a->key + at + t->head * size, *value = a->value + at + t->head * size;
        if (a->bias && t->alike && is_hidden(t, j, j + count)) continue;
        if (!score_in_halves(t, key, count, rows, queries, room, scores)) {
            key = whole(key, a->key_step, count, rows, size, room);
            score_floats(t->vectors, rows, size, key, key == room ? size : a->key_step, queries, scores);
        }
        for (int64_t row = 0; row < width; row += LANES) {
            if (a->bias && (row == 0 || !t->alike)) turned_bias(t, row, j, count, bias);
            const Floats factor =
                weigh(scores + row, width, count, a->bias ? bias : NULL, largest + row, total + row);
            if (!differ(factor, MM(set1_ps)(1))) continue;
            for (float *sum = sums + row; sum < sums + size * width; sum += width)
                MM(store_ps)(sum, MM(mul_ps)(MM(load_ps)(sum), factor));
        }
        if (!add_in_halves(t, value, count, scores, room, sums))
            add_floats(t->vectors, count, size, value, a->key_step, scores, sums);
    }
    put(t, sums, total, largest);
}

static void look_task(void *data, size_t task) {
    const FullAttention *a = data;
    const int64_t tiles = ceiling(a->tokens, ROWS), pair = (int64_t)task / tiles;
    const int64_t first = (int64_t)task % tiles * ROWS, rows = least(ROWS, a->tokens - first);
    Tile t = {a, pair / a->heads, pair % a->heads, first, rows, padded(ceiling(rows, LANES)), false};
    t.alike = a->bias && is_alike(&t);
    look(&t);
}

bool FORM(attend_fully)(const FullAttention *a, Parallel parallel, void *pool) {
    FullAttention copy = *a;
    return parallel(pool, look_task, (size_t)(a->batch * a->heads * ceiling(a->tokens, ROWS)), &copy);
}
