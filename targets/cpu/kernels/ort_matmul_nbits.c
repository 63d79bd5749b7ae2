/* MatMulNBits for onnxruntime, as operator graphopt::MatMulNBits(A, B, scales[, zero_points[, bias]]); and two
 * of them with the same A and attributes as graphopt::GatedMatMulNBits(A, gate, scales, up, scales[,
 * zero_points, zero_points]): silu of the first times the second. */
#include "forms.h"
#include "operators.h"

typedef struct {
    Api api;
    const Form *form;
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

static Product product(const Kernel *kernel, int64_t rows, const void *x, const void *weights,
                       const void *scales, const void *zeros, const void *bias, void *y) {
    return (Product){.x = x,
                     .scales = scales,
                     .bias = bias,
                     .weights = weights,
                     .zeros = zeros,
                     .y = y,
                     .rows = rows,
                     .k = kernel->k,
                     .n = kernel->n,
                     .bits = kernel->bits,
                     .block = kernel->block};
}

static OrtStatus *compute(void *self, OrtKernelContext *context) {
    const Kernel *kernel = self;
    void *in[5], *y;
    int64_t rows = 0;
    for (size_t i = 0; i < 5; i++) TRY(input(kernel->api, context, i, in + i));
    TRY(output(kernel, context, &rows, &y));
    const Product one = product(kernel, rows, in[0], in[1], in[2], in[3], in[4], y);
    Pool pool = {kernel->api, context, NULL};
    return rows ? done(kernel, &pool, kernel->form->multiply(&one, in_parallel, &pool)) : NULL;
}

static OrtStatus *compute_gated(void *self, OrtKernelContext *context) {
    const Kernel *kernel = self;
    void *in[7], *y;
    int64_t rows = 0;
    for (size_t i = 0; i < 7; i++) TRY(input(kernel->api, context, i, in + i));
    TRY(output(kernel, context, &rows, &y));
    const Product gate = product(kernel, rows, in[0], in[1], in[2], in[5], NULL, y);
    const Product up = product(kernel, rows, in[0], in[3], in[4], in[6], NULL, NULL);
    Pool pool = {kernel->api, context, NULL};
    return rows ? done(kernel, &pool, kernel->form->multiply_gated(&gate, &up, in_parallel, &pool)) : NULL;
}

static OrtStatus *create(const CustomOp *op, Api api, const OrtKernelInfo *info, void **out) {
    (void)op;
    Kernel kernel = {.api = api};
    kernel.form = form_here();
    if (!kernel.form || !kernel.form->multiply) return create_status(api)(FAIL, NO_FORM);
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
static bool is_plain(const CustomOp *op) { return op == &MATMUL_NBITS; }
static size_t inputs(const CustomOp *op) { return is_plain(op) ? 5 : 7; }
static size_t outputs(const CustomOp *op) { return (void)op, 1; }
static int input_type(const CustomOp *op, size_t index) {
    if (index == 1 || index == 3) return UINT8;
    return !is_plain(op) && index > 4 ? UINT8 : FLOAT;
}
static int output_type(const CustomOp *op, size_t index) { return (void)op, (void)index, FLOAT; }
static int input_kind(const CustomOp *op, size_t index) {
    return index > (is_plain(op) ? 2 : 4) ? OPTIONAL : REQUIRED;
}

#define OPERATOR(COMPUTE)                                   \
    {OF_EVERY_OPERATOR,         .name = name,               \
     .destroy = free,                                       \
     .inputs = inputs,          .input_type = input_type,   \
     .outputs = outputs,        .output_type = output_type, \
     .input_kind = input_kind,  .create_or_fail = create,   \
     .compute_or_fail = COMPUTE}

const CustomOp MATMUL_NBITS = OPERATOR(compute), GATED_MATMUL_NBITS = OPERATOR(compute_gated);
