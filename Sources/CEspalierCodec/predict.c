// Prediction of dense codes: columns of a matrix are rarely independent (a third of an embedding's
// information lies in a few directions), and neighbouring rows may be alike. A weight is predicted
// from the row's weights before it, by one triangular matrix for the tensor, and from what that
// missed in the rows above, by three multipliers for the tile. The differences are coded, modulo 256.
//
// With covariance S = L D L', L unit lower triangular, the best linear prediction from the
// columns before is I - inverse(L): the Cholesky factor of the innovations, as in linear predictive coding.

#include <math.h>
#include <string.h>

#include "espalier_codec.h"

enum { FIT_ROWS = 16384, BLOCK = 16, STEP = 7, ABOVE_STEP = 6, PREDICTED = 128 << STEP };

static size_t aligned(size_t n) { return (n + 63) & ~(size_t)63; }
static size_t smaller(size_t a, size_t b) { return a < b ? a : b; }

size_t esp_predictor_workspace(size_t rows, size_t columns) {
    size_t square = columns * columns;
    size_t fit = aligned(2 * columns * (smaller(rows, FIT_ROWS) + BLOCK)) + 16 * square;
    size_t apply = aligned(2 * square) + aligned(2 * rows * columns) + 8 * aligned(2 * columns + 64);
    return fit > apply ? fit : apply;
}

// MARK: Fitting

static int64_t product(const int16_t *a, const int16_t *b, size_t count) {
    int64_t sum = 0;
    for (size_t i = 0; i < count; i += 4096) {
        int32_t part = 0;
        for (size_t k = i; k < smaller(count, i + 4096); k++) part += a[k] * b[k];
        sum += part;
    }
    return sum;
}

static int16_t *turned_rows(void *workspace) { return workspace; }

static size_t fit_step(size_t rows) { return (rows + FIT_ROWS - 1) / FIT_ROWS; }
static size_t fit_pitch(size_t rows) { return smaller(rows, FIT_ROWS) + BLOCK; }

static double *fit_square(void *workspace, size_t rows, size_t columns) {
    return (double *)((uint8_t *)workspace + aligned(2 * columns * fit_pitch(rows)));
}

void esp_predictor_begin(const int8_t *codes, size_t rows, size_t columns, void *workspace) {
    size_t step = fit_step(rows), used = rows / step, pitch = fit_pitch(rows);
    int16_t *turned = turned_rows(workspace);
    for (size_t r = 0; r < used; r++)
        for (size_t j = 0; j < columns; j++) turned[j * pitch + r] = codes[r * step * columns + j];
}

void esp_predictor_products(size_t rows, size_t columns, size_t first, size_t end, void *workspace) {
    size_t used = rows / fit_step(rows), pitch = fit_pitch(rows);
    const int16_t *turned = turned_rows(workspace);
    double *square = fit_square(workspace, rows, columns);
    for (size_t i = first; i < end; i++)
        for (size_t j = 0; j <= i; j++)
            square[i * columns + j] =
                (double)product(turned + i * pitch, turned + j * pitch, used);
}

double esp_predictor_fit(size_t rows, size_t columns, int8_t *coefficients, void *workspace) {
    double *factor = fit_square(workspace, rows, columns), trace = 0;
    double *inverse = factor + columns * columns;
    for (size_t i = 0; i < columns; i++) trace += factor[i * columns + i];
    // A ridge of one percent holds back what is fitted to noise.
    double ridge = 0.01 * trace / (double)columns + 1, gain = 0;
    for (size_t i = 0; i < columns; i++) {
        double *row = factor + i * columns, own = row[i] + ridge;
        row[i] = own;
        for (size_t j = 0; j <= i; j++) {
            const double *other = factor + j * columns;
            double sum = row[j];
            for (size_t k = 0; k < j; k++) sum -= row[k] * other[k];
            row[j] = i == j ? sqrt(sum) : sum / other[j];
        }
        gain += 0.5 * log2(own / (row[i] * row[i]));
    }
    memset(coefficients, 0, columns * columns);
    for (size_t i = 0; i < columns; i++) {
        double *mine = inverse + i * columns;
        for (size_t j = 0; j < i; j++) mine[j] = 0;
        mine[i] = 1;
        for (size_t k = 0; k < i; k++) {
            double ratio = factor[i * columns + k] / factor[k * columns + k];
            const double *other = inverse + k * columns;
            for (size_t j = 0; j <= k; j++) mine[j] -= ratio * other[j];
        }
        for (size_t j = 0; j < i; j++) {
            double c = nearbyint(-mine[j] * (1 << STEP));
            coefficients[i * columns + j] = (int8_t)(c > 127 ? 127 : c < -127 ? -127 : c);
        }
    }
    return gain / (double)columns;
}

