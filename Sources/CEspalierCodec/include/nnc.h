// The hot loops of NNC (ISO/IEC 15938-17): the arithmetic coder with its contexts, tensors of values through it, the
// choice of start indices, and quantizers. Nothing here allocates, starts threads or trusts a file: every function takes
// lengths, reading past the end of a payload gives zero bits, writing past the end of a buffer is dropped and said.
// Pointers are never null unless a comment says so. Section numbers are those of the format's description.
#ifndef ESP_NNC_H
#define ESP_NNC_H

#include <stdint.h>

enum {
    ESP_NNC_STATES = 8,
    ESP_NNC_REMAINDERS = 32,
    ESP_NNC_MAX_GREATER = 256,
    // The bytes that one value may take at most, with room to spare.
    ESP_NNC_VALUE_BYTES = 512,
};

// The contexts of one tensor (9.1).
typedef struct esp_nnc_model esp_nnc_model;

// A tensor as a matrix, and how its values are coded.
typedef struct {
    int64_t rows, width;     // at least 1 each
    int32_t scan;            // the effective scan order, 0...4
    int32_t greater;         // greater-than flags, 1...256
    int32_t codebook, zero;  // the size of the codebook, 0 without one, and the entry that is coded as 0
    uint8_t dependent;       // dependent quantization
    uint8_t limited;         // profile 1: a codebook's size bounds magnitudes
    uint8_t legacy;          // dialect 0-legacy
    const int32_t *base;     // codes of the update before, or null [rows * width]
    const uint8_t *past;     // where an update before was not 0, or null [rows * width]
    const uint8_t *skips;    // rows that are 0, or null [rows]
} esp_nnc_tensor;

// Block rows that can be decoded alone; 1 unless blocks are scanned.
int64_t esp_nnc_block_rows(const esp_nnc_tensor *tensor);

// The start indices that a stream holds for a tensor's contexts, in its order (9.2).
int64_t esp_nnc_starts_count(const esp_nnc_tensor *tensor);
int64_t esp_nnc_model_size(void);
void esp_nnc_model_start(esp_nnc_model *model);
// Sets start indices in the stream's order; those above 8 count as 0.
void esp_nnc_model_set(
    esp_nnc_model *model, const esp_nnc_tensor *tensor, const uint8_t *starts, int64_t count);

// MARK: Decoding

typedef struct {
    const uint8_t *bytes;
    int64_t count, next;  // next may pass count
    uint64_t value;       // the offset in the nine highest bits, look-ahead below
    int32_t ahead;        // valid bits of look-ahead
    uint32_t range;
} esp_nnc_decoder;

enum { ESP_NNC_OK = 0, ESP_NNC_TOO_LARGE = 1, ESP_NNC_PAST_END = 2 };

void esp_nnc_decoder_start(esp_nnc_decoder *decoder, const uint8_t *bytes, int64_t count);
// Goes on at an entry point: `taken` bits after the first nine, offset `value`.
void esp_nnc_decoder_enter(
    esp_nnc_decoder *decoder, const uint8_t *bytes, int64_t count, int64_t taken, uint32_t value);
int64_t esp_nnc_decoder_taken(const esp_nnc_decoder *decoder);
uint32_t esp_nnc_decoder_value(const esp_nnc_decoder *decoder);
// A number of up to 32 bypass bins.
uint32_t esp_nnc_decode_bypass(esp_nnc_decoder *decoder, int32_t bits);
void esp_nnc_decode_skips(esp_nnc_decoder *decoder, uint8_t *skips, int64_t rows);
// Reads start indices into `starts` [esp_nnc_starts_count] and the model.
void esp_nnc_decode_starts(
    esp_nnc_decoder *decoder, esp_nnc_model *model, const esp_nnc_tensor *tensor, uint8_t *starts);
// Block rows first ..< end of a tensor into `codes` [rows * width], dependent quantization undone; `state` goes on.
int32_t esp_nnc_decode_rows(
    esp_nnc_decoder *decoder, esp_nnc_model *model, const esp_nnc_tensor *tensor, int64_t first,
    int64_t end, int32_t *state, int32_t *codes);
// The terminating bin: whether it, the closing pattern and the payload's length are right.
int32_t esp_nnc_decode_end(esp_nnc_decoder *decoder);

