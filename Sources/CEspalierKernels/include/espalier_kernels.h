// Espalier's C kernels: SIMD loops without allocation or threads, chosen at run time by ISA.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Only what Swift must see as never null is marked.
#pragma clang diagnostic push
#pragma clang diagnostic ignored "-Wnullability-completeness"

typedef enum {
    ESP_ISA_SCALAR = 0,
    ESP_ISA_AVX2 = 1,   // AVX2, FMA, CRC32
    ESP_ISA_AVX512 = 2, // AVX-512 F, BW, DQ, VL
    ESP_ISA_VNNI = 3,   // AVX-512 with VNNI
} esp_isa;

// A window sliding over one channels-last image. `pitch` is the distance between two pixels in
// elements: more than `channels` where only some channels (a group) take part.
typedef struct {
    int32_t height, width, channels, pitch;
    int32_t out_height, out_width;
    int32_t kernel_height, kernel_width;
    int32_t stride_y, stride_x;
    int32_t pad_top, pad_left;
    int32_t dilation_y, dilation_x;
} esp_window;

// A convolution over an image that has its padding. The operands of an output pixel are taps_y x taps_x runs of `depth`
// floats; all distances count floats. Where dilation is 1, a row of taps is one run.
typedef struct {
    size_t rows, columns;       // output pixels
    size_t down, right;         // from the operands of an output pixel to those of its neighbours
    size_t taps_y, taps_x;      // runs
    size_t tap_down, tap_right; // from one run to its neighbours
    size_t depth;               // of a run; 1 in a depthwise convolution, whose output c takes operand c of a run
    size_t out_down, out_right; // between output pixels
    size_t outputs;
} esp_taps;

// A row of tiles of Winograd's F(2x2, 3x3). In [16][tiles][channels] `plane` floats lie between two of the 16 matrices.
typedef struct {
    size_t tiles, channels;
    size_t down, right; // between pixels of the image
    size_t plane;
    size_t rows, columns; // output pixels of the tiles that there are: 1 or 2 rows, up to 2 tiles columns
} esp_tiles;

// code = clamp(round_half_even(x / scale) + zero_point, low, high), and x' = (code - zero_point) scale.
typedef struct {
    float scale;
    int32_t zero_point, low, high;
} esp_quantizer;

// What becomes of an integer accumulator: acc += bias[n]; as a float it is acc * scale[n], one multiply; as a
// code it is clamp(round_half_even(acc * scale[n]) + zero_point, low, high).
typedef struct {
    const int32_t *bias; // with the correction for the operand's zero point; padded to 64 outputs
    const float *scale;  // padded likewise; below 1, so that no scaled sum leaves 32 bits
    int32_t outputs;
    int32_t zero_point, low, high;
} esp_requantization;

typedef enum { ESP_OUT_U8 = 0, ESP_OUT_F32 = 1, ESP_OUT_S32 = 2 } esp_out;

// The most taps that the window of a dense layer may have.
enum { ESP_MAX_TAPS = 256 };

// The outputs that a panel of a dense INT8 layer holds where `left` are left: the last one may be narrower.
static inline size_t esp_dense_width(size_t left) { return left > 32 ? 64 : left > 16 ? 32 : 16; }

// A dense INT8 layer: weights in panels of 64 outputs, the last one of esp_dense_width; a panel is
// [taps][channels / 4][width][4], zeros where there is no output or, in the last four of a tap, no channel.
typedef struct {
    const int8_t *weights;
    const uint8_t *pad; // one pixel outside the image: the zero point, in as many fours as channels fill
    esp_requantization out;
} esp_int8_dense;

// A block-sparse INT8 layer. 1x4: groups of four rows of similar length, padded to the longest with zeros;
// entry j of row i of a group is index[4 j + i] and value[4 j + i]. 4x4: a group is four consecutive outputs,
// entry j is index[j] and value[4 j ..< 4 j + 4]. A value is four consecutive inputs, an index counts them in fours.
typedef struct {
    size_t groups;
    const uint32_t *lengths;
    const uint16_t *indices;
    const int32_t *values;
    const uint16_t *rows; // 1x4: the output of each row of each group
    // Null: an index is that of a plane of 64 tokens, 256 bytes. Else the distance of its operand from x in bytes, as
    // in a convolution over planes: x [channels / 4][positions][4], where positions run over padded images; the plane
    // of a quad, and in it the position under a tap.
    const uint32_t *places;
    esp_requantization out;
} esp_int8_sparse;

// A dense float layer: weights as [outputs / 64][taps * channels][64], zeros where there is no output.
typedef struct {
    const float *weights;
    const float *bias; // padded to 64 outputs
    const float *pad;  // one pixel outside the image: zeros, `channels` of them
    int32_t outputs;
    bool relu;
} esp_f32_dense;

