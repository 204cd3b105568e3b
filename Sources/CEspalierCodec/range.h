// A binary range coder of 64 bits that sends 32 at a time, with carries. The decoder may stand before
// other data: what ends a tile is right whatever follows.
#ifndef ESPALIER_RANGE_H
#define ESPALIER_RANGE_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef struct {
    uint64_t low, range;
    uint8_t *bytes;
    size_t count, capacity;
} esp_range_encoder;

typedef struct {
    uint64_t code, range;
    const uint8_t *bytes;
    size_t at, count;
} esp_range_decoder;

static inline void esp_range_start(esp_range_encoder *c, uint8_t *bytes, size_t capacity) {
    *c = (esp_range_encoder){0, ~0ull, bytes, 0, capacity};
}

/// What was sent grows by one in its last place. The first byte never overflows: low is under 1.
static inline void esp_range_carry(esp_range_encoder *c) {
    size_t i = c->count < c->capacity ? c->count : c->capacity;
    while (i > 0 && ++c->bytes[--i] == 0) {
    }
}

static inline void esp_range_put(esp_range_encoder *c, uint8_t byte) {
    if (c->count < c->capacity) c->bytes[c->count] = byte;
    c->count++;
}

/// A bit whose chance of being 1 is `p` of 65536, 0 < p < 65536.
static inline void esp_range_encode(esp_range_encoder *c, int bit, uint32_t p) {
    uint64_t bound = (c->range >> 16) * p;
    if (bit) {
        c->range = bound;
    } else {
        c->low += bound;
        if (c->low < bound) esp_range_carry(c);
        c->range -= bound;
    }
    if (c->range < 1ull << 32) {
        for (int i = 56; i >= 32; i -= 8) esp_range_put(c, (uint8_t)(c->low >> i));
        c->low <<= 32;
        c->range <<= 32;
    }
}

/// The fewest bytes after which anything may follow.
static inline void esp_range_finish(esp_range_encoder *c) {
    for (int kept = 8; kept <= 64; kept += 8) {
        uint64_t rest = kept == 64 ? 0 : ~0ull >> kept;
        uint64_t value = (c->low + rest) & ~rest;
        int carried = value < c->low;
        if (value - c->low + rest >= c->range) continue;
        if (carried) esp_range_carry(c);
        for (int i = 56; i > 56 - kept; i -= 8) esp_range_put(c, (uint8_t)(value >> i));
        return;
    }
}

static inline uint64_t esp_range_word(esp_range_decoder *c) {
    uint32_t word = 0;
    if (c->count - c->at >= 4) {
        memcpy(&word, c->bytes + c->at, 4);
        c->at += 4;
        return __builtin_bswap32(word);
    }
    for (int i = 0; i < 4; i++) word = word << 8 | (c->at < c->count ? c->bytes[c->at++] : 0);
    return word;
}

static inline void esp_range_open(esp_range_decoder *c, const uint8_t *bytes, size_t count) {
    *c = (esp_range_decoder){0, ~0ull, bytes, 0, count};
    c->code = esp_range_word(c) << 32;
    c->code |= esp_range_word(c);
}

static inline int esp_range_decode(esp_range_decoder *c, uint32_t p) {
    uint64_t bound = (c->range >> 16) * p;
    uint64_t above = -(uint64_t)(c->code >= bound);
    c->code -= bound & above;
    c->range = bound + ((c->range - 2 * bound) & above);
    if (c->range < 1ull << 32) {
        c->range <<= 32;
        c->code = c->code << 32 | esp_range_word(c);
    }
    return (int)(above + 1);
}
#endif
