#include "nnc_model.h"

// `low` holds nine bits of window, `pending` bits above them that are not in the buffer yet, and a carry above those.
INLINE void flush(esp_nnc_encoder *e) {
    uint64_t word = e->low >> (e->pending - 23);
    if (UNLIKELY(e->length + 4 > e->capacity)) {
        e->full = 1;
    } else {
        if (UNLIKELY(word >> 32))
            for (int64_t i = e->length - 1; i >= 0 && ++e->bytes[i] == 0; i--) {}
        for (int i = 0; i < 4; i++) e->bytes[e->length + i] = (uint8_t)(word >> (24 - 8 * i));
        e->length += 4;
    }
    e->low &= (1ull << (e->pending - 23)) - 1;
    e->pending -= 32;
}

// At most 24 bits may come between two of these.
INLINE void make_room(esp_nnc_encoder *e) {
    if (e->pending >= 32) flush(e);
}

// Less than eight bits.
INLINE void encode_bin(esp_nnc_encoder *e, esp_nnc_context *c, unsigned bin) {
    int probability = esp_nnc_probability(c);
    uint32_t less = esp_nnc_less_probable(probability, e->range);
    uint32_t more = e->range - less;
    // Without a branch: a bin of dense values is a surprise too often.
    uint32_t is_less = bin ^ (probability >= 0);
    uint32_t mask = 0u - is_less;
    e->low += more & mask;
    uint32_t range = more ^ ((more ^ less) & mask);
    int shift = __builtin_clz(range) - 23;
    e->range = range << shift;
    e->low <<= shift;
    e->pending += shift;
    esp_nnc_update(c, bin);
}

// At most 24 bits.
INLINE void encode_bypass(esp_nnc_encoder *e, uint32_t value, int bits) {
    e->low = (e->low << bits) + (uint64_t)value * e->range;
    e->pending += bits;
}

void esp_nnc_encoder_start(esp_nnc_encoder *e, uint8_t *bytes, int64_t capacity) {
    *e = (esp_nnc_encoder){.bytes = bytes, .capacity = capacity, .range = 510};
}

void esp_nnc_encoder_move(esp_nnc_encoder *e, uint8_t *bytes, int64_t capacity) {
    e->bytes = bytes;
    e->capacity = capacity;
}

void esp_nnc_encode_bypass(esp_nnc_encoder *e, uint32_t value, int32_t bits) {
    make_room(e);
    if (bits > 16) {
        encode_bypass(e, value >> 16 & ((1u << (bits - 16)) - 1), bits - 16);
        make_room(e);
        bits = 16;
    }
    encode_bypass(e, value & ((1u << bits) - 1), bits);
}

void esp_nnc_encode_skips(esp_nnc_encoder *e, const uint8_t *skips, int64_t rows) {
    esp_nnc_context context;
    esp_nnc_context_start(&context, 0);
    for (int64_t row = 0; row < rows; row++) {
        make_room(e);
        encode_bin(e, &context, skips[row] != 0);
    }
}

void esp_nnc_encode_starts(
    esp_nnc_encoder *e, const esp_nnc_tensor *tensor, const uint8_t *starts, int64_t count) {
    (void)tensor;
    esp_nnc_context flag;
    esp_nnc_context_start(&flag, 0);
    for (int64_t i = 0; i < count; i++) {
        unsigned start = starts[i] > 8 ? 0 : starts[i];
        make_room(e);
        encode_bin(e, &flag, start > 0);
        if (start > 0) encode_bypass(e, start - 1, 3);
    }
}

INLINE void encode_remainder(
    esp_nnc_encoder *e, esp_nnc_model *model, int64_t magnitude, int64_t reached, int64_t limit) {
    int r = 0, k = 0;
    unsigned flag;
    do {
        flag = magnitude >= reached + ((int64_t)1 << r);
        make_room(e);
        encode_bin(e, &model->remainder[k++], flag);
        if (flag) reached += (int64_t)1 << r++;
    } while (flag && k < 31 && limit >= reached + ((int64_t)1 << r));
    esp_nnc_encode_bypass(e, (uint32_t)(magnitude - reached), r);
}

INLINE int64_t magnitude_of(int32_t level) { return level < 0 ? -(int64_t)level : level; }

// Plain values: without codebook and updates. Gives the number of those that fitted.
INLINE int64_t encode_plain(
    esp_nnc_encoder *shared, esp_nnc_model *model, int greater, int dependent, int64_t length,
    int *shared_state, int *shared_neighbour, const int32_t *levels) {
    // A copy, so that it stays in registers.
    esp_nnc_encoder encoder = *shared, *e = &encoder;
    int state = *shared_state, neighbour = *shared_neighbour;
    int64_t i = 0;
    for (; i < length && e->length + ESP_NNC_VALUE_BYTES <= e->capacity; i++) {
        int32_t level = levels[i];
        make_room(e);
        esp_nnc_context *significant = &model->significant[3 * state + neighbour];
        if (level == 0) {
            encode_bin(e, significant, 0);
            neighbour = 0;
            if (dependent) state = esp_nnc_next[state][0];
            continue;
        }
        encode_bin(e, significant, 1);
        int negative = level < 0;
        encode_bin(e, &model->sign[neighbour], (unsigned)negative);
        int64_t magnitude = magnitude_of(level);
        esp_nnc_context *c = &model->greater[negative];
        int64_t ones = magnitude - 1 < greater ? magnitude - 1 : greater;
        for (int64_t j = 0; j < ones; j++) {
            encode_bin(e, c, 1);
            c += 2;
            make_room(e);
        }
        if (ones < greater)
            encode_bin(e, c, 0);
        else
            encode_remainder(e, model, magnitude, 1 + greater, INT64_MAX);
        if (dependent) state = esp_nnc_next[state][magnitude & 1];
        neighbour = 2 - negative;
    }
    *shared = encoder;
    *shared_state = state;
    *shared_neighbour = neighbour;
    return i;
}

