#include "nnc_trellis.h"


// Half away from zero, in float arithmetic.
int32_t esp_nnc_quantize(const float *values, int64_t count, float step, int32_t *levels) {
    const float inverse = 1 / step;
    int32_t fits = 1;
    for (int64_t i = 0; i < count; i++) {
        float x = values[i] * inverse, magnitude = fabsf(x);
        // Above 2^23 all floats are whole numbers.
        if (magnitude >= 0x1p30f || magnitude != magnitude) {
            fits &= magnitude < 0x1p31f;
            int32_t level = magnitude < 0x1p31f ? (int32_t)magnitude : ESP_NNC_MAX_LEVEL;
            levels[i] = x < 0 ? -level : level;
            continue;
        }
        int32_t whole = (int32_t)magnitude;
        whole += magnitude - (float)whole >= 0.5f;
        levels[i] = x < 0 ? -whole : whole;
    }
    return fits;
}

// What the four kinds of branches cost: quantizer 0 or 1, then an even or odd level (13.3).
enum { CHUNK = 256 };
typedef double four __attribute__((ext_vector_type(4), aligned(8)));
typedef double two __attribute__((ext_vector_type(2), aligned(8)));

// Errors of the values of a chunk, by branch: even 0, even 1, odd 0, odd 1.
static int measure(const float *values, int64_t count, double inverse, double (*errors)[4]) {
    int fits = 1;
    for (int64_t i = 0; i < count; i++) {
        double x = esp_nnc_ratio(values[i], inverse);
        fits &= x < ESP_NNC_MAX_RATIO;
        double zero = x * x;
        double even = esp_nnc_square(x - esp_nnc_candidate(x, 0)), odd = esp_nnc_square(x - esp_nnc_candidate(x, 3));
        errors[i][0] = even < zero ? even : zero;
        errors[i][1] = odd < zero ? odd : zero;
        errors[i][2] = esp_nnc_square(x - esp_nnc_candidate(x, 2));
        errors[i][3] = esp_nnc_square(x - esp_nnc_candidate(x, 1));
    }
    return fits;
}

// States p and p + 4 lead to the same two states: `first` of a pair takes p's even and p + 4's odd branch, `second` the
// other two. Bits 0...3 of a choice say that the first of pair 0...3 comes from p + 4, bits 4...7 the same of the second.
INLINE uint8_t advance(four *low, four *high, const double *errors) {
    four even = {errors[0], errors[1], errors[0], errors[1]};
    four odd = {errors[2], errors[3], errors[2], errors[3]};
    four a0 = *low + even, a1 = *high + odd;
    four b0 = *low + odd, b1 = *high + even;
    // -1 where the upper state is the better one.
    typedef int64_t masks __attribute__((ext_vector_type(4), aligned(8)));
    masks upper_a = a1 < a0, upper_b = b1 < b0;
    four a = upper_a ? a1 : a0, b = upper_b ? b1 : b0;
    *low = (four){a[0], a[2], b[0], b[2]};
    *high = (four){b[3], b[1], a[3], a[1]};
    masks bits = (upper_a & (masks){1, 2, 4, 8}) | (upper_b & (masks){16, 32, 64, 128});
    return (uint8_t)(bits[0] | bits[1] | bits[2] | bits[3]);
}

// Back from a state: its pair, and whether it is the first of it.
static const uint8_t pair_of[8] = {0, 2, 0, 2, 3, 1, 3, 1};
static const uint8_t is_second[8] = {0, 0, 1, 1, 1, 1, 0, 0};

int32_t esp_nnc_quantize_dependent(
    const float *values, int64_t count, float step, uint8_t *choices, int32_t *levels) {
    const double inverse = 1 / (double)step;
    int fits = 1;
    four low = {0, INFINITY, INFINITY, INFINITY}, high = (four)INFINITY;
    double errors[CHUNK][4];
    for (int64_t from = 0; from < count; from += CHUNK) {
        int64_t length = count - from < CHUNK ? count - from : CHUNK;
        fits &= measure(values + from, length, inverse, errors);
        for (int64_t i = 0; i < length; i++) choices[from + i] = advance(&low, &high, errors[i]);
    }
    double cost[8] = {low[0], low[1], low[2], low[3], high[0], high[1], high[2], high[3]};
    int state = 0;
    for (int i = 1; i < 8; i++)
        if (cost[i] < cost[state]) state = i;
    for (int64_t i = count - 1; i >= 0; i--) {
        int pair = pair_of[state], second = is_second[state];
        int upper = choices[i] >> (pair + 4 * second) & 1;
        // The first of a pair: even from below, odd from above; the second the other way round.
        levels[i] = esp_nnc_best_level(values[i], inverse, pair & 1, upper ^ second);
        state = pair + 4 * upper;
    }
    return fits;
}

void esp_nnc_levels(const int32_t *codes, int64_t count, int32_t *levels) {
    for (int64_t i = 0; i < count; i++) {
        int64_t code = codes[i], magnitude = (code < 0 ? -code : code) + 1;
        int32_t level = (int32_t)(magnitude >> 1);
        levels[i] = code < 0 ? -level : level;
    }
}

void esp_nnc_dequantize(const int32_t *codes, int64_t count, float step, float *values) {
    for (int64_t i = 0; i < count; i++) values[i] = (float)codes[i] * step;
}

int32_t esp_nnc_dequantize_codebook(
    const int32_t *codes, int64_t count, const int32_t *entries, int32_t size, int32_t zero,
    float step, float *values) {
    for (int64_t i = 0; i < count; i++) {
        int64_t entry = (int64_t)codes[i] + zero;
        if (entry < 0 || entry >= size) return 0;
        values[i] = (float)((double)entries[entry] * (double)step);
    }
    return 1;
}
