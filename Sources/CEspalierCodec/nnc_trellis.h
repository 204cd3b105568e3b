// Candidates of dependent quantization (13.3).
#ifndef ESP_NNC_TRELLIS_H
#define ESP_NNC_TRELLIS_H

#include "nnc_model.h"

#include <math.h>

#define ESP_NNC_MAX_LEVEL INT32_MAX
#define ESP_NNC_MAX_DEPENDENT ((1 << 30) - 1)
// So that all candidates stay within 31 bits.
#define ESP_NNC_MAX_RATIO (0x1p31 - 8)

// A magnitude in steps; what is too large, or no number, becomes the largest.
INLINE double esp_nnc_ratio(float value, double inverse) {
    double x = fabs((double)value) * inverse;
    return x < ESP_NNC_MAX_RATIO ? x : ESP_NNC_MAX_RATIO;
}

// The multiple c with c mod 4 == residue among the four from max(1, floor(x) - 1) on.
INLINE double esp_nnc_candidate(double x, int residue) {
    int64_t least = (int64_t)x - 1;
    if (least < 1) least = 1;
    return (double)(least + ((residue - least) & 3));
}

INLINE double esp_nnc_square(double x) { return x * x; }

// Multiples by quantizer and parity of the level.
INLINE int esp_nnc_residue(int quantizer, int odd) {
    return quantizer ? (odd ? 1 : 3) : (odd ? 2 : 0);
}

INLINE int32_t esp_nnc_level_of(float value, double c) {
    int32_t level = (int32_t)(((int64_t)c + 1) >> 1);
    if (level > ESP_NNC_MAX_DEPENDENT) level -= 2 * ((level - ESP_NNC_MAX_DEPENDENT + 1) / 2);
    return value < 0 ? -level : level;
}

// The level of a branch; of an even one the better of 0 and the candidate.
INLINE int32_t esp_nnc_best_level(float value, double inverse, int quantizer, int odd) {
    double x = esp_nnc_ratio(value, inverse);
    double c = esp_nnc_candidate(x, esp_nnc_residue(quantizer, odd));
    if (!odd && x * x <= esp_nnc_square(x - c)) return 0;
    return esp_nnc_level_of(value, c);
}

#endif
