#include "operators.h"

/* What `SessionOptions.register_custom_ops_library` calls. The domain is made once and never released:
 * sessions refer to it. */
__attribute__((visibility("default"))) OrtStatus *RegisterCustomOps(OrtSessionOptions *options,
                                                                    const OrtApiBase *base) {
    static OrtCustomOpDomain *domain;
    const Api api = base->api(API);
    if (!domain) {
        OrtCustomOpDomain *made = NULL;
        TRY(create_domain(api)("graphopt", &made));
        const CustomOp *const all[] = {&MATMUL_NBITS, &GATED_MATMUL_NBITS, &ATTENTION, &ATTENTION_INT8,
                                       &ATTENTION_INT4, &ROW_PRODUCT, &FULL_ATTENTION,
                                       &CONVOLUTION, &MAX_POOL, &ENLARGE, &QUANTIZE_BLOCKS,
                                       &DEQUANTIZE_PLANES};
        for (size_t i = 0; i < sizeof all / sizeof *all; i++) TRY(domain_add(api)(made, all[i]));
        domain = made;
    }
    return add_domain(api)(options, domain);
}