// MARK: Encoding

typedef struct {
    uint8_t *bytes;
    int64_t capacity, length;
    uint64_t low;
    int32_t pending;  // bits of `low` above its window of nine
    uint32_t range;
    int32_t full;     // something did not fit
} esp_nnc_encoder;

// Where the encoding of a tensor stands, so that it can go on in a larger buffer.
typedef struct {
    int64_t block_row, segment, column;
    int32_t state, neighbour;
} esp_nnc_cursor;

typedef struct {
    int64_t taken;
    int32_t state;
} esp_nnc_entry;

void esp_nnc_encoder_start(esp_nnc_encoder *encoder, uint8_t *bytes, int64_t capacity);
// The same bytes in another place: what was written is there already.
void esp_nnc_encoder_move(esp_nnc_encoder *encoder, uint8_t *bytes, int64_t capacity);
void esp_nnc_encode_bypass(esp_nnc_encoder *encoder, uint32_t value, int32_t bits);
void esp_nnc_encode_skips(esp_nnc_encoder *encoder, const uint8_t *skips, int64_t rows);
void esp_nnc_encode_starts(
    esp_nnc_encoder *encoder, const esp_nnc_tensor *tensor, const uint8_t *starts, int64_t count);
// Encodes levels [rows * width] from the cursor on; 0 where a larger buffer is needed, 1 at the end.
// `entries` is null or has a place for each block row.
int32_t esp_nnc_encode_rows(
    esp_nnc_encoder *encoder, esp_nnc_model *model, const esp_nnc_tensor *tensor,
    esp_nnc_cursor *cursor, const int32_t *levels, esp_nnc_entry *entries);
void esp_nnc_encode_end(esp_nnc_encoder *encoder);

// Values of 32 bits [rows * width] in scan order, and back.
void esp_nnc_gather(const esp_nnc_tensor *tensor, const uint32_t *values, uint32_t *sequence);
void esp_nnc_scatter(const esp_nnc_tensor *tensor, const uint32_t *sequence, uint32_t *values);

// MARK: Choices

// Bytes of workspace for a search, of at least 64-byte alignment.
int64_t esp_nnc_search_size(const esp_nnc_tensor *tensor);
// The start index of each context that codes `levels` in the fewest bits (13.5), judged by the first `limit` values.
void esp_nnc_search_starts(
    const esp_nnc_tensor *tensor, const int32_t *levels, int64_t limit, void *workspace,
    uint8_t *starts);

// Magnitudes are cut off at 2^31 - 1 (2^30 - 1 for dependent quantization); the result is 0 where one was.
int32_t esp_nnc_quantize(const float *values, int64_t count, float step, int32_t *levels);
// The trellis of 13.3 without rate, over values in scan order. `choices` has `count` bytes.
int32_t esp_nnc_quantize_dependent(
    const float *values, int64_t count, float step, uint8_t *choices, int32_t *levels);
// Both with rates, over values in scan order: lambda above 0, esp_nnc_rate_size bytes, `choices` of 8 * rows * width.
int64_t esp_nnc_rate_size(void);
int32_t esp_nnc_quantize_dependent_rate(
    const esp_nnc_tensor *tensor, const float *values, float step, double lambda, void *workspace,
    uint8_t *choices, int32_t *levels);
int32_t esp_nnc_quantize_rate(
    const esp_nnc_tensor *tensor, const float *values, float step, double lambda, void *workspace,
    int32_t *levels);

// The levels of codes of dependent quantization (12.2).
// Their codes, by the states in scan order; rows that are skipped count as zeros.
void esp_nnc_codes(const esp_nnc_tensor *tensor, const int32_t *levels, int32_t *codes);
void esp_nnc_levels(const int32_t *codes, int64_t count, int32_t *levels);
void esp_nnc_dequantize(const int32_t *codes, int64_t count, float step, float *values);
// Entries of a codebook [size] times the step; codes are entry numbers less `zero`. 0 where one is outside.
int32_t esp_nnc_dequantize_codebook(
    const int32_t *codes, int64_t count, const int32_t *entries, int32_t size, int32_t zero,
    float step, float *values);

#endif
