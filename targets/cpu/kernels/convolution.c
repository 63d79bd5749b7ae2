#include "convolution.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "look_up.h"
#include "vectors.h"

enum {
    LINE = 64,
    TOGETHER = 4,       /* places of a block of channels, each by itself */
    TALL = 12,          /* places of a tile: with two units 24 sums in registers */
    BLOCK = 8 * TALL,   /* places that are shared out together where rows do not matter */
    ROOM = 128 << 10,   /* bytes of padded rows that a task has, if one row of y takes no more; */
    WORK = 1 << 20,     /* pairs of bytes, of which a task has so many if rows or units can be shared out, */
    TASKS = 64,         /* but there need not be more than so many */
    HEAVY = 512 << 10   /* bytes of weights that are rather shared out than read again by each task */
};

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }
static int64_t ceiling(int64_t count, int64_t each) { return (count + each - 1) / each; }

static bool is_depthwise(const Filter *f) { return f->group > 1; }

/* Bytes of x that lie side by side, and how many such runs a row of the kernel has: its places touch, or not. */
static int64_t runs_of(const Filter *f) { return f->dilations[1] == 1 ? 1 : f->kernel[1]; }
static int64_t run_bytes(const Filter *f) { return f->channels * f->kernel[1] / runs_of(f); }
static int64_t run_words(const Filter *f) { return ceiling(run_bytes(f), 4); }
static int64_t unit_bytes(const Filter *f) { return f->kernel[0] * runs_of(f) * run_words(f) * LINE; }
static int64_t quads_of(const Filter *f) { return ceiling(f->kernel[0] * f->kernel[1], 4); }
static int64_t padded_outputs(const Filter *f) { return ceiling(f->outputs, LINE) * LINE; }
static int64_t weight_bytes(const Filter *f) {
    if (is_depthwise(f)) return padded_outputs(f) / LINE * quads_of(f) * 4 * LINE;
    return ceiling(f->outputs, LANES) * unit_bytes(f);
}

size_t filter_bytes(const Filter *f) { return (size_t)(padded_outputs(f) * 8 + weight_bytes(f)); }

int64_t convolved(const Filter *f, int axis, int64_t size) {
    const int64_t reach = (f->kernel[axis] - 1) * f->dilations[axis] + 1;
    const int64_t left = size + f->pads[axis] + f->pads[axis + 2] - reach;
    return left < 0 ? 0 : left / f->strides[axis] + 1;
}

/* Of 64 channels the one whose sums interleaving four places brings to a lane of four vectors. */
static int64_t channel_of(int64_t lane) {
    return lane / LANES * 4 + lane % LANES / 4 * LANES + lane % 4;
}

/* Sums begin with bias less what the zero point of x adds; then factors, then weights. */
void pack_filter(const Filter *f, const int8_t *weights, const int32_t *bias, const float *factors,
                 uint8_t x_zero, void *packed) {
    const int64_t places = f->kernel[0] * f->kernel[1], deep = f->channels / f->group, all = padded_outputs(f);
    memset(packed, 0, filter_bytes(f));
    uint32_t *begin = packed;
    float *scales = (float *)packed + all;
    int8_t *words = (int8_t *)packed + all * 8;
    for (int64_t at = 0; at < all; at++) {
        const int64_t output = is_depthwise(f) ? at / LINE * LINE + channel_of(at % LINE) : at;
        if (output >= f->outputs) continue;
        const int8_t *own = weights + output * deep * places;
        uint32_t sum = 0;
        for (int64_t i = 0; i < deep * places; i++) sum += (uint32_t)own[i];
        begin[at] = (bias ? (uint32_t)bias[output] : 0) - x_zero * sum;
        scales[at] = factors[output];
        if (is_depthwise(f)) {
            int8_t *lane = words + (at / LINE * quads_of(f) * 4 + at % LINE / LANES) * LINE + at % LANES * 4;
            for (int64_t i = 0; i < places; i++) lane[i / 4 * 4 * LINE + i % 4] = own[i];
            continue;
        }
        int8_t *lane = words + at / LANES * unit_bytes(f) + at % LANES * 4;
        const int64_t runs = runs_of(f), wide = f->kernel[1] / runs;
        for (int64_t i = 0; i < places; i++)
            for (int64_t channel = 0; channel < deep; channel++) {
                const int64_t run = i / wide, in_run = i % wide * deep + channel;
                lane[(run * run_words(f) + in_run / 4) * LINE + in_run % 4] = own[channel * places + i];
            }
    }
}

