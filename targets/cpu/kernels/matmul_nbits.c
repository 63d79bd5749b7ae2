#include "matmul_nbits.h"

#include <stdlib.h>
#include <string.h>

#include "avx512.h"

enum {
    CHUNK = 128, /* elements whose weights fill a vector */
    HALF = CHUNK / 2,
    LANES = 16,
    LINE = 64,
    FEW = 16,           /* rows of x up to which a row of weights is unpacked in registers, not in a panel */
    AT_ONCE = 6,        /* of them */
    SIDE = 4,           /* rows of weights that meet three rows of x or more side by side */
    WIDE = 32,          /* rows of weights in a panel */
    TALL = 12,          /* rows of x that meet a panel at once: 24 sums in registers */
    MANY = 512,         /* rows of x that are rounded at a time */
    AHEAD = 8192,       /* bytes of weights that are asked for before they are needed, */
    SCALES_AHEAD = 512, /* and scales */
    SOON = 256,         /* bytes of each of the rows that become a panel */
    TOGETHER = 16,      /* rows of x in a task that rounds them */
    STRIP = 128,        /* rows of weights in a task of few rows of x */
    ZERO_POINT_4 = 8,
    ZERO_POINT_8 = 128
};

/* Rows of x as integers. For weights of 4 bits a chunk holds its even elements and then its odd ones, as the
 * low and high halves of its weights' bytes do. */
typedef struct {
    int8_t *values;  /* [k / depth, rows, depth] */
    float *scales;   /* [rows, k / block] */
    int32_t *shifts; /* [rows, k / block]: sums of values times -zero_point */
    int64_t rows, depth;
} Rounded;

typedef struct {
    const Product *product;
    Rounded rounded;
    int64_t first; /* the row of x that rounded begins with */
    bool few;
} Job;

bool machine_multiplies(void) {
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512vnni");
}

static int64_t ceiling(int64_t count, int64_t each) { return (count + each - 1) / each; }

/* Even bytes of 128 into the lower vector, odd ones into the upper. */
INLINE void part(__m512i a, __m512i b, int8_t *out) {
    const __m512i low = _mm512_set1_epi16(0xff);
    const __m512i order = _mm512_set_epi64(7, 5, 3, 1, 6, 4, 2, 0);
    const __m512i even = _mm512_packus_epi16(_mm512_and_si512(a, low), _mm512_and_si512(b, low));
    const __m512i odd = _mm512_packus_epi16(_mm512_srli_epi16(a, 8), _mm512_srli_epi16(b, 8));
    _mm512_storeu_si512(out, _mm512_permutexvar_epi64(order, even));
    _mm512_storeu_si512(out + HALF, _mm512_permutexvar_epi64(order, odd));
}

/* 64 numbers as int8, those between two integers to the even one. */
INLINE __m512i to_int8(const float *x, __m512 inverse) {
    __m512i out = _mm512_setzero_si512();
    for (int i = 0; i < 4; i++) {
        const __m512i whole = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x + i * LANES), inverse));
        const __m128i bytes = _mm512_cvtsepi32_epi8(whole);
        out = i == 0   ? _mm512_inserti32x4(out, bytes, 0)
              : i == 1 ? _mm512_inserti32x4(out, bytes, 1)
              : i == 2 ? _mm512_inserti32x4(out, bytes, 2)
                       : _mm512_inserti32x4(out, bytes, 3);
    }
    return out;
}

