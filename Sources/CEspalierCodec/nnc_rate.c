#include "nnc_costs.h"
#include "nnc_trellis.h"

// Quantizers that weigh errors against bits (13.2, 13.3). Contexts run from start index 0.

enum { CONTEXTS = 24 + 3 + ESP_NNC_REMAINDERS + 2 * ESP_NNC_MAX_GREATER };

// Estimates of all contexts of a path: significance, sign, remainder, greater; only those in use are copied.
typedef struct {
    struct {
        int16_t fast, slow;
    } of[CONTEXTS];
} estimates;

typedef struct {
    esp_nnc_costs costs;
    estimates paths[2][ESP_NNC_STATES];
} workspace;

enum { SIGN = 24, REMAINDER = 27, GREATER = 27 + ESP_NNC_REMAINDERS };

int64_t esp_nnc_rate_size(void) { return (int64_t)sizeof(workspace); }

// One walk serves both: with `learn` the contexts take the bins in, without it they only say what these cost.
INLINE double bin(const esp_nnc_costs *costs, estimates *e, int context, unsigned bin, int learn) {
    esp_nnc_context c = {
        .fast = e->of[context].fast, .slow = e->of[context].slow,
        .fast_steps = 2 * ESP_NNC_STEPS, .slow_steps = 2 * ESP_NNC_STEPS * 4};
    if (!learn) return costs->of[bin][512 + (esp_nnc_probability(&c) >> 3)];
    esp_nnc_update(&c, bin);
    e->of[context].fast = c.fast;
    e->of[context].slow = c.slow;
    return 0;
}

INLINE double walk(
    const esp_nnc_costs *costs, estimates *e, int greater, int state, int neighbour, int32_t level,
    int learn) {
    double sum = bin(costs, e, 3 * state + neighbour, level != 0, learn);
    if (level == 0) return sum;
    int negative = level < 0;
    int64_t magnitude = negative ? -(int64_t)level : level, reached = 1;
    sum += bin(costs, e, SIGN + neighbour, (unsigned)negative, learn);
    unsigned flag;
    int j = 0;
    do {
        flag = magnitude > reached;
        sum += bin(costs, e, GREATER + 2 * j + negative, flag, learn);
        reached += flag;
        j++;
    } while (flag && j < greater);
    if (!flag) return sum;
    int r = 0, k = 0;
    do {
        flag = magnitude >= reached + ((int64_t)1 << r);
        sum += bin(costs, e, REMAINDER + k++, flag, learn);
        if (flag) reached += (int64_t)1 << r++;
    } while (flag && k < 31);
    return sum + 32768.0 * r;
}

static double cost_of(
    const esp_nnc_costs *costs, estimates *e, int greater, int state, int neighbour,
    int32_t level) {
    return walk(costs, e, greater, state, neighbour, level, 0);
}

static void learn(
    const esp_nnc_costs *costs, estimates *e, int greater, int state, int neighbour,
    int32_t level) {
    walk(costs, e, greater, state, neighbour, level, 1);
}

static int neighbour_of(int32_t level) { return level == 0 ? 0 : level < 0 ? 1 : 2; }

// The positions of a block row, in scan order.
static int64_t row_length(const esp_nnc_tensor *tensor, int64_t block_row) {
    int64_t side = esp_nnc_side(tensor);
    if (side == 0) return tensor->rows * tensor->width;
    int64_t height = tensor->rows - block_row * side;
    return (height < side ? height : side) * tensor->width;
}

int32_t esp_nnc_quantize_rate(
    const esp_nnc_tensor *tensor, const float *values, float step, double lambda, void *space,
    int32_t *levels) {
    workspace *w = space;
    esp_nnc_costs_fill(&w->costs);
    estimates *e = &w->paths[0][0];
    const double inverse = 1 / (double)step, weight = 32768 / (lambda * (0.69314718055994531 / 6));
    int32_t fits = 1;
    int64_t i = 0;
    for (int64_t b = 0; b < esp_nnc_block_rows(tensor); b++) {
        memset(e, 0, sizeof *e);
        int neighbour = 0;
        for (int64_t end = i + row_length(tensor, b); i < end; i++) {
            double x = esp_nnc_ratio(values[i], inverse);
            fits &= x < ESP_NNC_MAX_RATIO;
            int64_t nearest = (int64_t)(x + 0.5);
            double least = 0;
            int32_t best = 0;
            for (int c = 0; c < 3; c++) {
                int64_t magnitude = c == 0 ? 0 : nearest - 2 + c;
                if (c > 0 && magnitude < 1) continue;
                int32_t level = (int32_t)(values[i] < 0 ? -magnitude : magnitude);
                double cost = esp_nnc_square(x - (double)magnitude) * weight +
                              cost_of(&w->costs, e, tensor->greater, 0, neighbour, level);
                if (c == 0 || cost < least) {
                    least = cost;
                    best = level;
                }
            }
            levels[i] = best;
            learn(&w->costs, e, tensor->greater, 0, neighbour, best);
            neighbour = neighbour_of(best);
        }
    }
    return fits;
}