// MARK: Prediction

static inline int limited(int v, int low, int high) { return v < low ? low : v > high ? high : v; }

/// From the weights before column `j`, in 1 / 2^STEP. Whole blocks are summed as vectors; the last few
/// weights have just been stored, and are read singly.
static inline int from_row(const int16_t *coefficients, const int16_t *row, size_t j) {
    int32_t sum = 0;
    size_t blocks = j / BLOCK * BLOCK;
    for (size_t i = 0; i < blocks; i++) sum += coefficients[i] * row[i];
    for (size_t i = blocks; i < j; i++) sum += coefficients[i] * row[i];
    return limited(sum, -PREDICTED, PREDICTED - 1);
}

static inline int rounded(int v, int bits) { return (v + (1 << (bits - 1))) >> bits; }

/// What the rows above missed: the last one, the one before, and a running mean in 1/64.
typedef struct {
    int16_t *last, *before, *mean;
} history;

static inline int from_above(const history *h, const int8_t above[3], size_t j) {
    int sum = above[0] * h->last[j] + above[1] * h->before[j] + above[2] * (h->mean[j] >> 6);
    return sum * (1 << (STEP - ABOVE_STEP));
}

/// Makes `missed`, of the row just done, the last one.
static void turn(history *h, int16_t **missed, size_t columns) {
    int16_t *row = *missed;
    for (size_t j = 0; j < columns; j++)
        h->mean[j] = (int16_t)(h->mean[j] + ((row[j] * 64 - h->mean[j]) >> 3));
    *missed = h->before;
    h->before = h->last;
    h->last = row;
}

typedef struct {
    int16_t *coefficients, *tile, *row, *missed;
    history above;
} space;

static space divided(void *workspace, size_t rows, size_t columns, const int8_t *coefficients) {
    uint8_t *at = workspace;
    size_t line = aligned(2 * columns + 64);
    space s;
    s.coefficients = (int16_t *)at;
    at += aligned(2 * columns * columns);
    s.tile = (int16_t *)at;
    at += aligned(2 * rows * columns);
    s.row = (int16_t *)at;
    s.missed = (int16_t *)(at + line);
    s.above = (history){
        (int16_t *)(at + 2 * line), (int16_t *)(at + 3 * line), (int16_t *)(at + 4 * line)};
    memset(at, 0, 5 * line);
    if (coefficients)
        for (size_t i = 0; i < columns * columns; i++) s.coefficients[i] = coefficients[i];
    return s;
}

