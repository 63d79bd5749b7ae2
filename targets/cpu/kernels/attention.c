#include "attention.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "vectors.h"

enum {
    ROWS = 64, /* pairs of a token and a head that meet keys together */
    KEYS = 64, /* at a time, */
    FEW = 8,   /* rows up to which a lane is a key; above, a lane is a row */
    SOME = 32, /* keys at a time of few rows */
    BROAD = REGISTERS / 8, /* vectors of a tile of sums that stay in registers */
    LINE = 64 /* bytes */
};

/* Rows of a tile, by its vectors less one. */
#ifdef VECTORS_256
static const int64_t HEIGHTS[BROAD] = {12, 6};
#else
static const int64_t HEIGHTS[BROAD] = {16, 12, 8, 6};
#endif

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
    Floats sums[16][BROAD];
#pragma GCC unroll 16
    for (int m = 0; m < rows; m++)
#pragma GCC unroll 4
        for (int n = 0; n < vectors; n++)
            sums[m][n] = add ? MM(loadu_ps)(c + m * c_row + n * LANES) : MM(setzero_ps)();
    for (int64_t k = 0; k < depth; k++) {
        Floats row[BROAD];
        _mm_prefetch(ahead + k * hurry, _MM_HINT_T0);
#pragma GCC unroll 4
        for (int n = 0; n < vectors; n++) row[n] = MM(loadu_ps)(b + k * b_row + n * LANES);
#pragma GCC unroll 16
        for (int m = 0; m < rows; m++) {
            const Floats one = MM(set1_ps)(a.at[m * a.row + k * a.step]);
#pragma GCC unroll 4
            for (int n = 0; n < vectors; n++) sums[m][n] = MM(fmadd_ps)(one, row[n], sums[m][n]);
        }
    }
#pragma GCC unroll 16
    for (int m = 0; m < rows; m++)
#pragma GCC unroll 4
        for (int n = 0; n < vectors; n++) MM(storeu_ps)(c + m * c_row + n * LANES, sums[m][n]);
}

#define UP_TO_6(DO, WIDE) DO(1, WIDE) DO(2, WIDE) DO(3, WIDE) DO(4, WIDE) DO(5, WIDE) DO(6, WIDE)
#define UP_TO_8(DO, WIDE) UP_TO_6(DO, WIDE) DO(7, WIDE) DO(8, WIDE)
#ifdef VECTORS_256
#define EACH_TILE(DO) UP_TO_8(DO, 1) DO(12, 1) UP_TO_6(DO, 2)
#else
#define EACH_TILE(DO) UP_TO_8(DO, 1) DO(16, 1) UP_TO_8(DO, 2) DO(12, 2) UP_TO_8(DO, 3) UP_TO_6(DO, 4)
#endif
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

VECTOR static void set_product(int64_t rows, int64_t width, int64_t depth, Matrix a, const float *b,
                             int64_t b_row, float *c, int64_t c_row, Ahead ahead) {
    product(false, rows, width, depth, a, b, b_row, c, c_row, ahead);
}

VECTOR static void add_product(int64_t rows, int64_t width, int64_t depth, Matrix a, const float *b,
                             int64_t b_row, float *c, int64_t c_row, Ahead ahead) {
    product(true, rows, width, depth, a, b, b_row, c, c_row, ahead);
}

/* Bytes of so many elements of the cache. */
static int64_t bytes_of(int64_t elements, int64_t bits) { return elements * bits / 8; }

