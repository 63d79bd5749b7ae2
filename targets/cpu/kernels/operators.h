#pragma once
#include "ort_api.h"

extern const CustomOp MATMUL_NBITS, GATED_MATMUL_NBITS, ROW_PRODUCT, ATTENTION, ATTENTION_INT8,
    ATTENTION_INT4;
