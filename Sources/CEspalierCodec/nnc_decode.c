#include "nnc_model.h"

// The offset lies in the nine highest bits of `value`; ranges are compared there.
enum { WINDOW = 55, PART = 4096 };

INLINE uint64_t load_big(const uint8_t *bytes) {
    uint64_t word;
    memcpy(&word, bytes, 8);
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    word = __builtin_bswap64(word);
#endif
    return word;
}

// What is left at the end, then zeros.
static __attribute__((noinline)) uint64_t load_end(const esp_nnc_decoder *d) {
    uint64_t word = 0;
    for (int64_t i = 0; i < 8; i++) {
        int64_t at = d->next + i;
        word = word << 8 | (at >= 0 && at < d->count ? d->bytes[at] : 0);
    }
    return word;
}

// Bits that are there twice are the same ones.
INLINE void refill(esp_nnc_decoder *d) {
    uint64_t word = LIKELY(d->count - d->next >= 8) ? load_big(d->bytes + d->next) : load_end(d);
    d->value |= word >> (9 + d->ahead);
    int bytes = (WINDOW - d->ahead) >> 3;
    d->next += bytes;
    d->ahead += 8 * bytes;
}

INLINE void take(esp_nnc_decoder *d, int bits) {
    d->value <<= bits;
    d->ahead -= bits;
}

INLINE unsigned decode_bin(esp_nnc_decoder *d, esp_nnc_context *c) {
    int probability = esp_nnc_probability(c);
    uint32_t less = esp_nnc_less_probable(probability, d->range);
    uint32_t range = d->range - less;
    uint64_t scaled = (uint64_t)range << WINDOW;
    unsigned bin = probability >= 0;
    if (UNLIKELY(d->ahead < 8)) refill(d);
    if (d->value < scaled) {
        int shift = range < 256;
        d->range = range << shift;
        take(d, shift);
    } else {
        int shift = __builtin_clz(less) - 23;
        d->value -= scaled;
        d->range = less << shift;
        take(d, shift);
        bin ^= 1;
    }
    esp_nnc_update(c, bin);
    return bin;
}

// A bin that is a surprise half of the time, such as a sign: without a branch.
INLINE unsigned decode_even_bin(esp_nnc_decoder *d, esp_nnc_context *c) {
    int probability = esp_nnc_probability(c);
    uint32_t less = esp_nnc_less_probable(probability, d->range);
    uint32_t range = d->range - less;
    uint64_t scaled = (uint64_t)range << WINDOW;
    if (UNLIKELY(d->ahead < 8)) refill(d);
    uint64_t is_less = d->value >= scaled, mask = 0 - is_less;
    d->value -= scaled & mask;
    range ^= (range ^ less) & (uint32_t)mask;
    int shift = __builtin_clz(range) - 23;
    d->range = range << shift;
    take(d, shift);
    unsigned bin = (probability >= 0) ^ (unsigned)is_less;
    esp_nnc_update(c, bin);
    return bin;
}

// Bins of equal chance are a number, the quotient of the offset by the range.
INLINE uint32_t decode_bypass(esp_nnc_decoder *d, int bits) {
    uint32_t number = 0;
    while (bits > 0) {
        int some = bits < 16 ? bits : 16;
        if (UNLIKELY(d->ahead < 16)) refill(d);
        uint32_t offset = (uint32_t)(d->value >> (WINDOW - some));
        uint32_t quotient = offset / d->range;
        uint64_t rest = offset - quotient * d->range;
        d->value = rest << WINDOW | (d->value << some & (((uint64_t)1 << WINDOW) - 1));
        d->ahead -= some;
        // A damaged stream may hold an offset beyond the range.
        number = number << some | (quotient & ((1u << some) - 1));
        bits -= some;
    }
    return number;
}

void esp_nnc_decoder_start(esp_nnc_decoder *d, const uint8_t *bytes, int64_t count) {
    *d = (esp_nnc_decoder){.bytes = bytes, .count = count, .range = 510};
    d->value = load_end(d);
    d->next = 8;
    d->ahead = WINDOW;
}