/* Places of y side by side in a row, of x where the first one's kernel begins. */
typedef struct {
    const Convolution *c;
    const uint8_t *x;
    uint8_t *y;
    int64_t row;            /* bytes from a row of x to the next */
    const int64_t *offsets; /* of the kernel's places, where each channel is by itself */
} Places;

/* Integers of y before its zero point is added. None is above what an int32 can be, which becomes the least. */
INLINE __m512i whole(__m512i sum, __m512 factor) {
    const __m512 exact = _mm512_mul_ps(_mm512_cvtepi32_ps(sum), factor);
    return _mm512_cvtps_epi32(_mm512_min_ps(exact, _mm512_set1_ps(32767)));
}

/* Bytes of y: four of the first, then of the others, in each quarter. */
INLINE __m512i bytes_of(const Convolution *c, const __m512i v[4]) {
    const __m512i zero = _mm512_set1_epi16(c->y_zero);
    const __m512i low = _mm512_adds_epi16(_mm512_packs_epi32(v[0], v[1]), zero);
    const __m512i high = _mm512_adds_epi16(_mm512_packs_epi32(v[2], v[3]), zero);
    return _mm512_packus_epi16(low, high);
}

/* `count` places and `wide` units from one on. */
INLINE void tile(const Places *p, int64_t place, int64_t unit, const int count, const int wide) {
    const Convolution *c = p->c;
    const Filter *f = &c->filter;
    const int64_t step = f->strides[1] * f->channels, words = run_words(f), apart = unit_bytes(f);
    const int32_t *begin = (const int32_t *)c->packed + unit * LANES;
    const float *factors = (const float *)c->packed + padded_outputs(f) + unit * LANES;
    const int8_t *weights = (const int8_t *)c->packed + padded_outputs(f) * 8 + unit * apart;
    __m512i s[TALL][2];
#pragma GCC unroll 12
    for (int m = 0; m < count; m++)
#pragma GCC unroll 2
        for (int w = 0; w < wide; w++) s[m][w] = _mm512_loadu_si512(begin + w * LANES);
    for (int64_t i = 0; i < f->kernel[0]; i++)
        for (int64_t j = 0; j < runs_of(f); j++) {
            const uint8_t *a =
                p->x + place * step + i * f->dilations[0] * p->row + j * f->dilations[1] * f->channels;
            const uint8_t *b = a + 3 * step, *d = b + 3 * step, *e = d + 3 * step;
#pragma GCC unroll 1
            for (int64_t left = words; left > 0; left--, weights += LINE, a += 4, b += 4, d += 4, e += 4) {
                const __m512i one = _mm512_loadu_si512(weights);
                const __m512i two = wide > 1 ? _mm512_loadu_si512(weights + apart) : one;
#pragma GCC unroll 12
                for (int m = 0; m < count; m++) {
                    const uint8_t *from = m < 3 ? a : m < 6 ? b : m < 9 ? d : e;
                    int32_t word;
                    memcpy(&word, from + m % 3 * step, 4);
                    const __m512i all = _mm512_set1_epi32(word);
                    accumulate(&s[m][0], all, one, 1);
                    if (wide > 1) accumulate(&s[m][1], all, two, 1);
                }
            }
        }
    /* Four vectors of sums at a time: so many units of so many places. */
    const int64_t output = unit * LANES, bytes = least(f->outputs - output, wide * LANES);
    const __mmask64 there = first_bytes(bytes);
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    const __m512 one = _mm512_loadu_ps(factors), two = wide > 1 ? _mm512_loadu_ps(factors + LANES) : one;
    uint8_t *y = p->y + place * f->outputs + output;
#pragma GCC unroll 6
    for (int m = 0; m < count; m += 4 / wide) {
        __m512i v[4];
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++) {
            const int at = m + i / wide < count ? m + i / wide : count - 1;
            v[i] = whole(s[at][i % wide], i % wide ? two : one);
        }
        const __m512i all = _mm512_permutexvar_epi32(order, bytes_of(c, v));
        if (wide > 1) {
            _mm256_mask_storeu_epi8(y + m * f->outputs, (__mmask32)there, _mm512_castsi512_si256(all));
            if (m + 1 < count)
                _mm256_mask_storeu_epi8(y + (m + 1) * f->outputs, (__mmask32)there,
                                        _mm512_extracti64x4_epi64(all, 1));
        } else {
            const __m128i quarters[] = {_mm512_castsi512_si128(all), _mm512_extracti32x4_epi32(all, 1),
                                        _mm512_extracti32x4_epi32(all, 2), _mm512_extracti32x4_epi32(all, 3)};
#pragma GCC unroll 4
            for (int i = 0; i < 4; i++)
                if (m + i < count)
                    _mm_mask_storeu_epi8(y + (m + i) * f->outputs, (__mmask16)there, quarters[i]);
        }
    }
}

