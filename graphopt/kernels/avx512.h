/* How functions say that they need AVX512-VNNI, which is found out before they are called. */
#pragma once
#include <immintrin.h>

#define VNNI __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")))
#define INLINE VNNI static inline __attribute__((always_inline))
