#include "row_product.h"

#include <float.h>
#include <string.h>

#include "vectors.h"

enum {
    LINE = 64,
    VECTOR_BYTES = 4 * LANES,
    SIZE = VECTOR_BYTES == LINE ? 1 : 2, /* bytes of an element: AVX2's products of bytes overflow */
    EACH = 4 / SIZE,                     /* elements of a word */
    WIDE = 2 * LANES,                    /* columns of weights in a panel */
    TALL = REGISTERS == 32 ? 12 : 4,     /* lines of x that meet a panel at once: sums in registers */
    MANY = 48,                           /* lines in a task, if they fit ROOM bytes, */
    ROOM = 12 * ROW_PRODUCT_DEPTH * SIZE,
    TASKS = 4, /* at least, if columns can be shared out for it, so many to a task: */
    LEAST = 4 * WIDE,
    LEFT = 254, /* steps of the second term in one of the first, which is off by half of one at most; */
    MIDDLE = 128 /* its zero point */
};

/* A line is a row of x in 8 bits, one of its terms. Words, EACH elements of k, of TALL lines lie side by
 * side, so that a step along k reads TALL words of x and 4 * WIDE bytes of weights, which end in zeros. */
static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }
static int64_t ceiling(int64_t count, int64_t each) { return (count + each - 1) / each; }
static int64_t words_of(int64_t k) { return ceiling(k, LANES) * (LANES / EACH); }
static int64_t panel_bytes(int64_t k) { return words_of(k) * 4 * WIDE + WIDE * 4; }

size_t FORM(packed_bytes)(int64_t k, int64_t n) { return (size_t)(ceiling(n, WIDE) * panel_bytes(k)); }

/* A panel: the sums of its columns, then their words. */
void FORM(pack_rows)(const int8_t *weights, int64_t k, int64_t n, void *packed) {
    memset(packed, 0, FORM(packed_bytes)(k, n));
    for (int64_t first = 0; first < n; first += WIDE) {
        int32_t *sums = (int32_t *)((char *)packed + first / WIDE * panel_bytes(k));
        int8_t *words = (int8_t *)(sums + WIDE);
        for (int64_t i = 0; i < k; i++)
            for (int64_t j = 0; j < least(WIDE, n - first); j++) {
                const int8_t one = weights[i * n + first + j];
                sums[j] += one;
                const int16_t wide = one;
                int8_t *at = words + i / EACH * 4 * WIDE + j * 4 + i % EACH * SIZE;
                memcpy(at, SIZE == 1 ? (const void *)&one : &wide, SIZE);
            }
    }
}

/* Rows of x as lines. Four of these that lie side by side are so many rows, or with two terms two of them, the
 * first terms before the second. */
typedef struct {
    _Alignas(LINE) uint8_t lines[ROOM];
    float scales[MANY];   /* of a row */
    int32_t zeros[MANY]; /* of its first term */
} Rounded;

typedef struct {
    float scale, inverse, zero;
} Step;

typedef struct {
    Floats low, high, finite; /* the last is NaN where an entry was none or infinite */
} Range;

INLINE Floats entries(const RowProduct *p, const float *x, int64_t i, Mask there) {
    const Floats v = load_lanes(there, x + i);
    return p->factors ? MM(mul_ps)(v, load_lanes(there, p->factors + i)) : v;
}

INLINE void widen(Range *range, Floats v) {
    range->low = MM(min_ps)(range->low, v);
    range->high = MM(max_ps)(range->high, v);
    range->finite = MM(fmadd_ps)(v, MM(setzero_ps)(), range->finite);
}

/* 255 steps from the least entry of a row to the largest, zero being at one of them. */
INLINE Step step_of(const RowProduct *p, const float *x) {
    const Floats zero = MM(setzero_ps)();
    Range a = {zero, zero, zero}, b = a;
    int64_t i = 0;
    for (; i + 2 * LANES <= p->k; i += 2 * LANES)
        widen(&a, entries(p, x, i, first_lanes(LANES))), widen(&b, entries(p, x, i + LANES, first_lanes(LANES)));
    for (; i < p->k; i += LANES) widen(&a, entries(p, x, i, first_lanes(p->k - i)));
    const float low = least_of(MM(min_ps)(a.low, b.low));
    const float high = largest_of(MM(max_ps)(a.high, b.high));
    const float finite = sum_of(MM(add_ps)(a.finite, b.finite));
    const float scale = high / 255 - low / 255;
    if (finite != 0) return (Step){finite, 0, 0};
    if (scale < FLT_MIN) return (Step){0, 0, 0};
    return (Step){scale, 1 / scale, __builtin_rintf(-low / scale)};
}

