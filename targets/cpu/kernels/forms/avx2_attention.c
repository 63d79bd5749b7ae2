#define VECTORS_256
#include "../attention.c"
