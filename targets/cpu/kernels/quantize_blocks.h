/* Floats in blocks of sixteen channels as bytes, channels last, on x86-64 with AVX512. */
#pragma once
#include <stdint.h>

#include "parallel.h"

/* y uint8[images, places, channels] of x float[images, blocks, places, 16], as onnxruntime lays out pictures for
 * convolutions of floats where it has AVX512: x over scale, rounded as its QuantizeLinear does (rounding.h). Of
 * the last block y has as many channels as there are. */
typedef struct {
    const float *x;
    uint8_t *y;
    int64_t images, places, channels;
    float scale;
    uint8_t zero;
} Blocks;

bool quantize_blocks(const Blocks *b, Parallel parallel, void *pool); /* false: parallel failed */
