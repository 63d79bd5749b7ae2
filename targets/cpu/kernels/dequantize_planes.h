/* Bytes, channels last, as floats, each channel by itself, on x86-64 with AVX512. */
#pragma once
#include <stdint.h>

#include "parallel.h"

/* y float[images, channels, places] of x uint8[images, places, channels]: (x - zero) * scale. */
typedef struct {
    const uint8_t *x;
    float *y;
    int64_t images, places, channels;
    float scale;
    uint8_t zero;
} Planes;

bool dequantize_planes(const Planes *p, Parallel parallel, void *pool); /* false: parallel failed */
