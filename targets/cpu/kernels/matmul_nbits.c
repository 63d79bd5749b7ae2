#include "matmul_nbits.h"

#include <stdlib.h>
#include <string.h>

#include "vectors.h"

enum {
    LINE = 4 * LANES,   /* bytes of a vector */
    CACHED = 64,        /* bytes of a line of the caches */
    DEPTH = 256,        /* elements of a piece, at most */
    WORDS = DEPTH / 2,  /* of 4 elements, or of 2 where x has 16 bits */
    MOST_BLOCKS = 8,    /* of a piece */
    FEW = 16,           /* rows of x up to which a row of weights is unpacked in registers, not in a panel, */
    FEW_OF_8 = 8,       /* with 8 bits */
    AT_ONCE = 6,        /* of them, */
    NARROW = 2,         /* of them that meet PAIR rows of weights side by side; */
    PAIR = 2,
    QUAD = REGISTERS == 32 ? 4 : 1, /* meet more of them, */
    SIDE = 4,           /* and are added up together */
    WIDE = 32,          /* rows of weights in a panel */
    TALL = REGISTERS == 32 ? 12 : 6, /* rows of x that meet two vectors of a panel at once: sums in registers */
    MANY = 512,         /* rows of x that are rounded at a time */
    AHEAD = 8192,       /* bytes of weights that are asked for before they are needed, */
    SCALES_AHEAD = 512, /* and scales */
    SOON = 256,         /* bytes of each of the rows that become a panel */
    TOGETHER = 16,      /* rows of x in a task that rounds them */
    STRIP = 128         /* rows of weights in a task of few rows of x */
};

/* Bytes of an element of x, and of a weight when it meets it. */
static inline int64_t size_of(int64_t bits) { return bits == 8 ? 2 : 1; }

/* That many bytes hold `parts` weights, and a vector the weights of a chunk. Its word (4 bytes) number i,
 * shifted and masked for part p, are the weights of elements p, p + parts, ... of those that lie in it: these
 * elements of x are a word of it, number i * parts + p. So the words of a block lie together, and in a vector
 * its lanes do. A piece is a chunk, or a block where that is larger; rows end in zeros up to a whole piece. */
static inline int parts_of(int64_t bits) { return (int)(8 * size_of(bits) / bits); }
static inline int64_t chunk_of(int64_t bits) { return LINE * 8 / bits; }
static inline int64_t depth_of(int64_t bits, int64_t block) {
    return block < chunk_of(bits) ? chunk_of(bits) : block;
}

/* Rows of x as integers. */
typedef struct {
    int8_t *values;  /* of `size` bytes, [k / block, rows, block] in the order of words; for few rows [k / depth,
                      * rows, depth], of each chunk first the words of part 0, then of part 1, ... */
    float *scales;   /* [rows, k / block] */
    int32_t *shifts; /* [rows, k / block]: sums of values times -1, for zero points */
    int64_t rows;
} Rounded;

typedef struct {
    const Product *product;
    Rounded rounded;
    int64_t first; /* the row of x that rounded begins with */
    bool few;
} Job;

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t ceiling(int64_t count, int64_t each) { return (count + each - 1) / each; }
static int64_t blocks_of(const Product *p) { return ceiling(p->k, p->block); }
static int64_t bytes_of(const Product *p) { return blocks_of(p) * p->block * p->bits / 8; }

/* A block as integers of `size` bytes, numbers between two to the even one, its scale, and the sum of them. */
INLINE int32_t round_block(const float *x, int64_t block, int64_t size, int8_t *out, float *scale) {
    const Ints no_sign = MM(set1_epi32)(0x7fffffff);
    Ints most = zero_ints(); /* ordered as floats are, and a NaN is above them all */
    for (int64_t i = 0; i < block; i += LANES)
        most = MM(max_epi32)(most, and_ints(load_ints(x + i), no_sign));
    const int32_t bits = largest_int(most);
    float largest;
    memcpy(&largest, &bits, sizeof largest);
    *scale = largest / (size == 2 ? INT16_MAX : INT8_MAX);
    const Floats inverse = MM(set1_ps)(*scale ? 1 / *scale : 0);
    Ints sum = zero_ints();
    for (int64_t i = 0; i < block; i += LANES) {
        const Ints whole = MM(cvtps_epi32)(MM(mul_ps)(MM(loadu_ps)(x + i), inverse));
        if (size == 2)
            store_int16(out + 2 * i, whole);
        else
            store_int8(out + i, whole);
        sum = MM(add_epi32)(sum, whole);
    }
    return sum_of_ints(sum);
}

