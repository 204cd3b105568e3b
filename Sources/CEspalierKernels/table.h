// Declares every kernel of one ISA. Include with ESP_ISA_SUFFIX defined, inside the target region.
#pragma once
#include "espalier_kernels.h"

#define ESP_JOIN2(a, b) a##b
#define ESP_JOIN(a, b) ESP_JOIN2(a, b)
// esp_NAME__ISA
#define ESP_NAME(name) ESP_JOIN(esp_##name##__, ESP_ISA_SUFFIX)

#define ESP_KERNEL(name, result, parameters) static result ESP_NAME(name) parameters;
#include "kernels.def"
#undef ESP_KERNEL