void esp_nnc_decoder_enter(
    esp_nnc_decoder *d, const uint8_t *bytes, int64_t count, int64_t taken, uint32_t value) {
    int64_t bit = 9 + taken;
    *d = (esp_nnc_decoder){.bytes = bytes, .count = count, .next = bit >> 3, .range = 256};
    uint64_t word = load_end(d) << (bit & 7);
    d->value = (uint64_t)(value & 511) << WINDOW | word >> 9;
    d->next += 7;
    d->ahead = 56 - (int)(bit & 7);
    if (d->ahead > WINDOW) {
        d->ahead -= 8;
        d->next -= 1;
    }
}

int64_t esp_nnc_decoder_taken(const esp_nnc_decoder *d) { return 8 * d->next - 9 - d->ahead; }

uint32_t esp_nnc_decoder_value(const esp_nnc_decoder *d) { return (uint32_t)(d->value >> WINDOW); }

uint32_t esp_nnc_decode_bypass(esp_nnc_decoder *d, int32_t bits) {
    return decode_bypass(d, bits > 32 ? 32 : bits);
}

void esp_nnc_decode_skips(esp_nnc_decoder *d, uint8_t *skips, int64_t rows) {
    esp_nnc_context context;
    esp_nnc_context_start(&context, 0);
    for (int64_t row = 0; row < rows; row++) skips[row] = (uint8_t)decode_bin(d, &context);
}

void esp_nnc_decode_starts(
    esp_nnc_decoder *d, esp_nnc_model *model, const esp_nnc_tensor *tensor, uint8_t *starts) {
    esp_nnc_context flag;
    esp_nnc_context_start(&flag, 0);
    esp_nnc_model_start(model);
#define VISIT(context)                                                  \
    do {                                                                \
        unsigned start_ = decode_bin(d, &flag);                         \
        if (start_) start_ = 1 + decode_bypass(d, 3);                   \
        *starts++ = (uint8_t)start_;                                    \
        esp_nnc_context_start(&(context), start_);                      \
    } while (0)
    ESP_NNC_FOR_STARTS(model, tensor, VISIT);
#undef VISIT
}

// The magnitude of a value that is not 0, after its first flags: more than 2^31 - 1 is a mistake (10).
INLINE uint64_t decode_remainder(
    esp_nnc_decoder *d, esp_nnc_model *model, uint64_t magnitude, int64_t limit) {
    int r = 0, k = 0;
    unsigned flag;
    do {
        flag = decode_bin(d, &model->remainder[k++]);
        if (flag) magnitude += 1ull << r++;
    } while (flag && k < 31 && limit >= (int64_t)(magnitude + (1ull << r)));
    return magnitude + decode_bypass(d, r);
}

// Plain values: without codebook and updates. The decoder is a copy, so that it stays in registers.
INLINE int decode_plain(
    esp_nnc_decoder *shared, esp_nnc_model *model, int greater, int dependent, int64_t length,
    int *shared_state, int *shared_neighbour, int32_t *codes) {
    esp_nnc_decoder decoder = *shared, *d = &decoder;
    int state = *shared_state, neighbour = *shared_neighbour, status = ESP_NNC_OK;
    for (int64_t i = 0; i < length; i++) {
        if (!decode_bin(d, &model->significant[3 * state + neighbour])) {
            codes[i] = 0;
            neighbour = 0;
            if (dependent) state = esp_nnc_next[state][0];
            continue;
        }
        int negative = (int)decode_even_bin(d, &model->sign[neighbour]);
        uint64_t magnitude = 1;
        esp_nnc_context *c = &model->greater[negative];
        int j = 0;
        while (decode_bin(d, c)) {
            magnitude++;
            c += 2;
            if (++j == greater) {
                magnitude = decode_remainder(d, model, magnitude, INT64_MAX);
                break;
            }
        }
        if (UNLIKELY(magnitude > (dependent ? 0x3FFFFFFF : 0x7FFFFFFF))) {
            status = ESP_NNC_TOO_LARGE;
            break;
        }
        int32_t value = (int32_t)magnitude;
        if (dependent) {
            int odd = value & 1;
            value = 2 * value - (state & 1);
            state = esp_nnc_next[state][odd];
        }
        codes[i] = negative ? -value : value;
        neighbour = 2 - negative;
    }
    *shared = decoder;
    *shared_state = state;
    *shared_neighbour = neighbour;
    return status;
}