/* A piece of elements, in place, to the order of words; for few rows to that of parts. */
VECTOR static void sort(int8_t *values, int64_t bits, int64_t depth, bool few) {
    const Ints order = four_times(
        bits == 8   ? _mm_setr_epi8(0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15)
        : bits == 4 ? _mm_setr_epi8(0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15)
                    : _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
    const int parts = parts_of(bits);
    for (int64_t chunk = 0; chunk < depth; chunk += chunk_of(bits), values += parts * LINE) {
        Ints v[4];
        for (int i = 0; i < parts; i++)
            v[i] = MM(shuffle_epi8)(load_ints(values + i * LINE), order);
        if (few && parts == 2) halve(v, v + 1);
        if (few && parts == 4) halve(v, v + 1), halve(v + 2, v + 3), halve(v, v + 2), halve(v + 1, v + 3);
        for (int i = 0; i < parts; i++) store_ints(values + i * LINE, v[i]);
    }
}

VECTOR static void round_row(const Job *job, int64_t row) {
    const Product *p = job->product;
    const Rounded *r = &job->rounded;
    const int64_t blocks = blocks_of(p), depth = depth_of(p->bits, p->block), each = depth / p->block;
    const int64_t size = size_of(p->bits), bytes = p->block * size;
    const float *x = p->x + (job->first + row) * p->k;
    float *scales = r->scales + row * blocks;
    int32_t *shifts = r->shifts + row * blocks;
    for (int64_t at = 0, b = 0; b < blocks; at += depth, b += each) {
        float padded[DEPTH];
        int8_t values[DEPTH * 2];
        const float *from = x + at;
        if (at + depth > p->k) {
            memset(padded, 0, sizeof padded);
            memcpy(padded, from, (size_t)(p->k - at) * sizeof *padded);
            from = padded;
        }
        for (int64_t i = 0; i < each; i++)
            if (b + i < blocks)
                shifts[b + i] =
                    -round_block(from + i * p->block, p->block, size, values + i * bytes, scales + b + i);
            else
                memset(values + i * bytes, 0, (size_t)bytes);
        sort(values, p->bits, depth, job->few);
        const int64_t width = job->few ? depth * size : bytes;
        for (int64_t i = 0; i < depth * size; i += width)
            memcpy(r->values + (at * size + i) * r->rows + row * width, values + i, (size_t)width);
    }
}

_Static_assert(FEW <= TOGETHER, "few rows are rounded by one task");

static void round_rows(void *data, size_t task) {
    const Job *job = data;
    const int64_t from = (int64_t)task * TOGETHER, to = from + TOGETHER;
    for (int64_t row = from; row < to && row < job->rounded.rows; row++) round_row(job, row);
}

/* Zero points of the blocks from one on, a multiple of LANES, in lanes. */
INLINE Floats zeros_of(const Product *p, int64_t n, int64_t b, int64_t here, const int bits) {
    const uint8_t *at = p->zeros + n * ceiling(blocks_of(p) * bits, 8) + b * bits / 8;
    const Ints bit = MM(mullo_epi32)(MM(set1_epi32)(bits), lane_numbers());
    const Ints words = named(MM(srli_epi32)(bit, 5), load_few_bytes(at, ceiling(here * bits, 8)));
    const Ints shift = and_ints(bit, MM(set1_epi32)(31));
    return MM(cvtepi32_ps)(and_ints(MM(srlv_epi32)(words, shift), MM(set1_epi32)((1 << bits) - 1)));
}

/* The weights of part `part` of each byte, or of each two of 8 bits. */
INLINE Ints part_of(Ints bytes, const int part, const int bits) {
    const Ints shifted = part ? MM(srli_epi16)(bytes, (unsigned)(part * bits)) : bytes;
    if (bits == 8) return part ? shifted : and_ints(bytes, MM(set1_epi16)(0xff));
    return and_ints(shifted, MM(set1_epi8)((char)((1 << bits) - 1)));
}

/* What a piece adds to the sums of `rows` rows of x with `wide` of weights, which are `bytes` apart and of
 * which `left` bytes are there. The scales of its first block, float[rows, SIDE], are LANES apart. */
INLINE void piece(Floats sums[AT_ONCE][SIDE], const float *scales, const uint8_t *weights, int64_t bytes,
                  int64_t left, const int8_t *values, const int rows, const int wide, const int bits,
                  const int64_t block) {
    const int64_t depth = depth_of(bits, block), each = depth / block, lines = depth * bits / 8 / LINE;
    const int64_t size = size_of(bits), width = depth * size;
    const int parts = parts_of(bits);
    Ints units[SIDE][2 * DEPTH / LINE];
#pragma GCC unroll 4
    for (int w = 0; w < wide; w++)
#pragma GCC unroll 8
        for (int64_t l = 0; l < lines; l++) {
            Ints line = load_bytes(weights + w * bytes + l * LINE, left);
            __asm__("" : "+v"(line)); /* else gcc loads it once for each part */
#pragma GCC unroll 4
            for (int part = 0; part < parts; part++) units[w][l * parts + part] = part_of(line, part, bits);
        }
#pragma GCC unroll 8
    for (int m = 0; m < rows; m++)
#pragma GCC unroll 4
        for (int w = 0; w < wide; w++) {
            Ints sum = zero_ints();
#pragma GCC unroll 16
            for (int64_t u = 0; u < lines * parts; u++)
                sum = add_products(sum, units[w][u], load_ints(values + m * width + u * LINE), size);
            sums[m][w] = MM(fmadd_ps)(MM(cvtepi32_ps)(added_up(zero_ints(), sum, size)),
                                      spread(scales + (m * SIDE + w) * LANES, each), sums[m][w]);
        }
}

/* Products of `rows` rows of x from `first` with `wide` of weights side by side, in lanes, to [rows, SIDE].
 * Of each LANES blocks what the zero points add comes first, with a block in a lane; then their products,
 * with words in lanes. */
INLINE void in_lanes(const Job *job, int64_t n, int64_t first, const int rows, const int wide, const int bits,
                     const int64_t block, Floats *out) {
    const Product *p = job->product;
    const Rounded *r = &job->rounded;
    const int64_t depth = depth_of(bits, block), each = depth / block, lines = depth * bits / 8 / LINE;
    const int64_t blocks = blocks_of(p), bytes = blocks * block * bits / 8;
    const int64_t width = depth * size_of(bits);
    Floats sums[AT_ONCE][SIDE];
#pragma GCC unroll 8
    for (int m = 0; m < rows; m++)
#pragma GCC unroll 4
        for (int w = 0; w < wide; w++) sums[m][w] = MM(setzero_ps)();
    const uint8_t *weights = p->weights + n * bytes, *ask = weights + AHEAD + (wide - 1) * bytes;
    const float *ask_scales = p->scales + (n + wide) * blocks + SCALES_AHEAD;
    const int8_t *values = r->values + first * width;
    for (int64_t b = 0; b < blocks; b += LANES) {
        const int64_t here = blocks - b < LANES ? blocks - b : LANES;
        const Mask these = first_lanes(here);
        _Alignas(LINE) float scales[AT_ONCE][SIDE][LANES];
        Floats zeros[SIDE];
#pragma GCC unroll 4
        for (int w = 0; w < wide; w++, ask_scales += LANES) _mm_prefetch(ask_scales, _MM_HINT_T0);
#pragma GCC unroll 4
        for (int w = 0; w < wide; w++)
            zeros[w] = p->zeros ? zeros_of(p, n + w, b, here, bits) : MM(set1_ps)(1 << (bits - 1));
#pragma GCC unroll 8
        for (int m = 0; m < rows; m++) {
            const int64_t at = (first + m) * blocks + b;
            const Floats shift = MM(cvtepi32_ps)(load_int_lanes(these, r->shifts + at));
            const Floats other = load_lanes(these, r->scales + at);
#pragma GCC unroll 4
            for (int w = 0; w < wide; w++) {
                const Floats scale = load_lanes(these, p->scales + (n + w) * blocks + b);
                const Floats both = MM(mul_ps)(scale, other);
                MM(store_ps)(scales[m][w], both);
                sums[m][w] = MM(fmadd_ps)(MM(mul_ps)(shift, zeros[w]), both, sums[m][w]);
            }
        }
        int64_t i = 0;
        for (; i + each <= here; i += each, values += r->rows * width, weights += lines * LINE) {
#pragma GCC unroll 4
            for (int64_t at = 0; at < wide * lines * LINE; at += CACHED) _mm_prefetch(ask + at, _MM_HINT_T0);
            ask += wide * lines * LINE;
            piece(sums, &scales[0][0][i], weights, bytes, LINE, values, rows, wide, bits, block);
        }
        if (i < here)
            piece(sums, &scales[0][0][i], weights, bytes, bytes % LINE, values, rows, wide, bits, block);
    }
#pragma GCC unroll 8
    for (int m = 0; m < rows; m++)
#pragma GCC unroll 4
        for (int w = 0; w < wide; w++) out[m * SIDE + w] = sums[m][w];
}

/* `wide` rows of weights times `rows` of x from `first`, of which `beside` at a time are side by side. */
INLINE void few_rows(const Job *job, int64_t n, int64_t first, const int rows, const int wide,
                     const int beside, const int bits, const int64_t block) {
    const Product *p = job->product;
    Floats sums[AT_ONCE][SIDE];
    for (int w = 0; w < wide; w += beside)
        in_lanes(job, n + w, first, rows, beside, bits, block, &sums[0][w]);
#pragma GCC unroll 8
    for (int m = 0; m < rows; m++) {
        float *y = p->y + (job->first + first + m) * p->n + n;
        if (wide == SIDE) {
            const __m128 four = sums_of_four(sums[m]);
            _mm_storeu_ps(y, p->bias ? _mm_add_ps(four, _mm_loadu_ps(p->bias + n)) : four);
        } else {
            *y = sum_of(sums[m][0]) + (p->bias ? p->bias[n] : 0);
        }
    }
}

INLINE void strip(const Job *job, int64_t from, int64_t to, const int bits, const int64_t block) {
    const int64_t rows = job->rounded.rows;
    for (int64_t n = from, wide; n < to; n += wide) {
        wide = n + SIDE <= to ? SIDE : 1;
        for (int64_t m = 0, left = ceiling(rows, wide == 1 ? NARROW : AT_ONCE), here; m < rows; m += here) {
            here = ceiling(rows - m, left--);
            switch (here * SIDE + wide) {
#define CASE(ROWS, WIDTH, BESIDE)                              \
    case ROWS *SIDE + WIDTH:                                   \
        few_rows(job, n, m, ROWS, WIDTH, BESIDE, bits, block); \
        break;
                CASE(1, 1, 1)
                CASE(2, 1, 1)
                CASE(1, SIDE, PAIR)
                CASE(2, SIDE, PAIR)
                CASE(3, SIDE, QUAD)
                CASE(4, SIDE, QUAD)
                CASE(5, SIDE, QUAD)
                CASE(6, SIDE, QUAD)
#undef CASE
            }
        }
    }
}

#define KIND(BITS, BLOCK) ((BITS) * 1024 + (BLOCK))
#define EACH_BLOCK(CASE, BITS) CASE(BITS, 32) CASE(BITS, 64) CASE(BITS, 128) CASE(BITS, 256)
#define EACH_KIND(CASE) EACH_BLOCK(CASE, 2) EACH_BLOCK(CASE, 4) EACH_BLOCK(CASE, 8)

#define CASE(BITS, BLOCK)                                                               \
    VECTOR static void strip_##BITS##_##BLOCK(const Job *job, int64_t from, int64_t to) { \
        strip(job, from, to, BITS, BLOCK);                                              \
    }
