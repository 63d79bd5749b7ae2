#include "quantize_blocks.h"

#include "rounding.h"

enum {
    WORK = 1 << 15 /* bytes of y, of which a task has so many */
};

typedef struct {
    const Blocks *b;
    int64_t each, tasks; /* places of a task, tasks of an image */
} Job;

VECTOR static void quantize_task(void *data, size_t task) {
    const Job *job = data;
    const Blocks *b = job->b;
    const int64_t channels = b->channels, places = b->places, blocks = (channels + LANES - 1) / LANES;
    const int64_t image = (int64_t)task / job->tasks, begin = (int64_t)task % job->tasks * job->each;
    const int64_t end = begin + job->each < places ? begin + job->each : places;
    const Rounding rounding = rounding_of(b->scale, b->zero);
    for (int64_t block = 0; block < blocks; block++) {
        const float *x = b->x + ((image * blocks + block) * places + begin) * LANES;
        uint8_t *y = b->y + (image * places + begin) * channels + block * LANES;
        const __mmask16 there = (__mmask16)first_bytes(channels - block * LANES);
        for (int64_t place = begin; place < end; place += 2, x += 2 * LANES, y += 2 * channels) {
            const bool two = place + 1 < end;
            const __m512 a = _mm512_loadu_ps(x), b = two ? _mm512_loadu_ps(x + LANES) : a;
            const __m256i both = rounded(&rounding, a, b);
            _mm_mask_storeu_epi8(y, there, _mm256_castsi256_si128(both));
            if (two) _mm_mask_storeu_epi8(y + channels, there, _mm256_extracti128_si256(both, 1));
        }
    }
}

bool quantize_blocks(const Blocks *b, Parallel parallel, void *pool) {
    Job job = {.b = b, .each = WORK / b->channels + 1};
    job.tasks = (b->places + job.each - 1) / job.each;
    return parallel(pool, quantize_task, (size_t)(b->images * job.tasks), &job);
}