/* A vector of numbers of the cache from an element on. */
INLINE Floats cached(const char *cache, int64_t at, const int bits) {
    const char *from = cache + bytes_of(at, bits);
    if (bits == 32) return MM(loadu_ps)((const float *)from);
    return bits == 8 ? floats_of_int8(from) : floats_of_int4(from);
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
                MM(store_ps)(wide + i, cached(keys, j * size + i, bits));
            at = wide;
        }
        for (int64_t r = 0; r < rows; r++) {
            for (int64_t i = (j / LANES * rows + r) * hurry, end = i + hurry; i < end; i += LINE) {
                _mm_prefetch(next_keys.at + i, _MM_HINT_T0);
                _mm_prefetch(next_values.at + i, _MM_HINT_T0);
            }
            const float *query = queries + r * size;
            Floats sums[LANES];
#pragma GCC unroll 16
            for (int64_t i = 0; i < LANES; i++) sums[i] = MM(setzero_ps)();
            for (int64_t d = 0; d < size; d += LANES) {
                const Floats q = MM(loadu_ps)(query + d);
#pragma GCC unroll 16
                for (int64_t i = 0; i < LANES; i++)
                    sums[i] =
                        MM(fmadd_ps)(q, MM(loadu_ps)(at + least(i, here - 1) * size + d), sums[i]);
            }
            MM(storeu_ps)(scores + r * SOME + j, sums_of(sums));
        }
    }
}

/* cap * tanh(x / cap). Near 0 by its Taylor series, where 1 - 2 / (exp(2 y) + 1) keeps few digits: up to 0.3 the
 * first term that is left out is less than a rounding. */
INLINE Floats capped(Floats x, float cap) {
    const Floats two = MM(set1_ps)(2), one = MM(set1_ps)(1);
    const Floats y = MM(mul_ps)(x, MM(set1_ps)(1 / cap)), square = MM(mul_ps)(y, y);
    const Floats power = exponential(MM(mul_ps)(y, two));
    const Floats far = MM(sub_ps)(one, MM(div_ps)(two, MM(add_ps)(power, one)));
    Floats near = MM(set1_ps)(62.0f / 2835);
    near = MM(fmadd_ps)(near, square, MM(set1_ps)(-17.0f / 315));
    near = MM(fmadd_ps)(near, square, MM(set1_ps)(2.0f / 15));
    near = MM(fmadd_ps)(near, square, MM(set1_ps)(-1.0f / 3));
    near = MM(mul_ps)(y, MM(fmadd_ps)(near, square, one));
    const Mask is_near = is_below(square, MM(set1_ps)(0.3f * 0.3f));
    return MM(mul_ps)(MM(set1_ps)(cap), choose(is_near, near, far));
}

/* Scores of a row to weights, those of keys outside [from, to) to 0; what earlier sums are to be multiplied
 * by. `largest` is of all scores so far, `total` of all weights. */
INLINE float weigh(float *scores, float cap, const float *bias, int64_t from, int64_t to, float *largest,
                   float *total) {
    Floats x[SOME / LANES], peak = MM(set1_ps)(*largest), sum = MM(setzero_ps)();
#pragma GCC unroll 4
    for (int64_t i = 0; i < SOME / LANES; i++) {
        const Mask seen = lanes_between(from - i * LANES, to - i * LANES);
        x[i] = choose(seen, MM(loadu_ps)(scores + i * LANES), MM(set1_ps)(-INFINITY));
        if (cap > 0) x[i] = choose(seen, capped(x[i], cap), x[i]);
        if (bias) x[i] = choose(seen, MM(add_ps)(x[i], load_lanes(seen, bias + i * LANES)), x[i]);
        peak = MM(max_ps)(peak, x[i]);
    }
    const float high = largest_of(peak);
#pragma GCC unroll 4
    for (int64_t i = 0; i < SOME / LANES; i++) {
        x[i] = exponential(MM(sub_ps)(x[i], MM(set1_ps)(high)));
        sum = MM(add_ps)(sum, x[i]);
        MM(storeu_ps)(scores + i * LANES, x[i]);
    }
    const float factor = *largest == high ? 1 : first_of(exponential(MM(set1_ps)(*largest - high)));
    *largest = high;
    *total = *total * factor + sum_of(sum);
    return factor;
}

