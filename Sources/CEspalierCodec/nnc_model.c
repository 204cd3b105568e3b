#include "nnc_model.h"

// STEP of Annex B behind each shift in use: 4...7 for the fast estimate, 4...6 for the slow one. Generated from it:
// [bin 1][i] = STEP[i] >> shift, [bin 0][i] = -(STEP[32 - i] >> shift).
const int16_t esp_nnc_steps[7][2][ESP_NNC_STEPS] = {
    {{0, 0, -4, -4, -4, -4, -4, -4, -4, -4, -4, -4, -4, -4, -4, -4, -4, -5, -9, -13, -17, -23, -29, -35, -45, -59, -73, -87, -101, -115, -129, -143, -157},
     {157, 143, 129, 115, 101, 87, 73, 59, 45, 35, 29, 23, 17, 13, 9, 5, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 0, 0}},
    {{0, 0, -2, -2, -2, -2, -2, -2, -2, -2, -2, -2, -2, -2, -2, -2, -2, -2, -4, -6, -8, -11, -14, -17, -22, -29, -36, -43, -50, -57, -64, -71, -78},
     {78, 71, 64, 57, 50, 43, 36, 29, 22, 17, 14, 11, 8, 6, 4, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 0, 0}},
    {{0, 0, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -2, -3, -4, -5, -7, -8, -11, -14, -18, -21, -25, -28, -32, -35, -39},
     {39, 35, 32, 28, 25, 21, 18, 14, 11, 8, 7, 5, 4, 3, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0}},
    {{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, -1, -1, -2, -2, -3, -4, -5, -7, -9, -10, -12, -14, -16, -17, -19},
     {19, 17, 16, 14, 12, 10, 9, 7, 5, 4, 3, 2, 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}},
    {{0, 0, -4, -4, -4, -4, -4, -4, -4, -4, -4, -4, -4, -4, -4, -4, -4, -5, -9, -13, -17, -23, -29, -35, -45, -59, -73, -87, -101, -115, -129, -143, -157},
     {157, 143, 129, 115, 101, 87, 73, 59, 45, 35, 29, 23, 17, 13, 9, 5, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 0, 0}},
    {{0, 0, -2, -2, -2, -2, -2, -2, -2, -2, -2, -2, -2, -2, -2, -2, -2, -2, -4, -6, -8, -11, -14, -17, -22, -29, -36, -43, -50, -57, -64, -71, -78},
     {78, 71, 64, 57, 50, 43, 36, 29, 22, 17, 14, 11, 8, 6, 4, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 0, 0}},
    {{0, 0, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -2, -3, -4, -5, -7, -8, -11, -14, -18, -21, -25, -28, -32, -35, -39},
     {39, 35, 32, 28, 25, 21, 18, 14, 11, 8, 7, 5, 4, 3, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0}},
};

// Column |P >> 7| of LPS in Annex B, its eight rows as the bytes of a word, for P >> 7 = -32...31.
const uint64_t esp_nnc_ranges[64] = {
    0x0403030303020202, 0x0403030303020202, 0x0403030303020202, 0x0605050404040303,
    0x0605050404040303, 0x0807070606050504, 0x0807070606050504, 0x0a09080807060605,
    0x0a09080807060605, 0x0e0d0c0b0a090807, 0x0e0d0c0b0a090807, 0x100f0e0d0c0b0a09,
    0x12100f0e0d0c0b0a, 0x141211100f0d0c0b, 0x16141311100f0d0c, 0x1a1816151311100e,
    0x1c1a18161513110f, 0x201e1c1a18161412, 0x24211f1d1b181614, 0x2a2724221f1c1a17,
    0x302d2a2724211e1b, 0x36322f2b2825211e, 0x3e3a36322e2a2622, 0x46413d3834302b27,
    0x504b46413c37322d, 0x5a544e49433d3832, 0x665f59524c463f39, 0x746c655e574f4841,
    0x847b736b635a524a, 0x968c837970675d54, 0xaea3988d82776c61, 0xc8bbafa296897d70,
    0xe4d5c7b9ab9c8e80, 0xc8bbafa296897d70, 0xaea3988d82776c61, 0x968c837970675d54,
    0x847b736b635a524a, 0x746c655e574f4841, 0x665f59524c463f39, 0x5a544e49433d3832,
    0x504b46413c37322d, 0x46413d3834302b27, 0x3e3a36322e2a2622, 0x36322f2b2825211e,
    0x302d2a2724211e1b, 0x2a2724221f1c1a17, 0x24211f1d1b181614, 0x201e1c1a18161412,
    0x1c1a18161513110f, 0x1a1816151311100e, 0x16141311100f0d0c, 0x141211100f0d0c0b,
    0x12100f0e0d0c0b0a, 0x100f0e0d0c0b0a09, 0x0e0d0c0b0a090807, 0x0e0d0c0b0a090807,
    0x0a09080807060605, 0x0a09080807060605, 0x0807070606050504, 0x0807070606050504,
    0x0605050404040303, 0x0605050404040303, 0x0403030303020202, 0x0403030303020202,
};