INLINE void tile_of(const Places *p, int64_t place, int64_t unit, int64_t count, const int wide) {
    switch (count) {
#define CASE(COUNT)                            \
    case COUNT:                                \
        tile(p, place, unit, COUNT, wide);     \
        break;
        CASE(1)
        CASE(2)
        CASE(3)
        CASE(4)
        CASE(5)
        CASE(6)
        CASE(7)
        CASE(8)
        CASE(9)
        CASE(10)
        CASE(11)
        CASE(12)
#undef CASE
    }
}

/* Tiles of as many places each, but for one. */
INLINE void multiply_units(const Places *p, int64_t count, int64_t unit, const int wide) {
    for (int64_t at = 0, here; at < count; at += here) {
        const int64_t left = count - at;
        here = ceiling(left, ceiling(left, TALL));
        tile_of(p, at, unit, here, wide);
    }
}

/* 64 channels of `count` places: four places of the kernel at a time, interleaved. */
INLINE void each_channel(const Places *p, int64_t place, int64_t block, const int count) {
    const Convolution *c = p->c;
    const Filter *f = &c->filter;
    const int64_t begun = block * LINE, step = f->strides[1] * f->channels, quads = quads_of(f);
    const __mmask64 there = first_bytes(f->channels - begun);
    const int32_t *begin = (const int32_t *)c->packed + begun;
    const float *factors = (const float *)c->packed + padded_outputs(f) + begun;
    const int8_t *weights = (const int8_t *)c->packed + padded_outputs(f) * 8 + block * quads * 4 * LINE;
    const uint8_t *x = p->x + place * step + begun;
    __m512i s[TOGETHER][4];
#pragma GCC unroll 4
    for (int m = 0; m < count; m++)
#pragma GCC unroll 4
        for (int w = 0; w < 4; w++) s[m][w] = _mm512_loadu_si512(begin + w * LANES);
#pragma GCC unroll 1
    for (int64_t i = 0; i < quads; i++, weights += 4 * LINE) {
        const int64_t *offsets = p->offsets + 4 * i;
        __m512i each[4];
#pragma GCC unroll 4
        for (int w = 0; w < 4; w++) each[w] = _mm512_loadu_si512(weights + w * LINE);
#pragma GCC unroll 4
        for (int m = 0; m < count; m++) {
            __m512i v[4];
#pragma GCC unroll 4
            for (int w = 0; w < 4; w++) v[w] = _mm512_maskz_loadu_epi8(there, x + m * step + offsets[w]);
            const __m512i a = _mm512_unpacklo_epi8(v[0], v[1]), b = _mm512_unpacklo_epi8(v[2], v[3]);
            const __m512i d = _mm512_unpackhi_epi8(v[0], v[1]), e = _mm512_unpackhi_epi8(v[2], v[3]);
            accumulate(&s[m][0], _mm512_unpacklo_epi16(a, b), each[0], 1);
            accumulate(&s[m][1], _mm512_unpackhi_epi16(a, b), each[1], 1);
            accumulate(&s[m][2], _mm512_unpacklo_epi16(d, e), each[2], 1);
            accumulate(&s[m][3], _mm512_unpackhi_epi16(d, e), each[3], 1);
        }
    }
#pragma GCC unroll 4
    for (int m = 0; m < count; m++) {
#pragma GCC unroll 4
        for (int w = 0; w < 4; w++) s[m][w] = whole(s[m][w], _mm512_loadu_ps(factors + w * LANES));
        _mm512_mask_storeu_epi8(p->y + (place + m) * f->outputs + begun, there, bytes_of(c, s[m]));
    }
}