// The live entries of a matrix [outputs, inputs] as the float kernels read them, for operands in blocks of 64 tokens:
// [tokens / 64][columns][64]. Entries come in spans of consecutive inputs, small enough for the nearest cache; a span
// is groups of four rows, which are outputs. rows[4 g + i] is row i of group g, ESP_NO_ROW where there is none.
// Single entries: rows of similar length, filled up to the longest with zeros; entry j of row i of a group is
// indices[4 j + i] and values[4 j + i]. The first span has every row once, those without entries too.
// Fours: the group's rows are neighbours and share their entries: entry j is indices[j] and values[4 j ..< 4 j + 4].
typedef struct {
    size_t outputs, inputs;
    size_t spans, span;       // how many, and inputs in each
    const uint32_t *groups;   // of each span
    const uint32_t *lengths;  // entries of each group
    const uint16_t *rows, *indices;
    const float *values;
} esp_f32_sparse;

enum { ESP_NO_ROW = 0xffff };

// What follows a sparse layer: y = z where there is nothing.
typedef enum { ESP_PLAIN = 0, ESP_THEN_RELU = 1, ESP_THEN_GELU = 2 } esp_epilogue;
// The columns of a panel of a product's right factor.
enum { ESP_PANEL = 32 };

// A block of a product: C = A B, [rows][depth] times [depth][columns]. Element (i, k) of A is a[i a_row + k a_depth],
// where one of both distances is 1. B is in panels of 32 columns: element (k, 32 p + j) is b[p b_panel + k b_pitch + j].
// The last panel is read as a whole, or its first half where that is enough.
typedef struct {
    const float *a;
    size_t a_row, a_depth;
    const float *b;
    size_t b_pitch, b_panel;
    float *c;
    size_t c_pitch;
    size_t rows, columns, depth;
    const float *bias; // what sums begin with: for each column, of C as it is written; null for zeros
    bool accumulates;  // they begin with C instead; not where it is transposed
    bool transposed;   // element (i, j) goes to c[j c_pitch + i], and the bias is for each i
} esp_f32_product;
// Attention of one head: queries [queries][depth], keys [keys][depth], values [keys][value_depth] and the result
// [queries][value_depth], whose rows, or blocks of 64 rows, lie so many elements apart. Query i sees keys 0 ... i where it is causal.
typedef struct {
    size_t queries, keys, depth, value_depth;
    size_t query_pitch, key_pitch, value_pitch, result_pitch;
    float scale;
    bool causal;
    bool halves; // factors of products are rounded to bfloat16
} esp_attention;

// Queries and keys that are computed together.
enum { ESP_ATTENTION_QUERIES = 48, ESP_ATTENTION_KEYS = 64 };

// Floats of scratch that attention needs, and its gradient.
static inline size_t esp_attention_scratch(const esp_attention *s) {
    size_t keys = (s->keys + 15) / 16 * 16, depth = (s->depth + 15) / 16 * 16;
    size_t values = (s->value_depth + 15) / 16 * 16;
    return keys * (1 + s->depth) + s->keys * values + ESP_ATTENTION_QUERIES * (depth + keys + 16 + values);
}
static inline size_t esp_attention_gradient_scratch(const esp_attention *s) {
    size_t keys = (s->keys + 15) / 16 * 16, depth = (s->depth + 15) / 16 * 16;
    size_t values = (s->value_depth + 15) / 16 * 16;
    return keys * (1 + s->depth + s->value_depth) + s->keys * (2 * depth + values)
        + ESP_ATTENTION_QUERIES * (2 * depth + values + 2 * (ESP_ATTENTION_KEYS + 16));
}
// The same for operands in blocks of 64 tokens, forward or gradient.
static inline size_t esp_attention_blocks_scratch(const esp_attention *s) {
    size_t depth = (s->depth + 15) / 16 * 16;
    size_t copies = s->halves ? (s->keys + 64) * (s->depth + s->value_depth) : 0;
    size_t forward = 64 * s->keys, gradient = (s->keys + 64) * depth + 2 * 64 * 80;
    return s->keys + copies + (forward > gradient ? forward : gradient);
}

// What a row of logits is held against: class c has the share weights[c] ((1 - smoothing) t[c] + smoothing / classes),
// where t is the row's distribution, or 1 for its class and else 0. No weights are weights of 1.
typedef struct {
    const float *weights;
    float smoothing;
} esp_cross_entropy;

// gain is 1 in the first step and 1 - dampening later.
typedef struct {
    float rate, momentum, gain, decay;
    bool nesterov;
} esp_sgd;