EACH_KIND(CASE)
#undef CASE

static void multiply_strip(void *data, size_t task) {
    const Job *job = data;
    const int64_t from = (int64_t)task * STRIP, to = least(from + STRIP, job->product->n);
    switch (KIND(job->product->bits, job->product->block)) {
#define CASE(BITS, BLOCK)                      \
    case KIND(BITS, BLOCK):                    \
        strip_##BITS##_##BLOCK(job, from, to); \
        break;
        EACH_KIND(CASE)
#undef CASE
    }
}

enum { VECTORS = WIDE / LANES };
typedef Ints Panel[WORDS][VECTORS]; /* a piece: words by rows of weights */

/* A panel of the rows from n on, of the piece that begins with a byte, of which a row has `left`. */
INLINE void unpack(const Product *p, int64_t n, int64_t byte, int64_t lines, int64_t left, const int bits,
                   Panel panel) {
    const int64_t bytes = bytes_of(p), last = p->n - 1;
    const int parts = parts_of(bits);
    const uint8_t *ask = p->weights + (n + WIDE) * bytes + byte * WIDE;
    for (int v = 0; v < VECTORS; v++)
        for (int64_t line = 0; line < lines; line++) {
            Ints words[LANES];
            for (int i = 0; i < LANES; i++) {
                const int64_t row = least(n + v * LANES + i, last);
                const uint8_t *at = p->weights + row * bytes + byte + line * LINE;
                if (line * LINE % CACHED == 0) _mm_prefetch(at + SOON, _MM_HINT_T0);
                if (i * LINE % CACHED == 0) _mm_prefetch(ask + i * LINE, _MM_HINT_T1);
                words[i] = load_bytes(at, left);
            }
            ask += LANES * LINE;
            transpose(words);
            for (int i = 0; i < LANES; i++)
#pragma GCC unroll 4
                for (int part = 0; part < parts; part++)
                    panel[(line * LANES + i) * parts + part][v] = part_of(words[i], part, bits);
        }
}

