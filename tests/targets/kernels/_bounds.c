/* Products, attention and pictures of many sizes in buffers of just that size, to be run under the address sanitizer.
 */
#include <stdlib.h>

#include "dequantize_planes.h"
#include "enlarge.h"
#include "forms.h"
#include "max_pool.h"
#include "quantize_blocks.h"

static const Form *form;

static bool in_turn(void *pool, void (*task)(void *, size_t), size_t count, void *data) {
    (void)pool;
    while (count--) task(data, count);
    return true;
}

static void try(int64_t bits, int64_t block, int64_t rows, int64_t k, int64_t n, bool zeros) {
    const int64_t blocks = (k + block - 1) / block;
    float *x = calloc((size_t)(rows * k), 4), *y = malloc((size_t)(rows * n) * 4);
    float *scales = calloc((size_t)(n * blocks), 4), *bias = calloc((size_t)n, 4);
    uint8_t *weights = calloc((size_t)(n * blocks * block * bits / 8), 1);
    uint8_t *points = calloc((size_t)(n * ((blocks * bits + 7) / 8)), 1);
    const Product product = {.x = x,
                             .scales = scales,
                             .bias = bias,
                             .weights = weights,
                             .zeros = zeros ? points : NULL,
                             .y = y,
                             .rows = rows,
                             .k = k,
                             .n = n,
                             .bits = bits,
                             .block = block};
    if (!form->multiply(&product, in_turn, NULL)) abort();
    if (!form->multiply_gated(&product, &product, in_turn, NULL)) abort();
    free(x), free(y), free(scales), free(bias), free(weights), free(points);
}

static void round_and_multiply(int64_t rows, int64_t k, int64_t n, int64_t terms) {
    float *x = calloc((size_t)(rows * k), 4), *y = malloc((size_t)(rows * n) * 4);
    float *residual = calloc((size_t)(rows * n), 4), *each = calloc((size_t)n, 4);
    float *factors = calloc((size_t)k, 4);
    int8_t *weights = calloc((size_t)(k * n), 1);
    void *packed = malloc(form->packed_bytes(k, n));
    form->pack_rows(weights, k, n, packed);
    RowProduct product = {.x = x,
                          .factors = factors,
                          .packed = packed,
                          .scales = each,
                          .bias = each,
                          .residual = residual,
                          .gain = each,
                          .shift = each,
                          .y = y,
                          .rows = rows,
                          .k = k,
                          .n = n,
                          .terms = terms,
                          .gelu = true};
    if (!form->multiply_rows(&product, in_turn, NULL)) abort();
    product.residual = product.factors = product.bias = NULL;
    if (!form->multiply_rows(&product, in_turn, NULL)) abort();
    free(x), free(y), free(residual), free(each), free(factors), free(weights), free(packed);
}

static void look(int64_t past, int64_t tokens, int64_t group, int64_t size, int64_t window, int64_t bits) {
    const int64_t batch = 2, kv = 2, heads = kv * group, half = size / 4, keys = past + tokens;
    const size_t cache = (size_t)(batch * kv * keys * size * bits / 8);
    const int64_t width = (heads + 2 * kv) * size;
    float *x = calloc((size_t)(batch * tokens * width), 4),
          *y = malloc((size_t)(batch * tokens * heads * size) * 4);
    float *table = calloc((size_t)(keys * half), 4), *bias = calloc((size_t)(tokens * keys), 4);
    float *sink = calloc((size_t)heads, 4), *scale = malloc((size_t)(kv * size) * 4);
    for (int64_t i = 0; i < kv * size; i++) scale[i] = 1;
    void *old[] = {calloc(cache + 1, 1), calloc(cache + 1, 1)}, *new[] = {malloc(cache), malloc(cache)};
    const int32_t last[] = {(int32_t)keys - 1, (int32_t)keys - 2},
                  valid[] = {(int32_t)tokens, (int32_t)tokens - 1};
    const Attention attention = {.query = x,
                                 .key = x + heads * size,
                                 .value = x + (heads + kv) * size,
                                 .query_step = width,
                                 .key_step = width,
                                 .past_key = old[0],
                                 .past_value = old[1],
                                 .present_key = new[0],
                                 .present_value = new[1],
                                 .key_scale = bits < 32 ? scale : NULL,
                                 .value_scale = bits < 32 ? scale : NULL,
                                 .last = last,
                                 .valid = valid,
                                 .cos = table,
                                 .sin = table,
                                 .bias = bias,
                                 .bias_token = keys,
                                 .sink = sink,
                                 .y = y,
                                 .batch = batch,
                                 .tokens = tokens,
                                 .heads = heads,
                                 .kv_heads = kv,
                                 .size = size,
                                 .bits = bits,
                                 .past = keys,
                                 .present = keys,
                                 .half = half,
                                 .window = window,
                                 .scale = 1};
    if (!form->attend(&attention, in_turn, NULL)) abort();
    free(x), free(y), free(table), free(bias), free(sink), free(scale);
    for (int i = 0; i < 2; i++) free(old[i]), free(new[i]);
}