const uint8_t esp_nnc_next[ESP_NNC_STATES][2] = {{0, 2}, {7, 5}, {1, 3}, {6, 4},
                                                 {2, 0}, {5, 7}, {3, 1}, {4, 6}};

// The nine start sets (8.2): shifts, and both estimates.
static const struct {
    int8_t fast_shift, slow_shift;
    int16_t fast, slow;
} starts[9] = {
    {1, 4, 0, 0},   {1, 4, -41, -654}, {1, 4, 95, 1519}, {0, 5, 0, 0},  {2, 6, 30, 482},
    {2, 6, 95, 1519}, {2, 6, -21, -337}, {3, 5, 0, 0},     {3, 5, 30, 482},
};

void esp_nnc_context_start(esp_nnc_context *context, unsigned start) {
    if (start > 8) start = 0;
    context->start = (uint8_t)start;
    context->fast = starts[start].fast;
    context->slow = starts[start].slow;
    context->fast_steps = (uint16_t)(2 * ESP_NNC_STEPS * starts[start].fast_shift);
    context->slow_steps = (uint16_t)(2 * ESP_NNC_STEPS * starts[start].slow_shift);
}

int64_t esp_nnc_block_rows(const esp_nnc_tensor *tensor) {
    int64_t side = esp_nnc_side(tensor);
    return side == 0 ? 1 : (tensor->rows + side - 1) / side;
}

int64_t esp_nnc_starts_count(const esp_nnc_tensor *tensor) {
    int64_t count = 0;
#define VISIT(context) count++
    ESP_NNC_FOR_STARTS((esp_nnc_model *)0, tensor, VISIT);
#undef VISIT
    return count;
}

int64_t esp_nnc_model_size(void) { return (int64_t)sizeof(esp_nnc_model); }

void esp_nnc_model_start(esp_nnc_model *model) {
    esp_nnc_context first;
    memset(&first, 0, sizeof first);
    esp_nnc_context_start(&first, 0);
    esp_nnc_context *all = (esp_nnc_context *)model;
    for (size_t i = 0; i < sizeof *model / sizeof first; i++) all[i] = first;
}

void esp_nnc_model_set(
    esp_nnc_model *model, const esp_nnc_tensor *tensor, const uint8_t *starts, int64_t count) {
    int64_t index = 0;
    esp_nnc_model_start(model);
#define VISIT(context)                                                        \
    do {                                                                      \
        if (index < count) esp_nnc_context_start(&(context), starts[index++]); \
    } while (0)
    ESP_NNC_FOR_STARTS(model, tensor, VISIT);
#undef VISIT
}

void esp_nnc_model_reset(esp_nnc_model *model, const esp_nnc_tensor *tensor) {
#define VISIT(context) esp_nnc_context_start(&(context), (context).start)
    ESP_NNC_FOR_STARTS(model, tensor, VISIT);
#undef VISIT
}
