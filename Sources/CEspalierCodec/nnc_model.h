// Contexts, their tables and the walk over a tensor, shared by decoder, encoder and search.
#ifndef ESP_NNC_MODEL_H
#define ESP_NNC_MODEL_H

#include "include/nnc.h"

#include <stddef.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))
#define LIKELY(x) __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)

// Two estimates of a bin's probability, and how fast they adapt (8.1).
typedef struct {
    int16_t fast, slow;
    // Tables of steps, in entries from their beginning.
    uint16_t fast_steps, slow_steps;
    uint8_t start;  // the start index, 0...8
} esp_nnc_context;

// The contexts of one tensor (9.1).
struct esp_nnc_model {
    esp_nnc_context significant[24], significant_temporal[16], significant_history[8];
    esp_nnc_context sign[3], sign_temporal[2];
    esp_nnc_context remainder[ESP_NNC_REMAINDERS];
    esp_nnc_context greater[2 * ESP_NNC_MAX_GREATER];
    esp_nnc_context greater_temporal[2 * ESP_NNC_MAX_GREATER];
};

// Steps of both estimates: a table for each shift, in it one for bin 0 and one for bin 1, each of 40 entries.
enum { ESP_NNC_STEPS = 40 };
extern const int16_t esp_nnc_steps[7][2][ESP_NNC_STEPS];
// The ranges of the less probable bin: eight in a word, by 32 + (P >> 7).
extern const uint64_t esp_nnc_ranges[64];
extern const uint8_t esp_nnc_next[ESP_NNC_STATES][2];

void esp_nnc_context_start(esp_nnc_context *context, unsigned start);
void esp_nnc_model_reset(esp_nnc_model *model, const esp_nnc_tensor *tensor);

INLINE int esp_nnc_probability(const esp_nnc_context *c) { return 16 * c->fast + c->slow; }

// (s * S) >> 3 is S >> 3 for a bin of 1, and -((S + 7) >> 3) for a bin of 0: the tables for 0 run backwards.
INLINE void esp_nnc_update(esp_nnc_context *c, unsigned bin) {
    const int16_t *steps = &esp_nnc_steps[0][0][0] + ESP_NNC_STEPS * bin;
    int fast = c->fast, slow = c->slow;
    int zero = (int)bin - 1;
    c->fast = (int16_t)(fast + steps[c->fast_steps + (16 + ((fast + (zero & 7)) >> 3))]);
    c->slow = (int16_t)(slow + steps[c->slow_steps + (16 + ((slow + (zero & 127)) >> 7))]);
}

// Eight ranges are in a word, so that the load does not wait for the range.
INLINE uint32_t esp_nnc_less_probable(int probability, uint32_t range) {
    return (uint32_t)(esp_nnc_ranges[32 + (probability >> 7)] >> (range >> 2 & 0x38)) & 0xFF;
}

// The contexts that a stream sends start indices for, in its order: `visit` is run with each context of the model.
#define ESP_NNC_FOR_STARTS(model, tensor, visit)                                                   \
    do {                                                                                           \
        const esp_nnc_tensor *t_ = (tensor);                                                       \
        const int limited_ = t_->limited && t_->codebook > 0, size_ = t_->codebook;                \
        const int most_ = t_->zero > size_ - 1 - t_->zero ? t_->zero : size_ - 1 - t_->zero;       \
        const int signs_ = !limited_ || (size_ > 1 && t_->zero != 0 && t_->zero != size_ - 1);     \
        if (!limited_ || size_ > 1) {                                                              \
            for (int i_ = 0; i_ < (t_->dependent ? 24 : 3); i_++) visit((model)->significant[i_]); \
            if (t_->base)                                                                          \
                for (int i_ = 0; i_ < (t_->dependent ? 16 : 2); i_++)                              \
                    visit((model)->significant_temporal[i_]);                                      \
            if (t_->past)                                                                          \
                for (int i_ = 0; i_ < (t_->dependent ? 8 : 1); i_++)                               \
                    visit((model)->significant_history[i_]);                                       \
        }                                                                                          \
        if (signs_) {                                                                              \
            for (int i_ = 0; i_ < 3; i_++) visit((model)->sign[i_]);                               \
            if (t_->base)                                                                          \
                for (int i_ = 0; i_ < 2; i_++) visit((model)->sign_temporal[i_]);                  \
        }                                                                                          \
        for (int i_ = 0; i_ < 2 * t_->greater; i_++)                                               \
            if (!limited_ || i_ < 2 * most_) visit((model)->greater[i_]);                          \
        if (t_->base)                                                                              \
            for (int i_ = 0; i_ < 2 * t_->greater; i_++)                                           \
                if (!limited_ || i_ < 2 * (most_ - 1)) visit((model)->greater_temporal[i_]);       \
        for (int i_ = 0; i_ < (t_->legacy ? 32 : 31); i_++)                                        \
            if (!limited_ || t_->greater - 1 + ((int64_t)2 << i_) - 1 < most_)                     \
                visit((model)->remainder[i_]);                                                     \
    } while (0)

