// Multi-symbol mode: a weight is one symbol of 48 and some plain bits. Symbols are coded by ranges
// (rANS, Duda 2013, four interleaved states of 32 bits, words of 16) whose frequencies are
// counted again and again, in classes by how large the weight's row and column have been.

#include "bits.h"
#include "classes.h"
#include "espalier_codec.h"

enum {
    SYMBOLS = 48, PRECISION = 12, WHOLE = 1 << PRECISION, STATES = 4, FIRST = 24, LAST = 2048,
    CLASSES = ESP_CLASSES / 2, FLOORS = ESP_FLOORS / 2, HEADER = 1 + SYMBOLS / 8 + 4 * STATES,
};

/// 0...15: value and sign of a value under 8. Others: four highest bits of a value, width 4...7;
/// the bits below and the sign (lowest) are plain.
typedef struct {
    uint32_t range[SYMBOLS];  // start << 16 | frequency
    uint32_t count[SYMBOLS];
    uint32_t total, left, interval;
    uint8_t slot[WHOLE];
} table;

/// Chances of zero, one for each class.
typedef struct {
    uint32_t zeros, total, left, interval, frequency;
} flag;

typedef struct {
    table values[CLASSES > FLOORS + 1 ? CLASSES : FLOORS + 1];
    flag zero[ESP_CLASSES];
    uint64_t used;
} model;

static void rebuild(table *t, uint64_t used, int slots) {
    uint32_t free = WHOLE - (uint32_t)__builtin_popcountll(used), largest = 0, start = 0;
    uint32_t scale = t->total ? (free << 19) / t->total : 0, sum = 0;
    uint32_t frequency[SYMBOLS];
    for (int s = 0; s < SYMBOLS; s++) {
        frequency[s] = (uint32_t)(used >> s & 1) + (uint32_t)(((uint64_t)t->count[s] * scale) >> 19);
        sum += frequency[s];
        if (frequency[s] > frequency[largest]) largest = (uint32_t)s;
    }
    frequency[largest] += WHOLE - sum;
    for (int s = 0; s < SYMBOLS; s++) {
        t->range[s] = start << 16 | frequency[s];
        if (slots) memset(t->slot + start, s, frequency[s]);
        start += frequency[s];
    }
    if (t->total >= 1u << 19) {
        t->total = 0;
        for (int s = 0; s < SYMBOLS; s++) t->total += t->count[s] /= 2;
    }
    t->left = t->interval;
    if (t->interval < LAST) t->interval *= 2;
}

static void start(model *m, uint64_t used, int sparse, int slots) {
    m->used = used;
    int tables = sparse ? FLOORS + 1 : CLASSES;
    for (int i = 0; i < tables; i++) {
        table *t = &m->values[i];
        memset(t->count, 0, sizeof t->count);
        for (int s = 0; s < SYMBOLS; s++) t->count[s] = used >> s & 1;
        t->total = (uint32_t)__builtin_popcountll(used);
        t->interval = FIRST;
        rebuild(t, used, slots);
    }
    for (int i = 0; i < ESP_CLASSES; i++) m->zero[i] = (flag){1, 2, FIRST, FIRST, WHOLE / 2};
}

static inline void count_symbol(model *m, table *t, int symbol, int slots) {
    t->count[symbol]++;
    t->total++;
    if (--t->left == 0) rebuild(t, m->used, slots);
}

static inline void count_zero(flag *f, int zero) {
    f->zeros += (uint32_t)zero;
    f->total++;
    if (--f->left) return;
    uint32_t frequency = (uint32_t)(((uint64_t)f->zeros << PRECISION) / f->total);
    f->frequency = (uint32_t)esp_clamp((int)frequency, 1, WHOLE - 1);
    if (f->total >= 1u << 20) {
        f->total /= 2;
        f->zeros /= 2;
    }
    if (f->interval < LAST / 4) f->interval *= 2;
    f->left = f->interval;
}

static inline int symbol_of(int value, int sign) {
    if (value < 8) return value * 2 + sign;
    int width = esp_width(value);
    return 16 + (width - 4) * 8 + ((value >> (width - 4)) & 7);
}

static inline int plain_bits(int symbol) { return symbol < 16 ? 0 : (symbol >> 3) - 1; }

static inline size_t aligned(size_t n) { return (n + 7) & ~(size_t)7; }

/// Plain bits of a tile, then a word for each symbol.
size_t esp_symbols_workspace(size_t rows, size_t columns) {
    return aligned(sizeof(model)) + aligned(columns * 3) + aligned(rows * columns + 16)
        + 4 * (2 * rows * columns + rows);
}

// MARK: Writing

typedef struct {
    model *m;
    esp_bit_writer plain;
    uint32_t *step;  // state << 30 | start << 16 | frequency
    size_t steps;
} writer;

