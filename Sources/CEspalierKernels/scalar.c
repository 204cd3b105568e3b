// The reference of every kernel: plain loops, one obvious reading each.
#include <math.h>
#include <string.h>

#define ESP_ISA_SUFFIX scalar
#define ESP_ISA ESP_ISA_SCALAR
#define ESP_ISA_NAME "scalar"
#include "philox.h"
#include "table.h"
#include "window.h"

#define KERNEL(name) ESP_NAME(name)

static void KERNEL(f32_add)(const float *a, const float *b, float *y, size_t n) {
    for (size_t i = 0; i < n; i++) y[i] = a[i] + b[i];
}

static void KERNEL(f32_mul)(const float *a, const float *b, float *y, size_t n) {
    for (size_t i = 0; i < n; i++) y[i] = a[i] * b[i];
}

static void KERNEL(f32_scale)(float factor, const float *x, float *y, size_t n) {
    for (size_t i = 0; i < n; i++) y[i] = factor * x[i];
}

static void KERNEL(f32_axpy)(float factor, const float *x, float *y, size_t n) {
    for (size_t i = 0; i < n; i++) y[i] += factor * x[i];
}

static void KERNEL(f32_relu)(const float *x, float *y, size_t n) {
    for (size_t i = 0; i < n; i++) y[i] = x[i] <= 0 ? 0 : x[i];
}

static void KERNEL(f32_relu_gradient)(const float *y, const float *dy, float *dx, size_t n) {
    for (size_t i = 0; i < n; i++) dx[i] = y[i] <= 0 ? 0 : dy[i];
}

static void KERNEL(f32_exp)(const float *x, float *y, size_t n) {
    for (size_t i = 0; i < n; i++) y[i] = expf(x[i]);
}

static void KERNEL(f32_mask)(const uint64_t *words, const float *x, float *y, size_t n) {
    for (size_t i = 0; i < n; i++) y[i] = words[i / 64] >> (i % 64) & 1 ? x[i] : 0;
}

static float KERNEL(f32_sum)(const float *x, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += x[i];
    return (float)sum;
}

static double KERNEL(f32_sum_squares)(const float *x, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += (double)x[i] * x[i];
    return sum;
}

static float KERNEL(f32_abs_max)(const float *x, size_t n) {
    float largest = 0;
    for (size_t i = 0; i < n; i++) {
        if (isnan(x[i])) return x[i];
        if (fabsf(x[i]) > largest) largest = fabsf(x[i]);
    }
    return largest;
}

static void KERNEL(f32_add_row)(const float *row, float *y, size_t rows, size_t columns) {
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < columns; c++) y[r * columns + c] += row[c];
}

static void KERNEL(f32_column_sums)(const float *x, size_t rows, size_t columns, float *sums) {
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < columns; c++) sums[c] += x[r * columns + c];
}

static void KERNEL(f32_column_affine)(const float *x, const float *scale, const float *shift, float *y, size_t rows,
                                      size_t columns) {
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < columns; c++) y[r * columns + c] = x[r * columns + c] * scale[c] + shift[c];
}

static float row_max(const float *x, float factor, size_t columns) {
    float largest = factor * x[0];
    for (size_t c = 1; c < columns; c++)
        if (factor * x[c] > largest) largest = factor * x[c];
    return largest;
}

static void KERNEL(f32_softmax)(float factor, const float *x, float *y, size_t rows, size_t columns) {
    for (size_t r = 0; r < rows && columns; r++, x += columns, y += columns) {
        float largest = row_max(x, factor, columns);
        double sum = 0;
        for (size_t c = 0; c < columns; c++) sum += y[c] = expf(factor * x[c] - largest);
        for (size_t c = 0; c < columns; c++) y[c] = (float)(y[c] / sum);
    }
}

static void KERNEL(f32_log_softmax)(float factor, const float *x, float *y, size_t rows, size_t columns) {
    for (size_t r = 0; r < rows && columns; r++, x += columns, y += columns) {
        float largest = row_max(x, factor, columns);
        double sum = 0;
        for (size_t c = 0; c < columns; c++) sum += exp((double)(factor * x[c] - largest));
        float log_sum = (float)log(sum);
        for (size_t c = 0; c < columns; c++) y[c] = factor * x[c] - largest - log_sum;
    }
}

