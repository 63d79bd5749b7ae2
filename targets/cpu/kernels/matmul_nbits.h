/* Products of float rows with weights of 4 or 8 bits, on x86-64 with AVX512-VNNI. */
#pragma once
#include <stdint.h>

#include "parallel.h"

/* y float[rows, n] = x float[rows, k] times the transpose of scales[., b] * (weights - zero_point), plus
 * bias.
 *
 * weights have 4 bits and zero point 8, uint8[n, k / block, block / 2], the even element of two in the low
 * half; or 8 bits and zero point 128, uint8[n, k / block, block]. scales are float[n, k / block]; bias is
 * float[n] or null. k is a multiple of 128 and of block, which is 128 or 256, and with 4 bits also 32 or 64.
 * So onnxruntime's MatMulNBits says, and as its kernel does with accuracy_level 4, x is rounded to int8 by
 * blocks and summed up as integers within one. */
typedef struct {
    const float *x, *scales, *bias;
    const uint8_t *weights;
    float *y;
    int64_t rows, k, n, bits, block;
} Product;

__attribute__((visibility("default"))) bool machine_multiplies(void);
bool multiply(const Product *product, Parallel parallel,
              void *pool); /* false: no memory, or parallel failed */

/* y of gate: its product times 1 / (1 + e^-product), times that of up, whose y is not used. They have the
 * same x, rows, k, n, bits and block. */
bool multiply_gated(const Product *gate, const Product *up, Parallel parallel, void *pool);
