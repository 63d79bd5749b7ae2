/* The largest bytes of places, channels last, on x86-64 with AVX512. */
#pragma once
#include "convolution.h"

/* y uint8[images, *, *, channels] of x uint8[images, height, width, channels]: of each kernel's places those that
 * are in x, 0 where none is. Of `window` kernel, strides, dilations and pads count. */
typedef struct {
    Filter window;
    const uint8_t *x;
    uint8_t *y;
    int64_t images, height, width;
} MaxPool;

bool pool_largest(const MaxPool *p, Parallel parallel, void *pool); /* false: parallel failed */
