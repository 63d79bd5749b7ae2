#include "dequantize_planes.h"

#include "vectors.h"

enum {
    WORD = 4,       /* channels that are read at once */
    WORK = 1 << 14 /* floats of y, of which a task has so many */
};

typedef struct {
    const Planes *p;
    int64_t each, tasks; /* places of a task, tasks of an image */
} Job;

/* Up to four channels of sixteen places. */
INLINE void widen(const Planes *p, const uint8_t *x, float *y, int64_t channels) {
    const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512i at = _mm512_mullo_epi32(lanes, _mm512_set1_epi32((int32_t)p->channels));
    __m512i words = _mm512_i32gather_epi32(at, x, 1);
    for (int64_t i = 0; i < channels; i++, y += p->places, words = _mm512_srli_epi32(words, 8)) {
        const __m512i whole = _mm512_and_si512(words, _mm512_set1_epi32(255));
        const __m512 exact = _mm512_cvtepi32_ps(_mm512_sub_epi32(whole, _mm512_set1_epi32(p->zero)));
        _mm512_storeu_ps(y, _mm512_mul_ps(exact, _mm512_set1_ps(p->scale)));
    }
}

VECTOR static void dequantize_task(void *data, size_t task) {
    const Job *job = data;
    const Planes *p = job->p;
    const int64_t image = (int64_t)task / job->tasks, begin = (int64_t)task % job->tasks * job->each;
    const int64_t end = begin + job->each < p->places ? begin + job->each : p->places;
    const uint8_t *x = p->x + image * p->places * p->channels;
    float *y = p->y + image * p->places * p->channels;
    for (int64_t c = 0; c < p->channels; c += WORD) {
        const int64_t channels = p->channels - c < WORD ? p->channels - c : WORD;
        /* The words of the last place may reach beyond x. */
        const int64_t safe = channels < WORD && end == p->places ? end - 1 : end;
        int64_t place = begin;
        for (; place + LANES <= safe; place += LANES)
            widen(p, x + place * p->channels + c, y + c * p->places + place, channels);
        for (; place < end; place++)
            for (int64_t i = c; i < c + channels; i++)
                y[i * p->places + place] = (float)(x[place * p->channels + i] - p->zero) * p->scale;
    }
}

bool dequantize_planes(const Planes *p, Parallel parallel, void *pool) {
    Job job = {.p = p, .each = WORK / p->channels / LANES * LANES + LANES};
    job.tasks = (p->places + job.each - 1) / job.each;
    return parallel(pool, dequantize_task, (size_t)(p->images * job.tasks), &job);
}
