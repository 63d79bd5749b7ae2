/* MatMulNBits for onnxruntime, as operator graphopt::MatMulNBits(A, B, scales[, bias]); and two of them with
 * the same A and attributes as graphopt::GatedMatMulNBits(A, gate, scales, up, scales): silu of the first
 * times the second. */
#include "matmul_nbits.h"
#include "operators.h"

typedef struct {
    Api api;
    int64_t k, n, bits, block;
} Kernel;

/* Room for the product of the first input. */
static OrtStatus *output(const Kernel *kernel, OrtKernelContext *context, int64_t *rows, void **data) {
    const Api api = kernel->api;
    OrtValue *y = NULL;
    size_t count = 0;
    int64_t shape[MOST_DIMENSIONS];
    TRY(sizes(api, context, 0, shape, &count));
    if (!count || shape[count - 1] != kernel->k)
        return create_status(api)(FAIL, "rows are not of K elements");
    *rows = 1;
    for (size_t i = 0; i + 1 < count; i++) *rows *= shape[i];
    shape[count - 1] = kernel->n;
    TRY(get_output(api)(context, 0, shape, count, &y));
    return tensor_data(api)(y, data);
}

static OrtStatus *done(const Kernel *kernel, const Pool *pool, bool well) {
    if (well || pool->status) return pool->status;
    return create_status(kernel->api)(FAIL, "no memory for the rounded rows");
}

static OrtStatus *compute(void *self, OrtKernelContext *context) {
    const Kernel *kernel = self;
    void *x, *weights, *scales, *bias, *y;
    int64_t rows = 0;
    TRY(input(kernel->api, context, 0, &x));
    TRY(input(kernel->api, context, 1, &weights));
    TRY(input(kernel->api, context, 2, &scales));
    TRY(input(kernel->api, context, 3, &bias));
    TRY(output(kernel, context, &rows, &y));
    const Product product = {x,    scales,    bias,      weights,      y,
                             rows, kernel->k, kernel->n, kernel->bits, kernel->block};
    Pool pool = {kernel->api, context, NULL};
    return rows ? done(kernel, &pool, multiply(&product, in_parallel, &pool)) : NULL;
}

static OrtStatus *compute_gated(void *self, OrtKernelContext *context) {
    const Kernel *kernel = self;
    void *x, *weights[2], *scales[2], *y;
    int64_t rows = 0;
    TRY(input(kernel->api, context, 0, &x));
    for (size_t i = 0; i < 2; i++) {
        TRY(input(kernel->api, context, 1 + 2 * i, weights + i));
        TRY(input(kernel->api, context, 2 + 2 * i, scales + i));
    }
    TRY(output(kernel, context, &rows, &y));
    Product gate = {x,    scales[0], NULL,      weights[0],   y,
                    rows, kernel->k, kernel->n, kernel->bits, kernel->block};
    Product up = gate;
    up.scales = scales[1], up.weights = weights[1];
    Pool pool = {kernel->api, context, NULL};
    return rows ? done(kernel, &pool, multiply_gated(&gate, &up, in_parallel, &pool)) : NULL;
}

static OrtStatus *create(const CustomOp *op, Api api, const OrtKernelInfo *info, void **out) {
    (void)op;
    Kernel kernel = {.api = api};
    TRY(attribute(api)(info, "K", &kernel.k));
    TRY(attribute(api)(info, "N", &kernel.n));
    TRY(attribute(api)(info, "bits", &kernel.bits));
    TRY(attribute(api)(info, "block_size", &kernel.block));
    Kernel *made = malloc(sizeof kernel);
    if (!made) return create_status(api)(FAIL, "no memory");
    *made = kernel;
    *out = made;
    return NULL;
}

static const char *name(const CustomOp *op) {
    return op == &MATMUL_NBITS ? "MatMulNBits" : "GatedMatMulNBits";
}
static size_t inputs(const CustomOp *op) { return op == &MATMUL_NBITS ? 4 : 5; }
static size_t outputs(const CustomOp *op) { return (void)op, 1; }
static int input_type(const CustomOp *op, size_t index) {
    return index == 1 || (index == 3 && op != &MATMUL_NBITS) ? UINT8 : FLOAT;
}
static int output_type(const CustomOp *op, size_t index) { return (void)op, (void)index, FLOAT; }
static int input_kind(const CustomOp *op, size_t index) {
    return index == 3 && op == &MATMUL_NBITS ? OPTIONAL : REQUIRED;
}

#define OPERATOR(COMPUTE)                                   \
    {OF_EVERY_OPERATOR,         .name = name,               \
     .inputs = inputs,          .input_type = input_type,   \
     .outputs = outputs,        .output_type = output_type, \
     .input_kind = input_kind,  .create_or_fail = create,   \
     .compute_or_fail = COMPUTE}

const CustomOp MATMUL_NBITS = OPERATOR(compute), GATED_MATMUL_NBITS = OPERATOR(compute_gated);
