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

static void KERNEL(f32_column_squares)(const float *x, const float *mean, size_t rows, size_t columns, float *sums) {
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < columns; c++) {
            float d = x[r * columns + c] - mean[c];
            sums[c] += d * d;
        }
}

static void KERNEL(f32_column_products)(const float *a, const float *b, const float *mean, size_t rows,
                                        size_t columns, float *sums) {
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < columns; c++) sums[c] += a[r * columns + c] * (b[r * columns + c] - mean[c]);
}

static void KERNEL(f32_column_affine)(const float *x, const float *scale, const float *shift, float *y, size_t rows,
                                      size_t columns) {
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < columns; c++) y[r * columns + c] = x[r * columns + c] * scale[c] + shift[c];
}

static void KERNEL(f32_column_affine2)(const float *dy, const float *x, const float *a, const float *b,
                                       const float *shift, float *dx, size_t rows, size_t columns) {
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < columns; c++) {
            size_t i = r * columns + c;
            dx[i] = dy[i] * a[c] + (x[i] * b[c] + shift[c]);
        }
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

static void KERNEL(f32_sgd)(const esp_sgd *rule, const float *gradient, float *value, float *momentum, size_t n) {
    for (size_t i = 0; i < n; i++) {
        float g = gradient[i] + rule->decay * value[i];
        if (momentum) {
            momentum[i] = rule->momentum * momentum[i] + rule->gain * g;
            g = rule->nesterov ? g + rule->momentum * momentum[i] : momentum[i];
        }
        value[i] -= rule->rate * g;
    }
}

static void KERNEL(f32_adamw)(const esp_adamw *rule, const float *gradient, float *value, float *first, float *second,
                              size_t n) {
    for (size_t i = 0; i < n; i++) {
        float g = gradient[i];
        first[i] = rule->beta1 * first[i] + (1 - rule->beta1) * g;
        second[i] = rule->beta2 * second[i] + (1 - rule->beta2) * (g * g);
        value[i] = rule->keep * value[i] - rule->step * (first[i] / (sqrtf(second[i]) / rule->root + rule->epsilon));
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

static int32_t quantize(const esp_requantization *out, int32_t acc, size_t n) {
    float scaled = (float)(acc + out->bias[n]) * out->scale[n];
    // Clamped before it is rounded: the same for whole bounds, and safe for any size.
    float low = (float)(out->low - out->zero_point), high = (float)(out->high - out->zero_point);
    scaled = scaled < low ? low : scaled > high ? high : scaled;
    return (int32_t)rintf(scaled) + out->zero_point;
}

static void KERNEL(u8s8_dense)(const esp_window *w, const esp_int8_dense *layer, const uint8_t *image, size_t first,
                               size_t count, esp_out kind, void *y, size_t pitch) {
    size_t channels = (size_t)w->channels, taps = (size_t)(w->kernel_height * w->kernel_width);
    for (size_t p = first; p < first + count; p++)
        for (size_t n = 0; n < (size_t)layer->out.outputs; n++) {
            const int8_t *panel = layer->weights + n / 64 * 64 * taps * channels + n % 64 * 4;
            int32_t acc = 0;
            ESP_FOR_EACH_TAP(w, p, {
                const uint8_t *x = at < 0 ? layer->pad : image + (size_t)at * (size_t)w->pitch;
                for (size_t c = 0; c < channels; c++)
                    acc += x[c] * panel[(tap * channels + c) / 4 * 256 + c % 4];
            });
            size_t i = (p - first) * pitch + n;
            if (kind == ESP_OUT_U8) ((uint8_t *)y)[i] = (uint8_t)quantize(&layer->out, acc, n);
            if (kind == ESP_OUT_F32) ((float *)y)[i] = (float)(acc + layer->out.bias[n]) * layer->out.scale[n];
            if (kind == ESP_OUT_S32) ((int32_t *)y)[i] = acc + layer->out.bias[n];
        }
}

static int32_t dot4(const uint8_t *x, int32_t value) {
    int8_t weights[4];
    memcpy(weights, &value, 4);
    return x[0] * weights[0] + x[1] * weights[1] + x[2] * weights[2] + x[3] * weights[3];
}

static size_t place(const esp_int8_sparse *layer, size_t index) {
    return layer->places ? layer->places[index] : index * 256;
}

static void KERNEL(u8s8_sparse_1x4)(const esp_int8_sparse *layer, const uint8_t *x, uint8_t *scratch, uint8_t *y) {
    (void)scratch;
    const uint16_t *index = layer->indices;
    const int32_t *value = layer->values;
    for (size_t g = 0; g < layer->groups; g++) {
        for (size_t r = 0; r < 4; r++) {
            size_t n = layer->rows[4 * g + r];
            for (size_t t = 0; t < 64; t++) {
                int32_t acc = 0;
                for (size_t j = 0; j < layer->lengths[g]; j++)
                    acc += dot4(x + place(layer, index[4 * j + r]) + t * 4, value[4 * j + r]);
                y[n / 4 * 256 + t * 4 + n % 4] = (uint8_t)quantize(&layer->out, acc, n);
            }
        }
        index += 4 * layer->lengths[g];
        value += 4 * layer->lengths[g];
    }
}

static void KERNEL(u8s8_sparse_4x4)(const esp_int8_sparse *layer, const uint8_t *x, uint8_t *y) {
    const uint16_t *index = layer->indices;
    const int32_t *value = layer->values;
    for (size_t g = 0; g < layer->groups; g++) {
        for (size_t r = 0; r < 4; r++)
            for (size_t t = 0; t < 64; t++) {
                int32_t acc = 0;
                for (size_t j = 0; j < layer->lengths[g]; j++)
                    acc += dot4(x + place(layer, index[j]) + t * 4, value[4 * j + r]);
                y[g * 256 + t * 4 + r] = (uint8_t)quantize(&layer->out, acc, 4 * g + r);
            }
        index += layer->lengths[g];
        value += 4 * layer->lengths[g];
    }
}

static void KERNEL(u8_to_block)(const uint8_t *rows, size_t pitch, size_t tokens, size_t inputs, uint8_t *block) {
    for (size_t k = 0; k < inputs; k++)
        for (size_t t = 0; t < 64; t++) block[k / 4 * 256 + t * 4 + k % 4] = t < tokens ? rows[t * pitch + k] : 0;
}

static void KERNEL(u8_from_block)(const uint8_t *block, size_t tokens, size_t inputs, uint8_t *rows, size_t pitch) {
    for (size_t t = 0; t < tokens; t++)
        for (size_t k = 0; k < inputs; k++) rows[t * pitch + k] = block[k / 4 * 256 + t * 4 + k % 4];
}

static void KERNEL(u8_to_planes)(const esp_window *w, const uint8_t *image, uint8_t pad, size_t width,
                                 size_t positions, uint8_t *planes) {
    size_t channels = (size_t)w->channels;
    for (int32_t y = 0; y < esp_planes_height(w); y++)
        for (int32_t x = 0; x < (int32_t)width; x++)
            for (size_t c = 0; c < (channels + 3) / 4 * 4; c++) {
                int32_t row = y - w->pad_top, column = x - w->pad_left;
                bool inside = row >= 0 && row < w->height && column >= 0 && column < w->width && c < channels;
                size_t position = (size_t)y * width + (size_t)x;
                planes[(c / 4 * positions + position) * 4 + c % 4] =
                    inside ? image[((size_t)row * (size_t)w->width + (size_t)column) * (size_t)w->pitch + c] : pad;
            }
}

#include "table.inc"
