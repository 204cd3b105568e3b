// What the coders of a tile know about a weight before they read it: how large its row and its
// column have been so far. Shared by encoders and decoders; all of it is integer arithmetic.
#ifndef ESPALIER_CLASSES_H
#define ESPALIER_CLASSES_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/// log2 in eighths of an octave, linear within eighths; below 8 the number itself.
static inline int esp_log8(uint32_t x) {
    if (x < 8) return (int)x;
    int k = 31 - __builtin_clz(x);
    return (k - 2) * 8 + (int)((x >> (k - 3)) & 7);
}

static inline int esp_clamp(int v, int low, int high) { return v < low ? low : v > high ? high : v; }

/// Bits of `v` up to its highest one: 0 for 0.
static inline int esp_width(int v) { return v ? 32 - __builtin_clz((unsigned)v) : 0; }

enum { ESP_UNIT = 64, ESP_PRIOR = 16, ESP_CLASSES = 64, ESP_FLOORS = 32 };

/// Running sizes of rows and columns, in 1/64 of a code; a sparse tile measures which are not zero.
typedef struct {
    uint16_t *column;  // [columns]
    uint8_t *column_log;  // [columns]
    int level, level_log;  // of the whole tile
    int rate, started;
} esp_sizes;

static inline void esp_sizes_start(esp_sizes *s, size_t columns, int sparse, void *workspace) {
    s->column = workspace;
    s->column_log = (uint8_t *)(s->column + columns);
    s->level = sparse ? 6 * ESP_UNIT : 30 * ESP_UNIT;
    s->rate = sparse ? 7 : 6;
    s->started = 0;
    s->level_log = esp_log8((uint32_t)s->level);
    for (size_t j = 0; j < columns; j++) s->column[j] = (uint16_t)s->level;
    memset(s->column_log, s->level_log, columns);
}

/// Log of a row's size after `j` weights of total `sum`, less the log of the tile's.
static inline int esp_row_log(const esp_sizes *s, uint64_t sum, size_t j) {
    uint64_t size = (sum * ESP_UNIT + (uint64_t)s->level * ESP_PRIOR) / (j + ESP_PRIOR);
    return esp_log8((uint32_t)size) - s->level_log;
}

static inline int esp_class(const esp_sizes *s, int row_log, size_t j) {
    return esp_clamp((row_log + s->column_log[j]) / 2, 0, ESP_CLASSES - 1);
}

/// Takes a finished row in; `sum` is the total of its sizes.
static inline void esp_sizes_update(esp_sizes *s, const int8_t *row, size_t columns, int sparse,
                                    uint64_t sum) {
    for (size_t j = 0; j < columns; j++) {
        int size = sparse ? (row[j] ? ESP_UNIT : 0) : (row[j] < 0 ? -row[j] : row[j]);
        int c = s->column[j];
        s->column[j] = (uint16_t)(c + ((size * ESP_UNIT - c) >> s->rate));
    }
    for (size_t j = 0; j < columns; j++) s->column_log[j] = (uint8_t)esp_log8(s->column[j]);
    int mean = (int)(sum * ESP_UNIT / columns);
    s->level = s->started ? s->level + ((mean - s->level) >> 4) : mean;
    if (s->level < 1) s->level = 1;
    s->started = 1;
    s->level_log = esp_log8((uint32_t)s->level);
}

static inline uint64_t esp_row_sum(const int8_t *row, size_t columns, int sparse) {
    uint64_t sum = 0;
    for (size_t j = 0; j < columns; j++)
        sum += (uint64_t)(sparse ? (row[j] ? ESP_UNIT : 0) : (row[j] < 0 ? -row[j] : row[j]));
    return sum;
}

/// Whether most codes are zero.
static inline int esp_is_sparse(const int8_t *codes, size_t count) {
    size_t zeros = 0;
    for (size_t i = 0; i < count; i++) zeros += codes[i] == 0;
    return zeros > count / 2;
}

/// The smallest magnitude of a row that is not zero; 0 for a row of zeros.
static inline int esp_floor(const int8_t *row, size_t columns) {
    int floor = 0;
    for (size_t j = 0; j < columns; j++) {
        int m = row[j] < 0 ? -row[j] : row[j];
        if (m && (!floor || m < floor)) floor = m;
    }
    return floor;
}

static inline int esp_floor_class(int floor) {
    return esp_clamp(esp_log8((uint32_t)floor) / 2, 0, ESP_FLOORS - 1);
}
#endif