/* What there is for each block of a piece and row of weights of a panel. */
typedef struct {
    Floats scales[MOST_BLOCKS][VECTORS];
    Ints zeros[MOST_BLOCKS][VECTORS];
} Sides;

/* Those of `count` blocks from one on. */
VECTOR static void sides_of(const Product *p, int64_t n, int64_t block, int64_t count, Sides *out) {
    const int64_t blocks = blocks_of(p), bits = p->bits, bytes = ceiling(blocks * bits, 8);
    const Ints middle = MM(set1_epi32)(1 << (bits - 1));
    for (int64_t b = 0; b < count; b++) {
        float *scales = (float *)out->scales[b];
        int32_t *zeros = (int32_t *)out->zeros[b];
        const int64_t bit = (block + b) * bits;
        for (int64_t i = 0; i < WIDE; i++) scales[i] = p->scales[least(n + i, p->n - 1) * blocks + block + b];
        for (int v = 0; v < VECTORS; v++) out->zeros[b][v] = middle;
        for (int64_t i = 0; p->zeros && i < WIDE; i++)
            zeros[i] = p->zeros[least(n + i, p->n - 1) * bytes + bit / 8] >> bit % 8 & ((1 << bits) - 1);
    }
}

/* Rows of x that meet a panel: where those of a piece begin. */
typedef struct {
    const int8_t *values; /* [count, rows, block], of which `apart` are from a block to the next */
    const float *factors; /* [rows, blocks], of which `count` belong to the piece */
    const int32_t *shifts;
    float *sums; /* [rows, WIDE] */
    int64_t apart, blocks, count;
} Rows;