// What a state keeps of the way to it: two bits, the upper predecessor and a zero.
enum { UPPER = 1, ZERO = 2 };
static const uint8_t sources[8][2] = {{0, 4}, {2, 6}, {0, 4}, {2, 6},
                                      {3, 7}, {1, 5}, {3, 7}, {1, 5}};

int32_t esp_nnc_quantize_dependent_rate(
    const esp_nnc_tensor *tensor, const float *values, float step, double lambda, void *space,
    uint8_t *choices, int32_t *levels) {
    workspace *w = space;
    esp_nnc_costs_fill(&w->costs);
    const double inverse = 1 / (double)step;
    const double weight = 32768 / (lambda * 4 * (0.69314718055994531 / 6) * 0.7);
    const size_t used = sizeof w->paths[0][0].of[0] * (size_t)(GREATER + 2 * tensor->greater);
    double costs[8] = {0, INFINITY, INFINITY, INFINITY, INFINITY, INFINITY, INFINITY, INFINITY};
    int neighbours[8] = {0}, now = 0;
    int32_t fits = 1;
    int64_t i = 0;
    for (int64_t b = 0; b < esp_nnc_block_rows(tensor); b++) {
        for (int s = 0; s < 8; s++) {
            memset(&w->paths[now][s], 0, used);
            neighbours[s] = 0;
        }
        for (int64_t end = i + row_length(tensor, b); i < end; i++, now = !now) {
            const float value = values[i];
            double x = esp_nnc_ratio(value, inverse);
            fits &= x < ESP_NNC_MAX_RATIO;
            // Of each old state: the cost of the even branch, of the odd one, and whether the even one is a zero.
            double branch[8][2];
            int32_t level[8][2];
            for (int s = 0; s < 8; s++) {
                estimates *e = &w->paths[now][s];
                if (costs[s] == INFINITY) {
                    branch[s][0] = branch[s][1] = INFINITY;
                    level[s][0] = level[s][1] = 0;
                    continue;
                }
                double zero = x * x * weight +
                              cost_of(&w->costs, e, tensor->greater, s, neighbours[s], 0);
                for (int odd = 0; odd < 2; odd++) {
                    double c = esp_nnc_candidate(x, esp_nnc_residue(s & 1, odd));
                    level[s][odd] = esp_nnc_level_of(value, c);
                    branch[s][odd] =
                        costs[s] + esp_nnc_square(x - c) * weight +
                        cost_of(
                            &w->costs, e, tensor->greater, s, neighbours[s], level[s][odd]);
                }
                if (costs[s] + zero <= branch[s][0]) {
                    branch[s][0] = costs[s] + zero;
                    level[s][0] = 0;
                }
            }
            double next_costs[8];
            int next_neighbours[8];
            for (int s = 0; s < 8; s++) {
                int low = sources[s][0], high = sources[s][1];
                int odd_low = esp_nnc_next[low][1] == s, odd_high = esp_nnc_next[high][1] == s;
                int upper = branch[high][odd_high] < branch[low][odd_low];
                int from = upper ? high : low, odd = upper ? odd_high : odd_low;
                next_costs[s] = branch[from][odd];
                next_neighbours[s] = neighbour_of(level[from][odd]);
                choices[8 * i + s] = (uint8_t)((upper ? UPPER : 0) |
                                               (level[from][odd] == 0 ? ZERO : 0));
                memcpy(&w->paths[!now][s], &w->paths[now][from], used);
                learn(
                    &w->costs, &w->paths[!now][s], tensor->greater, from, neighbours[from],
                    level[from][odd]);
            }
            memcpy(costs, next_costs, sizeof costs);
            memcpy(neighbours, next_neighbours, sizeof neighbours);
        }
    }
    int state = 0;
    for (int s = 1; s < 8; s++)
        if (costs[s] < costs[state]) state = s;
    while (i-- > 0) {
        int choice = choices[8 * i + state], from = sources[state][choice & UPPER];
        int odd = esp_nnc_next[from][1] == state;
        double x = esp_nnc_ratio(values[i], inverse);
        levels[i] = choice & ZERO ? 0
                                  : esp_nnc_level_of(
                                        values[i],
                                        esp_nnc_candidate(x, esp_nnc_residue(from & 1, odd)));
        state = from;
    }
    return fits;
}
