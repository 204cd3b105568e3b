#if defined(__x86_64__)
#include <immintrin.h>
#include <math.h>
#include <string.h>

#include "espalier_kernels.h"

#define ESP_ISA_SUFFIX avx512
#define ESP_ISA ESP_ISA_AVX512
#define ESP_ISA_NAME "avx512"
// The vectors below are only passed to functions that are always inlined: there is no ABI to keep.
#pragma clang diagnostic ignored "-Wpsabi"
#pragma clang attribute push( \
    __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,sse4.2,crc32,popcnt"))), apply_to = function)
#include "vector.inc"
#include "elements.inc"
#include "rows.inc"
#include "copies.inc"
#include "quantize.inc"
#include "words.inc"
#include "layers.inc"
#include "products.inc"
#include "taps.inc"
#include "winograd.inc"
#include "pooling.inc"
#include "norms.inc"
#include "attention.inc"
#include "losses.inc"
#include "updates.inc"
#include "int8.inc"
#include "int8_blocks.inc"
#include "sparse_f32.inc"
#include "block_norms.inc"
#include "attention_blocks.inc"
#pragma clang attribute pop
#include "table.inc"
#endif