// Any values; `index` is the place of the first in the tensor.
static int decode_general(
    esp_nnc_decoder *d, esp_nnc_model *model, const esp_nnc_tensor *tensor, int64_t index,
    int64_t length, int *state, int *neighbour, int32_t *codes) {
    const int known = esp_nnc_known_sign(tensor);
    const int constant = tensor->limited && tensor->codebook == 1;
    for (int64_t i = 0; i < length; i++) {
        codes[i] = 0;
        esp_nnc_place place =
            esp_nnc_place_at(model, tensor, 1, index + i, tensor->dependent ? *state : 0, *neighbour);
        if (constant || !decode_bin(d, place.significant)) {
            *neighbour = 0;
            *state = esp_nnc_next[*state][0];
            continue;
        }
        int negative = known >= 0 ? known : (int)decode_bin(d, place.sign);
        int64_t limit = esp_nnc_limit(tensor, negative);
        uint64_t magnitude = 1;
        if (limit > 1) {
            unsigned flag;
            int j = 0;
            do {
                flag = decode_bin(
                    d, esp_nnc_greater_at(model, tensor, place, 1, index + i, j, negative));
                magnitude += flag;
                j++;
            } while (flag && j < tensor->greater && (int64_t)magnitude < limit);
            if (flag && (int64_t)magnitude < limit)
                magnitude = decode_remainder(d, model, magnitude, limit);
        }
        if (magnitude > (tensor->dependent ? 0x3FFFFFFF : 0x7FFFFFFF)) return ESP_NNC_TOO_LARGE;
        int32_t value = (int32_t)magnitude;
        if (tensor->dependent) {
            int odd = value & 1;
            value = 2 * value - (*state & 1);
            *state = esp_nnc_next[*state][odd];
        }
        codes[i] = negative ? -value : value;
        *neighbour = 2 - negative;
    }
    return ESP_NNC_OK;
}

int32_t esp_nnc_decode_rows(
    esp_nnc_decoder *d, esp_nnc_model *model, const esp_nnc_tensor *tensor, int64_t first,
    int64_t end, int32_t *shared_state, int32_t *codes) {
    const int general = esp_nnc_is_general(tensor), alone = esp_nnc_rows_alone(tensor);
    int state = *shared_state & 7, status = ESP_NNC_OK, neighbour = 0;
    for (int64_t block_row = first; block_row < end; block_row++) {
        if (esp_nnc_rows_reset(tensor)) d->range = 256;
        if (alone && block_row > 0) esp_nnc_model_reset(model, tensor);
        neighbour = 0;
        int64_t segments = esp_nnc_segments(tensor, block_row);
        for (int64_t s = 0; s < segments; s++) {
            esp_nnc_segment segment = esp_nnc_segment_at(tensor, block_row, s);
            int64_t index = segment.row * tensor->width + segment.start;
            int32_t *target = codes + index;
            if (tensor->skips && tensor->skips[segment.row]) {
                memset(target, 0, sizeof *target * (size_t)segment.length);
                state = esp_nnc_skip(state, tensor->width);
                continue;
            }
            // In parts: a damaged length must not cost hours of zeros.
            for (int64_t done = 0; done < segment.length; done += PART) {
                int64_t length = segment.length - done < PART ? segment.length - done : PART;
                if (general)
                    status = decode_general(
                        d, model, tensor, index + done, length, &state, &neighbour, target + done);
                else if (tensor->dependent)
                    status = decode_plain(
                        d, model, tensor->greater, 1, length, &state, &neighbour, target + done);
                else
                    status = decode_plain(
                        d, model, tensor->greater, 0, length, &(int){0}, &neighbour, target + done);
                if (status == ESP_NNC_OK && d->next > d->count + 16) status = ESP_NNC_PAST_END;
                if (status != ESP_NNC_OK) return status;
            }
        }
    }
    *shared_state = tensor->dependent ? state : 0;
    return ESP_NNC_OK;
}

int32_t esp_nnc_decode_end(esp_nnc_decoder *d) {
    d->range -= 2;
    if (d->value < (uint64_t)d->range << WINDOW) return 0;
    int64_t taken = esp_nnc_decoder_taken(d);
    if (taken < 0 || d->count != 2 + taken / 8) return 0;
    // The last bit of the window is 1, and zeros follow to the end of its byte.
    int64_t bit = taken + 8;
    unsigned rest = d->bytes[bit >> 3] & (0xFFu >> (bit & 7));
    return rest == 0x80u >> (bit & 7);
}