INLINE void each_channels(const Places *p, int64_t count, int64_t block) {
    int64_t at = 0;
    for (; at + TOGETHER <= count; at += TOGETHER) each_channel(p, at, block, TOGETHER);
    for (; at < count; at++) each_channel(p, at, block, 1);
}

/* What is shared out: rows of y, of all images one after another, and units of outputs. */
typedef struct {
    const Convolution *c;
    int64_t height, width;    /* of y, or if its rows do not matter blocks, and places in all; */
    int64_t rows, units;      /* of a task, */
    int64_t down, across;     /* tasks for the rows of an image, and for the units */
    int64_t padded;           /* bytes of a row of x with its pads; 0 if x is read where it lies */
    bool flat;                /* rows do not matter */
    _Atomic bool failed;
} Job;

/* Rows of x from one on that is above it or not, with pads. */
static void pad_rows(const Job *job, const uint8_t *image, int64_t from, int64_t count, uint8_t *out) {
    const Convolution *c = job->c;
    const Filter *f = &c->filter;
    const int64_t before = f->pads[1] * f->channels, wide = c->width * f->channels;
    for (int64_t i = from; i < from + count; i++, out += job->padded) {
        if (i < 0 || i >= c->height) {
            memset(out, c->x_zero, (size_t)job->padded);
            continue;
        }
        memset(out, c->x_zero, (size_t)before);
        memcpy(out + before, image + i * wide, (size_t)wide);
        memset(out + before + wide, c->x_zero, (size_t)(job->padded - before - wide));
    }
}

static int64_t rows_under(const Filter *f, int64_t rows) {
    return (rows - 1) * f->strides[0] + (f->kernel[0] - 1) * f->dilations[0] + 1;
}

/* Rows of y, of outputs from a unit on, and of x under the first; bytes to the next row of either. */
typedef struct {
    const uint8_t *x;
    uint8_t *y;
    int64_t rows, width, from, units, apart;
} Share;

INLINE void convolve_share(const Convolution *c, const Share *s) {
    const Filter *f = &c->filter;
    const int64_t end = s->from + s->units, lanes = is_depthwise(f) ? LINE : LANES;
    int64_t offsets[MOST_PLACES];
    for (int64_t i = 0; is_depthwise(f) && i < MOST_PLACES; i++) {
        const int64_t at = i < f->kernel[0] * f->kernel[1] ? i : 0;
        offsets[i] = at / f->kernel[1] * f->dilations[0] * s->apart +
                     at % f->kernel[1] * f->dilations[1] * f->channels;
    }
    for (int64_t unit = s->from; unit < end; unit += is_depthwise(f) ? 1 : 2)
        for (int64_t row = 0; row < s->rows; row++) {
            const Places p = {c, s->x + row * f->strides[0] * s->apart, s->y + row * s->width * f->outputs,
                              s->apart, offsets};
            if (is_depthwise(f))
                each_channels(&p, s->width, unit);
            else if (unit + 1 < end)
                multiply_units(&p, s->width, unit, 2);
            else
                multiply_units(&p, s->width, unit, 1);
        }
    if (!c->table) return;
    const int64_t begin = s->from * lanes, count = least(f->outputs, end * lanes) - begin;
    if (count == f->outputs)
        look_up(c->table, s->y, s->rows * s->width * count);
    else
        for (int64_t i = 0; i < s->rows * s->width; i++)
            look_up(c->table, s->y + i * f->outputs + begin, count);
}

