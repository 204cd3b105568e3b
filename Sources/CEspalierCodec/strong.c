// Strong mode: each weight by a few binary decisions, each with a probability that learns, chosen by
// how large the weight's row and column have been. The same body encodes and decodes.
//
// Sums of eight contexts by logistic mixing were tried and lose: weights are noise but for their scale,
// and a second opinion only adds its own.

#include "bits.h"
#include "classes.h"
#include "espalier_codec.h"
#include "range.h"

// A probability of a 1 in 22 bits, and in the 10 bits below how often it has been used.
typedef uint32_t estimate;
enum { NODES = 128, SIGNS = 72, ZERO = 0, USES = 255, CONTEXTS = ESP_CLASSES + ESP_FLOORS + 1 };

typedef struct {
    estimate node[CONTEXTS][NODES];
    uint32_t step[USES + 1];
    esp_range_encoder encoder;
    esp_range_decoder decoder;
    esp_bit_writer writer;
    esp_bit_reader reader;
} model;

static void start(model *m) {
    for (int c = 0; c < CONTEXTS; c++)
        for (int n = 0; n < NODES; n++) m->node[c][n] = 1u << 31;
    // 1 / (n + 1.6): the estimator of Krichevsky and Trofimov with a somewhat bolder start.
    for (uint32_t n = 0; n <= USES; n++) m->step[n] = 655360 / (10 * n + 16);
}

#define INLINE static inline __attribute__((always_inline))

INLINE int code_bit(model *m, estimate *e, int bit, int encoding) {
    uint32_t state = *e, p = state >> 10, uses = state & 1023;
    uint32_t chance = p >> 6;
    if (encoding) esp_range_encode(&m->encoder, bit, chance);
    else bit = esp_range_decode(&m->decoder, chance);
    uint64_t step = m->step[uses];
    uint32_t up = (uint32_t)(((0x3fffff - p) * step) >> 16), down = (uint32_t)((p * step) >> 16);
    p += bit ? up : -down;
    *e = p << 10 | (uses + (uses < USES));
    return bit;
}

INLINE unsigned code_plain(model *m, unsigned value, int bits, int encoding) {
    if (encoding) esp_put_bits(&m->writer, value, bits);
    else value = esp_take_bits(&m->reader, bits);
    return value;
}

/// 0...127: its width by three decisions, up to three bits below the highest one by three more, others plain.
INLINE int code_value(model *m, estimate *nodes, int value, int encoding) {
    int width = encoding ? esp_width(value) : 0, tree = 1;
    for (int i = 2; i >= 0; i--)
        tree = tree * 2 + code_bit(m, nodes + tree, width >> i & 1, encoding);
    width = tree - 8;
    if (width < 2) return width;
    int left = width - 1, prefix = 1;
    for (int i = 0; i < 3 && left > 0; i++) {
        left--;
        prefix = prefix * 2
            + code_bit(m, nodes + 8 + width * 8 + prefix, value >> left & 1, encoding);
    }
    int result = prefix << left;
    if (left) result |= (int)code_plain(m, (unsigned)value & ((1u << left) - 1), left, encoding);
    return result;
}

INLINE void code_dense(model *m, esp_sizes *sizes, int8_t *row, size_t columns, int encoding) {
    uint64_t sum = 0;
    int row_log = 0;
    for (size_t j = 0; j < columns; j++) {
        if (j % 8 == 0) row_log = esp_row_log(sizes, sum, j);
        estimate *nodes = m->node[esp_class(sizes, row_log, j)];
        int code = encoding ? row[j] : 0;
        int value = code_value(m, nodes, code ^ (code >> 31), encoding);
        int sign = value < 16 ? code_bit(m, nodes + SIGNS + value, code < 0, encoding)
                              : (int)code_plain(m, code < 0, 1, encoding);
        code = value ^ -sign;
        if (!encoding) row[j] = (int8_t)code;
        sum += (uint64_t)(code < 0 ? -code : code);
    }
    esp_sizes_update(sizes, row, columns, 0, sum);
}