// step = rate / (1 - beta1^t), root = sqrt(1 - beta2^t), keep = 1 - rate * decay.
typedef struct {
    float beta1, beta2, epsilon, step, root, keep;
} esp_adamw;

// decay is added to the gradient times the weight; step = rate / (1 - beta1^t), root = sqrt(1 - beta2^t).
typedef struct {
    float beta1, beta2, epsilon, decay, step, root;
} esp_adam;

typedef struct {
    float rate, epsilon, decay;
} esp_adagrad;

typedef struct {
    float rate, smoothing, epsilon, decay, momentum;
} esp_rmsprop;

// Functions of one number x, some with parameters p and q. The numbers are frozen: files hold them.
typedef enum {
    ESP_ABS = 1,
    ESP_NEGATE = 2,
    ESP_EXP = 3,
    ESP_EXPM1 = 4, // exp(x) - 1
    ESP_LOG = 5,
    ESP_LOG1P = 6, // log(1 + x)
    ESP_SQRT = 7,
    ESP_RSQRT = 8, // 1 / sqrt(x)
    ESP_RECIPROCAL = 9,
    ESP_SQUARE = 10,
    ESP_SIN = 11,
    ESP_COS = 12,
    ESP_TANH = 13,
    ESP_SIGMOID = 14,
    ESP_ERF = 15,
    ESP_GELU = 16,       // x (1 + erf(x / sqrt 2)) / 2
    ESP_GELU_TANH = 17,  // x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2
    ESP_SILU = 18,       // x sigmoid(x)
    ESP_HARD_SWISH = 19, // x clamp(x + 3, 0, 6) / 6
    ESP_SOFTPLUS = 20,   // log(1 + exp(p x)) / p
    ESP_ELU = 21,        // x above 0, else p (exp(x) - 1)
    ESP_LEAKY_RELU = 22, // x above 0, else p x
    ESP_POWER = 23,      // x^p
    ESP_CLAMP = 24,      // p where x is below, q where it is above
} esp_unary;

// Whether the gradient is computed from y = f(x) and not from x.
static inline bool esp_derives_from_result(esp_unary function) {
    switch (function) {
    case ESP_EXP:
    case ESP_SQRT:
    case ESP_RSQRT:
    case ESP_RECIPROCAL:
    case ESP_TANH:
    case ESP_SIGMOID:
        return true;
    default:
        return false;
    }
}

// Functions of two numbers a and b. The numbers are frozen: files hold them.
typedef enum {
    ESP_SUBTRACT = 1,
    ESP_MULTIPLY = 2,
    ESP_DIVIDE = 3,
    ESP_POW = 4,
    ESP_MAXIMUM = 5, // NaN where either is; on a tie each side takes half of the gradient
    ESP_MINIMUM = 6,
} esp_binary;

// What becomes of a row. The numbers are frozen: files hold them.
typedef enum {
    ESP_SUM = 1,
    ESP_MEAN = 2,
    ESP_VARIANCE = 3,  // the divisor is the number of elements less the correction
    ESP_DEVIATION = 4, // its square root
    ESP_LARGEST = 5,   // ties share the gradient evenly
    ESP_SMALLEST = 6,
    ESP_FIRST_LARGEST = 7, // the first takes the whole gradient
    ESP_FIRST_SMALLEST = 8,
    ESP_LOG_SUM_EXP = 9,
    ESP_NORM = 10, // the square root of the sum of the squares
} esp_reduction;

// One ISA's kernels.
typedef struct {
    esp_isa isa;
    const char *_Nonnull name;
#define ESP_KERNEL(name, result, parameters) result (*_Nonnull name) parameters;
#include "kernels.def"
#undef ESP_KERNEL
} esp_kernels;

// The kernels of an ISA, or null where this CPU does not have it.
const esp_kernels *_Nullable esp_kernels_for(esp_isa isa);

// Whether this CPU multiplies pairs of bfloat16 itself, AVX512_BF16, and whether AMD made it.
bool esp_has_bf16(void);
bool esp_is_amd(void);

// The names in kernels.def, in order, closed by null.
extern const char *_Nullable const esp_kernel_names[];

// One of them, null after the last. Swift does not see arrays of unknown length.
static inline const char *_Nullable esp_kernel_name(size_t index) { return esp_kernel_names[index]; }

// The CPUs that this process may use, 0 where the system does not say.
int esp_allowed_cpus(void);

// A word of this thread's own: what a rehearsal of its memory is, 0 where there is none.
uintptr_t *_Nonnull esp_rehearsal(void);

// Tells the CPU that this thread is waiting in a loop.
static inline void esp_pause(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

#pragma clang diagnostic pop