/* Adds the products of `rows` rows of x with a panel to their sums. What a block comes to fits 32 bits,
 * whatever is above on the way: 256 * 255 * 32767. A shift of int8 fits 16: it is the sum of at most 256
 * integers up to 127. */
INLINE void tile(const int rows, const int64_t size, const int64_t block, const Panel panel,
                 const Sides *sides, const Rows *x) {
    const int64_t words = block * size / 4, together = least(words, size == 2 ? words : TOGETHER_AT_MOST);
    for (int64_t b = 0; b < x->count; b++)
#pragma GCC unroll 1
        for (int v = 0; v < VECTORS; v += 2) {
            Ints s[TALL][2];
#pragma GCC unroll 12
            for (int m = 0; m < rows; m++) {
                const Ints shift = MM(set1_epi32)(x->shifts[m * x->blocks + b]);
#pragma GCC unroll 2
                for (int w = 0; w < 2; w++)
                    s[m][w] = size == 2 ? MM(mullo_epi32)(shift, sides->zeros[b][v + w])
                                        : MM(madd_epi16)(shift, sides->zeros[b][v + w]);
            }
            const int8_t *at = x->values + b * x->apart;
#pragma GCC unroll 1
            for (int64_t i = 0; i < words;) {
                Ints sums[TALL][2];
#pragma GCC unroll 12
                for (int m = 0; m < rows; m++)
#pragma GCC unroll 2
                    for (int w = 0; w < 2; w++) sums[m][w] = begun(s[m][w], size);
#pragma GCC unroll 1
                for (const int64_t end = i + together; i < end; i++) {
                    const Ints first = panel[b * words + i][v], second = panel[b * words + i][v + 1];
#pragma GCC unroll 12
                    for (int m = 0; m < rows; m++) {
                        int32_t word;
                        memcpy(&word, at + 4 * (m * words + i), 4);
                        const Ints one = MM(set1_epi32)(word);
                        accumulate(&sums[m][0], first, one, size);
                        accumulate(&sums[m][1], second, one, size);
                    }
                }
#pragma GCC unroll 12
                for (int m = 0; m < rows; m++)
#pragma GCC unroll 2
                    for (int w = 0; w < 2; w++) s[m][w] = added_up(s[m][w], sums[m][w], size);
            }
#pragma GCC unroll 12
            for (int m = 0; m < rows; m++)
#pragma GCC unroll 2
                for (int w = 0; w < 2; w++) {
                    float *sum = x->sums + m * WIDE + (v + w) * LANES;
                    const Floats scale =
                        MM(mul_ps)(sides->scales[b][v + w], MM(set1_ps)(x->factors[m * x->blocks + b]));
                    MM(storeu_ps)(sum, MM(fmadd_ps)(MM(cvtepi32_ps)(s[m][w]), scale, MM(loadu_ps)(sum)));
                }
        }
}

