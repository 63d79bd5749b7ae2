#define VECTORS_256
#include "../full_attention.c"