static void look_fully(int64_t tokens, int64_t keys, int64_t size) {
    const int64_t batch = 2, heads = 3, width = heads * size;
    float *q = calloc((size_t)(batch * tokens * width), 4), *y = malloc((size_t)(batch * tokens * width) * 4);
    float *k = calloc((size_t)(batch * keys * width), 4), *v = calloc((size_t)(batch * keys * width), 4);
    float *bias = calloc((size_t)(batch * tokens * keys), 4);
    FullAttention attention = {.query = q,
                               .key = k,
                               .value = v,
                               .query_step = width,
                               .key_step = width,
                               .bias = bias,
                               .bias_text = tokens * keys,
                               .bias_token = keys,
                               .y = y,
                               .batch = batch,
                               .tokens = tokens,
                               .keys = keys,
                               .heads = heads,
                               .size = size,
                               .scale = 1};
    if (!form->attend_fully(&attention, in_turn, NULL)) abort();
    for (int64_t i = 0; i < batch * tokens * keys; i++) bias[i] = (float)i;
    if (!form->attend_fully(&attention, in_turn, NULL)) abort();
    attention.halves = machine_multiplies_halves();
    if (!form->attend_fully(&attention, in_turn, NULL)) abort();
    free(q), free(y), free(k), free(v), free(bias);
}

static void convolve_images(Filter f, int64_t height, int64_t width, bool table) {
    const int64_t images = 2, rows = convolved(&f, 0, height), columns = convolved(&f, 1, width);
    const int64_t deep = f.channels / f.group, places = f.kernel[0] * f.kernel[1];
    uint8_t *x = calloc((size_t)(images * height * width * f.channels), 1), *all = calloc(256, 1);
    uint8_t *y = malloc((size_t)(images * rows * columns * f.outputs));
    int8_t *weights = calloc((size_t)(f.outputs * deep * places), 1);
    int32_t *bias = calloc((size_t)f.outputs, 4);
    float *factors = calloc((size_t)f.outputs, 4);
    void *packed = malloc(filter_bytes(&f));
    pack_filter(&f, weights, bias, factors, 7, packed);
    const Convolution c = {.filter = f,
                           .x = x,
                           .table = table ? all : NULL,
                           .packed = packed,
                           .y = y,
                           .images = images,
                           .height = height,
                           .width = width,
                           .x_zero = 7};
    if (!form->convolve(&c, in_turn, NULL)) abort();
    free(x), free(all), free(y), free(weights), free(bias), free(factors), free(packed);
}

static void convolve_all(void) {
    const int64_t channels[] = {1, 3, 8, 33, 64, 130}, outputs[] = {1, 16, 17, 40};
    for (size_t c = 0; c < sizeof channels / sizeof *channels; c++)
        for (int64_t kernel = 1; kernel < 4; kernel++)
            for (int64_t pad = 0; pad < 2; pad++)
                for (int64_t step = 1; step < 3; step++)
                    for (size_t n = 0; n < sizeof outputs / sizeof *outputs; n++) {
                        Filter f = {channels[c], outputs[n], 1, {kernel, kernel}, {step, step},
                                    {step, 3 - step}, {pad, 0, 0, pad}};
                        convolve_images(f, 7, 15, kernel == 2);
                        f.outputs = f.group = f.channels;
                        convolve_images(f, 7, 15, kernel == 3);
                    }
    convolve_images((Filter){512, 40, 1, {3, 3}, {1, 1}, {1, 1}, {1, 1, 1, 1}}, 3, 90, true);
    convolve_images((Filter){512, 600, 1, {3, 3}, {1, 1}, {1, 1}, {1, 1, 1, 1}}, 3, 4, true);
}

static void enlarge_images(int64_t channels, int64_t others, float factor, bool table) {
    const int64_t images = 2, height = 5, width = 7;
    const int64_t places = images * enlarged(factor, height) * enlarged(2, width);
    uint8_t *x = calloc((size_t)(images * height * width * channels), 1), *all = calloc(256, 1);
    uint8_t *other = calloc((size_t)(places * others + 1), 1), *y = malloc((size_t)(places * (channels + others)));
    const Enlargement e = {.x = x,
                           .other = other + 1,
                           .table = table ? all : NULL,
                           .y = y,
                           .images = images,
                           .height = height,
                           .width = width,
                           .channels = channels,
                           .others = others,
                           .factors = {factor, 2},
                           .scale = 1,
                           .y_scale = 1,
                           .other_first = table};
    if (!enlarge(&e, in_turn, NULL)) abort();
    free(x), free(all), free(other), free(y);
}

