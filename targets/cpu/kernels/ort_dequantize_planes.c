/* graphopt::DequantizePlanes(X, scale, zero) for onnxruntime: its Transpose from channels last and
 * DequantizeLinear; see dequantize_planes.h. Scale and zero are constants. */
#include "dequantize_planes.h"
#include "forms.h"
#include "operators.h"

enum { X, SCALE, ZERO, INPUTS };

typedef struct {
    Api api;
} Kernel;

static OrtStatus *compute(void *self, OrtKernelContext *context) {
    const Api api = ((const Kernel *)self)->api;
    void *in[INPUTS], *y;
    OrtValue *out = NULL;
    size_t count = 0;
    int64_t x[MOST_DIMENSIONS];
    for (size_t i = 0; i < INPUTS; i++) TRY(input(api, context, i, in + i));
    TRY(sizes(api, context, X, x, &count));
    if (count != 4) return create_status(api)(FAIL, "x is not [images, height, width, channels]");
    const int64_t shape[] = {x[0], x[3], x[1], x[2]};
    TRY(get_output(api)(context, 0, shape, count, &out));
    TRY(tensor_data(api)(out, &y));
    const Planes planes = {.x = in[X],
                           .y = y,
                           .images = x[0],
                           .places = x[1] * x[2],
                           .channels = x[3],
                           .scale = *(const float *)in[SCALE],
                           .zero = *(const uint8_t *)in[ZERO]};
    if (planes.images * planes.places * planes.channels == 0) return NULL;
    Pool pool = {api, context, NULL};
    dequantize_planes(&planes, in_parallel, &pool);
    return pool.status;
}

static OrtStatus *create(const CustomOp *op, Api api, const OrtKernelInfo *info, void **out) {
    (void)op, (void)info;
    const Form *form = form_here();
    if (!form || !form->convolve) return create_status(api)(FAIL, NO_FORM);
    Kernel *made = malloc(sizeof *made);
    if (!made) return create_status(api)(FAIL, "no memory");
    made->api = api;
    *out = made;
    return NULL;
}

static int input_type(const CustomOp *op, size_t index) { return (void)op, index == SCALE ? FLOAT : UINT8; }
static int input_kind(const CustomOp *op, size_t index) { return (void)op, (void)index, REQUIRED; }
static int output_type(const CustomOp *op, size_t index) { return (void)op, (void)index, FLOAT; }
static size_t inputs(const CustomOp *op) { return (void)op, INPUTS; }
static size_t outputs(const CustomOp *op) { return (void)op, 1; }
static const char *name(const CustomOp *op) { return (void)op, "DequantizePlanes"; }

const CustomOp DEQUANTIZE_PLANES = {OF_EVERY_OPERATOR,
                                    .name = name,
                                    .inputs = inputs,
                                    .input_type = input_type,
                                    .outputs = outputs,
                                    .output_type = output_type,
                                    .input_kind = input_kind,
                                    .create_or_fail = create,
                                    .compute_or_fail = compute,
                                    .destroy = free};
