/* Pictures of bytes enlarged by interpolation between four places, channels last, and joined with others, on
 * x86-64 with AVX512. */
#pragma once
#include <stdint.h>

#include "parallel.h"

/* y uint8[images, rows, columns, channels + others]: x uint8[images, height, width, channels] as numbers, (x -
 * zero) * scale, enlarged as ONNX's Resize says ("linear", "half_pixel"; factors are of height and width), in
 * the order in which onnxruntime adds floats, over y_scale, rounded to the nearest, even ones of two, plus
 * y_zero, clipped. In front of these channels, or behind them, is `other` uint8[images, rows, columns, others],
 * as it is or as `table` says. Rows and columns are factor times height and width, rounded down. */
typedef struct {
    const uint8_t *x, *other, *table; /* table: [256] or null */
    uint8_t *y;
    int64_t images, height, width, channels, others;
    float factors[2], scale, y_scale;
    uint8_t zero, y_zero;
    bool other_first;
} Enlargement;

int64_t enlarged(float factor, int64_t size);
bool enlarge(const Enlargement *e, Parallel parallel, void *pool); /* false: parallel or memory failed */