static void pool_images(Filter f) {
    const int64_t images = 2, height = 7, width = 15;
    const int64_t rows = convolved(&f, 0, height), columns = convolved(&f, 1, width);
    uint8_t *x = calloc((size_t)(images * height * width * f.channels), 1);
    uint8_t *y = malloc((size_t)(images * rows * columns * f.channels));
    if (!pool_largest(&(MaxPool){f, x, y, images, height, width}, in_turn, NULL)) abort();
    free(x), free(y);
}

static void round_and_widen(int64_t channels, int64_t places) {
    const int64_t images = 2, padded = (channels + 15) / 16 * 16;
    float *x = calloc((size_t)(images * places * padded), 4);
    uint8_t *y = malloc((size_t)(images * places * channels));
    if (!quantize_blocks(&(Blocks){x, y, images, places, channels, 1, 7}, in_turn, NULL)) abort();
    uint8_t *bytes = calloc((size_t)(images * places * channels), 1);
    float *planes = malloc((size_t)(images * places * channels) * 4);
    if (!dequantize_planes(&(Planes){bytes, planes, images, places, channels, 1, 7}, in_turn, NULL)) abort();
    free(x), free(y), free(bytes), free(planes);
}

static void look_at_pictures(void) {
    const int64_t channels[] = {1, 3, 16, 33, 130};
    for (size_t c = 0; c < sizeof channels / sizeof *channels; c++)
        for (int64_t step = 1; step < 4; step++) {
            enlarge_images(channels[c], channels[step], (float)step, step == 2);
            enlarge_images(channels[c], 0, (float)step * 1.3f, false);
            round_and_widen(channels[c], step * step * 10007);
            pool_images((Filter){channels[c], 0, 0, {3, 4}, {step, 2}, {1, step}, {1, 2, 2, 1}});
        }
}

int main(void) {
    form = form_here();
    if (!form) return 2;
    if (form->convolve) convolve_all(), look_at_pictures();
    const int64_t rows[] = {1, 2, 3, 7, 16, 17, 25, 513}, widths[] = {1, 31, 33, 130};
    const int64_t depths[] = {1, 32, 96, 256, 352, 1184};
    for (int64_t bits = 2; bits <= 8; bits *= 2)
        for (int64_t block = 32; block <= 256; block *= 2)
            for (size_t m = 0; m < sizeof rows / sizeof *rows; m++)
                for (size_t n = 0; n < sizeof widths / sizeof *widths; n++)
                    for (size_t d = 0; d < sizeof depths / sizeof *depths; d++) {
                        if (rows[m] > 25 && (depths[d] > 400 || widths[n] > 33)) continue;
                        try(bits, block, rows[m], depths[d], widths[n], (m + n + d) % 2);
                    }
    for (size_t m = 0; m < sizeof rows / sizeof *rows; m++)
        for (size_t n = 0; n < sizeof widths / sizeof *widths; n++)
            for (size_t d = 0; d < sizeof depths / sizeof *depths; d++)
                if (rows[m] < 26 || depths[d] < 97)
                    for (int64_t terms = 1; terms < 3; terms++)
                        round_and_multiply(rows[m], depths[d], widths[n], terms);
    round_and_multiply(50, ROW_PRODUCT_DEPTH, 33, 1);
    round_and_multiply(25, ROW_PRODUCT_DEPTH, 33, 2);
    const int64_t pasts[] = {0, 1, 63, 64, 65, 130}, tokens[] = {1, 2, 33, 64}, sizes[] = {16, 48, 256};
    for (size_t p = 0; p < sizeof pasts / sizeof *pasts; p++)
        for (size_t t = 0; t < sizeof tokens / sizeof *tokens; t++)
            for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
                for (int64_t group = 1; group < 4; group++)
                    for (int64_t bits = 4; bits <= 32; bits += bits < 8 ? 4 : 24) {
                        if (pasts[p] + tokens[t] < 2) continue; /* a text may not be empty */
                        look(pasts[p], tokens[t], group, sizes[s], 0, bits);
                        look(pasts[p], tokens[t], group, sizes[s], 40, bits);
                    }
    for (size_t t = 0; t < sizeof tokens / sizeof *tokens; t++)
        for (size_t p = 1; p < sizeof pasts / sizeof *pasts; p++)
            for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) look_fully(tokens[t], pasts[p], sizes[s]);
    return 0;
}