// dx = y (dy - sum of y dy)
static void KERNEL(f32_softmax_gradient)(const float *y, const float *dy, float *dx, size_t rows, size_t columns) {
    for (size_t r = 0; r < rows; r++, y += columns, dy += columns, dx += columns) {
        double dot = 0;
        for (size_t c = 0; c < columns; c++) dot += (double)y[c] * dy[c];
        for (size_t c = 0; c < columns; c++) dx[c] = y[c] * (dy[c] - (float)dot);
    }
}

// dx = dy - exp(y) sum of dy
static void KERNEL(f32_log_softmax_gradient)(const float *y, const float *dy, float *dx, size_t rows,
                                             size_t columns) {
    for (size_t r = 0; r < rows; r++, y += columns, dy += columns, dx += columns) {
        double sum = 0;
        for (size_t c = 0; c < columns; c++) sum += dy[c];
        for (size_t c = 0; c < columns; c++) dx[c] = dy[c] - expf(y[c]) * (float)sum;
    }
}

static void KERNEL(f32_im2col)(const esp_window *w, const float *image, size_t first, size_t count, float *columns) {
    size_t channels = (size_t)w->channels, pitch = (size_t)w->pitch;
    for (size_t p = first; p < first + count; p++)
        ESP_FOR_EACH_TAP(w, p, {
            for (size_t c = 0; c < channels; c++) *columns++ = at < 0 ? 0 : image[(size_t)at * pitch + c];
        });
}

static void KERNEL(f32_col2im)(const esp_window *w, const float *columns, size_t first, size_t count, float *image) {
    size_t channels = (size_t)w->channels, pitch = (size_t)w->pitch;
    for (size_t p = first; p < first + count; p++)
        ESP_FOR_EACH_TAP(w, p, {
            for (size_t c = 0; c < channels; c++, columns++)
                if (at >= 0) image[(size_t)at * pitch + c] += *columns;
        });
}

static void KERNEL(f32_max_pool)(const esp_window *w, const float *image, float *y, int32_t *index) {
    size_t channels = (size_t)w->channels;
    for (size_t p = 0; p < esp_out_pixels(w); p++)
        for (size_t c = 0; c < channels; c++) {
            float largest = -INFINITY;
            int32_t best = -1;
            ESP_FOR_EACH_TAP(w, p, {
                if (at < 0) continue;
                float v = image[(size_t)at * (size_t)w->pitch + c];
                if (best < 0 || v > largest || isnan(v)) {
                    largest = v;
                    best = (int32_t)at;
                }
            });
            y[p * channels + c] = largest;
            if (index) index[p * channels + c] = best;
        }
}

static void KERNEL(u8_max_pool)(const esp_window *w, const uint8_t *image, uint8_t *y, size_t pitch) {
    for (size_t p = 0; p < esp_out_pixels(w); p++)
        for (size_t c = 0; c < (size_t)w->channels; c++) {
            uint8_t largest = 0;
            ESP_FOR_EACH_TAP(w, p, {
                if (at >= 0 && image[(size_t)at * (size_t)w->pitch + c] > largest)
                    largest = image[(size_t)at * (size_t)w->pitch + c];
            });
            y[p * pitch + c] = largest;
        }
}

static void KERNEL(f32_dense)(const esp_window *w, const esp_f32_dense *layer, const float *image, size_t first,
                              size_t count, float *y, size_t pitch) {
    size_t channels = (size_t)w->channels, taps = (size_t)(w->kernel_height * w->kernel_width);
    for (size_t p = first; p < first + count; p++)
        for (size_t n = 0; n < (size_t)layer->outputs; n++) {
            const float *panel = layer->weights + n / 64 * 64 * taps * channels + n % 64;
            float acc = layer->bias[n];
            ESP_FOR_EACH_TAP(w, p, {
                const float *x = at < 0 ? layer->pad : image + (size_t)at * (size_t)w->pitch;
                for (size_t c = 0; c < channels; c++) acc = fmaf(x[c], panel[(tap * channels + c) * 64], acc);
            });
            y[(p - first) * pitch + n] = layer->relu && acc <= 0 ? 0 : acc;
        }
}