/* Four words of each of four lines, to be TALL words apart. */
INLINE void put_words(const __m128i r[4], uint8_t *out) {
    const __m128i a = _mm_unpacklo_epi32(r[0], r[1]), b = _mm_unpackhi_epi32(r[0], r[1]);
    const __m128i c = _mm_unpacklo_epi32(r[2], r[3]), d = _mm_unpackhi_epi32(r[2], r[3]);
    _mm_storeu_si128((__m128i *)out, _mm_unpacklo_epi64(a, c));
    _mm_storeu_si128((__m128i *)(out + 4 * TALL), _mm_unpackhi_epi64(a, c));
    _mm_storeu_si128((__m128i *)(out + 8 * TALL), _mm_unpacklo_epi64(b, d));
    _mm_storeu_si128((__m128i *)(out + 12 * TALL), _mm_unpackhi_epi64(b, d));
}

/* Up to four lines: `count` rows, of which four or with two terms two are at most. */
INLINE void round_lines(const RowProduct *p, const float *x, int64_t count, const int terms, uint8_t *out,
                        float *scales, int32_t *zeros) {
    const int rows = 4 / terms;
    Step steps[4];
    for (int64_t m = 0; m < rows; m++) {
        steps[m] = step_of(p, x + least(m, count - 1) * p->k);
        scales[m] = steps[m].scale, zeros[m] = (int32_t)steps[m].zero;
    }
    for (int64_t i = 0; i < p->k; i += LANES, out += LANES * SIZE * TALL) {
        const Mask there = first_lanes(p->k - i);
        __m128i lines[4];
#pragma GCC unroll 4
        for (int m = 0; m < rows; m++) {
            const Floats v = entries(p, x + least(m, count - 1) * p->k, i, there);
            const Floats exact =
                MM(fmadd_ps)(v, MM(set1_ps)(steps[m].inverse), MM(set1_ps)(steps[m].zero));
            lines[m] = to_uint8(MM(cvtps_epi32)(exact));
            if (terms == 1) continue;
            const Floats left = MM(sub_ps)(exact, floats_of_uint8(lines[m]));
            const Floats again = MM(fmadd_ps)(left, MM(set1_ps)(LEFT), MM(set1_ps)(MIDDLE));
            lines[m + 2] = to_uint8(MM(cvtps_epi32)(again));
        }
        put_words(lines, out);
    }
}

/* The error function of x over the root of 2, within 5e-7: an odd polynomial over an even one, as in Eigen. */
INLINE Floats erf_of(Floats x) {
    const float over[] = {-2.72614225801306e-10f, 2.77068142495902e-08f,  -2.10102402082508e-06f,
                          -5.69250639462346e-05f, -7.34990630326855e-04f, -2.95459980854025e-03f,
                          -1.60960333262415e-02f};
    const float under[] = {-1.45660718464996e-05f, -2.13374055278905e-04f, -1.68282697438203e-03f,
                           -7.37332916720468e-03f, -1.42647390514189e-02f};
    x = MM(mul_ps)(x, MM(set1_ps)(0.70710678f));
    x = MM(max_ps)(MM(set1_ps)(-4), MM(min_ps)(MM(set1_ps)(4), x));
    const Floats square = MM(mul_ps)(x, x);
    Floats p = MM(set1_ps)(over[0]), q = MM(set1_ps)(under[0]);
#pragma GCC unroll 6
    for (int i = 1; i < 7; i++) p = MM(fmadd_ps)(p, square, MM(set1_ps)(over[i]));
#pragma GCC unroll 4
    for (int i = 1; i < 5; i++) q = MM(fmadd_ps)(q, square, MM(set1_ps)(under[i]));
    return MM(div_ps)(MM(mul_ps)(x, p), q);
}

INLINE Floats gelu(Floats x) {
    const Floats half = MM(mul_ps)(x, MM(set1_ps)(0.5f));
    return MM(fmadd_ps)(half, erf_of(x), half);
}

/* Where a panel begins in what is multiplied: its first column and how many there are. */
typedef struct {
    const int32_t *sums;
    int64_t column, width;
} Panel;

