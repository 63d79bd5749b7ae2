/* Attention in which every token sees all keys. */
#pragma once
#include <stdint.h>

#include "parallel.h"

/* y float[batch, tokens, heads * size] = softmax(query * key' * scale + bias) * value, for each of the heads
 * that lie side by side in rows of query [batch, tokens, ..], key and value [batch, keys, ..]. size is a
 * multiple of 16 up to FULL_ATTENTION_SIZE. bias may be null. */
typedef struct {
    const float *query, *key, *value; /* of the first token, */
    int64_t query_step, key_step;     /* and how many elements it is to the next */
    const float *bias;                /* [keys] for a text, head and token; 0 steps where all share it */
    int64_t bias_text, bias_head, bias_token;
    float *y;
    int64_t batch, tokens, keys, heads, size;
    float scale;
    bool halves; /* queries, keys, values and weights rounded to bfloat16, where the machine multiplies these */
} FullAttention;

enum { FULL_ATTENTION_SIZE = 256 };

bool machine_multiplies_halves(void); /* has AVX512-BF16, which the form for AVX512 uses */
typedef bool AttendFully(const FullAttention *attention, Parallel parallel, void *pool);
extern AttendFully attend_fully_avx512, attend_fully_avx2; /* false: parallel failed */