INLINE void code_sparse(model *m, esp_sizes *sizes, int8_t *row, size_t columns, int encoding) {
    estimate *rows = m->node[ESP_CLASSES + ESP_FLOORS];
    int floor = encoding ? esp_floor(row, columns) : 0;
    uint64_t sum = 0;
    if (code_bit(m, rows + ZERO, floor > 0, encoding)) {
        floor = code_value(m, rows, floor - 1, encoding) + 1;
        estimate *values = m->node[ESP_CLASSES + esp_floor_class(floor)];
        int row_log = 0;
        for (size_t j = 0; j < columns; j++) {
            if (j % 8 == 0) row_log = esp_row_log(sizes, sum, j);
            estimate *zero = m->node[esp_class(sizes, row_log, j)] + ZERO;
            int code = encoding ? row[j] : 0;
            if (code_bit(m, zero, code != 0, encoding)) {
                int magnitude = code < 0 ? -code : code;
                magnitude = code_value(m, values, magnitude - floor, encoding) + floor;
                int sign = magnitude < 16
                    ? code_bit(m, values + SIGNS + magnitude, code < 0, encoding)
                    : (int)code_plain(m, code < 0, 1, encoding);
                code = sign ? -magnitude : magnitude;
                sum += ESP_UNIT;
            }
            if (!encoding) row[j] = (int8_t)code;
        }
    } else if (!encoding) {
        memset(row, 0, columns);
    }
    esp_sizes_update(sizes, row, columns, 1, sum);
}

INLINE void code_tile(model *m, int8_t *codes, size_t rows, size_t columns, int sparse, void *space,
                      int encoding) {
    esp_sizes sizes;
    esp_sizes_start(&sizes, columns, sparse, space);
    for (size_t r = 0; r < rows; r++) {
        if (sparse) code_sparse(m, &sizes, codes + r * columns, columns, encoding);
        else code_dense(m, &sizes, codes + r * columns, columns, encoding);
    }
}

static size_t model_bytes(void) { return (sizeof(model) + 7) & ~(size_t)7; }

size_t esp_strong_workspace(size_t rows, size_t columns) {
    return model_bytes() + (columns * 3 + 7) / 8 * 8 + rows * columns + 16;
}

size_t esp_strong_encode(const int8_t *codes, size_t rows, size_t columns, uint8_t *out,
                         size_t capacity, void *workspace) {
    if (capacity < 2) return 0;
    model *m = workspace;
    uint8_t *space = (uint8_t *)workspace + model_bytes();
    start(m);
    int sparse = esp_is_sparse(codes, rows * columns);
    out[0] = (uint8_t)sparse;
    esp_range_start(&m->encoder, out + 1, capacity - 1);
    m->writer = (esp_bit_writer){space + (columns * 3 + 7) / 8 * 8, 0, 0, 0};
    // Encoding writes no code.
    if (sparse) code_tile(m, (int8_t *)codes, rows, columns, 1, space, 1);
    else code_tile(m, (int8_t *)codes, rows, columns, 0, space, 1);
    esp_range_finish(&m->encoder);
    esp_finish_bits(&m->writer);
    size_t coded = m->encoder.count, plain = m->writer.count;
    if (1 + coded + plain >= capacity) return 0;
    for (size_t i = 0; i < plain; i++) out[1 + coded + i] = m->writer.bytes[plain - 1 - i];
    return 1 + coded + plain;
}

int esp_strong_decode(const uint8_t *in, size_t count, size_t rows, size_t columns, int8_t *codes,
                      void *workspace) {
    if (count < 1 || in[0] > 1) return 0;
    model *m = workspace;
    uint8_t *space = (uint8_t *)workspace + model_bytes();
    start(m);
    esp_range_open(&m->decoder, in + 1, count - 1);
    m->reader = (esp_bit_reader){in + 1, count - 1, 0, 0};
    if (in[0]) code_tile(m, codes, rows, columns, 1, space, 0);
    else code_tile(m, codes, rows, columns, 0, space, 0);
    return 1;
}
