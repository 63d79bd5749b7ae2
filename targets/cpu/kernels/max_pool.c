#include "max_pool.h"

#include "vectors.h"

enum {
    LINE = 64,
    WORK = 1 << 16 /* bytes that a task looks at, or more */
};

typedef struct {
    const MaxPool *p;
    int64_t rows, columns, each, down; /* of y, rows of a task, tasks of an image */
} Job;

/* The kernel's rows, or columns, from `first` to before `end` that are in x, where the first one is at `at`. */
typedef struct {
    int64_t at, first, end;
} Seen;

static Seen seen(const Filter *f, int axis, int64_t place, int64_t size) {
    Seen found = {place * f->strides[axis] - f->pads[axis], 0, f->kernel[axis]};
    while (found.first < found.end && found.at + found.first * f->dilations[axis] < 0) found.first++;
    while (found.first < found.end && found.at + (found.end - 1) * f->dilations[axis] >= size) found.end--;
    return found;
}

/* 64 channels of a place of y, or as many as there are. */
INLINE void largest(const MaxPool *p, const uint8_t *image, const Seen *down, const Seen *across, uint8_t *y,
                    __mmask64 there) {
    const Filter *f = &p->window;
    __m512i most = _mm512_setzero_si512();
    for (int64_t i = down->first; i < down->end; i++) {
        const uint8_t *row = image + (down->at + i * f->dilations[0]) * p->width * f->channels;
        for (int64_t j = across->first; j < across->end; j++) {
            const uint8_t *x = row + (across->at + j * f->dilations[1]) * f->channels;
            most = _mm512_max_epu8(most, _mm512_maskz_loadu_epi8(there, x));
        }
    }
    _mm512_mask_storeu_epi8(y, there, most);
}

VECTOR static void pool_task(void *data, size_t task) {
    const Job *job = data;
    const MaxPool *p = job->p;
    const int64_t channels = p->window.channels;
    const int64_t image = (int64_t)task / job->down, begin = (int64_t)task % job->down * job->each;
    const uint8_t *x = p->x + image * p->height * p->width * channels;
    for (int64_t row = begin; row < begin + job->each && row < job->rows; row++) {
        const Seen down = seen(&p->window, 0, row, p->height);
        uint8_t *y = p->y + (image * job->rows + row) * job->columns * channels;
        for (int64_t column = 0; column < job->columns; column++, y += channels) {
            const Seen across = seen(&p->window, 1, column, p->width);
            for (int64_t i = 0; i < channels; i += LINE)
                largest(p, x + i, &down, &across, y + i, first_bytes(channels - i));
        }
    }
}

bool pool_largest(const MaxPool *p, Parallel parallel, void *pool) {
    const Filter *f = &p->window;
    Job job = {.p = p, .rows = convolved(f, 0, p->height), .columns = convolved(f, 1, p->width)};
    job.each = WORK / (job.columns * f->channels * f->kernel[0] * f->kernel[1]) + 1;
    job.down = (job.rows + job.each - 1) / job.each;
    return parallel(pool, pool_task, (size_t)(p->images * job.down), &job);
}
