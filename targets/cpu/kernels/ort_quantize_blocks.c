/* graphopt::QuantizeBlocks(X, scale, zero) for onnxruntime: its ReorderOutput, QuantizeLinear and Transpose to
 * channels last; see quantize_blocks.h. Scale and zero are constants. */
#include "forms.h"
#include "operators.h"
#include "quantize_blocks.h"

enum { X, SCALE, ZERO, INPUTS };

typedef struct {
    Api api;
    int64_t channels;
} Kernel;

static OrtStatus *compute(void *self, OrtKernelContext *context) {
    const Kernel *kernel = self;
    const Api api = kernel->api;
    void *in[INPUTS], *y;
    OrtValue *out = NULL;
    size_t count = 0;
    int64_t x[MOST_DIMENSIONS];
    for (size_t i = 0; i < INPUTS; i++) TRY(input(api, context, i, in + i));
    TRY(sizes(api, context, X, x, &count));
    if (count != 4 || x[1] != (kernel->channels + 15) / 16 * 16)
        return create_status(api)(FAIL, "x is not [images, channels in blocks of 16, height, width]");
    const int64_t shape[] = {x[0], x[2], x[3], kernel->channels};
    TRY(get_output(api)(context, 0, shape, count, &out));
    TRY(tensor_data(api)(out, &y));
    const Blocks blocks = {.x = in[X],
                           .y = y,
                           .images = x[0],
                           .places = x[2] * x[3],
                           .channels = kernel->channels,
                           .scale = *(const float *)in[SCALE],
                           .zero = *(const uint8_t *)in[ZERO]};
    if (blocks.images * blocks.places * blocks.channels == 0) return NULL;
    Pool pool = {api, context, NULL};
    quantize_blocks(&blocks, in_parallel, &pool);
    return pool.status;
}

static OrtStatus *create(const CustomOp *op, Api api, const OrtKernelInfo *info, void **out) {
    (void)op;
    const Form *form = form_here();
    if (!form || !form->convolve) return create_status(api)(FAIL, NO_FORM);
    Kernel *made = malloc(sizeof *made);
    if (!made) return create_status(api)(FAIL, "no memory");
    made->api = api;
    OrtStatus *status = attribute(api)(info, "channels", &made->channels);
    if (status)
        free(made);
    else
        *out = made;
    return status;
}

static int input_type(const CustomOp *op, size_t index) { return (void)op, index == ZERO ? UINT8 : FLOAT; }
static int input_kind(const CustomOp *op, size_t index) { return (void)op, (void)index, REQUIRED; }
static int output_type(const CustomOp *op, size_t index) { return (void)op, (void)index, UINT8; }
static size_t inputs(const CustomOp *op) { return (void)op, INPUTS; }
static size_t outputs(const CustomOp *op) { return (void)op, 1; }
static const char *name(const CustomOp *op) { return (void)op, "QuantizeBlocks"; }

const CustomOp QUANTIZE_BLOCKS = {OF_EVERY_OPERATOR,
                                  .name = name,
                                  .inputs = inputs,
                                  .input_type = input_type,
                                  .outputs = outputs,
                                  .output_type = output_type,
                                  .input_kind = input_kind,
                                  .create_or_fail = create,
                                  .compute_or_fail = compute,
                                  .destroy = free};