/* Products of `lines` lines with a panel, to rows of y from one on. */
INLINE void tile(const RowProduct *p, const Panel *panel, const int lines, const int terms, const uint8_t *x,
                 const float *scales, const int32_t *zeros, float *y, int64_t count) {
    Ints s[TALL][2];
    const Ints columns[2] = {load_ints(panel->sums), load_ints(panel->sums + LANES)};
    const int8_t *weights = (const int8_t *)(panel->sums + WIDE);
#pragma GCC unroll 12
    for (int m = 0; m < lines; m++) {
        const int32_t zero = terms == 1 ? zeros[m] : m % 4 < 2 ? zeros[m / 4 * 2 + m % 2] : MIDDLE;
#pragma GCC unroll 2
        for (int w = 0; w < 2; w++) s[m][w] = MM(mullo_epi32)(MM(set1_epi32)(-zero), columns[w]);
    }
#pragma GCC unroll 1
    for (int64_t i = words_of(p->k); i > 0; i--, weights += 2 * VECTOR_BYTES, x += 4 * TALL) {
        const Ints a = load_ints(weights), b = load_ints(weights + VECTOR_BYTES);
#pragma GCC unroll 12
        for (int m = 0; m < lines; m++) {
            int32_t word;
            memcpy(&word, x + 4 * m, 4);
            const Ints one = MM(set1_epi32)(word);
            accumulate(&s[m][0], one, a, SIZE);
            accumulate(&s[m][1], one, b, SIZE);
        }
    }
    const int rows = lines / terms;
#pragma GCC unroll 2
    for (int w = 0; w < 2; w++) {
        const int64_t column = panel->column + w * LANES;
        const Mask there = first_lanes(most(0, panel->width - w * LANES));
        const Floats scale = load_lanes(there, p->scales + column);
        const Floats bias = p->bias ? load_lanes(there, p->bias + column) : MM(setzero_ps)();
#pragma GCC unroll 12
        for (int m = 0; m < rows; m++) {
            Floats sum;
            if (terms == 1)
                sum = MM(cvtepi32_ps)(s[m][w]);
            else
                sum = MM(fmadd_ps)(MM(cvtepi32_ps)(s[m / 2 * 4 + 2 + m % 2][w]),
                                      MM(set1_ps)(1.f / LEFT),
                                      MM(cvtepi32_ps)(s[m / 2 * 4 + m % 2][w]));
            if (m >= count) continue;
            sum = MM(fmadd_ps)(sum, MM(mul_ps)(scale, MM(set1_ps)(scales[m])), bias);
            if (p->gelu) sum = gelu(sum);
            store_lanes(y + m * p->n + column, there, sum);
        }
    }
}

/* What one task does: rows, and columns from one panel to another. */
typedef struct {
    const RowProduct *product;
    int64_t rows, panels; /* of a task */
} Job;

/* Rows of a tile: as many as in the others, but for one. */
static int64_t rows_of_tile(int64_t left, int64_t terms) {
    const int64_t tall = TALL / terms, each = ceiling(left, ceiling(left, tall));
    return terms == 1 ? each : least(left, ceiling(each, 2) * 2);
}

INLINE void round_all(const RowProduct *p, int64_t row, int64_t count, const int terms, Rounded *out) {
    uint8_t *lines = out->lines;
    for (int64_t at = 0, here; at < count; at += here, lines += words_of(p->k) * 4 * TALL) {
        here = rows_of_tile(count - at, terms);
        for (int64_t m = 0; m < here; m += 4 / terms)
            round_lines(p, p->x + (row + at + m) * p->k, least(4 / terms, here - m), terms,
                        lines + m * terms * 4, out->scales + at + m, out->zeros + at + m);
    }
}