VNNI static void round_row(const Job *job, int64_t row) {
    const Product *p = job->product;
    const Rounded *r = &job->rounded;
    const int64_t blocks = p->k / p->block;
    const float *x = p->x + (job->first + row) * p->k;
    float *scales = r->scales + row * blocks;
    const __m512i no_sign = _mm512_set1_epi32(0x7fffffff);
    for (int64_t chunk = 0; chunk < p->k / CHUNK; chunk++, x += CHUNK) {
        const int64_t block = p->block, at = chunk * CHUNK;
        int8_t plain[CHUNK];
        if (at % block == 0) {
            const int64_t here = block < CHUNK ? CHUNK / block : 1;
            for (int64_t b = 0; b < here; b++) {
                __m512i most =
                    _mm512_setzero_si512(); /* ordered as floats are, and a NaN is above them all */
                for (int64_t i = 0; i < block; i += LANES)
                    most = _mm512_max_epi32(most,
                                            _mm512_and_si512(_mm512_loadu_si512(x + b * block + i), no_sign));
                const int32_t bits = _mm512_reduce_max_epi32(most);
                float largest;
                memcpy(&largest, &bits, sizeof largest);
                scales[at / block + b] = largest / 127;
            }
        }
        for (int64_t i = 0; i < CHUNK; i += HALF) {
            __m512i whole;
            if (block == 32) {
                const float a = scales[(at + i) / 32], b = scales[(at + i) / 32 + 1];
                const __m512i first = to_int8(x + i, _mm512_set1_ps(a ? 1 / a : 0));
                const __m512i second = to_int8(x + i, _mm512_set1_ps(b ? 1 / b : 0));
                whole = _mm512_mask_mov_epi64(first, 0xf0, second);
            } else {
                const float a = scales[(at + i) / block];
                whole = to_int8(x + i, _mm512_set1_ps(a ? 1 / a : 0));
            }
            _mm512_storeu_si512(plain + i, whole);
        }
        int8_t *out = r->values + (at / r->depth * r->rows + row) * r->depth + at % r->depth;
        if (p->bits == 4)
            part(_mm512_loadu_si512(plain), _mm512_loadu_si512(plain + HALF), out);
        else
            memcpy(out, plain, CHUNK);
        const __m512i zero_point = _mm512_set1_epi8((char)(p->bits == 4 ? ZERO_POINT_4 : ZERO_POINT_8));
        __m512i sums = _mm512_dpbusd_epi32(_mm512_setzero_si512(), zero_point, _mm512_loadu_si512(out));
        sums = _mm512_dpbusd_epi32(sums, zero_point, _mm512_loadu_si512(out + HALF));
        int32_t lanes[LANES], *shifts = r->shifts + row * blocks;
        _mm512_storeu_si512(lanes, sums);
        if (at % block == 0 && block >= CHUNK) shifts[at / block] = 0;
        if (block < CHUNK)
            for (int64_t b = 0; b < CHUNK / block; b++) shifts[at / block + b] = 0;
        for (int64_t i = 0; i < LANES; i++)
            shifts[block < CHUNK ? at / block + i * 8 / block : at / block] -= lanes[i];
    }
}

_Static_assert(FEW <= TOGETHER, "few rows are rounded by one task");

static void round_rows(void *data, size_t task) {
    const Job *job = data;
    const int64_t from = (int64_t)task * TOGETHER, to = from + TOGETHER;
    for (int64_t row = from; row < to && row < job->rounded.rows; row++) round_row(job, row);
}

/* Scales of the lanes of a chunk, whose first block is this one. */
INLINE __m512 spread(const float *scales, const int64_t block) {
    if (block >= CHUNK) return _mm512_set1_ps(scales[0]);
    if (block == 64) return _mm512_mask_mov_ps(_mm512_set1_ps(scales[0]), 0xff00, _mm512_set1_ps(scales[1]));
    const __m512i order = _mm512_set_epi32(3, 3, 3, 3, 2, 2, 2, 2, 1, 1, 1, 1, 0, 0, 0, 0);
    return _mm512_permutexvar_ps(order, _mm512_castps128_ps512(_mm_loadu_ps(scales)));
}

/* The sums of four vectors. */
INLINE __m128 sums_of(const __m512 r[SIDE]) {
    const __m512d a =
        _mm512_castps_pd(_mm512_add_ps(_mm512_unpacklo_ps(r[0], r[1]), _mm512_unpackhi_ps(r[0], r[1])));
    const __m512d b =
        _mm512_castps_pd(_mm512_add_ps(_mm512_unpacklo_ps(r[2], r[3]), _mm512_unpackhi_ps(r[2], r[3])));
    __m512 all =
        _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(a, b)), _mm512_castpd_ps(_mm512_unpackhi_pd(a, b)));
    all = _mm512_add_ps(all, _mm512_shuffle_f32x4(all, all, 0x4e));
    return _mm512_castps512_ps128(_mm512_add_ps(all, _mm512_shuffle_f32x4(all, all, 0xb1)));
}

/* `wide` rows of weights times `rows` of x from `first`. Of each sixteen blocks what the zero point adds
 * comes first, with a block in a lane; then their products, with elements in lanes: lanes are added up at
 * last. */