INLINE void tiles(int64_t rows, const int64_t size, const int64_t block, const Panel panel,
                  const Sides *sides, Rows x) {
    for (int64_t m = 0; m < rows; m += TALL) {
        switch (rows - m) {
#define CASE(ROWS)                                 \
    case ROWS:                                     \
        tile(ROWS, size, block, panel, sides, &x); \
        break;
            CASE(1)
            CASE(2)
            CASE(3)
            CASE(4)
            CASE(5)
#ifndef VECTORS_256
            CASE(6)
            CASE(7)
            CASE(8)
            CASE(9)
            CASE(10)
            CASE(11)
#endif
            default:
                tile(TALL, size, block, panel, sides, &x);
#undef CASE
        }
        x.values += TALL * block * size, x.sums += TALL * WIDE;
        x.factors += TALL * x.blocks, x.shifts += TALL * x.blocks;
    }
}

#define CASE(SIZE, BLOCK)                                                                                  \
    VECTOR __attribute__((noinline)) static void tiles_##SIZE##_##BLOCK(int64_t rows, const Panel panel,     \
                                                                      const Sides *sides, const Rows *x) { \
        tiles(rows, SIZE, BLOCK, panel, sides, *x);                                                        \
    }
EACH_BLOCK(CASE, 1)
EACH_BLOCK(CASE, 2)
#undef CASE

