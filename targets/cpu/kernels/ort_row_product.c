/* graphopt::RowProduct(X, W, scales[, bias[, factors[, residual, gain, shift]]]) for onnxruntime: see
 * row_product.h. W is a constant: int8[K, N]. */
#include <stdatomic.h>

#include "forms.h"
#include "operators.h"

enum { X, WEIGHTS, SCALES, BIAS, FACTORS, RESIDUAL, GAIN, SHIFT, INPUTS };
enum { LINE = 64 };

typedef struct {
    Api api;
    const Form *form;
    int64_t k, n, terms, gelu;
    float epsilon;
    _Atomic(void *) packed; /* made by the first call */
} Kernel;

/* The weights as the kernel reads them; null where memory is lacking. */
static const void *packed_of(Kernel *kernel, const int8_t *weights) {
    void *known = atomic_load(&kernel->packed);
    if (known) return known;
    const size_t bytes = kernel->form->packed_bytes(kernel->k, kernel->n);
    void *made = aligned_alloc(LINE, (bytes + LINE - 1) / LINE * LINE);
    if (!made) return NULL;
    kernel->form->pack_rows(weights, kernel->k, kernel->n, made);
    if (atomic_compare_exchange_strong(&kernel->packed, &known, made)) return made;
    free(made);
    return known;
}

/* How many rows there are, and room for their product. */
static OrtStatus *output(const Kernel *kernel, OrtKernelContext *context, int64_t *rows, void **data) {
    const Api api = kernel->api;
    OrtValue *y = NULL;
    size_t count = 0, beside = 0;
    int64_t shape[MOST_DIMENSIONS], other[MOST_DIMENSIONS];
    TRY(sizes(api, context, X, shape, &count));
    if (!count || shape[count - 1] != kernel->k)
        return create_status(api)(FAIL, "rows are not of K elements");
    *rows = 1;
    for (size_t i = 0; i + 1 < count; i++) *rows *= shape[i];
    shape[count - 1] = kernel->n;
    TRY(sizes(api, context, RESIDUAL, other, &beside));
    bool alike = !beside || beside == count;
    for (size_t i = 0; i < beside && alike; i++) alike = other[i] == shape[i];
    if (!alike) return create_status(api)(FAIL, "residual is not of the product's shape");
    TRY(get_output(api)(context, 0, shape, count, &y));
    return tensor_data(api)(y, data);
}

static OrtStatus *compute(void *self, OrtKernelContext *context) {
    Kernel *kernel = self;
    void *in[INPUTS], *y;
    int64_t rows = 0;
    for (size_t i = 0; i < INPUTS; i++) TRY(input(kernel->api, context, i, in + i));
    TRY(output(kernel, context, &rows, &y));
    if (!rows) return NULL;
    const RowProduct product = {.x = in[X],
                                .factors = in[FACTORS],
                                .packed = packed_of(kernel, in[WEIGHTS]),
                                .scales = in[SCALES],
                                .bias = in[BIAS],
                                .residual = in[RESIDUAL],
                                .gain = in[GAIN],
                                .shift = in[SHIFT],
                                .y = y,
                                .rows = rows,
                                .k = kernel->k,
                                .n = kernel->n,
                                .terms = kernel->terms,
                                .epsilon = kernel->epsilon,
                                .gelu = kernel->gelu};
    if (!product.packed) return create_status(kernel->api)(FAIL, "no memory for the weights");
    Pool pool = {kernel->api, context, NULL};
    kernel->form->multiply_rows(&product, in_parallel, &pool);
    return pool.status;
}

static OrtStatus *create(const CustomOp *op, Api api, const OrtKernelInfo *info, void **out) {
    (void)op;
    Kernel kernel = {.api = api};
    kernel.form = form_here();
    if (!kernel.form || !kernel.form->multiply_rows) return create_status(api)(FAIL, NO_FORM);
    TRY(attribute(api)(info, "K", &kernel.k));
    TRY(attribute(api)(info, "N", &kernel.n));
    TRY(attribute(api)(info, "terms", &kernel.terms));
    TRY(attribute(api)(info, "gelu", &kernel.gelu));
    TRY(float_attribute(api)(info, "epsilon", &kernel.epsilon));
    Kernel *made = malloc(sizeof kernel);
    if (!made) return create_status(api)(FAIL, "no memory");
    *made = kernel;
    *out = made;
    return NULL;
}

static void destroy(void *self) {
    Kernel *kernel = self;
    free(atomic_load(&kernel->packed));
    free(kernel);
}

static const char *name(const CustomOp *op) { return (void)op, "RowProduct"; }
static size_t inputs(const CustomOp *op) { return (void)op, INPUTS; }
static size_t outputs(const CustomOp *op) { return (void)op, 1; }
static int input_type(const CustomOp *op, size_t index) { return (void)op, index == WEIGHTS ? INT8 : FLOAT; }
static int output_type(const CustomOp *op, size_t index) { return (void)op, (void)index, FLOAT; }
static int input_kind(const CustomOp *op, size_t index) {
    return (void)op, index > SCALES ? OPTIONAL : REQUIRED;
}

const CustomOp ROW_PRODUCT = {OF_EVERY_OPERATOR,
                              .name = name,
                              .inputs = inputs,
                              .input_type = input_type,
                              .outputs = outputs,
                              .output_type = output_type,
                              .input_kind = input_kind,
                              .create_or_fail = create,
                              .compute_or_fail = compute,
                              .destroy = destroy};