static inline void note(writer *w, uint32_t range, unsigned state) {
    w->step[w->steps++] = (uint32_t)state << 30 | range;
}

static inline void write_value(writer *w, table *t, int value, int sign, unsigned state) {
    int symbol = symbol_of(value, sign), plain = plain_bits(symbol);
    note(w, t->range[symbol], state);
    if (plain) {
        unsigned low = (unsigned)value & ((1u << (plain - 1)) - 1);
        esp_put_bits(&w->plain, low << 1 | (unsigned)sign, plain);
    }
    count_symbol(w->m, t, symbol, 0);
}

static void write_rows(writer *w, const int8_t *codes, size_t rows, size_t columns, int sparse,
                       void *space) {
    model *m = w->m;
    esp_sizes sizes;
    esp_sizes_start(&sizes, columns, sparse, space);
    for (size_t r = 0; r < rows; r++) {
        const int8_t *row = codes + r * columns;
        uint64_t sum = 0;
        int row_log = 0, floor = sparse ? esp_clamp(esp_floor(row, columns), 0, 127) : 1;
        if (sparse) write_value(w, &m->values[FLOORS], floor, 0, 0);
        table *values = &m->values[esp_floor_class(floor) / 2];
        for (size_t j = 0; j < columns && floor; j++) {
            if (j % 8 == 0) row_log = esp_row_log(&sizes, sum, j);
            int class = esp_class(&sizes, row_log, j), code = row[j];
            if (sparse) {
                flag *f = &m->zero[class];
                uint32_t zero = f->frequency;
                note(w, code ? zero << 16 | (WHOLE - zero) : zero, j % 2);
                count_zero(f, !code);
                if (!code) continue;
                write_value(w, values, (code < 0 ? -code : code) - floor, code < 0, 2 + j % 2);
                sum += ESP_UNIT;
            } else {
                write_value(w, &m->values[class / 2], code ^ (code >> 31), code < 0, j % 4);
                sum += (uint64_t)(code < 0 ? -code : code);
            }
        }
        esp_sizes_update(&sizes, row, columns, sparse, sum);
    }
}

static uint64_t used_symbols(const int8_t *codes, size_t rows, size_t columns, int sparse) {
    uint64_t used = 0;
    for (size_t r = 0; r < rows; r++) {
        const int8_t *row = codes + r * columns;
        int floor = sparse ? esp_clamp(esp_floor(row, columns), 0, 127) : 0;
        if (sparse) used |= 1ull << symbol_of(floor, 0);
        for (size_t j = 0; j < columns; j++) {
            int code = row[j], magnitude = code < 0 ? -code : code;
            if (!sparse) used |= 1ull << symbol_of(code ^ (code >> 31), code < 0);
            else if (code) used |= 1ull << symbol_of(magnitude - floor, code < 0);
        }
    }
    return used;
}

size_t esp_symbols_encode(const int8_t *codes, size_t rows, size_t columns, uint8_t *out,
                          size_t capacity, void *workspace) {
    if (capacity < HEADER) return 0;
    model *m = workspace;
    uint8_t *sizes = (uint8_t *)workspace + aligned(sizeof(model));
    uint8_t *plain = sizes + aligned(columns * 3);
    writer w = {m, {plain, 0, 0, 0}, (uint32_t *)(plain + aligned(rows * columns + 16)), 0};
    int sparse = esp_is_sparse(codes, rows * columns);
    uint64_t used = used_symbols(codes, rows, columns, sparse);
    start(m, used, sparse, 0);
    write_rows(&w, codes, rows, columns, sparse, sizes);
    esp_finish_bits(&w.plain);
    if (HEADER + w.plain.count >= capacity) return 0;

    // Words are written from the back of what is left, then moved.
    uint32_t state[STATES] = {1 << 16, 1 << 16, 1 << 16, 1 << 16};
    size_t room = capacity - HEADER - w.plain.count, at = room;
    uint8_t *words = out + HEADER;
    for (size_t i = w.steps; i-- > 0;) {
        uint32_t step = w.step[i], frequency = step & 0xffff, first = step >> 16 & 0x3fff;
        uint32_t x = state[step >> 30];
        if (x >= (uint64_t)frequency << 20) {
            if (at < 2) return 0;
            at -= 2;
            words[at] = (uint8_t)x;
            words[at + 1] = (uint8_t)(x >> 8);
            x >>= 16;
        }
        state[step >> 30] = ((x / frequency) << PRECISION) + x % frequency + first;
    }
    size_t count = HEADER + (room - at);
    if (count + w.plain.count >= capacity) return 0;
    out[0] = (uint8_t)sparse;
    for (int i = 0; i < SYMBOLS / 8; i++) out[1 + i] = (uint8_t)(used >> 8 * i);
    memcpy(out + 1 + SYMBOLS / 8, state, sizeof state);
    memmove(words, words + at, room - at);
    for (size_t i = 0; i < w.plain.count; i++) out[count + i] = plain[w.plain.count - 1 - i];
    return count + w.plain.count;
}

