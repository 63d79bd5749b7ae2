#define VECTORS_256
#include "../row_product.c"
