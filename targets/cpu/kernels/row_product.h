/* Products of float rows, rounded row by row, with int8 weights. */
#pragma once
#include <stdint.h>

#include "parallel.h"

/* y float[rows, n] = x float[rows, k] times weights int8[k, n], of which a column has a scale, plus bias; of
 * that Gelu, if it is wanted; and of that plus residual the norm of each row, times gain plus shift, if there
 * are any.
 *
 * x, times `factors` if there are some, is rounded to 8 bits: 255 steps from the least entry of a row, or zero,
 * to the largest; with two terms, what that leaves is rounded to 8 bits again. Of a row with an entry that is
 * no number, or infinite, no number is left. packed is what pack_rows of the same form
 * makes of the weights. */
typedef struct {
    const float *x, *factors; /* [k] or null */
    const void *packed;
    const float *scales, *bias;           /* [n]; bias may be null */
    const float *residual, *gain, *shift; /* [rows, n], [n], [n], all or none */
    float *y;
    int64_t rows, k, n, terms;
    float epsilon; /* of the norm: added to a row's variance */
    bool gelu;
} RowProduct;

enum { ROW_PRODUCT_DEPTH = 16384 }; /* the largest k */

typedef size_t PackedBytes(int64_t k, int64_t n);
typedef void PackRows(const int8_t *weights, int64_t k, int64_t n, void *packed);
typedef bool MultiplyRows(const RowProduct *product, Parallel parallel, void *pool); /* false: parallel failed */
extern PackedBytes packed_bytes_avx512, packed_bytes_avx2;
extern PackRows pack_rows_avx512, pack_rows_avx2;
extern MultiplyRows multiply_rows_avx512, multiply_rows_avx2;
