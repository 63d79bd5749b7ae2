/* The fastest way found to read a buffer once from memory: what decoding is held against.
 * cc -O3 -march=native -fopenmp -shared -fPIC _stream.c -o stream.so */
#include <omp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

typedef uint64_t lanes __attribute__((vector_size(64)));
enum { HUGE_PAGE = 1 << 21 };

void *stream_allocate(size_t bytes, int threads) {
    char *buffer = aligned_alloc(HUGE_PAGE, bytes);
    if (!buffer) return 0;
    madvise(buffer, bytes, MADV_HUGEPAGE);
#pragma omp parallel for num_threads(threads)
    for (size_t page = 0; page < bytes / HUGE_PAGE; page++) memset(buffer + page * HUGE_PAGE, 1, HUGE_PAGE);
    return buffer;
}

/* Sums the buffer's words; each thread reads its part as `streams` (1, 2 or 4) parts at once. */
uint64_t stream_read(const void *buffer, size_t bytes, int threads, int streams, int ahead) {
    uint64_t total = 0;
#pragma omp parallel num_threads(threads) reduction(+ : total)
    {
        const size_t part = bytes / sizeof(lanes) / threads, length = part / streams;
        const lanes *first = (const lanes *)buffer + part * omp_get_thread_num();
        lanes sums[4] = {{0}};
        for (size_t i = 0; i + 4 <= length; i += 4)
            for (int s = 0; s < streams; s++) {
                const lanes *at = first + s * length + i;
                if (ahead) {
                    __builtin_prefetch(at + ahead, 0, 0), __builtin_prefetch(at + ahead + 1, 0, 0);
                    __builtin_prefetch(at + ahead + 2, 0, 0), __builtin_prefetch(at + ahead + 3, 0, 0);
                }
                sums[0] += at[0], sums[1] += at[1], sums[2] += at[2], sums[3] += at[3];
            }
        lanes sum = sums[0] + sums[1] + sums[2] + sums[3];
        for (int i = 0; i < 8; i++) total += sum[i];
    }
    return total;
}
