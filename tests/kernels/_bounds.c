/* Products of many sizes in buffers of just that size, to be run under the address sanitizer. */
#include <stdlib.h>

#include "matmul_nbits.h"

static bool in_turn(void *pool, void (*task)(void *, size_t), size_t count, void *data) {
    (void)pool;
    while (count--) task(data, count);
    return true;
}

static void try(int64_t bits, int64_t block, int64_t rows, int64_t k, int64_t n) {
    float *x = calloc((size_t)(rows * k), 4), *y = malloc((size_t)(rows * n) * 4);
    float *scales = calloc((size_t)(n * k / block), 4), *bias = calloc((size_t)n, 4);
    uint8_t *weights = calloc((size_t)(n * k * bits / 8), 1);
    const Product product = {x, scales, bias, weights, y, rows, k, n, bits, block};
    if (!multiply(&product, in_turn, NULL)) abort();
    free(x), free(y), free(scales), free(bias), free(weights);
}

int main(void) {
    const int64_t kinds[][2] = {{4, 32}, {4, 64}, {4, 128}, {4, 256}, {8, 128}, {8, 256}};
    const int64_t rows[] = {1, 2, 3, 7, 8, 9, 12, 13, 25, 512, 513}, widths[] = {1, 2, 31, 32, 33, 65};
    for (size_t kind = 0; kind < sizeof kinds / sizeof *kinds; kind++)
        for (size_t m = 0; m < sizeof rows / sizeof *rows; m++)
            for (size_t n = 0; n < sizeof widths / sizeof *widths; n++)
                for (int64_t blocks = 1; blocks < 4; blocks++) {
                    const int64_t block = kinds[kind][1], depth = block < 128 ? 128 : block;
                    try(kinds[kind][0], block, rows[m], blocks * depth, widths[n]);
                }
    return 0;
}