static int64_t encode_general(
    esp_nnc_encoder *e, esp_nnc_model *model, const esp_nnc_tensor *tensor, int64_t index,
    int64_t length, int *state, int *neighbour, const int32_t *levels) {
    const int known = esp_nnc_known_sign(tensor);
    const int constant = tensor->limited && tensor->codebook == 1;
    int64_t i = 0;
    for (; i < length && e->length + ESP_NNC_VALUE_BYTES <= e->capacity; i++) {
        int32_t level = levels[i];
        esp_nnc_place place =
            esp_nnc_place_at(model, tensor, 1, index + i, tensor->dependent ? *state : 0, *neighbour);
        make_room(e);
        if (!constant) encode_bin(e, place.significant, level != 0);
        if (constant || level == 0) {
            *neighbour = 0;
            *state = esp_nnc_next[*state][0];
            continue;
        }
        int negative = level < 0;
        if (known < 0) encode_bin(e, place.sign, (unsigned)negative);
        int64_t limit = esp_nnc_limit(tensor, negative), magnitude = magnitude_of(level);
        if (limit > 1) {
            int64_t reached = 1;
            unsigned flag;
            int j = 0;
            do {
                flag = magnitude > reached;
                make_room(e);
                encode_bin(
                    e, esp_nnc_greater_at(model, tensor, place, 1, index + i, j, negative), flag);
                reached += flag;
                j++;
            } while (flag && j < tensor->greater && reached < limit);
            if (flag && reached < limit) encode_remainder(e, model, magnitude, reached, limit);
        }
        *state = esp_nnc_next[*state][magnitude & 1];
        *neighbour = 2 - negative;
    }
    return i;
}

static int64_t taken(const esp_nnc_encoder *e) { return 8 * e->length + e->pending; }

int32_t esp_nnc_encode_rows(
    esp_nnc_encoder *e, esp_nnc_model *model, const esp_nnc_tensor *tensor, esp_nnc_cursor *cursor,
    const int32_t *levels, esp_nnc_entry *entries) {
    const int general = esp_nnc_is_general(tensor), alone = esp_nnc_rows_alone(tensor);
    int state = cursor->state & 7, neighbour = cursor->neighbour;
    const int64_t block_rows = esp_nnc_block_rows(tensor);
    int fits = 1;
    for (; fits && cursor->block_row < block_rows; cursor->block_row++, cursor->segment = 0) {
        if (cursor->segment == 0 && cursor->column == 0) {
            if (esp_nnc_rows_reset(tensor)) e->range = 256;
            if (alone && cursor->block_row > 0) esp_nnc_model_reset(model, tensor);
            neighbour = 0;
            if (entries) entries[cursor->block_row] = (esp_nnc_entry){taken(e), state};
        }
        const int64_t segments = esp_nnc_segments(tensor, cursor->block_row);
        for (; cursor->segment < segments; cursor->segment++, cursor->column = 0) {
            esp_nnc_segment segment =
                esp_nnc_segment_at(tensor, cursor->block_row, cursor->segment);
            if (tensor->skips && tensor->skips[segment.row]) {
                state = esp_nnc_skip(state, tensor->width);
                continue;
            }
            int64_t index = segment.row * tensor->width + segment.start + cursor->column;
            int64_t left = segment.length - cursor->column, done;
            const int32_t *source = levels + index;
            if (general)
                done = encode_general(e, model, tensor, index, left, &state, &neighbour, source);
            else if (tensor->dependent)
                done = encode_plain(
                    e, model, tensor->greater, 1, left, &state, &neighbour, source);
            else
                done = encode_plain(
                    e, model, tensor->greater, 0, left, &(int){0}, &neighbour, source);
            cursor->column += done;
            if (done < left) {
                fits = 0;
                break;
            }
        }
        if (!fits) break;
    }
    cursor->state = tensor->dependent ? state : 0;
    cursor->neighbour = neighbour;
    return fits;
}

void esp_nnc_encode_end(esp_nnc_encoder *e) {
    make_room(e);
    e->range -= 2;
    e->low = (e->low + e->range) | 1;
    // Whole bytes, zeros behind the closing 1.
    int bits = 9 + e->pending, space = -bits & 7;
    uint64_t word = e->low << space;
    bits += space;
    if (word >> bits)
        for (int64_t i = e->length - 1; i >= 0 && ++e->bytes[i] == 0; i--) {}
    for (; bits > 0; bits -= 8) {
        if (e->length >= e->capacity) {
            e->full = 1;
            return;
        }
        e->bytes[e->length++] = (uint8_t)(word >> (bits - 8));
    }
}
