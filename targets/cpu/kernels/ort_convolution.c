/* graphopt::Convolution(X, x_scale, x_zero, W, scales, W_zero, y_scale, y_zero[, bias[, table]]) for
 * onnxruntime: its QLinearConv of uint8, channels last, with int8 weights around zero, then what a table of 256
 * bytes says of y; see convolution.h. All but X are constants; W_zero is not looked at. */
#include <stdatomic.h>

#include "forms.h"
#include "operators.h"
#include "ort_window.h"

enum { X, X_SCALE, X_ZERO, WEIGHTS, SCALES, WEIGHTS_ZERO, Y_SCALE, Y_ZERO, BIAS, TABLE, INPUTS };
enum { LINE = 64 };

typedef struct {
    Api api;
    const Form *form;
    Filter filter;
    _Atomic(void *) packed; /* made by the first call */
} Kernel;

/* The weights as the kernel reads them; null where memory is lacking. */
static const void *packed_of(Kernel *kernel, void *const in[INPUTS]) {
    const Filter *f = &kernel->filter;
    void *known = atomic_load(&kernel->packed);
    if (known) return known;
    float *factors = malloc((size_t)f->outputs * sizeof *factors);
    void *made = aligned_alloc(LINE, (filter_bytes(f) + LINE - 1) / LINE * LINE);
    if (factors && made) {
        const float x = *(const float *)in[X_SCALE], y = *(const float *)in[Y_SCALE];
        for (int64_t i = 0; i < f->outputs; i++) factors[i] = x * ((const float *)in[SCALES])[i] / y;
        pack_filter(f, in[WEIGHTS], in[BIAS], factors, *(const uint8_t *)in[X_ZERO], made);
    }
    free(factors);
    if (!factors || !made || !atomic_compare_exchange_strong(&kernel->packed, &known, made)) {
        free(made);
        made = known;
    }
    return made;
}

static OrtStatus *compute(void *self, OrtKernelContext *context) {
    Kernel *kernel = self;
    const Api api = kernel->api;
    const Filter *f = &kernel->filter;
    void *in[INPUTS], *y;
    OrtValue *out = NULL;
    size_t count = 0;
    int64_t shape[MOST_DIMENSIONS];
    for (size_t i = 0; i < INPUTS; i++) TRY(input(api, context, i, in + i));
    TRY(sizes(api, context, X, shape, &count));
    if (count != 4 || shape[3] != f->channels)
        return create_status(api)(FAIL, "x is not [images, height, width, channels]");
    Convolution c = {.filter = *f, .images = shape[0], .height = shape[1], .width = shape[2]};
    for (int i = 0; i < 2; i++) shape[1 + i] = convolved(f, i, shape[1 + i]);
    shape[3] = f->outputs;
    TRY(get_output(api)(context, 0, shape, count, &out));
    TRY(tensor_data(api)(out, &y));
    if (shape[0] * shape[1] * shape[2] == 0) return NULL;
    c.x = in[X], c.y = y, c.table = in[TABLE], c.packed = packed_of(kernel, in);
    c.x_zero = *(const uint8_t *)in[X_ZERO], c.y_zero = *(const uint8_t *)in[Y_ZERO];
    if (!c.packed) return create_status(api)(FAIL, "no memory for the weights");
    Pool pool = {api, context, NULL};
    if (kernel->form->convolve(&c, in_parallel, &pool) || pool.status) return pool.status;
    return create_status(api)(FAIL, "no memory for padded rows");
}

static OrtStatus *create(const CustomOp *op, Api api, const OrtKernelInfo *info, void **out) {
    (void)op;
    Kernel kernel = {.api = api};
    kernel.form = form_here();
    if (!kernel.form || !kernel.form->convolve) return create_status(api)(FAIL, NO_FORM);
    Filter *f = &kernel.filter;
    TRY(attribute(api)(info, "channels", &f->channels));
    TRY(attribute(api)(info, "outputs", &f->outputs));
    TRY(attribute(api)(info, "group", &f->group));
    TRY(window_of(api, info, f));
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

static int input_type(const CustomOp *op, size_t index) {
    static const int types[] = {UINT8, FLOAT, UINT8, INT8, FLOAT, INT8, FLOAT, UINT8, INT32, UINT8};
    return (void)op, types[index];
}

static const char *name(const CustomOp *op) { return (void)op, "Convolution"; }
static size_t inputs(const CustomOp *op) { return (void)op, INPUTS; }
static size_t outputs(const CustomOp *op) { return (void)op, 1; }
static int output_type(const CustomOp *op, size_t index) { return (void)op, (void)index, UINT8; }
static int input_kind(const CustomOp *op, size_t index) {
    return (void)op, index > Y_ZERO ? OPTIONAL : REQUIRED;
}

const CustomOp CONVOLUTION = {OF_EVERY_OPERATOR,
                              .name = name,
                              .inputs = inputs,
                              .input_type = input_type,
                              .outputs = outputs,
                              .output_type = output_type,
                              .input_kind = input_kind,
                              .create_or_fail = create,
                              .compute_or_fail = compute,
                              .destroy = destroy};