/* y, which is not normed yet, of a row to its norm. */
INLINE void norm_row(const RowProduct *p, int64_t row) {
    const float *residual = p->residual + row * p->n;
    float *y = p->y + row * p->n;
    Floats sum = MM(setzero_ps)(), squares = sum;
    for (int64_t i = 0; i < p->n; i += LANES) {
        const Mask there = first_lanes(p->n - i);
        const Floats beside = load_lanes(there, residual + i);
        const Floats v = MM(add_ps)(load_lanes(there, y + i), beside);
        sum = MM(add_ps)(sum, v);
        store_lanes(y + i, there, v);
    }
    const Floats mean = MM(set1_ps)(sum_of(sum) / (float)p->n);
    for (int64_t i = 0; i < p->n; i += LANES) {
        const Mask there = first_lanes(p->n - i);
        const Floats v = choose(there, MM(sub_ps)(load_lanes(there, y + i), mean), MM(setzero_ps)());
        squares = MM(fmadd_ps)(v, v, squares);
    }
    const float variance = sum_of(squares) / (float)p->n + p->epsilon;
    const Floats inverse = MM(div_ps)(MM(set1_ps)(1), MM(sqrt_ps)(MM(set1_ps)(variance)));
    for (int64_t i = 0; i < p->n; i += LANES) {
        const Mask there = first_lanes(p->n - i);
        const Floats v = MM(mul_ps)(MM(sub_ps)(load_lanes(there, y + i), mean), inverse);
        const Floats gain = load_lanes(there, p->gain + i);
        const Floats shift = load_lanes(there, p->shift + i);
        store_lanes(y + i, there, MM(fmadd_ps)(v, gain, shift));
    }
}

VECTOR static void norm_task(void *data, size_t task) {
    const Job *job = data;
    const int64_t from = (int64_t)task * job->rows, to = least(from + job->rows, job->product->rows);
    for (int64_t row = from; row < to; row++) norm_row(job->product, row);
}

/* A panel for all lines of a task, of whose rows the first is given. */
INLINE void multiply_panel(const RowProduct *p, int64_t panel, const Rounded *r, int64_t row, int64_t count,
                           const int terms) {
    const char *packed = (const char *)p->packed + panel * panel_bytes(p->k);
    const Panel one = {(const int32_t *)packed, panel * WIDE, p->n - panel * WIDE};
    const uint8_t *x = r->lines;
    for (int64_t at = 0, here; at < count; at += here, x += words_of(p->k) * 4 * TALL) {
        here = rows_of_tile(count - at, terms);
        float *y = p->y + (row + at) * p->n;
        switch (terms == 1 ? here : ceiling(here, 2) * 4) {
#define CASE(LINES, MOST_TERMS)                                                              \
    case LINES:                                                                              \
        if (terms <= MOST_TERMS)                                                             \
            tile(p, &one, LINES, terms, x, r->scales + at, r->zeros + at, y, here);          \
        break;
            CASE(1, 1)
            CASE(2, 1)
            CASE(3, 1)
            CASE(4, 2)
#ifndef VECTORS_256
            CASE(5, 1)
            CASE(6, 1)
            CASE(7, 1)
            CASE(8, 2)
            CASE(9, 1)
            CASE(10, 1)
            CASE(11, 1)
            CASE(12, 2)
#endif
#undef CASE
        }
    }
}

INLINE void multiply_share(const Job *job, size_t task, const int terms) {
    const RowProduct *p = job->product;
    const int64_t panels = ceiling(p->n, WIDE), across = ceiling(panels, job->panels);
    const int64_t row = (int64_t)task / across * job->rows, from = (int64_t)task % across * job->panels;
    const int64_t count = least(job->rows, p->rows - row);
    Rounded r;
    round_all(p, row, count, terms, &r);
    for (int64_t panel = from; panel < least(from + job->panels, panels); panel++)
        multiply_panel(p, panel, &r, row, count, terms);
    for (int64_t i = 0; across == 1 && p->residual && i < count; i++) norm_row(p, row + i);
}

VECTOR static void multiply_once(void *data, size_t task) { multiply_share(data, task, 1); }
VECTOR static void multiply_twice(void *data, size_t task) { multiply_share(data, task, 2); }

bool FORM(multiply_rows)(const RowProduct *p, Parallel parallel, void *pool) {
    const int64_t lines = least(MANY, ROOM / (words_of(p->k) * 4) / TALL * TALL), rows = lines / p->terms;
    const int64_t down = ceiling(p->rows, rows), panels = ceiling(p->n, WIDE);
    const int64_t across = least(ceiling(panels, LEAST / WIDE), ceiling(TASKS, down));
    Job job = {p, rows, ceiling(panels, across)};
    const int64_t tasks = down * ceiling(panels, job.panels);
    if (!parallel(pool, p->terms == 1 ? multiply_once : multiply_twice, (size_t)tasks, &job)) return false;
    return !p->residual || tasks == down || parallel(pool, norm_task, (size_t)down, &job);
}
