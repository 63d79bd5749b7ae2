/* GroupQueryAttention for onnxruntime, as operators graphopt::GroupQueryAttention, GroupQueryAttentionInt8,
 * whose cache is int8, and GroupQueryAttentionInt4, whose is of 4 bits. Inputs are those of com.microsoft, less
 * the norms' weights.
 */
#include <math.h>

#include "forms.h"
#include "operators.h"

enum {
    QUERY,
    KEY,
    VALUE,
    PAST_KEY,
    PAST_VALUE,
    LAST,
    TOTAL,
    COS,
    SIN,
    PLACES,
    BIAS,
    SINK,
    KEY_SCALE,
    VALUE_SCALE,
    VALID,
    INPUTS
};

typedef struct {
    Api api;
    const Form *form;
    int64_t heads, kv_heads, window, interleaved, bits;
    float scale, cap;
} Kernel;

typedef struct {
    size_t count;
    int64_t sizes[MOST_DIMENSIONS];
} Shape;

static bool is(const Shape *shape, size_t count, const int64_t *wanted) {
    bool same = shape->count == count;
    for (size_t i = 0; same && i < count; i++) same = shape->sizes[i] == wanted[i];
    return same;
}

#define IS(shape, ...) \
    is(&(shape), sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t), (const int64_t[]){__VA_ARGS__})

/* What is wrong with the sizes of the inputs, if anything; else those of `a`. */
static const char *measure(const Kernel *k, const Shape *s, Attention *a) {
    if (s[QUERY].count != 3 || s[PAST_KEY].count != 4)
        return "query is not [batch, tokens, width], or the cache not of 4";
    a->batch = s[QUERY].sizes[0], a->tokens = s[QUERY].sizes[1];
    a->heads = k->heads, a->kv_heads = k->kv_heads, a->window = k->window;
    a->cap = k->cap, a->interleaved = k->interleaved;
    a->bits = k->bits, a->past = s[PAST_KEY].sizes[2];
    const int64_t held = s[PAST_KEY].sizes[3];
    a->size = a->bits == 4 ? 2 * held : held;
    if (a->size < 16 || a->size > ATTENTION_SIZE || a->size % 16)
        return "heads are not of a size that is served";
    if (!IS(s[PAST_KEY], a->batch, a->kv_heads, a->past, held) ||
        !IS(s[PAST_VALUE], a->batch, a->kv_heads, a->past, held))
        return "the cache is not [batch, kv_num_heads, past, head_size]";
    const int64_t width = a->heads * a->size, narrow = a->kv_heads * a->size;
    const bool packed = !s[KEY].count;
    if (!IS(s[QUERY], a->batch, a->tokens, packed ? width + 2 * narrow : width))
        return "query is not of the heads' width";
    if (!packed && (!IS(s[KEY], a->batch, a->tokens, narrow) || !IS(s[VALUE], a->batch, a->tokens, narrow)))
        return "key or value is not of the heads' width";
    a->query_step = s[QUERY].sizes[2], a->key_step = packed ? a->query_step : narrow;
    if (!IS(s[LAST], a->batch) && !IS(s[LAST], a->batch, 1)) return "seqlens_k is not [batch]";
    if (s[VALID].count && !IS(s[VALID], a->batch)) return "query_seqlens is not [batch]";
    if (s[COS].count) {
        if (s[COS].count != 2 || !IS(s[SIN], s[COS].sizes[0], s[COS].sizes[1]))
            return "cos_cache and sin_cache differ";
        a->half = s[COS].sizes[1];
        if (2 * a->half > a->size) return "cos_cache is wider than half a head";
    }
    if (s[PLACES].count && !IS(s[PLACES], a->batch, a->tokens)) return "position_ids is not [batch, tokens]";
    if (s[BIAS].count) {
        const int64_t *b = s[BIAS].sizes;
        if (s[BIAS].count != 4 || (b[0] != 1 && b[0] != a->batch) || (b[1] != 1 && b[1] != a->heads) ||
            b[2] != a->tokens)
            return "attention_bias is not [batch or 1, num_heads or 1, tokens, total]";
        a->bias_token = b[3], a->bias_head = b[1] == 1 ? 0 : b[2] * b[3],
        a->bias_text = b[0] == 1 ? 0 : b[1] * b[2] * b[3];
    }
    if (s[SINK].count && !IS(s[SINK], a->heads)) return "head_sink is not [num_heads]";
    return NULL;
}

/* What is wrong with lengths and places, if anything. */
static const char *check(const Attention *a, const Shape *s) {
    for (int64_t text = 0; text < a->batch; text++) {
        const int64_t total = (int64_t)a->last[text] + 1;
        const int64_t valid = a->valid ? a->valid[text] : total < a->tokens ? total : a->tokens;
        if (total < 1 || valid < 0 || valid > a->tokens || valid > total)
            return "query_seqlens and seqlens_k do not fit the tokens: a batch must be padded on the right";
        if (total - valid > a->past || total > a->present) return "seqlens_k does not fit the cache";
        if (s[BIAS].count && total > s[BIAS].sizes[3]) return "attention_bias is shorter than the keys";
        for (int64_t i = 0; s[COS].count && i < valid; i++) {
            const int64_t place = a->places ? a->places[text * a->tokens + i] : total - valid + i;
            if (place < 0 || place >= s[COS].sizes[0]) return "a position is beyond cos_cache";
        }
    }
    return NULL;
}

