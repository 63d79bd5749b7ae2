/* MatMulNBits for onnxruntime, as operator graphopt::MatMulNBits(A, B, scales[, bias]).
 *
 * onnxruntime's wheel brings no headers. Its C interface is a table of functions to which entries are only
 * ever added, so what is used of it is declared here, by its place in the table. */
#include <limits.h>
#include <stdint.h>
#include <stdlib.h>

#include "matmul_nbits.h"

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

enum { API = 17, FLOAT = 1, UINT8 = 2, REQUIRED = 0, OPTIONAL = 1, FAIL = 1 };

#define FUNCTION(api, place, result, ...) ((result (*)(__VA_ARGS__))(api)[place])
#define create_status(api) FUNCTION(api, 0, OrtStatus *, int, const char *)
#define create_domain(api) FUNCTION(api, 26, OrtStatus *, const char *, OrtCustomOpDomain **)
#define domain_add(api) FUNCTION(api, 27, OrtStatus *, OrtCustomOpDomain *, const void *)
#define add_domain(api) FUNCTION(api, 28, OrtStatus *, OrtSessionOptions *, OrtCustomOpDomain *)
#define tensor_data(api) FUNCTION(api, 51, OrtStatus *, const OrtValue *, void **)
#define dimensions_count(api) FUNCTION(api, 61, OrtStatus *, const OrtInfo *, size_t *)
#define dimensions(api) FUNCTION(api, 62, OrtStatus *, const OrtInfo *, int64_t *, size_t)
#define tensor_info(api) FUNCTION(api, 65, OrtStatus *, const OrtValue *, OrtInfo **)
#define attribute(api) FUNCTION(api, 86, OrtStatus *, const OrtKernelInfo *, const char *, int64_t *)
#define input_count(api) FUNCTION(api, 88, OrtStatus *, const OrtKernelContext *, size_t *)
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

typedef struct {
    Api api;
    int64_t k, n, bits, block;
} Kernel;

typedef struct {
    Api api;
    OrtKernelContext *context;
    OrtStatus *status;
} Pool;

enum { MOST_DIMENSIONS = 16 };

static bool in_parallel(void *data, void (*task)(void *, size_t), size_t count, void *of_task) {
    Pool *pool = data;
    pool->status = parallel_for(pool->api)(pool->context, task, count, 0, of_task);
    return !pool->status;
}

static OrtStatus *input(const Kernel *kernel, const OrtKernelContext *context, size_t index, void **data) {
    const OrtValue *value = NULL;
    TRY(get_input(kernel->api)(context, index, &value));
    return tensor_data(kernel->api)(value, data);
}

/* Room for the product of the first input. */
static OrtStatus *output(const Kernel *kernel, OrtKernelContext *context, int64_t *rows, void **data) {
    const Api api = kernel->api;
    const OrtValue *x = NULL;
    OrtValue *y = NULL;
    OrtInfo *info = NULL;
    size_t count = 0;
    int64_t shape[MOST_DIMENSIONS];
    TRY(get_input(api)(context, 0, &x));
    TRY(tensor_info(api)(x, &info));
    OrtStatus *status = dimensions_count(api)(info, &count);
    if (!status && (count < 1 || count > MOST_DIMENSIONS))
        status = create_status(api)(FAIL, "too many dimensions");
    if (!status) status = dimensions(api)(info, shape, count);
    release_info(api)(info);
    if (status) return status;
    if (shape[count - 1] != kernel->k) return create_status(api)(FAIL, "rows are not of K elements");
    *rows = 1;
    for (size_t i = 0; i + 1 < count; i++) *rows *= shape[i];
    shape[count - 1] = kernel->n;
    TRY(get_output(api)(context, 0, shape, count, &y));
    return tensor_data(api)(y, data);
}

static OrtStatus *compute(void *self, OrtKernelContext *context) {
    const Kernel *kernel = self;
    void *x, *weights, *scales, *bias = NULL, *y;
    int64_t rows = 0;
    size_t count;
    TRY(input(kernel, context, 0, &x));
    TRY(input(kernel, context, 1, &weights));
    TRY(input(kernel, context, 2, &scales));
    TRY(input_count(kernel->api)(context, &count));
    if (count > 3) TRY(input(kernel, context, 3, &bias));
    TRY(output(kernel, context, &rows, &y));
    const Product product = {x,    scales,    bias,      weights,      y,
                             rows, kernel->k, kernel->n, kernel->bits, kernel->block};
    Pool pool = {kernel->api, context, NULL};
    if (rows && !multiply(&product, in_parallel, &pool))
        return pool.status ? pool.status : create_status(kernel->api)(FAIL, "no memory for the rounded rows");
    return NULL;
}

static OrtStatus *create(const CustomOp *op, Api api, const OrtKernelInfo *info, void **out) {
    (void)op;
    Kernel kernel = {.api = api};
    TRY(attribute(api)(info, "K", &kernel.k));
    TRY(attribute(api)(info, "N", &kernel.n));
    TRY(attribute(api)(info, "bits", &kernel.bits));
    TRY(attribute(api)(info, "block_size", &kernel.block));
    Kernel *made = malloc(sizeof kernel);
    if (!made) return create_status(api)(FAIL, "no memory");
    *made = kernel;
    *out = made;
    return NULL;
}

static const char *name(const CustomOp *op) { return (void)op, "MatMulNBits"; }
static const char *provider(const CustomOp *op) { return (void)op, NULL; }
static size_t inputs(const CustomOp *op) { return (void)op, 4; }
static size_t outputs(const CustomOp *op) { return (void)op, 1; }
static int input_type(const CustomOp *op, size_t index) { return (void)op, index == 1 ? UINT8 : FLOAT; }
static int output_type(const CustomOp *op, size_t index) { return (void)op, (void)index, FLOAT; }
static int input_kind(const CustomOp *op, size_t index) { return (void)op, index < 3 ? REQUIRED : OPTIONAL; }
static int output_kind(const CustomOp *op, size_t index) { return (void)op, (void)index, REQUIRED; }
static int input_memory(const CustomOp *op, size_t index) { return (void)op, (void)index, 0; }
static int first_version(const CustomOp *op) { return (void)op, 1; }
static int last_version(const CustomOp *op) { return (void)op, INT_MAX; }

static const CustomOp MATMUL_NBITS = {.version = API,
                                      .name = name,
                                      .provider = provider,
                                      .inputs = inputs,
                                      .input_type = input_type,
                                      .outputs = outputs,
                                      .output_type = output_type,
                                      .input_kind = input_kind,
                                      .output_kind = output_kind,
                                      .input_memory = input_memory,
                                      .create_or_fail = create,
                                      .compute_or_fail = compute,
                                      .destroy = free,
                                      .first_version = first_version,
                                      .last_version = last_version};

/* What `SessionOptions.register_custom_ops_library` calls. The domain is made once and never released:
 * sessions refer to it. */
__attribute__((visibility("default"))) OrtStatus *RegisterCustomOps(OrtSessionOptions *options,
                                                                    const OrtApiBase *base) {
    static OrtCustomOpDomain *domain;
    const Api api = base->api(API);
    if (!domain) {
        OrtCustomOpDomain *made = NULL;
        TRY(create_domain(api)("graphopt", &made));
        TRY(domain_add(api)(made, &MATMUL_NBITS));
        domain = made;
    }
    return add_domain(api)(options, domain);
}
