/* The forms that kernels are compiled in, each for processors with other instructions. */
#pragma once
#include "attention.h"
#include "convolution.h"
#include "full_attention.h"
#include "matmul_nbits.h"
#include "row_product.h"

/* Whether the compiler knows AVX-VNNI: gcc 11, clang 12. */
#if __has_include(<avxvnniintrin.h>)
#define COMPILES_AVX_VNNI
#endif

typedef struct {
    const char *name;
    bool (*runs)(void); /* on this processor */
    Multiply *multiply;
    MultiplyGated *multiply_gated;
    Attend *attend;
    PackedBytes *packed_bytes;
    PackRows *pack_rows;
    MultiplyRows *multiply_rows;
    AttendFully *attend_fully;
    Convolve *convolve; /* null where there are no kernels for pictures */
} Form;

#define NO_FORM "there is no form of this kernel for the processor"

/* The form whose name the variable GRAPHOPT_KERNELS has, if it runs here; for another value of it, or none, the
 * fastest that does. Null if there is none. */
const Form *form_here(void);

/* Its name, or null; and whether it has kernels for pictures. */
__attribute__((visibility("default"))) const char *form_name(void);
__attribute__((visibility("default"))) bool form_convolves(void);
