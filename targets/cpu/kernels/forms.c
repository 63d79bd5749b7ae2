#include "forms.h"

#include <stdlib.h>
#include <string.h>

static bool has_avx512_vnni(void) {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512vnni");
}

static bool has_avx2(void) { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }

#ifdef COMPILES_AVX_VNNI
static bool has_avx_vnni(void) {
#ifdef VNNI_OF_AVX512
    return has_avx512_vnni();
#else
    return has_avx2() && __builtin_cpu_supports("avxvnni");
#endif
}
#endif

bool machine_multiplies_halves(void) {
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx512bf16");
}

/* The fastest first. */
static const Form FORMS[] = {
    {"graphopt-avx512-vnni", has_avx512_vnni, multiply_avx512, multiply_gated_avx512, attend_avx512,
     packed_bytes_avx512, pack_rows_avx512, multiply_rows_avx512, attend_fully_avx512, convolve},
#ifdef COMPILES_AVX_VNNI
    {"graphopt-avx-vnni", has_avx_vnni, multiply_avx_vnni, multiply_gated_avx_vnni, attend_avx2,
     packed_bytes_avx2, pack_rows_avx2, multiply_rows_avx2, attend_fully_avx2, NULL},
#endif
    {"graphopt-avx2", has_avx2, multiply_avx2, multiply_gated_avx2, attend_avx2, packed_bytes_avx2,
     pack_rows_avx2, multiply_rows_avx2, attend_fully_avx2, NULL},
};

const Form *form_here(void) {
    __builtin_cpu_init();
    const char *wanted = getenv("GRAPHOPT_KERNELS");
    const Form *fastest = NULL;
    for (size_t i = sizeof FORMS / sizeof *FORMS; i-- > 0;) {
        if (wanted && !strcmp(wanted, FORMS[i].name)) return FORMS[i].runs() ? FORMS + i : NULL;
        if (FORMS[i].runs()) fastest = FORMS + i;
    }
    return fastest;
}

const char *form_name(void) {
    const Form *form = form_here();
    return form ? form->name : NULL;
}

bool form_convolves(void) {
    const Form *form = form_here();
    return form && form->convolve;
}
