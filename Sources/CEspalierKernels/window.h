// The walk over the taps of a sliding window, shared by every ISA.
#pragma once
#include "espalier_kernels.h"

// The input row or column under kernel position k of output position o, or -1 in the padding.
static inline int32_t esp_tap(int32_t o, int32_t stride, int32_t pad, int32_t k, int32_t dilation, int32_t extent) {
    int32_t i = o * stride - pad + k * dilation;
    return i >= 0 && i < extent ? i : -1;
}

// Runs BODY for each tap inside the image of output pixel `pixel`, with `tap` (index in the kernel)
// and `at` (input pixel index) defined.
#define ESP_FOR_EACH_TAP(w, pixel, ...)                                                                        \
    do {                                                                                                       \
        int32_t out_y_ = (int32_t)((pixel) / (size_t)(w)->out_width);                                          \
        int32_t out_x_ = (int32_t)((pixel) % (size_t)(w)->out_width);                                          \
        for (int32_t ky_ = 0; ky_ < (w)->kernel_height; ky_++) {                                               \
            int32_t y_ = esp_tap(out_y_, (w)->stride_y, (w)->pad_top, ky_, (w)->dilation_y, (w)->height);      \
            for (int32_t kx_ = 0; kx_ < (w)->kernel_width; kx_++) {                                            \
                int32_t x_ = esp_tap(out_x_, (w)->stride_x, (w)->pad_left, kx_, (w)->dilation_x, (w)->width);  \
                size_t tap = (size_t)(ky_ * (w)->kernel_width + kx_);                                          \
                ptrdiff_t at = y_ < 0 || x_ < 0 ? -1 : (ptrdiff_t)y_ * (w)->width + x_;                        \
                (void)tap;                                                                                     \
                __VA_ARGS__                                                                                    \
            }                                                                                                  \
        }                                                                                                      \
    } while (0)

// The kernel positions whose tap is inside the image.
typedef struct {
    int32_t from, to;
} esp_range;

static inline esp_range esp_taps_inside(int32_t o, int32_t stride, int32_t pad, int32_t kernel, int32_t dilation,
                                        int32_t extent) {
    int32_t start = o * stride - pad;
    esp_range r = {0, kernel};
    if (start >= 0 && start + (kernel - 1) * dilation < extent) return r;
    while (r.from < r.to && start + r.from * dilation < 0) r.from++;
    while (r.to > r.from && start + (r.to - 1) * dilation >= extent) r.to--;
    return r;
}

// The rows that a window of stride 1 slides over.
static inline int32_t esp_planes_height(const esp_window *w) {
    return w->out_height + w->dilation_y * (w->kernel_height - 1);
}

static inline size_t esp_out_pixels(const esp_window *w) { return (size_t)w->out_height * (size_t)w->out_width; }

// The pixels under the taps of some output pixels of a dense layer, found for a tile at a time.
typedef struct {
    // Where every tap is inside the image and taps are one below the other, those under the first one; the others are
    // `step` bytes behind them each. Else [taps][rows].
    const uint8_t *pixels[6 * ESP_MAX_TAPS];
    size_t step;
    bool is_inside;
    int32_t row, column; // of the next output pixel
    size_t line, at;     // the first input under its row and under itself, in bytes; where every tap is inside
} esp_operands;

// Before the first tile, whose first output pixel is `first`.
static inline void esp_first_operands(esp_operands *x, const esp_window *w, size_t first) {
    x->is_inside = w->kernel_width == 1 && w->pad_top == 0 && w->pad_left == 0 &&
                  (w->out_width - 1) * w->stride_x < w->width &&
                  (w->out_height - 1) * w->stride_y + (w->kernel_height - 1) * w->dilation_y < w->height;
    x->step = (size_t)w->dilation_y * (size_t)w->width * (size_t)w->pitch;
    x->row = w->out_width > 0 ? (int32_t)(first / (size_t)w->out_width) : 0;
    x->column = w->out_width > 0 ? (int32_t)(first % (size_t)w->out_width) : 0;
    x->line = (size_t)(x->row * w->stride_y) * (size_t)w->width * (size_t)w->pitch;
    x->at = x->line + (size_t)(x->column * w->stride_x) * (size_t)w->pitch;
}

static inline void esp_next_operands(esp_operands *x, const esp_window *w, const uint8_t *pad, const uint8_t *image,
                                     size_t rows) {
    if (x->is_inside) {
        size_t right = (size_t)w->stride_x * (size_t)w->pitch;
        size_t down = (size_t)w->stride_y * (size_t)w->width * (size_t)w->pitch;
        size_t at = x->at;
        int32_t column = x->column, width = w->out_width;
        for (size_t i = 0; i < rows; i++) {
            x->pixels[i] = image + at;
            at += right;
            if (++column < width) continue;
            column = 0;
            at = x->line += down;
        }
        x->at = at;
        x->column = column;
        return;
    }
    for (size_t i = 0; i < rows; i++) {
        size_t pixel = (size_t)x->row * (size_t)w->out_width + (size_t)x->column;
        ESP_FOR_EACH_TAP(w, pixel,
                         { x->pixels[tap * rows + i] = at < 0 ? pad : image + (size_t)at * (size_t)w->pitch; });
        if (++x->column < w->out_width) continue;
        x->column = 0;
        x->row++;
    }
}

static inline const uint8_t *esp_operand(const esp_operands *x, size_t rows, size_t tap, size_t i) {
    return x->is_inside ? x->pixels[i] + tap * x->step : x->pixels[tap * rows + i];
}

// The image with what a window needs around it.
static inline int32_t esp_padded_height(const esp_window *w) {
    return (w->out_height - 1) * w->stride_y + (w->kernel_height - 1) * w->dilation_y + 1;
}
static inline int32_t esp_padded_width(const esp_window *w) {
    return (w->out_width - 1) * w->stride_x + (w->kernel_width - 1) * w->dilation_x + 1;
}