// The contexts of one value that do not depend on it: its significance's and its sign's.
typedef struct {
    esp_nnc_context *significant, *sign, *greater;
} esp_nnc_place;

// A run of positions that lie side by side in a row: a row, or a row of a block.
typedef struct {
    int64_t row, start, length;
} esp_nnc_segment;

INLINE int64_t esp_nnc_side(const esp_nnc_tensor *tensor) {
    return tensor->scan > 0 ? (int64_t)4 << tensor->scan : 0;
}

// The number of segments of a block row, and one of them.
INLINE int64_t esp_nnc_segments(const esp_nnc_tensor *tensor, int64_t block_row) {
    int64_t side = esp_nnc_side(tensor);
    if (side == 0) return tensor->rows;
    int64_t height = tensor->rows - block_row * side;
    return (height < side ? height : side) * ((tensor->width + side - 1) / side);
}

INLINE esp_nnc_segment esp_nnc_segment_at(
    const esp_nnc_tensor *tensor, int64_t block_row, int64_t index) {
    int64_t side = esp_nnc_side(tensor);
    if (side == 0) return (esp_nnc_segment){index, 0, tensor->width};
    int64_t height = tensor->rows - block_row * side;
    if (height > side) height = side;
    int64_t block = index / height, start = block * side;
    int64_t length = tensor->width - start;
    return (esp_nnc_segment){
        block_row * side + index % height, start, length < side ? length : side};
}

// States after a row that is skipped: four steps with even parity lead back.
INLINE int esp_nnc_skip(int state, int64_t width) {
    for (int64_t i = 0; i < (width & 3); i++) state = esp_nnc_next[state][0];
    return state;
}

// Whether block rows stand alone, and whether the range is reset before them.
INLINE int esp_nnc_rows_alone(const esp_nnc_tensor *tensor) {
    return esp_nnc_block_rows(tensor) > 1;
}
INLINE int esp_nnc_rows_reset(const esp_nnc_tensor *tensor) {
    return tensor->scan > 0 && (tensor->legacy || esp_nnc_block_rows(tensor) > 1);
}

// Contexts of the value at `index` (9.1). The general form has codes of an update before it.
INLINE esp_nnc_place esp_nnc_place_at(
    esp_nnc_model *model, const esp_nnc_tensor *tensor, int general, int64_t index, int state,
    int neighbour) {
    esp_nnc_place place = {
        &model->significant[3 * state + neighbour], &model->sign[neighbour], model->greater};
    if (general) {
        int32_t base = tensor->base ? tensor->base[index] : 0;
        if (base != 0) {
            int above = base > 1 || base < -1;
            place.significant = &model->significant_temporal[2 * state + above];
            place.sign = &model->sign_temporal[base > 0];
            place.greater = model->greater_temporal;
        }
        if (tensor->past && tensor->past[index])
            place.significant = &model->significant_history[state];
    }
    return place;
}

// The greater-than context of flag `j`: after the sign, or after the value of the update before.
INLINE esp_nnc_context *esp_nnc_greater_at(
    const esp_nnc_model *model, const esp_nnc_tensor *tensor, esp_nnc_place place, int general,
    int64_t index, int j, int negative) {
    if (general && place.greater != model->greater) {
        int64_t base = tensor->base[index];
        return &place.greater[2 * j + ((base < 0 ? -base : base) >= j ? 0 : 1)];
    }
    return &place.greater[2 * j + negative];
}

// The greatest magnitude that a value may have (10).
INLINE int64_t esp_nnc_limit(const esp_nnc_tensor *tensor, int negative) {
    if (!tensor->limited || tensor->codebook == 0) return INT64_MAX;
    return negative ? tensor->zero : tensor->codebook - 1 - tensor->zero;
}

// What a codebook says of the sign: -1 nothing, 0 positive, 1 negative.
INLINE int esp_nnc_known_sign(const esp_nnc_tensor *tensor) {
    if (!tensor->limited || tensor->codebook == 0) return -1;
    if (tensor->zero == 0) return 0;
    return tensor->zero == tensor->codebook - 1 ? 1 : -1;
}

INLINE int esp_nnc_is_general(const esp_nnc_tensor *tensor) {
    return tensor->base || tensor->past || (tensor->limited && tensor->codebook > 0);
}

#endif
