// Entropy coders of integer weight codes. No allocation, no threads; every length is given, a reader
// never leaves its input (what lies behind it reads as zeros), and any input gives some codes or 0.
#ifndef ESPALIER_CODEC_H
#define ESPALIER_CODEC_H

#include <stddef.h>
#include <stdint.h>

// A tile is `rows` x `columns` codes, row-major. Encoders return the bytes written, or 0 if those would
// be `capacity` or more: a tile is then stored as it is. Decoders return 1, or 0 where the bytes
// cannot be a tile; then the codes mean nothing. Rows, columns and weights are above 0. A workspace has the bytes that the
// coder names for it, aligned to 8, and need not be initialized.

/// Adaptive binary arithmetic coding (docs/entropy.md, section 3).
size_t esp_strong_workspace(size_t rows, size_t columns);
size_t esp_strong_encode(const int8_t *codes, size_t rows, size_t columns,
                         uint8_t *out, size_t capacity, void *workspace);
int esp_strong_decode(const uint8_t *in, size_t count, size_t rows, size_t columns,
                      int8_t *codes, void *workspace);

/// Adaptive range coding (rANS) of whole symbols (section 4).
size_t esp_symbols_workspace(size_t rows, size_t columns);
size_t esp_symbols_encode(const int8_t *codes, size_t rows, size_t columns,
                          uint8_t *out, size_t capacity, void *workspace);
int esp_symbols_decode(const uint8_t *in, size_t count, size_t rows, size_t columns,
                       int8_t *codes, void *workspace);

/// Prefix codes in four streams (section 5).
size_t esp_fast_workspace(size_t weights);
size_t esp_fast_encode(const int8_t *codes, size_t count, uint8_t *out, size_t capacity,
                       void *workspace);
int esp_fast_decode(const uint8_t *in, size_t count, size_t weights, int8_t *codes,
                    void *workspace);

/// The linear predictor of a matrix (section 2) of at most 1024 columns: `coefficients` is columns x columns,
/// of which the part below the diagonal is used, in 1/128; where it is null, only rows above are used.
size_t esp_predictor_workspace(size_t rows, size_t columns);

/// Fitting: begin, then products for all columns in any cuts (they write apart), then fit, all with one
/// workspace. Returns the estimated gain in bits a weight.
void esp_predictor_begin(const int8_t *codes, size_t rows, size_t columns, void *workspace);
void esp_predictor_products(size_t rows, size_t columns, size_t first, size_t end, void *workspace);
double esp_predictor_fit(size_t rows, size_t columns, int8_t *coefficients, void *workspace);

/// Differences from the prediction, modulo 256; `above` are three multipliers in 1/64, chosen here.
void esp_predictor_apply(const int8_t *codes, size_t rows, size_t columns,
                         const int8_t *coefficients, int8_t above[3], int8_t *differences,
                         void *workspace);
void esp_predictor_undo(int8_t *codes, size_t rows, size_t columns, const int8_t *coefficients,
                        const int8_t above[3], void *workspace);
#endif