VECTOR static void multiply_panel(void *data, size_t task) {
    const Job *job = data;
    const Product *p = job->product;
    const Rounded *r = &job->rounded;
    const int64_t n = (int64_t)task * WIDE, blocks = blocks_of(p), bytes = bytes_of(p);
    const int64_t depth = depth_of(p->bits, p->block), each = depth / p->block, step = depth * p->bits / 8;
    const int64_t size = size_of(p->bits);
    Panel panel;
    Sides sides;
    float sums[MANY * WIDE];
    memset(sums, 0, (size_t)(r->rows * WIDE) * sizeof *sums);
    for (int64_t b = 0, byte = 0; b < blocks; b += each, byte += step) {
        const int64_t apart = p->block * size * r->rows;
        const Rows x = {r->values + b * apart,  r->scales + b, r->shifts + b, sums, apart, blocks,
                        least(each, blocks - b)};
        switch (p->bits) {
#define CASE(BITS)                                                  \
    case BITS:                                                      \
        unpack(p, n, byte, step / LINE, bytes - byte, BITS, panel); \
        break;
            CASE(2)
            CASE(4)
            CASE(8)
#undef CASE
        }
        sides_of(p, n, b, x.count, &sides);
        switch (KIND(size, p->block)) {
#define CASE(SIZE, BLOCK)                                   \
    case KIND(SIZE, BLOCK):                                 \
        tiles_##SIZE##_##BLOCK(r->rows, panel, &sides, &x); \
        break;
            EACH_BLOCK(CASE, 1)
            EACH_BLOCK(CASE, 2)
#undef CASE
        }
    }
    const int64_t width = least(p->n - n, WIDE);
    for (int64_t m = 0; m < r->rows; m++) {
        float *y = p->y + (job->first + m) * p->n + n;
        for (int64_t i = 0; i < width; i++) y[i] = sums[m * WIDE + i] + (p->bias ? p->bias[n + i] : 0);
    }
}

/* `bytes` in whole lines of the caches: a vector that lies in two is two loads. */
static size_t lines(int64_t bytes) { return (size_t)((bytes + CACHED - 1) / CACHED * CACHED); }

typedef struct {
    Job gate, up; /* of which up's y holds the rows of this job only */
} Pair;

/* y of gate to silu(gate) * up, in the columns of a task. */
VECTOR static void join(const Pair *pair, int64_t from, int64_t to) {
    const Product *gate = pair->gate.product;
    const Floats one = MM(set1_ps)(1), minus_zero = MM(set1_ps)(-0.f);
    for (int64_t m = 0; m < pair->gate.rounded.rows; m++) {
        float *y = gate->y + (pair->gate.first + m) * gate->n;
        const float *up = pair->up.product->y + m * gate->n;
        for (int64_t n = from; n < to; n += LANES) {
            const Mask here = first_lanes(to - n);
            const Floats x = load_lanes(here, y + n);
            const Floats below = MM(add_ps)(one, exponential(MM(xor_ps)(x, minus_zero)));
            const Floats silu = MM(div_ps)(x, below);
            store_lanes(y + n, here, MM(mul_ps)(silu, load_lanes(here, up + n)));
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
    const bool few = p->rows <= (p->bits == 8 ? FEW_OF_8 : FEW);
    const int64_t most = least(p->rows, MANY), blocks = blocks_of(p), depth = depth_of(p->bits, p->block);
    const size_t rounded = lines(most * ceiling(p->k, depth) * depth * size_of(p->bits)),
                 scaled = lines(most * blocks * 4), summed = lines(most * blocks * 4),
                 beside = up ? lines(most * p->n * 4) : 0;
    char *memory = aligned_alloc(CACHED, rounded + scaled + summed + beside);
    if (!memory) return false;
    Product other = up ? *up : *p;
    if (up) other.y = (float *)(memory + rounded + scaled + summed);
    bool done = true;
    for (int64_t first = 0; done && first < p->rows; first += most) {
        const int64_t rows = least(p->rows - first, most);
        Rounded r = {(int8_t *)memory, (float *)(memory + rounded), (int32_t *)(memory + rounded + scaled),
                     rows};
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

bool FORM(multiply)(const Product *p, Parallel parallel, void *pool) { return run(p, NULL, parallel, pool); }

bool FORM(multiply_gated)(const Product *gate, const Product *up, Parallel parallel, void *pool) {
    return run(gate, up, parallel, pool);
}