INLINE void few_rows(const Job *job, int64_t n, int64_t first, const int rows, const int wide, const int bits,
                     const int64_t block) {
    const Product *p = job->product;
    const Rounded *r = &job->rounded;
    const int64_t blocks = p->k / block, bytes = p->k * bits / 8, depth = block < CHUNK ? CHUNK : block;
    const int64_t chunks = depth / CHUNK, each = depth / block, requests = chunks * bits / 4;
    const __m512i nibble = _mm512_set1_epi8(15);
    __m512 sums[AT_ONCE][SIDE];
#pragma GCC unroll 8
    for (int m = 0; m < rows; m++)
#pragma GCC unroll 4
        for (int w = 0; w < wide; w++) sums[m][w] = _mm512_setzero_ps();
    const uint8_t *weights = p->weights + n * bytes, *ask = weights + AHEAD + (wide - 1) * bytes;
    const float *ask_scales = p->scales + (n + wide) * blocks + SCALES_AHEAD;
    const int8_t *values = r->values + first * depth;
    for (int64_t b = 0; b < blocks; b += LANES) {
        const int64_t here = blocks - b < LANES ? blocks - b : LANES;
        const __mmask16 these = (__mmask16)((1u << here) - 1);
        _Alignas(LINE) float scales[AT_ONCE][SIDE][LANES];
#pragma GCC unroll 4
        for (int w = 0; w < wide; w++, ask_scales += LANES) _mm_prefetch(ask_scales, _MM_HINT_T0);
#pragma GCC unroll 8
        for (int m = 0; m < rows; m++) {
            const int64_t at = (first + m) * blocks + b;
            const __m512 shift = _mm512_cvtepi32_ps(_mm512_maskz_loadu_epi32(these, r->shifts + at));
            const __m512 other = _mm512_maskz_loadu_ps(these, r->scales + at);
#pragma GCC unroll 4
            for (int w = 0; w < wide; w++) {
                const __m512 scale = _mm512_maskz_loadu_ps(these, p->scales + (n + w) * blocks + b);
                const __m512 both = _mm512_mul_ps(scale, other);
                _mm512_store_ps(scales[m][w], both);
                sums[m][w] = _mm512_fmadd_ps(shift, both, sums[m][w]);
            }
        }
        for (int64_t i = 0; i < here; i += each, values += r->rows * depth, weights += depth * bits / 8) {
            __m512i low[SIDE][2], high[SIDE][2];
            for (int64_t line = 0; line < wide * requests; line++, ask += LINE)
                _mm_prefetch(ask, _MM_HINT_T0);
#pragma GCC unroll 4
            for (int w = 0; w < wide; w++)
                for (int64_t c = 0; c < chunks; c++) {
                    const uint8_t *at = weights + w * bytes + c * CHUNK * bits / 8;
                    const __m512i half = _mm512_loadu_si512(at);
                    low[w][c] = bits == 4 ? _mm512_and_si512(half, nibble) : half;
                    high[w][c] = bits == 4 ? _mm512_and_si512(_mm512_srli_epi16(half, 4), nibble)
                                           : _mm512_loadu_si512(at + LINE);
                }
#pragma GCC unroll 8
            for (int m = 0; m < rows; m++)
#pragma GCC unroll 4
                for (int w = 0; w < wide; w++) {
                    __m512i sum = _mm512_setzero_si512();
                    for (int64_t c = 0; c < chunks; c++) {
                        const int8_t *at = values + m * depth + c * CHUNK;
                        sum = _mm512_dpbusd_epi32(sum, low[w][c], _mm512_loadu_si512(at));
                        sum = _mm512_dpbusd_epi32(sum, high[w][c], _mm512_loadu_si512(at + HALF));
                    }
                    const __m512 scale = spread(scales[m][w] + i, block);
                    sums[m][w] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), scale, sums[m][w]);
                }
        }
    }
#pragma GCC unroll 8
    for (int m = 0; m < rows; m++) {
        float *y = p->y + (job->first + first + m) * p->n + n;
        if (wide == SIDE) {
            const __m128 four = sums_of(sums[m]);
            _mm_storeu_ps(y, p->bias ? _mm_add_ps(four, _mm_loadu_ps(p->bias + n)) : four);
        } else {
            *y = _mm512_reduce_add_ps(sums[m][0]) + (p->bias ? p->bias[n] : 0);
        }
    }
}

