#include "enlarge.h"

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "look_up.h"
#include "rounding.h"
#include "vectors.h"

enum {
    WORK = 1 << 15 /* bytes of y, of which a task has so many */
};

/* Between which two of x one of y lies, and what share each has, as onnxruntime computes it. */
typedef struct {
    int64_t first, second;
    float of_first, of_second;
} Between;

typedef struct {
    const Enlargement *e;
    const Between *across; /* of each column */
    int64_t rows, columns; /* of y */
    int64_t each, down;    /* rows of a task, tasks of an image */
    _Atomic bool failed;
} Job;

int64_t enlarged(float factor, int64_t size) { return (int64_t)(factor * (float)size); }

static Between between(int64_t at, float factor, int64_t size) {
    const float last = (float)(size - 1), exact = factor == 1 ? (float)at : ((float)at + 0.5f) / factor - 0.5f;
    const float place = fmaxf(0, fminf(exact, last));
    Between found = {.first = (int64_t)place};
    found.second = found.first + (found.first + 1 < size);
    found.of_first = fabsf(place - (float)found.second), found.of_second = fabsf(place - (float)found.first);
    if (found.first == found.second) found.of_first = found.of_second = 0.5f;
    return found;
}

/* A row of x as numbers. */
INLINE void widen(const Enlargement *e, const uint8_t *x, float *out) {
    const int64_t count = e->width * e->channels;
    for (int64_t i = 0; i < count; i += LANES) {
        const __mmask16 there = (__mmask16)first_bytes(count - i);
        const __m512i whole = _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(there, x + i));
        const __m512i apart = _mm512_sub_epi32(whole, _mm512_set1_epi32(e->zero));
        const __m512 exact = _mm512_mul_ps(_mm512_cvtepi32_ps(apart), _mm512_set1_ps(e->scale));
        _mm512_mask_storeu_ps(out + i, there, exact);
    }
}

/* A sum that compilers do not make one with the product in it. */
INLINE __m512 plus(__m512 a, __m512 b) { return _mm512_add_round_ps(a, b, _MM_FROUND_CUR_DIRECTION); }

/* Shares of four places, and where these are. */
typedef struct {
    __m512 shares[4];
    const float *from[4];
} Four;

INLINE __m512 sum_of_places(const Four *f, int64_t channel, __mmask16 there) {
    __m512 sum = _mm512_mul_ps(f->shares[0], _mm512_maskz_loadu_ps(there, f->from[0] + channel));
#pragma GCC unroll 3
    for (int i = 1; i < 4; i++)
        sum = plus(sum, _mm512_mul_ps(f->shares[i], _mm512_maskz_loadu_ps(there, f->from[i] + channel)));
    return sum;
}

INLINE void interpolate(const Job *job, const float *above, const float *below, const Between *down, uint8_t *y) {
    const int64_t channels = job->e->channels, step = channels + job->e->others;
    const Between *const end = job->across + job->columns;
    const Rounding rounding = rounding_of(job->e->y_scale, job->e->y_zero);
    for (const Between *at = job->across; at < end; at++, y += step) {
        const int64_t first = at->first * channels, second = at->second * channels;
        const Four four = {{_mm512_set1_ps(at->of_first * down->of_first),
                            _mm512_set1_ps(at->of_second * down->of_first),
                            _mm512_set1_ps(at->of_first * down->of_second),
                            _mm512_set1_ps(at->of_second * down->of_second)},
                           {above + first, above + second, below + first, below + second}};
        int64_t i = 0;
        for (; i + 2 * LANES <= channels; i += 2 * LANES)
            _mm256_storeu_si256((__m256i *)(y + i), rounded(&rounding, sum_of_places(&four, i, 0xffff),
                                                            sum_of_places(&four, i + LANES, 0xffff)));
        if (i == channels) continue;
        const __mmask32 there = (__mmask32)first_bytes(channels - i);
        const __m512 a = sum_of_places(&four, i, (__mmask16)there);
        const __m512 b = sum_of_places(&four, i + LANES, (__mmask16)(there >> LANES));
        _mm256_mask_storeu_epi8(y + i, there, rounded(&rounding, a, b));
    }
}

VECTOR static void enlarge_task(void *data, size_t task) {
    Job *job = data;
    const Enlargement *e = job->e;
    const int64_t image = (int64_t)task / job->down, begin = (int64_t)task % job->down * job->each;
    const int64_t wide = e->width * e->channels, step = e->channels + e->others;
    const uint8_t *x = e->x + image * e->height * wide;
    float *above = malloc((size_t)wide * 2 * sizeof *above), *below = above + wide, *const room = above;
    if (!room) {
        atomic_store(&job->failed, true);
        return;
    }
    int64_t first = -1, second = -1;
    for (int64_t row = begin; row < begin + job->each && row < job->rows; row++) {
        const Between down = between(row, e->factors[0], e->height);
        const int64_t at = (image * job->rows + row) * job->columns;
        uint8_t *y = e->y + at * step;
        if (e->others)
            copy_runs(e->table, e->other + at * e->others, e->others, e->other_first ? y : y + e->channels, step,
                      e->others, job->columns);
        if (down.first == second) {
            float *const above_before = above;
            above = below, below = above_before;
            second = first, first = down.first;
        }
        if (down.first != first) widen(e, x + down.first * wide, above);
        if (down.second != second) widen(e, x + down.second * wide, below);
        first = down.first, second = down.second;
        interpolate(job, above, below, &down, e->other_first ? y + e->others : y);
    }
    free(room);
}

bool enlarge(const Enlargement *e, Parallel parallel, void *pool) {
    Job job = {.e = e, .rows = enlarged(e->factors[0], e->height), .columns = enlarged(e->factors[1], e->width)};
    Between *across = malloc((size_t)job.columns * sizeof *across);
    if (!across) return false;
    for (int64_t i = 0; i < job.columns; i++) across[i] = between(i, e->factors[1], e->width);
    job.across = across;
    job.each = WORK / (job.columns * (e->channels + e->others)) + 1;
    job.down = (job.rows + job.each - 1) / job.each;
    const bool done = parallel(pool, enlarge_task, (size_t)(e->images * job.down), &job);
    free(across);
    return done && !atomic_load(&job.failed);
}
