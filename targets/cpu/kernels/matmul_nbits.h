/* Products of float rows with weights of 2, 4 or 8 bits. */
#pragma once
#include <stdint.h>

#include "parallel.h"

/* y float[rows, n] = x float[rows, k] times the transpose of scales[., b] * (weights - zeros[., b]), plus
 * bias.
 *
 * weights are uint8[n, blocks, block * bits / 8], blocks being k / block rounded up: 2, 4 or 8 bits for an
 * element, the first of a byte lowest. scales are float[n, blocks]. zeros are uint8[n, blocks * bits / 8
 * rounded up], packed as weights are, or null: then they are 2^(bits - 1). bias is float[n] or null. block is
 * 32, 64, 128 or 256. So onnxruntime's MatMulNBits says, and as its kernel does with accuracy_level 4,
 * x is rounded by blocks and summed up as integers within one: to int8, which onnxruntime does whatever the
 * bits, but to int16 for weights of 8. */
typedef struct {
    const float *x, *scales, *bias;
    const uint8_t *weights, *zeros;
    float *y;
    int64_t rows, k, n, bits, block;
} Product;

/* The product in each form of the kernel (forms.h); false: no memory, or parallel failed. */
typedef bool Multiply(const Product *product, Parallel parallel, void *pool);
extern Multiply multiply_avx512, multiply_avx_vnni, multiply_avx2;

/* y of gate: its product times 1 / (1 + e^-product), times that of up, whose y is not used. They have the
 * same x, rows, k, n, bits and block, and both have zeros or neither. */
typedef bool MultiplyGated(const Product *gate, const Product *up, Parallel parallel, void *pool);
extern MultiplyGated multiply_gated_avx512, multiply_gated_avx_vnni, multiply_gated_avx2;
