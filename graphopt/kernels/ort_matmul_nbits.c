/* MatMulNBits for onnxruntime, as operator graphopt::MatMulNBits(A, B, scales[, bias]). */
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
    if (rows && !multiply(&product, in_parallel, &pool))
        return pool.status ? pool.status : create_status(kernel->api)(FAIL, "no memory for the rounded rows");
    return NULL;
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

static const char *name(const CustomOp *op) { return (void)op, "MatMulNBits"; }
static size_t inputs(const CustomOp *op) { return (void)op, 4; }
static size_t outputs(const CustomOp *op) { return (void)op, 1; }
static int input_type(const CustomOp *op, size_t index) { return (void)op, index == 1 ? UINT8 : FLOAT; }
static int output_type(const CustomOp *op, size_t index) { return (void)op, (void)index, FLOAT; }
static int input_kind(const CustomOp *op, size_t index) { return (void)op, index < 3 ? REQUIRED : OPTIONAL; }

const CustomOp MATMUL_NBITS = {OF_EVERY_OPERATOR,         .name = name,
                               .inputs = inputs,          .input_type = input_type,
                               .outputs = outputs,        .output_type = output_type,
                               .input_kind = input_kind,  .create_or_fail = create,
                               .compute_or_fail = compute};
