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
    while (r.from < r.to && start + r.from * dilation < 0) r.from++;
    while (r.to > r.from && start + (r.to - 1) * dilation >= extent) r.to--;
    return r;
}

// The rows that a window of stride 1 slides over.
static inline int32_t esp_planes_height(const esp_window *w) {
    return w->out_height + w->dilation_y * (w->kernel_height - 1);
}

static inline size_t esp_out_pixels(const esp_window *w) { return (size_t)w->out_height * (size_t)w->out_width; }