/* A head's row of a new token, turned to its place. */
VECTOR static void turned(const Attention *a, int64_t text, int64_t token, const float *x, float *out) {
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

VECTOR static void store(const Attention *a, const float *x, const float *scale, void *cache, int64_t at) {
    char *to = (char *)cache + bytes_of(at, a->bits);
    if (a->bits == 32) {
        memcpy(to, x, (size_t)a->size * sizeof *x);
        return;
    }
    for (int64_t i = 0; i < a->size; i += LANES, to += bytes_of(LANES, a->bits)) {
        const Floats exact = MM(div_ps)(MM(loadu_ps)(x + i), MM(loadu_ps)(scale + i));
        if (a->bits == 8)
            store_int8(to, MM(cvtps_epi32)(exact));
        else
            store_int4(to, MM(cvtps_epi32)(exact));
    }
}

/* The new tokens of one text and one head of the cache. */
VECTOR static void append(const Attention *a, int64_t text, int64_t head) {
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

VECTOR static void query_of(const View *v, int64_t row, float *out) {
    const Attention *a = v->a;
    const int64_t at = (v->text * a->tokens + token_of(v, row)) * a->query_step + head_of(v, row) * a->size;
    turned(a, v->text, token_of(v, row), a->query + at, out);
    const float *scale = a->key_scale ? a->key_scale + v->head * a->size : NULL;
    for (int64_t d = 0; d < a->size; d++) out[d] *= scale ? a->scale * scale[d] : a->scale;
}

/* A row's sums of weighted values become its result. */
VECTOR static void put(const View *v, int64_t row, const float *sums, float total) {
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
    for (int64_t i = 0; i < count * size; i += LANES) MM(store_ps)(out + i, cached(cache, i, bits));
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
                MM(storeu_ps)(sum + d, MM(mul_ps)(MM(loadu_ps)(sum + d), MM(set1_ps)(factor)));
        }
        const char *values = v->values + at;
        const float *meet =
            bits < 32 ? widened(values, count, count, size, bits, wide) : (const float *)values;
        add_product(rows, size, count, (Matrix){scores, SOME, 1}, meet, size, sums, size, (Ahead){values, 0});
    }
    for (int64_t r = 0; r < rows; r++) put(v, r, sums + r * size, total[r]);
}

/* Of LANES rows. */
typedef struct {
    Ints from, to; /* keys that they see */
    Floats largest, total;
} Softmax;

/* Scores [KEYS, LANES] to weights, a row of scores being a key and `step` after the one before; what the rows'
 * earlier sums are to be multiplied by. `bias` [KEYS, LANES] is added, if there is any. */
INLINE Floats weigh_rows(float *scores, int64_t step, float cap, const float *bias, int64_t first_key,
                         const bool masked, Softmax *rows) {
    Floats peaks[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) peaks[i] = rows->largest;
    for (int64_t j = 0; j < KEYS; j += 4)
#pragma GCC unroll 4
        for (int64_t i = 0; i < 4; i++) {
            float *at = scores + (j + i) * step;
            Floats x = MM(loadu_ps)(at);
            if (cap > 0) x = capped(x, cap);
            if (bias) x = MM(add_ps)(x, MM(load_ps)(bias + (j + i) * LANES));
            if (masked) {
                const Mask seen =
                    within(MM(set1_epi32)((int32_t)(first_key + j + i)), rows->from, rows->to);
                x = choose(seen, x, MM(set1_ps)(-INFINITY));
            }
            if (masked || cap > 0 || bias) MM(storeu_ps)(at, x);
            peaks[i] = MM(max_ps)(peaks[i], x);
        }
    const Floats high = MM(max_ps)(MM(max_ps)(peaks[0], peaks[1]), MM(max_ps)(peaks[2], peaks[3]));
    Floats sums[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) sums[i] = MM(setzero_ps)();
    for (int64_t j = 0; j < KEYS; j += 4)
#pragma GCC unroll 4
        for (int64_t i = 0; i < 4; i++) {
            float *at = scores + (j + i) * step;
            const Floats x = exponential(MM(sub_ps)(MM(loadu_ps)(at), high));
            sums[i] = MM(add_ps)(sums[i], x);
            MM(storeu_ps)(at, x);
        }
    const Floats sum = MM(add_ps)(MM(add_ps)(sums[0], sums[1]), MM(add_ps)(sums[2], sums[3]));
    const Floats factor = exponential(MM(sub_ps)(rows->largest, high));
    rows->largest = high;
    rows->total = MM(fmadd_ps)(rows->total, factor, sum);
    return factor;
}

