#include "../forms.h"
#ifdef COMPILES_AVX_VNNI
#define VECTORS_256
#define WITH_AVX_VNNI
#include "../matmul_nbits.c"
#endif
