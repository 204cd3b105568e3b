// Plain bits from the end of a tile: the byte before the end first, lowest bit first.
#ifndef ESPALIER_BITS_H
#define ESPALIER_BITS_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef struct {
    uint8_t *bytes;
    size_t count;
    uint64_t held;
    int bits;
} esp_bit_writer;

static inline void esp_put_bits(esp_bit_writer *w, unsigned value, int bits) {
    w->held |= (uint64_t)value << w->bits;
    w->bits += bits;
    while (w->bits >= 8) {
        w->bytes[w->count++] = (uint8_t)w->held;
        w->held >>= 8;
        w->bits -= 8;
    }
}

static inline void esp_finish_bits(esp_bit_writer *w) {
    if (w->bits > 0) w->bytes[w->count++] = (uint8_t)w->held;
    w->bits = 0;
    w->held = 0;
}

/// Reads towards lower addresses; before the first byte lie zeros.
typedef struct {
    const uint8_t *bytes;
    size_t left;
    uint64_t held;
    int bits;
} esp_bit_reader;

static inline void esp_fill_bits(esp_bit_reader *r) {
    if (r->left >= 8) {
        uint64_t word;
        memcpy(&word, r->bytes + r->left - 8, 8);
        r->held |= __builtin_bswap64(word) << r->bits;
        int taken = (63 - r->bits) >> 3;
        r->left -= (size_t)taken;
        r->bits += taken * 8;
    } else {
        while (r->bits <= 55) {
            if (r->left) r->held |= (uint64_t)r->bytes[--r->left] << r->bits;
            r->bits += 8;
        }
    }
}

/// At most 8 bits.
static inline unsigned esp_take_bits(esp_bit_reader *r, int bits) {
    if (r->bits < bits) esp_fill_bits(r);
    unsigned value = (unsigned)r->held & ((1u << bits) - 1);
    r->held >>= bits;
    r->bits -= bits;
    return value;
}
#endif
