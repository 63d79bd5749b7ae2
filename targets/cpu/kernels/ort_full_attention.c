/* Attention without a cache for onnxruntime, as operator graphopt::Attention(Q[, K, V[, bias]]): of ONNX's with
 * three dimensions, as many heads of keys as of queries, and a bias of four. Without K and V, rows of Q hold all
 * three side by side. `rounded`: what it reads was computed in integers, so that bfloat16 does. */
#include <math.h>

#include "forms.h"
#include "operators.h"

enum { QUERY, KEY, VALUE, BIAS, INPUTS };

typedef struct {
    Api api;
    const Form *form;
    int64_t heads, halves;
    float scale;
} Kernel;

typedef struct {
    size_t count;
    int64_t sizes[MOST_DIMENSIONS];
} Shape;

/* What is wrong with the sizes of the inputs, if anything; else those of `a`. */
static const char *measure(const Kernel *k, const Shape *s, FullAttention *a) {
    const bool packed = !s[KEY].count;
    const Shape *query = s + QUERY, *key = s + (packed ? QUERY : KEY), *value = s + (packed ? QUERY : VALUE);
    if (query->count != 3 || key->count != 3 || value->count != 3)
        return "query, key or value is not [batch, tokens, width]";
    a->batch = query->sizes[0], a->tokens = query->sizes[1], a->keys = key->sizes[1], a->heads = k->heads;
    a->query_step = query->sizes[2], a->key_step = key->sizes[2];
    const int64_t width = a->query_step / (packed ? 3 : 1);
    a->size = a->heads > 0 ? width / a->heads : 0;
    if (a->size < 16 || a->size > FULL_ATTENTION_SIZE || a->size % 16 || width != a->size * a->heads ||
        a->query_step != width * (packed ? 3 : 1))
        return "heads are not of a size that is served";
    if (!packed && (a->key_step != width || key->sizes[0] != a->batch))
        return "key is not of the heads' width";
    if (value->sizes[0] != a->batch || value->sizes[1] != a->keys || value->sizes[2] != a->key_step)
        return "value is not of key's sizes";
    if (!s[BIAS].count) return NULL;
    const int64_t *b = s[BIAS].sizes;
    if (s[BIAS].count != 4 || (b[0] != 1 && b[0] != a->batch) || (b[1] != 1 && b[1] != a->heads) ||
        (b[2] != 1 && b[2] != a->tokens) || b[3] != a->keys)
        return "bias is not [batch or 1, heads or 1, tokens or 1, keys]";
    a->bias_token = b[2] == 1 ? 0 : b[3], a->bias_head = b[1] == 1 ? 0 : b[2] * b[3];
    a->bias_text = b[0] == 1 ? 0 : b[1] * b[2] * b[3];
    return NULL;
}

static OrtStatus *compute(void *self, OrtKernelContext *context) {
    const Kernel *k = self;
    const Api api = k->api;
    void *data[INPUTS], *y;
    Shape s[INPUTS];
    OrtValue *out = NULL;
    for (size_t i = 0; i < INPUTS; i++) {
        TRY(input(api, context, i, data + i));
        TRY(sizes(api, context, i, s[i].sizes, &s[i].count));
    }
    FullAttention a = {0};
    const char *wrong = measure(k, s, &a);
    if (wrong) return create_status(api)(FAIL, wrong);
    const int64_t shape[] = {a.batch, a.tokens, a.heads * a.size};
    TRY(get_output(api)(context, 0, shape, 3, &out));
    TRY(tensor_data(api)(out, &y));
    a.query = data[QUERY], a.bias = data[BIAS], a.y = y;
    a.key = s[KEY].count ? data[KEY] : a.query + a.heads * a.size;
    a.value = s[KEY].count ? data[VALUE] : a.key + a.heads * a.size;
    a.scale = k->scale > 0 ? k->scale : 1 / sqrtf((float)a.size);
    a.halves = k->halves;
    Pool pool = {api, context, NULL};
    if (a.batch && a.tokens) k->form->attend_fully(&a, in_parallel, &pool);
    return pool.status;
}

static OrtStatus *create(const CustomOp *op, Api api, const OrtKernelInfo *info, void **out) {
    (void)op;
    Kernel kernel = {.api = api};
    kernel.form = form_here();
    if (!kernel.form || !kernel.form->attend_fully) return create_status(api)(FAIL, NO_FORM);
    TRY(attribute(api)(info, "heads", &kernel.heads));
    TRY(attribute(api)(info, "rounded", &kernel.halves));
    kernel.halves = kernel.halves && machine_multiplies_halves();
    TRY(float_attribute(api)(info, "scale", &kernel.scale));
    Kernel *made = malloc(sizeof kernel);
    if (!made) return create_status(api)(FAIL, "no memory");
    *made = kernel;
    *out = made;
    return NULL;
}

static const char *name(const CustomOp *op) { return (void)op, "Attention"; }
static size_t inputs(const CustomOp *op) { return (void)op, INPUTS; }
static size_t outputs(const CustomOp *op) { return (void)op, 1; }
static int type(const CustomOp *op, size_t index) { return (void)op, (void)index, FLOAT; }
static int input_kind(const CustomOp *op, size_t index) { return (void)op, index ? OPTIONAL : REQUIRED; }

const CustomOp FULL_ATTENTION = {OF_EVERY_OPERATOR,
                                 .name = name,
                                 .inputs = inputs,
                                 .input_type = type,
                                 .outputs = outputs,
                                 .output_type = type,
                                 .input_kind = input_kind,
                                 .create_or_fail = create,
                                 .compute_or_fail = compute,
                                 .destroy = free};
