/* graphopt::Enlarge(X, x_scale, x_zero, y_scale, y_zero[, other[, table]]) for onnxruntime: its DequantizeLinear,
 * Resize and QuantizeLinear, then QLinearConcat with another; see enlarge.h. All but X and other are constants. */
#include "enlarge.h"
#include "forms.h"
#include "operators.h"

enum { X, X_SCALE, X_ZERO, Y_SCALE, Y_ZERO, OTHER, TABLE, INPUTS };

typedef struct {
    Api api;
    float factors[2];
    bool other_first;
} Kernel;

static OrtStatus *compute(void *self, OrtKernelContext *context) {
    const Kernel *kernel = self;
    const Api api = kernel->api;
    void *in[INPUTS], *y;
    OrtValue *out = NULL;
    size_t count = 0, others = 0;
    int64_t shape[MOST_DIMENSIONS], other[MOST_DIMENSIONS];
    for (size_t i = 0; i < INPUTS; i++) TRY(input(api, context, i, in + i));
    TRY(sizes(api, context, X, shape, &count));
    TRY(sizes(api, context, OTHER, other, &others));
    if (count != 4) return create_status(api)(FAIL, "x is not [images, height, width, channels]");
    Enlargement e = {.x = in[X],
                     .other = in[OTHER],
                     .table = in[TABLE],
                     .images = shape[0],
                     .height = shape[1],
                     .width = shape[2],
                     .channels = shape[3],
                     .factors = {kernel->factors[0], kernel->factors[1]},
                     .scale = *(const float *)in[X_SCALE],
                     .y_scale = *(const float *)in[Y_SCALE],
                     .zero = *(const uint8_t *)in[X_ZERO],
                     .y_zero = *(const uint8_t *)in[Y_ZERO],
                     .other_first = kernel->other_first};
    for (int i = 0; i < 2; i++) shape[1 + i] = enlarged(e.factors[i], shape[1 + i]);
    if (in[OTHER]) {
        for (int i = 0; i < 3; i++)
            if (others != 4 || other[i] != shape[i])
                return create_status(api)(FAIL, "what is joined is of another size");
        shape[3] += e.others = other[3];
    }
    TRY(get_output(api)(context, 0, shape, count, &out));
    TRY(tensor_data(api)(out, &y));
    if (shape[0] * shape[1] * shape[2] * shape[3] == 0) return NULL;
    e.y = y;
    Pool pool = {api, context, NULL};
    if (enlarge(&e, in_parallel, &pool) || pool.status) return pool.status;
    return create_status(api)(FAIL, "no memory for a row's places");
}

static OrtStatus *create(const CustomOp *op, Api api, const OrtKernelInfo *info, void **out) {
    (void)op;
    const Form *form = form_here();
    if (!form || !form->convolve) return create_status(api)(FAIL, NO_FORM);
    Kernel kernel = {.api = api};
    int64_t first = 0;
    TRY(float_attribute(api)(info, "height_factor", kernel.factors));
    TRY(float_attribute(api)(info, "width_factor", kernel.factors + 1));
    TRY(attribute(api)(info, "other_first", &first));
    kernel.other_first = first;
    Kernel *made = malloc(sizeof kernel);
    if (!made) return create_status(api)(FAIL, "no memory");
    *made = kernel;
    *out = made;
    return NULL;
}

static int input_type(const CustomOp *op, size_t index) {
    return (void)op, index == X_SCALE || index == Y_SCALE ? FLOAT : UINT8;
}
static int input_kind(const CustomOp *op, size_t index) { return (void)op, index > Y_ZERO ? OPTIONAL : REQUIRED; }
static int output_type(const CustomOp *op, size_t index) { return (void)op, (void)index, UINT8; }
static size_t inputs(const CustomOp *op) { return (void)op, INPUTS; }
static size_t outputs(const CustomOp *op) { return (void)op, 1; }
static const char *name(const CustomOp *op) { return (void)op, "Enlarge"; }

const CustomOp ENLARGE = {OF_EVERY_OPERATOR,
                          .name = name,
                          .inputs = inputs,
                          .input_type = input_type,
                          .outputs = outputs,
                          .output_type = output_type,
                          .input_kind = input_kind,
                          .create_or_fail = create,
                          .compute_or_fail = compute,
                          .destroy = free};