// MARK: Reading

typedef struct {
    model *m;
    esp_bit_reader plain;
    const uint8_t *bytes;
    size_t at, count;
} reader;

static inline uint32_t refill(reader *r, uint32_t x) {
    uint16_t word = 0;
    if (r->at + 2 <= r->count) memcpy(&word, r->bytes + r->at, 2);
    uint32_t needed = x < 1 << 16;
    r->at += needed * 2;
    return needed ? x << 16 | word : x;
}

/// Value << 1 | sign.
static inline int read_value(reader *r, table *t, uint32_t *state) {
    uint32_t x = *state, slot = x & (WHOLE - 1);
    int symbol = t->slot[slot];
    uint32_t range = t->range[symbol];
    *state = refill(r, (range & 0xffff) * (x >> PRECISION) + slot - (range >> 16));
    count_symbol(r->m, t, symbol, 1);
    if (symbol < 16) return symbol;
    int plain = plain_bits(symbol);
    return (8 + (symbol & 7)) << plain | (int)esp_take_bits(&r->plain, plain);
}

static inline int read_zero(reader *r, flag *f, uint32_t *state) {
    uint32_t x = *state, slot = x & (WHOLE - 1), zero = f->frequency;
    int is = slot < zero;
    uint32_t frequency = is ? zero : WHOLE - zero;
    *state = refill(r, frequency * (x >> PRECISION) + slot - (is ? 0 : zero));
    count_zero(f, is);
    return is;
}

static inline uint64_t read_dense(reader *r, const esp_sizes *sizes, int8_t *row, size_t columns,
                                  uint32_t state[STATES]) {
    uint64_t sum = 0;
    int row_log = 0;
    for (size_t j = 0; j < columns; j++) {
        if (j % 8 == 0) row_log = esp_row_log(sizes, sum, j);
        table *t = &r->m->values[esp_class(sizes, row_log, j) / 2];
        int value = read_value(r, t, &state[j % 4]), code = (value >> 1) ^ -(value & 1);
        row[j] = (int8_t)code;
        sum += (uint64_t)(code < 0 ? -code : code);
    }
    return sum;
}

static inline uint64_t read_sparse(reader *r, const esp_sizes *sizes, int8_t *row, size_t columns,
                                   uint32_t state[STATES]) {
    int floor = esp_clamp(read_value(r, &r->m->values[FLOORS], &state[0]) >> 1, 0, 127);
    memset(row, 0, columns);
    if (!floor) return 0;
    table *values = &r->m->values[esp_floor_class(floor) / 2];
    uint64_t sum = 0;
    int row_log = 0;
    for (size_t j = 0; j < columns; j++) {
        if (j % 8 == 0) row_log = esp_row_log(sizes, sum, j);
        if (read_zero(r, &r->m->zero[esp_class(sizes, row_log, j)], &state[j % 2])) continue;
        int value = read_value(r, values, &state[2 + j % 2]), magnitude = (value >> 1) + floor;
        row[j] = (int8_t)(value & 1 ? -magnitude : magnitude);
        sum += ESP_UNIT;
    }
    return sum;
}

int esp_symbols_decode(const uint8_t *in, size_t count, size_t rows, size_t columns, int8_t *codes,
                       void *workspace) {
    if (count < HEADER || in[0] > 1) return 0;
    model *m = workspace;
    uint8_t *space = (uint8_t *)workspace + aligned(sizeof(model));
    uint64_t used = 0;
    uint32_t state[STATES];
    for (int i = 0; i < SYMBOLS / 8; i++) used |= (uint64_t)in[1 + i] << 8 * i;
    memcpy(state, in + 1 + SYMBOLS / 8, sizeof state);
    int sparse = in[0];
    start(m, used, sparse, 1);
    reader r = {m, {in + HEADER, count - HEADER, 0, 0}, in, HEADER, count};
    esp_sizes sizes;
    esp_sizes_start(&sizes, columns, sparse, space);
    for (size_t i = 0; i < rows; i++) {
        int8_t *row = codes + i * columns;
        uint64_t sum = sparse ? read_sparse(&r, &sizes, row, columns, state)
                              : read_dense(&r, &sizes, row, columns, state);
        esp_sizes_update(&sizes, row, columns, sparse, sum);
    }
    for (int i = 0; i < STATES; i++)
        if (state[i] != 1 << 16) return 0;
    return 1;
}
