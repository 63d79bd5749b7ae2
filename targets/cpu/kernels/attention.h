/* Attention of groups of heads over a cache. */
#pragma once
#include <stdint.h>

#include "parallel.h"

/* onnxruntime's GroupQueryAttention: keys and values of the valid new tokens join the cache, and each of them
 * looks at itself and the keys before it; y float[batch, tokens, heads * size], 0 for tokens that are none.
 *
 * size is a multiple of 16 up to ATTENTION_SIZE, and kv_heads divides heads. A null pointer is an input that
 * is not given. */
typedef struct {
    const float *query, *key, *value; /* of the first token, and how many elements it is to the next */
    int64_t query_step, key_step;
    const void *past_key, *past_value; /* [batch, kv_heads, past, size] of float, or of integers with scales */
    void *present_key,
        *present_value; /* [batch, kv_heads, present, size], at the same place as past or another */
    const float *key_scale, *value_scale; /* [kv_heads, size], where bits are 8 or 4 */
    const int32_t *last;                  /* [batch]: place of the last token, that is, keys less one */
    const int32_t *valid;                 /* [batch]: new tokens that are some; else all of them */
    const float *cos, *sin;               /* [places, half], turning the first 2 * half elements of a head */
    const int64_t *places;                /* [batch, tokens], below the number of rows of cos */
    const float *bias; /* added to scores; steps from a text, head, token to the next, 0 where all share it */
    int64_t bias_text, bias_head, bias_token;
    const float *sink; /* [heads]: score of one more key, whose value is 0 */
    float *y;
    int64_t batch, tokens, heads, kv_heads, size, past, present, half;
    int64_t bits;     /* of an element of the cache: 32, 8, or 4, which plus 8 are halves of bytes, low first */
    int64_t window;   /* how many keys a token sees, itself among them; else 0 */
    float scale, cap; /* cap of scores, before the bias is added; else 0 */
    bool interleaved; /* elements next to each other are turned into each other, not those half apart */
} Attention;

enum { ATTENTION_SIZE = 256 };

/* In each form of the kernel (forms.h); false: parallel failed. */
typedef bool Attend(const Attention *attention, Parallel parallel, void *pool);
extern Attend attend_avx512, attend_avx2;