/* The bias of LANES rows from one on, [KEYS, LANES], of `count` keys from one on. */
INLINE void turned_bias(const View *v, int64_t row, int64_t key, int64_t count, float *out) {
    for (int64_t j = 0; j < KEYS; j += LANES) {
        const Mask some = first_lanes(count - j);
        Floats r[LANES];
        for (int64_t i = 0; i < LANES; i++)
            r[i] = load_lanes(some, bias_of(v, least(row + i, v->rows - 1), key + j));
        transpose_floats(r);
        for (int64_t i = 0; i < LANES; i++) MM(store_ps)(out + (j + i) * LANES, r[i]);
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
        softmax[row / LANES] = (Softmax){load_ints(from), load_ints(to),
                                         MM(load_ps)(largest), MM(set1_ps)(a->sink ? 1 : 0)};
        for (int64_t d = 0; d < size; d += LANES) {
            Floats r[LANES];
#pragma GCC unroll 16
            for (int64_t i = 0; i < LANES; i++) r[i] = MM(load_ps)(lines + i * size + d);
            transpose_floats(r);
#pragma GCC unroll 16
            for (int64_t i = 0; i < LANES; i++) MM(store_ps)(queries + (d + i) * width + row, r[i]);
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
            const Floats factor = masked ? weigh_rows(scores + row, width, a->cap, added, j, true, state)
                                         : weigh_rows(scores + row, width, a->cap, added, j, false, state);
            if (!differ(factor, MM(set1_ps)(1))) continue;
            for (float *sum = sums + row; sum < sums + size * width; sum += width)
                MM(store_ps)(sum, MM(mul_ps)(MM(load_ps)(sum), factor));
        }
        meet = bits < 32 ? widened(values, count, count, size, bits, wide) : (const float *)values;
        add_product(size, width, count, (Matrix){meet, 1, size}, scores, width, sums, width,
                    following(v, v->values, j, KEYS));
    }
    for (int64_t row = 0; row < width; row += LANES) {
        _Alignas(LINE) float total[LANES];
        MM(store_ps)(total, softmax[row / LANES].total);
        for (int64_t d = 0; d < size; d += LANES) {
            Floats r[LANES];
#pragma GCC unroll 16
            for (int64_t i = 0; i < LANES; i++) r[i] = MM(load_ps)(sums + (d + i) * width + row);
            transpose_floats(r);
#pragma GCC unroll 16
            for (int64_t i = 0; i < LANES; i++) MM(store_ps)(lines + i * size + d, r[i]);
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

VECTOR static void look_at_floats(const Attention *a, int64_t text, int64_t head, int64_t first) {
    look(a, text, head, first, 32);
}

VECTOR static void look_at_int8(const Attention *a, int64_t text, int64_t head, int64_t first) {
    look(a, text, head, first, 8);
}

VECTOR static void look_at_int4(const Attention *a, int64_t text, int64_t head, int64_t first) {
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

bool FORM(attend)(const Attention *a, Parallel parallel, void *pool) {
    Attention copy = *a;
    const size_t pairs = (size_t)(a->batch * a->kv_heads);
    if (tiles(a) > 1 && !parallel(pool, append_task, pairs, &copy)) return false;
    return parallel(pool, look_task, pairs * (size_t)tiles(a), &copy);
}