#include "products_scalar.inc"

static void KERNEL(f32_max_pool_gradient)(const esp_window *w, const int32_t *index, const float *dy, float *image) {
    size_t channels = (size_t)w->channels;
    for (size_t i = 0; i < esp_out_pixels(w) * channels; i++)
        if (index[i] >= 0) image[(size_t)index[i] * (size_t)w->pitch + i % channels] += dy[i];
}

static void KERNEL(f32_avg_pool)(const esp_window *w, const float *image, const float *factor, float *y) {
    size_t channels = (size_t)w->channels;
    for (size_t p = 0; p < esp_out_pixels(w); p++, y += channels)
        for (size_t c = 0; c < channels; c++) {
            float sum = 0;
            ESP_FOR_EACH_TAP(w, p, {
                if (at >= 0) sum += image[(size_t)at * (size_t)w->pitch + c];
            });
            y[c] = factor[p] * sum;
        }
}

static void KERNEL(f32_avg_pool_gradient)(const esp_window *w, const float *factor, const float *dy, float *image) {
    size_t channels = (size_t)w->channels;
    for (size_t p = 0; p < esp_out_pixels(w); p++, dy += channels)
        for (size_t c = 0; c < channels; c++) {
            float share = factor[p] * dy[c];
            ESP_FOR_EACH_TAP(w, p, {
                if (at >= 0) image[(size_t)at * (size_t)w->pitch + c] += share;
            });
        }
}

static void KERNEL(u32_philox)(uint64_t key, uint64_t stream, uint64_t block, uint32_t *y, size_t blocks) {
    for (size_t b = 0; b < blocks; b++) esp_philox(key, block + b, stream, y + 4 * b);
}

static void KERNEL(f32_keep)(const uint32_t *words, uint32_t threshold, float value, float *y, size_t n) {
    for (size_t i = 0; i < n; i++) y[i] = words[i] >= threshold ? value : 0;
}

// Bit by bit, the reflected polynomial 0x1EDC6F41.
static uint32_t KERNEL(u8_crc32c)(uint32_t crc, const uint8_t *bytes, size_t n) {
    crc = ~crc;
    for (size_t i = 0; i < n; i++) {
        crc ^= bytes[i];
        for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? 0x82F63B78u : 0);
    }
    return ~crc;
}

// The code before it is cut off, as a whole float.
static float rounded_code(const esp_quantizer *q, float x) { return rintf(x / q->scale) + (float)q->zero_point; }

static void KERNEL(f32_fake_quantize)(const esp_quantizer *q, const float *x, float *y, size_t n) {
    for (size_t i = 0; i < n; i++) {
        float code = rounded_code(q, x[i]);
        code = code < (float)q->low ? (float)q->low : code > (float)q->high ? (float)q->high : code;
        y[i] = (code - (float)q->zero_point) * q->scale;
    }
}

static void KERNEL(f32_fake_quantize_gradient)(const esp_quantizer *q, const float *x, const float *dy, float *dx,
                                               size_t n) {
    for (size_t i = 0; i < n; i++) {
        float code = rounded_code(q, x[i]);
        dx[i] = code >= (float)q->low && code <= (float)q->high ? dy[i] : 0;
    }
}

static void KERNEL(f32_quantize_u8)(const esp_quantizer *q, const float *x, uint8_t *y, size_t n) {
    for (size_t i = 0; i < n; i++) {
        float code = rounded_code(q, x[i]);
        y[i] = (uint8_t)(code > (float)q->high ? q->high : code > (float)q->low ? (int32_t)code : q->low);
    }
}

static void KERNEL(u8_dequantize)(const esp_quantizer *q, const uint8_t *x, float *y, size_t n) {
    for (size_t i = 0; i < n; i++) y[i] = (float)(x[i] - q->zero_point) * q->scale;
}

#include "elements_scalar.inc"
#include "fused_scalar.inc"
#include "copies.inc"
#include "convolution_scalar.inc"
#include "int8_scalar.inc"
#include "sparse_scalar.inc"
#include "table.inc"
