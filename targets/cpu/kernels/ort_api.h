/* What is used of onnxruntime's C interface.
 *
 * onnxruntime's wheel brings no headers. The interface is a table of functions to which entries are only ever
 * added, so they are declared here, by their place in the table. */
#pragma once
#include <limits.h>
#include <stdint.h>
#include <stdlib.h>

#include "parallel.h"

typedef struct OrtStatus OrtStatus;
typedef struct OrtValue OrtValue;
typedef struct OrtInfo OrtInfo;
typedef struct OrtKernelInfo OrtKernelInfo;
typedef struct OrtKernelContext OrtKernelContext;
typedef struct OrtSessionOptions OrtSessionOptions;
typedef struct OrtCustomOpDomain OrtCustomOpDomain;
typedef void *const *Api;

typedef struct {
    Api (*api)(uint32_t version);
    const char *(*version)(void);
} OrtApiBase;

enum { API = 17, FAIL = 1, MOST_DIMENSIONS = 16 };
enum { FLOAT = 1, UINT8 = 2, INT8 = 3, INT32 = 6, INT64 = 7 }; /* types of elements */
enum { REQUIRED = 0, OPTIONAL = 1 };                           /* kinds of inputs */

#define FUNCTION(api, place, result, ...) ((result (*)(__VA_ARGS__))(api)[place])
#define create_status(api) FUNCTION(api, 0, OrtStatus *, int, const char *)
#define create_domain(api) FUNCTION(api, 26, OrtStatus *, const char *, OrtCustomOpDomain **)
#define domain_add(api) FUNCTION(api, 27, OrtStatus *, OrtCustomOpDomain *, const void *)
#define add_domain(api) FUNCTION(api, 28, OrtStatus *, OrtSessionOptions *, OrtCustomOpDomain *)
#define tensor_data(api) FUNCTION(api, 51, OrtStatus *, const OrtValue *, void **)
#define dimensions_count(api) FUNCTION(api, 61, OrtStatus *, const OrtInfo *, size_t *)
#define dimensions(api) FUNCTION(api, 62, OrtStatus *, const OrtInfo *, int64_t *, size_t)
#define tensor_info(api) FUNCTION(api, 65, OrtStatus *, const OrtValue *, OrtInfo **)
#define float_attribute(api) FUNCTION(api, 85, OrtStatus *, const OrtKernelInfo *, const char *, float *)
#define attribute(api) FUNCTION(api, 86, OrtStatus *, const OrtKernelInfo *, const char *, int64_t *)
#define get_input(api) FUNCTION(api, 90, OrtStatus *, const OrtKernelContext *, size_t, const OrtValue **)
#define get_output(api) \
    FUNCTION(api, 91, OrtStatus *, OrtKernelContext *, size_t, const int64_t *, size_t, OrtValue **)
#define release_info(api) FUNCTION(api, 99, void, OrtInfo *)
#define parallel_for(api)                                                                               \
    FUNCTION(api, 274, OrtStatus *, const OrtKernelContext *, void (*)(void *, size_t), size_t, size_t, \
             void *)

#define TRY(call)                    \
    do {                             \
        OrtStatus *status_ = (call); \
        if (status_) return status_; \
    } while (0)

/* The members that version 17 of the interface has. */
typedef struct CustomOp {
    uint32_t version;
    void *(*create)(const struct CustomOp *, Api, const OrtKernelInfo *);
    const char *(*name)(const struct CustomOp *);
    const char *(*provider)(const struct CustomOp *);
    int (*input_type)(const struct CustomOp *, size_t);
    size_t (*inputs)(const struct CustomOp *);
    int (*output_type)(const struct CustomOp *, size_t);
    size_t (*outputs)(const struct CustomOp *);
    void (*compute)(void *, OrtKernelContext *);
    void (*destroy)(void *);
    int (*input_kind)(const struct CustomOp *, size_t);
    int (*output_kind)(const struct CustomOp *, size_t);
    int (*input_memory)(const struct CustomOp *, size_t);
    int (*least_variadic_inputs)(const struct CustomOp *);
    int (*alike_variadic_inputs)(const struct CustomOp *);
    int (*least_variadic_outputs)(const struct CustomOp *);
    int (*alike_variadic_outputs)(const struct CustomOp *);
    OrtStatus *(*create_or_fail)(const struct CustomOp *, Api, const OrtKernelInfo *, void **);
    OrtStatus *(*compute_or_fail)(void *, OrtKernelContext *);
    OrtStatus *(*infer_shapes)(const struct CustomOp *, void *);
    int (*first_version)(const struct CustomOp *);
    int (*last_version)(const struct CustomOp *);
} CustomOp;

static inline const char *op_provider(const CustomOp *op) { return (void)op, NULL; }
static inline int op_output_kind(const CustomOp *op, size_t index) { return (void)op, (void)index, REQUIRED; }
static inline int op_input_memory(const CustomOp *op, size_t index) { return (void)op, (void)index, 0; }
static inline int op_first_version(const CustomOp *op) { return (void)op, 1; }
static inline int op_last_version(const CustomOp *op) { return (void)op, INT_MAX; }

#define OF_EVERY_OPERATOR                                                                                    \
    .version = API, .provider = op_provider, .output_kind = op_output_kind, .input_memory = op_input_memory, \
    .first_version = op_first_version, .last_version = op_last_version

typedef struct {
    Api api;
    OrtKernelContext *context;
    OrtStatus *status;
} Pool;

static inline bool in_parallel(void *data, void (*task)(void *, size_t), size_t count, void *of_task) {
    Pool *pool = data;
    pool->status = parallel_for(pool->api)(pool->context, task, count, 0, of_task);
    return !pool->status;
}

/* Where an input's elements lie; null for one that is not given. */
static inline OrtStatus *input(Api api, const OrtKernelContext *context, size_t index, void **data) {
    const OrtValue *value = NULL;
    *data = NULL;
    TRY(get_input(api)(context, index, &value));
    return value ? tensor_data(api)(value, data) : NULL;
}

/* The dimensions of an input, at most MOST_DIMENSIONS of them; none of one that is not given. */
static inline OrtStatus *sizes(Api api, const OrtKernelContext *context, size_t index, int64_t *out,
                               size_t *count) {
    const OrtValue *value = NULL;
    OrtInfo *info = NULL;
    *count = 0;
    TRY(get_input(api)(context, index, &value));
    if (!value) return NULL;
    TRY(tensor_info(api)(value, &info));
    OrtStatus *status = dimensions_count(api)(info, count);
    if (!status && *count > MOST_DIMENSIONS) status = create_status(api)(FAIL, "too many dimensions");
    if (!status) status = dimensions(api)(info, out, *count);
    release_info(api)(info);
    return status;
}