/// Multipliers of least squares for what the first part missed, or zeros where they gain too little.
static void fit_above(space *s, size_t rows, size_t columns, int8_t above[3]) {
    int64_t normal[3][3] = {{0}}, right[3] = {0}, power = 0;
    history h = s->above;
    int16_t *missed = s->missed;
    for (size_t r = 0; r < rows; r++) {
        const int16_t *row = s->tile + r * columns;
        int64_t n00 = 0, n01 = 0, n02 = 0, n11 = 0, n12 = 0, n22 = 0, y0 = 0, y1 = 0, y2 = 0, yy = 0;
        for (size_t j = 0; j < columns; j++) {
            int a = h.last[j], b = h.before[j], c = h.mean[j] >> 6, y = row[j];
            n00 += a * a, n01 += a * b, n02 += a * c, n11 += b * b, n12 += b * c, n22 += c * c;
            y0 += a * y, y1 += b * y, y2 += c * y, yy += y * y;
        }
        int64_t sums[3][3] = {{n00, n01, n02}, {n01, n11, n12}, {n02, n12, n22}}, ys[3] = {y0, y1, y2};
        for (int i = 0; i < 3; i++) {
            right[i] += ys[i];
            for (int k = 0; k < 3; k++) normal[i][k] += sums[i][k];
        }
        power += yy;
        memcpy(missed, row, 2 * columns);
        turn(&h, &missed, columns);
    }
    memset(s->above.last, 0, 2 * columns);
    memset(s->above.before, 0, 2 * columns);
    memset(s->above.mean, 0, 2 * columns);
    double m[3][4], x[3], explained = 0;
    for (int i = 0; i < 3; i++) {
        for (int k = 0; k < 3; k++) m[i][k] = (double)normal[i][k];
        m[i][i] = m[i][i] * 1.001 + 1;
        m[i][3] = (double)right[i];
    }
    for (int i = 0; i < 3; i++)
        for (int k = i + 1; k < 3; k++) {
            double f = m[k][i] / m[i][i];
            for (int l = i; l < 4; l++) m[k][l] -= f * m[i][l];
        }
    for (int i = 2; i >= 0; i--) {
        x[i] = m[i][3];
        for (int k = i + 1; k < 3; k++) x[i] -= m[i][k] * x[k];
        x[i] /= m[i][i];
        explained += x[i] * (double)right[i];
        double c = nearbyint(x[i] * (1 << ABOVE_STEP));
        above[i] = (int8_t)(c > 127 ? 127 : c < -127 ? -127 : c);
    }
    // A hundredth of a bit for each weight.
    if (explained < 0.014 * (double)power) memset(above, 0, 3);
}

void esp_predictor_apply(const int8_t *codes, size_t rows, size_t columns, const int8_t *coefficients,
                         int8_t above[3], int8_t *differences, void *workspace) {
    space s = divided(workspace, rows, columns, coefficients);
    for (size_t r = 0; r < rows; r++) {
        const int8_t *row = codes + r * columns;
        for (size_t j = 0; j < columns; j++) s.row[j] = row[j];
        for (size_t j = 0; j < columns; j++) {
            int h = coefficients ? from_row(s.coefficients + j * columns, s.row, j) : 0;
            s.tile[r * columns + j] = (int16_t)(row[j] - rounded(h, STEP));
            // Kept for the second part, which adds before it rounds.
            differences[r * columns + j] = (int8_t)(h & ((1 << STEP) - 1));
        }
    }
    fit_above(&s, rows, columns, above);
    for (size_t r = 0; r < rows; r++) {
        const int8_t *row = codes + r * columns;
        for (size_t j = 0; j < columns; j++) {
            size_t i = r * columns + j;
            int whole = row[j] - s.tile[i], low = differences[i];
            // The fraction says which way the whole number was rounded.
            int h = (whole - (low >= 1 << (STEP - 1))) * (1 << STEP) + low;
            int p = limited(rounded(h + from_above(&s.above, above, j), STEP), -128, 127);
            s.missed[j] = s.tile[i];
            differences[i] = (int8_t)(row[j] - p);
        }
        turn(&s.above, &s.missed, columns);
    }
}

void esp_predictor_undo(int8_t *codes, size_t rows, size_t columns, const int8_t *coefficients,
                        const int8_t above[3], void *workspace) {
    space s = divided(workspace, rows, columns, coefficients);
    for (size_t r = 0; r < rows; r++) {
        int8_t *row = codes + r * columns;
        for (size_t j = 0; j < columns; j++) {
            int h = coefficients ? from_row(s.coefficients + j * columns, s.row, j) : 0;
            int p = limited(rounded(h + from_above(&s.above, above, j), STEP), -128, 127);
            row[j] = (int8_t)(row[j] + p);
            s.row[j] = row[j];
            s.missed[j] = (int16_t)(row[j] - rounded(h, STEP));
        }
        turn(&s.above, &s.missed, columns);
    }
}