#define EACH_FEW(CASE) CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6)

INLINE void strip(const Job *job, int64_t from, int64_t to, const int bits, const int64_t block) {
    const int64_t rows = job->rounded.rows;
    for (int64_t n = from, wide; n < to; n += wide) {
        wide = rows >= 3 && n + SIDE <= to ? SIDE : 1;
        for (int64_t m = 0, left = ceiling(rows, AT_ONCE), here; m < rows; m += here) {
            here = ceiling(rows - m, left--);
            switch (here) {
#define CASE(ROWS)                                        \
    case ROWS:                                            \
        if (wide == 1)                                    \
            few_rows(job, n, m, ROWS, 1, bits, block);    \
        else                                              \
            few_rows(job, n, m, ROWS, SIDE, bits, block); \
        break;
                EACH_FEW(CASE)
#undef CASE
            }
        }
    }
}

#define KIND(BITS, BLOCK) ((BITS) * 1024 + (BLOCK))
#define EACH_KIND(CASE) CASE(4, 32) CASE(4, 64) CASE(4, 128) CASE(4, 256) CASE(8, 128) CASE(8, 256)

#define CASE(BITS, BLOCK)                                                               \
    VNNI static void strip_##BITS##_##BLOCK(const Job *job, int64_t from, int64_t to) { \
        strip(job, from, to, BITS, BLOCK);                                              \
    }
EACH_KIND(CASE)
#undef CASE

static void multiply_strip(void *data, size_t task) {
    const Job *job = data;
    const int64_t from = (int64_t)task * STRIP, n = job->product->n, to = from + STRIP < n ? from + STRIP : n;
    switch (KIND(job->product->bits, job->product->block)) {
#define CASE(BITS, BLOCK)                      \
    case KIND(BITS, BLOCK):                    \
        strip_##BITS##_##BLOCK(job, from, to); \
        break;
        EACH_KIND(CASE)
#undef CASE
    }
}

