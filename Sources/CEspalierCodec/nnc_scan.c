#include "nnc_model.h"

void esp_nnc_gather(const esp_nnc_tensor *tensor, const uint32_t *values, uint32_t *sequence) {
    for (int64_t b = 0; b < esp_nnc_block_rows(tensor); b++) {
        int64_t segments = esp_nnc_segments(tensor, b);
        for (int64_t i = 0; i < segments; i++) {
            esp_nnc_segment s = esp_nnc_segment_at(tensor, b, i);
            memcpy(sequence, values + s.row * tensor->width + s.start, 4 * (size_t)s.length);
            sequence += s.length;
        }
    }
}

void esp_nnc_scatter(const esp_nnc_tensor *tensor, const uint32_t *sequence, uint32_t *values) {
    for (int64_t b = 0; b < esp_nnc_block_rows(tensor); b++) {
        int64_t segments = esp_nnc_segments(tensor, b);
        for (int64_t i = 0; i < segments; i++) {
            esp_nnc_segment s = esp_nnc_segment_at(tensor, b, i);
            memcpy(values + s.row * tensor->width + s.start, sequence, 4 * (size_t)s.length);
            sequence += s.length;
        }
    }
}

void esp_nnc_codes(const esp_nnc_tensor *tensor, const int32_t *levels, int32_t *codes) {
    int state = 0;
    for (int64_t b = 0; b < esp_nnc_block_rows(tensor); b++) {
        int64_t segments = esp_nnc_segments(tensor, b);
        for (int64_t i = 0; i < segments; i++) {
            esp_nnc_segment s = esp_nnc_segment_at(tensor, b, i);
            int64_t first = s.row * tensor->width + s.start;
            for (int64_t j = first; j < first + s.length; j++) {
                int32_t level = levels[j], odd = state & 1;
                codes[j] = level == 0 ? 0 : 2 * level + (level < 0 ? odd : -odd);
                state = esp_nnc_next[state][level & 1];
            }
        }
    }
}
