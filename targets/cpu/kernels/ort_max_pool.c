/* graphopt::MaxPool(X) for onnxruntime: its NhwcMaxPool of uint8; see max_pool.h. */
#include "forms.h"
#include "max_pool.h"
#include "operators.h"
#include "ort_window.h"

typedef struct {
    Api api;
    Filter window; /* all but the channels, which come with a call */
} Kernel;

static OrtStatus *compute(void *self, OrtKernelContext *context) {
    const Kernel *kernel = self;
    const Api api = kernel->api;
    void *x, *y;
    OrtValue *out = NULL;
    size_t count = 0;
    int64_t shape[MOST_DIMENSIONS];
    TRY(input(api, context, 0, &x));
    TRY(sizes(api, context, 0, shape, &count));
    if (count != 4) return create_status(api)(FAIL, "x is not [images, height, width, channels]");
    MaxPool p = {kernel->window, x, NULL, shape[0], shape[1], shape[2]};
    p.window.channels = shape[3];
    for (int i = 0; i < 2; i++) shape[1 + i] = convolved(&p.window, i, shape[1 + i]);
    TRY(get_output(api)(context, 0, shape, count, &out));
    TRY(tensor_data(api)(out, &y));
    if (shape[0] * shape[1] * shape[2] * shape[3] == 0) return NULL;
    p.y = y;
    Pool pool = {api, context, NULL};
    pool_largest(&p, in_parallel, &pool);
    return pool.status;
}

static OrtStatus *create(const CustomOp *op, Api api, const OrtKernelInfo *info, void **out) {
    (void)op;
    const Form *form = form_here();
    if (!form || !form->convolve) return create_status(api)(FAIL, NO_FORM);
    Kernel kernel = {.api = api};
    TRY(window_of(api, info, &kernel.window));
    Kernel *made = malloc(sizeof kernel);
    if (!made) return create_status(api)(FAIL, "no memory");
    *made = kernel;
    *out = made;
    return NULL;
}

static int uint8(const CustomOp *op, size_t index) { return (void)op, (void)index, UINT8; }
static int required(const CustomOp *op, size_t index) { return (void)op, (void)index, REQUIRED; }
static size_t one(const CustomOp *op) { return (void)op, 1; }
static const char *name(const CustomOp *op) { return (void)op, "MaxPool"; }

const CustomOp MAX_POOL = {OF_EVERY_OPERATOR,
                           .name = name,
                           .inputs = one,
                           .input_type = uint8,
                           .outputs = one,
                           .output_type = uint8,
                           .input_kind = required,
                           .create_or_fail = create,
                           .compute_or_fail = compute,
                           .destroy = free};