VECTOR static void convolve_task(void *data, size_t task) {
    Job *job = data;
    const Convolution *c = job->c;
    const Filter *f = &c->filter;
    const int64_t across = (int64_t)task % job->across, down = (int64_t)task / job->across;
    const int64_t image = down / job->down, row = down % job->down * job->rows;
    const int64_t lanes = is_depthwise(f) ? LINE : LANES;
    Share share = {.rows = least(job->rows, job->height - row),
                   .width = job->width,
                   .from = across * job->units,
                   .apart = c->width * f->channels};
    share.units = least(job->units, ceiling(f->outputs, lanes) - share.from);
    if (job->flat) {
        const int64_t begun = row * BLOCK;
        share.width = least(share.rows * BLOCK, job->width - begun), share.rows = 1;
        share.x = c->x + begun * f->channels, share.y = c->y + begun * f->outputs;
        convolve_share(c, &share);
        return;
    }
    const uint8_t *x = c->x + image * c->height * c->width * f->channels;
    share.y = c->y + (image * job->height + row) * job->width * f->outputs;
    if (!job->padded) {
        share.x = x + row * f->strides[0] * share.apart;
        convolve_share(c, &share);
        return;
    }
    _Alignas(LINE) uint8_t room[ROOM];
    const int64_t under = rows_under(f, share.rows), bytes = under * job->padded + 4;
    uint8_t *out = bytes > ROOM ? malloc((size_t)bytes) : room;
    if (!out) {
        atomic_store(&job->failed, true);
        return;
    }
    memset(out + bytes - 4, 0, 4);
    pad_rows(job, x, row * f->strides[0] - f->pads[0], under, out);
    share.x = out, share.apart = job->padded;
    convolve_share(c, &share);
    if (out != room) free(out);
}

bool convolve(const Convolution *c, Parallel parallel, void *pool) {
    const Filter *f = &c->filter;
    const int64_t lanes = is_depthwise(f) ? LINE : LANES, units = ceiling(f->outputs, lanes);
    const bool padded = f->pads[0] || f->pads[1] || f->pads[2] || f->pads[3];
    const bool odd = !is_depthwise(f) && run_bytes(f) % 4;
    Job job = {.c = c, .height = convolved(f, 0, c->height), .width = convolved(f, 1, c->width)};
    int64_t images = c->images, rows = job.height;
    if (padded || odd) job.padded = (c->width + f->pads[1] + f->pads[3]) * f->channels;
    job.flat = !job.padded && f->kernel[0] * f->kernel[1] * f->strides[0] * f->strides[1] == 1;
    if (job.flat) {
        job.width *= images * job.height;
        images = 1, rows = job.height = ceiling(job.width, BLOCK);
    }
    while (job.padded && rows > 1 && rows_under(f, rows) * job.padded + 4 > ROOM) rows = ceiling(rows, 2);
    const int64_t places = c->images * convolved(f, 0, c->height) * convolved(f, 1, c->width);
    const int64_t enough = most(1, least(TASKS, places * weight_bytes(f) / WORK));
    const int64_t wanted = ceiling(enough, images * ceiling(job.height, rows));
    job.units = units;
    if (wanted > 1 && weight_bytes(f) > HEAVY)
        job.units = ceiling(ceiling(units, least(units, wanted)), 2) * 2;
    else if (wanted > 1)
        rows = ceiling(rows, least(rows, wanted));
    job.rows = rows, job.down = ceiling(job.height, rows), job.across = ceiling(units, job.units);
    const int64_t tasks = images * job.down * job.across;
    return parallel(pool, convolve_task, (size_t)tasks, &job) && !atomic_load(&job.failed);
}