static OrtStatus *output(Api api, OrtKernelContext *context, size_t index, const int64_t *shape, size_t count,
                         void **data) {
    OrtValue *value = NULL;
    TRY(get_output(api)(context, index, shape, count, &value));
    return tensor_data(api)(value, data);
}

static OrtStatus *compute(void *self, OrtKernelContext *context) {
    const Kernel *k = self;
    const Api api = k->api;
    void *data[INPUTS], *y, *present_key, *present_value;
    Shape s[INPUTS];
    for (size_t i = 0; i < INPUTS; i++) {
        TRY(input(api, context, i, data + i));
        TRY(sizes(api, context, i, s[i].sizes, &s[i].count));
    }
    if (!s[TOTAL].count && !data[TOTAL]) return create_status(api)(FAIL, "total_sequence_length is missing");
    Attention a = {0};
    const char *wrong = measure(k, s, &a);
    if (wrong) return create_status(api)(FAIL, wrong);
    const int64_t total = *(const int32_t *)data[TOTAL];
    const int64_t cache[] = {a.batch, a.kv_heads, a.past > total ? a.past : total,
                             s[PAST_KEY].sizes[3]};
    const int64_t out[] = {a.batch, a.tokens, a.heads * a.size};
    TRY(output(api, context, 0, out, 3, &y));
    TRY(output(api, context, 1, cache, 4, &present_key));
    TRY(output(api, context, 2, cache, 4, &present_value));
    a.query = data[QUERY], a.y = y;
    a.key = data[KEY] ? data[KEY] : a.query + a.heads * a.size;
    a.value = data[VALUE] ? data[VALUE] : a.key + a.kv_heads * a.size;
    a.past_key = data[PAST_KEY], a.past_value = data[PAST_VALUE];
    a.present_key = present_key, a.present_value = present_value, a.present = cache[2];
    a.key_scale = data[KEY_SCALE], a.value_scale = data[VALUE_SCALE];
    a.last = data[LAST], a.valid = data[VALID], a.places = data[PLACES];
    a.cos = data[COS], a.sin = data[SIN], a.bias = data[BIAS], a.sink = data[SINK];
    a.scale = k->scale > 0 ? k->scale : 1 / sqrtf((float)a.size);
    wrong = check(&a, s);
    if (wrong) return create_status(api)(FAIL, wrong);
    Pool pool = {api, context, NULL};
    if (a.batch && a.tokens && !k->form->attend(&a, in_parallel, &pool)) return pool.status;
    return NULL;
}

static OrtStatus *create(const CustomOp *op, Api api, const OrtKernelInfo *info, void **out) {
    Kernel kernel = {.api = api, .bits = op == &ATTENTION ? 32 : op == &ATTENTION_INT8 ? 8 : 4};
    kernel.form = form_here();
    if (!kernel.form || !kernel.form->attend) return create_status(api)(FAIL, NO_FORM);
    TRY(attribute(api)(info, "num_heads", &kernel.heads));
    TRY(attribute(api)(info, "kv_num_heads", &kernel.kv_heads));
    TRY(attribute(api)(info, "local_window_size", &kernel.window));
    TRY(attribute(api)(info, "rotary_interleaved", &kernel.interleaved));
    TRY(float_attribute(api)(info, "scale", &kernel.scale));
    TRY(float_attribute(api)(info, "softcap", &kernel.cap));
    Kernel *made = malloc(sizeof kernel);
    if (!made) return create_status(api)(FAIL, "no memory");
    *made = kernel;
    *out = made;
    return NULL;
}

static const char *name(const CustomOp *op) {
    return op == &ATTENTION        ? "GroupQueryAttention"
           : op == &ATTENTION_INT8 ? "GroupQueryAttentionInt8"
                                   : "GroupQueryAttentionInt4";
}
static size_t inputs(const CustomOp *op) { return (void)op, INPUTS; }
static size_t outputs(const CustomOp *op) { return (void)op, 3; }
static int cache_type(const CustomOp *op) {
    return op == &ATTENTION ? FLOAT : op == &ATTENTION_INT8 ? INT8 : UINT8;
}
static int input_type(const CustomOp *op, size_t index) {
    switch (index) {
        case PAST_KEY:
        case PAST_VALUE:
            return cache_type(op);
        case LAST:
        case TOTAL:
        case VALID:
            return INT32;
        case PLACES:
            return INT64;
        default:
            return FLOAT;
    }
}
static int output_type(const CustomOp *op, size_t index) { return index ? cache_type(op) : FLOAT; }
static int input_kind(const CustomOp *op, size_t index) { return (void)op, index ? OPTIONAL : REQUIRED; }

#define OPERATOR                                            \
    {OF_EVERY_OPERATOR,         .name = name,               \
     .destroy = free,                                       \
     .inputs = inputs,          .input_type = input_type,   \
     .outputs = outputs,        .output_type = output_type, \
     .input_kind = input_kind,  .create_or_fail = create,   \
     .compute_or_fail = compute}

const CustomOp ATTENTION = OPERATOR, ATTENTION_INT8 = OPERATOR, ATTENTION_INT4 = OPERATOR;
