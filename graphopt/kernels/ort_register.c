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
        TRY(domain_add(api)(made, &MATMUL_NBITS));
        TRY(domain_add(api)(made, &ATTENTION));
        TRY(domain_add(api)(made, &ATTENTION_INT8));
        domain = made;
    }
    return add_domain(api)(options, domain);
}
