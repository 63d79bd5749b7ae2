/* Convolutions of uint8 with int8 weights, channels last, on x86-64 with AVX512-VNNI. */
#pragma once
#include <stdint.h>

#include "parallel.h"

enum { MOST_PLACES = 64 }; /* of a kernel that is depthwise */

/* Weights are int8[outputs, channels / group, *kernel]; group is 1, or channels and outputs (depthwise). Pairs
 * are of rows, then columns; pads those before, then those after, with the zero point of x. */
typedef struct {
    int64_t channels, outputs, group;
    int64_t kernel[2], strides[2], dilations[2], pads[4];
} Filter;

/* y uint8[images, *, *, outputs] of x uint8[images, height, width, channels]: the sum of the products, x less
 * its zero point, in int32, plus bias; times the output's factor, rounded to the nearest, even ones of two,
 * plus the zero point of y, clipped; and of that what the table says, if there is one. packed is what
 * pack_filter makes of weights, bias (null or one for each output), factors and the zero point of x. */
typedef struct {
    Filter filter;
    const uint8_t *x, *table; /* table: [256] or null */
    const void *packed;
    uint8_t *y;
    int64_t images, height, width;
    uint8_t x_zero, y_zero;
} Convolution;

size_t filter_bytes(const Filter *filter);
void pack_filter(const Filter *filter, const int8_t *weights, const int32_t *bias, const float *factors,
                 uint8_t x_zero, void *packed);
int64_t convolved(const Filter *filter, int axis, int64_t size); /* sizes of y; below 1 if there is none */
typedef bool Convolve(const Convolution *c, Parallel parallel, void *pool);
extern Convolve convolve; /* false: parallel or memory failed */
