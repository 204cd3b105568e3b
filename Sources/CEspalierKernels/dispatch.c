#include "espalier_kernels.h"

extern const esp_kernels esp_table__scalar;
#if defined(__x86_64__)
extern const esp_kernels esp_table__avx2;
extern const esp_kernels esp_table__avx512;
extern const esp_kernels esp_table__vnni;
#endif

const char *const esp_kernel_names[] = {
#define ESP_KERNEL(name, result, parameters) #name,
#include "kernels.def"
#undef ESP_KERNEL
    NULL,
};

const esp_kernels *esp_kernels_for(esp_isa isa) {
    switch (isa) {
    case ESP_ISA_SCALAR:
        return &esp_table__scalar;
#if defined(__x86_64__)
    case ESP_ISA_AVX2:
        if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("sse4.2"))
            return &esp_table__avx2;
        return NULL;
    case ESP_ISA_AVX512:
        if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
            __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
            return &esp_table__avx512;
        return NULL;
    case ESP_ISA_VNNI:
        if (esp_kernels_for(ESP_ISA_AVX512) && __builtin_cpu_supports("avx512vnni")) return &esp_table__vnni;
        return NULL;
#endif
    default:
        return NULL;
    }
}

bool esp_has_bf16(void) {
#if defined(__x86_64__)
    return __builtin_cpu_supports("avx512bf16");
#else
    return false;
#endif
}

bool esp_is_amd(void) {
#if defined(__x86_64__)
    return __builtin_cpu_is("amd");
#else
    return false;
#endif
}

uintptr_t *esp_rehearsal(void) {
    static _Thread_local uintptr_t word;
    return &word;
}
