#define VECTORS_256
#include "../matmul_nbits.c"