/* 16 rows of 16 words, transposed. */
INLINE void transpose(__m512i r[LANES]) {
    __m512i t[LANES];
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

typedef __m512i Panel[2 * LANES][WIDE / LANES]; /* a chunk: words of 4 elements by rows of weights */

INLINE void unpack(const Product *p, int64_t n, int64_t chunk, const int bits, Panel panel) {
    const __m512i nibble = _mm512_set1_epi8(15);
    const int64_t bytes = p->k * bits / 8, last = p->n - 1;
    const uint8_t *ask = p->weights + (n + WIDE) * bytes + chunk * WIDE * CHUNK * bits / 8;
    for (int half = 0; half < WIDE / LANES; half++)
        for (int line = 0; line < bits / 4; line++) {
            __m512i words[LANES];
            for (int i = 0; i < LANES; i++) {
                const int64_t row = n + half * LANES + i;
                const uint8_t *at =
                    p->weights + (row < last ? row : last) * bytes + chunk * CHUNK * bits / 8 + line * LINE;
                _mm_prefetch(at + SOON, _MM_HINT_T0);
                _mm_prefetch(ask, _MM_HINT_T1);
                ask += LINE;
                words[i] = _mm512_loadu_si512(at);
            }
            transpose(words);
            for (int i = 0; i < LANES; i++)
                if (bits == 4) {
                    panel[i][half] = _mm512_and_si512(words[i], nibble);
                    panel[LANES + i][half] = _mm512_and_si512(_mm512_srli_epi16(words[i], 4), nibble);
                } else {
                    panel[line * LANES + i][half] = words[i];
                }
        }
}

/* As _mm512_dpbusd_epi32, around which gcc copies every sum to another register: that costs a fifth of the
 * speed. */
INLINE void accumulate(__m512i *sum, __m512i weights, __m512i values) {
    __asm__("vpdpbusd %2, %1, %0" : "+v"(*sum) : "v"(weights), "v"(values));
}

/* Adds the products of `rows` rows of x with a panel of `depth` elements to sums float[., WIDE]. */
INLINE void tile(const int rows, const int64_t block, const int64_t depth, const Panel *panels,
                 const __m512 (*scales)[2], const int8_t *values, const float *factors, const int32_t *shifts,
                 int64_t blocks, float *sums) {
    for (int64_t b = 0; b < depth / block; b++) {
        __m512i s[TALL][2];
#pragma GCC unroll 12
        for (int m = 0; m < rows; m++) s[m][0] = s[m][1] = _mm512_set1_epi32(shifts[m * blocks + b]);
        for (int64_t c = 0; c < (block < CHUNK ? 1 : block / CHUNK); c++)
            for (int h = 0; h < 2; h++) {
                const int64_t from = block < CHUNK ? b * block / 8 : 0,
                              to = block < CHUNK ? from + block / 8 : LANES;
                const __m512i(*panel)[2] = panels[c] + h * LANES;
                const int8_t *at = values + c * CHUNK + h * HALF;
#pragma GCC unroll 4
                for (int64_t i = from; i < to; i++) {
                    const __m512i first = panel[i][0], second = panel[i][1];
#pragma GCC unroll 12
                    for (int m = 0; m < rows; m++) {
                        int32_t word;
                        memcpy(&word, at + m * depth + 4 * i, 4);
                        const __m512i four = _mm512_set1_epi32(word);
                        accumulate(&s[m][0], first, four);
                        accumulate(&s[m][1], second, four);
                    }
                }
            }
#pragma GCC unroll 12
        for (int m = 0; m < rows; m++)
            for (int w = 0; w < 2; w++) {
                float *at = sums + m * WIDE + w * LANES;
                const __m512 scale = _mm512_mul_ps(scales[b][w], _mm512_set1_ps(factors[m * blocks + b]));
                _mm512_storeu_ps(at,
                                 _mm512_fmadd_ps(_mm512_cvtepi32_ps(s[m][w]), scale, _mm512_loadu_ps(at)));
            }
    }
}

INLINE void panel(const Job *job, int64_t n, const int bits, const int64_t block) {
    const Product *p = job->product;
    const Rounded *r = &job->rounded;
    const int64_t blocks = p->k / block, depth = block < CHUNK ? CHUNK : block;
    Panel panels[2];
    float sums[MANY * WIDE];
    __m512 scales[CHUNK / 32][2];
    memset(sums, 0, r->rows * WIDE * sizeof *sums);
    for (int64_t at = 0; at < p->k; at += depth) {
        for (int64_t c = 0; c < depth / CHUNK; c++) unpack(p, n, at / CHUNK + c, bits, panels[c]);
        for (int64_t b = 0; b < depth / block; b++) {
            float row[WIDE];
            for (int64_t i = 0; i < WIDE; i++)
                row[i] = p->scales[(n + i < p->n ? n + i : p->n - 1) * blocks + at / block + b];
            scales[b][0] = _mm512_loadu_ps(row), scales[b][1] = _mm512_loadu_ps(row + LANES);
        }
        const int8_t *values = r->values + at * r->rows;
        for (int64_t m = 0; m < r->rows; m += TALL) {
            const int8_t *v = values + m * depth;
            const float *f = r->scales + m * blocks + at / block;
            const int32_t *s = r->shifts + m * blocks + at / block;
            float *out = sums + m * WIDE;
            switch (r->rows - m) {
#define CASE(ROWS)                                                                                         \
    case ROWS:                                                                                             \
        tile(ROWS, block, depth, (const Panel *)panels, (const __m512(*)[2])scales, v, f, s, blocks, out); \
        break;
                EACH_FEW(CASE)
                CASE(7)
                CASE(8)
                CASE(9)
                CASE(10)
                CASE(11)
                default:
                    tile(TALL, block, depth, (const Panel *)panels, (const __m512(*)[2])scales, v, f, s,
                         blocks, out);
#undef CASE
            }
        }
    }
    const int64_t width = p->n - n < WIDE ? p->n - n : WIDE;
    for (int64_t m = 0; m < r->rows; m++) {
        float *y = p->y + (job->first + m) * p->n + n;
        for (int64_t i = 0; i < width; i++) y[i] = sums[m * WIDE + i] + (p->bias ? p->bias[n + i] : 0);
    }
}

#define CASE(BITS, BLOCK) \
    VNNI static void panel_##BITS##_##BLOCK(const Job *job, int64_t n) { panel(job, n, BITS, BLOCK); }
EACH_KIND(CASE)
#undef CASE

static void multiply_panel(void *data, size_t task) {
    const Job *job = data;
    const int64_t n = (int64_t)task * WIDE;
    switch (KIND(job->product->bits, job->product->block)) {
#define CASE(BITS, BLOCK)               \
    case KIND(BITS, BLOCK):             \
        panel_##BITS##_##BLOCK(job, n); \
        break;
        EACH_KIND(CASE)
#undef CASE
    }
}

/* `bytes` in whole lines of the caches: a vector that lies in two is two loads. */
static size_t lines(int64_t bytes) { return (size_t)((bytes + LINE - 1) / LINE * LINE); }

typedef struct {
    Job gate, up; /* of which up's y holds the rows of this job only */
} Pair;

/* y of gate to silu(gate) * up, in the columns of a task. */
VNNI static void join(const Pair *pair, int64_t from, int64_t to) {
    const Product *gate = pair->gate.product;
    const __m512 one = _mm512_set1_ps(1), minus_zero = _mm512_set1_ps(-0.f);
    for (int64_t m = 0; m < pair->gate.rounded.rows; m++) {
        float *y = gate->y + (pair->gate.first + m) * gate->n;
        const float *up = pair->up.product->y + m * gate->n;
        for (int64_t n = from; n < to; n += LANES) {
            const __mmask16 here = (__mmask16)(to - n < LANES ? (1u << (to - n)) - 1 : 0xffff);
            const __m512 x = _mm512_maskz_loadu_ps(here, y + n);
            const __m512 below = _mm512_add_ps(one, exponential(_mm512_xor_ps(x, minus_zero)));
            const __m512 silu = _mm512_div_ps(x, below);
            _mm512_mask_storeu_ps(y + n, here, _mm512_mul_ps(silu, _mm512_maskz_loadu_ps(here, up + n)));
        }
    }
}

static void multiply_pair(void *data, size_t task) {
    const Pair *pair = data;
    const bool few = pair->gate.few;
    const int64_t width = few ? STRIP : WIDE, from = (int64_t)task * width, n = pair->gate.product->n;
    void (*const each)(void *, size_t) = few ? multiply_strip : multiply_panel;
    each((void *)&pair->gate, task);
    each((void *)&pair->up, task);
    join(pair, from, from + width < n ? from + width : n);
}

/* The product, or silu of it times `up`. */
static bool run(const Product *p, const Product *up, Parallel parallel, void *pool) {
    const bool few = p->rows <= FEW;
    const int64_t most = p->rows < MANY ? p->rows : MANY, blocks = p->k / p->block;
    const size_t rounded = lines(most * p->k), scaled = lines(most * blocks * 4),
                 summed = lines(most * blocks * 4), beside = up ? lines(most * p->n * 4) : 0;
    char *memory = aligned_alloc(LINE, rounded + scaled + summed + beside);
    if (!memory) return false;
    Product other = up ? *up : *p;
    if (up) other.y = (float *)(memory + rounded + scaled + summed);
    bool done = true;
    for (int64_t first = 0; done && first < p->rows; first += most) {
        const int64_t rows = p->rows - first < most ? p->rows - first : most;
        Rounded r = {(int8_t *)memory, (float *)(memory + rounded), (int32_t *)(memory + rounded + scaled),
                     rows, p->block < CHUNK ? CHUNK : p->block};
        Pair pair = {{p, r, first, few}, {&other, r, 0, few}};
        if (few)
            round_rows(&pair.gate, 0);
        else
            done = parallel(pool, round_rows, (size_t)ceiling(rows, TOGETHER), &pair.gate);
        const size_t tasks = (size_t)ceiling(p->n, few ? STRIP : WIDE);
        if (!done) break;
        if (up)
            done = parallel(pool, multiply_pair, tasks, &pair);
        else
            done = parallel(pool, few ? multiply_strip : multiply_panel, tasks, &pair.gate);
    }
    free(memory);
    return done;
}

bool multiply(const Product *p, Parallel parallel, void *pool) { return run(p, NULL, parallel, pool); }

bool multiply_gated(const Product *gate, const Product *up, Parallel parallel, void *pool) {
    return run(gate, up, parallel, pool);
}
