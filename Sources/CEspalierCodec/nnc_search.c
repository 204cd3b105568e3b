#include "nnc_costs.h"

// Nine copies of a context, one for each start index, run over the bins that the context would code.
enum { LANES = 16, STARTS = 9 };
typedef int16_t lanes __attribute__((ext_vector_type(LANES), aligned(16)));
typedef uint16_t unsigned_lanes __attribute__((ext_vector_type(LANES), aligned(16)));

typedef struct {
    lanes fast, slow;
    uint64_t costs[STARTS];
} copies;

typedef struct {
    esp_nnc_costs costs;
    copies significant[24], sign[3], remainder[ESP_NNC_REMAINDERS];
    copies greater[];
} search;

// Shifts and start values of 8.2 by lane, those beyond the ninth unused.
static const unsigned_lanes fast_shifts = {5, 5, 5, 4, 6, 6, 6, 7, 7, 4, 4, 4, 4, 4, 4, 4};
static const unsigned_lanes slow_shifts = {4, 4, 4, 5, 6, 6, 6, 5, 5, 4, 4, 4, 4, 4, 4, 4};
static const lanes first_fast = {0, -41, 95, 0, 30, 95, -21, 0, 30};
static const lanes first_slow = {0, -654, 1519, 0, 482, 1519, -337, 0, 482};

// STEP by its index: convex but for its last entry, so it is the largest of four lines.
#define LARGER(a, b) __builtin_elementwise_max(a, b)
#define STEP_AT(index)                                                       \
    ((unsigned_lanes)((index < 31) &                                         \
                      LARGER(LARGER(2512 - 224 * index, 1424 - 96 * index),  \
                             LARGER(1040 - 64 * index, (lanes)64))))

INLINE void run(search *s, copies *c, unsigned bin) {
    lanes state = 16 * c->fast + c->slow;
    lanes place = (state >> 3) + 512;
    const uint32_t *costs = s->costs.of[bin];
    for (int i = 0; i < STARTS; i++) c->costs[i] += costs[place[i] & 1023];
    // The sign s: all ones for a bin of 0 takes the two's complement.
    lanes sign = (lanes)(int16_t)((int)bin - 1);
    lanes fast = 16 + (((c->fast ^ sign) - sign) >> 3);
    lanes slow = 16 + (((c->slow ^ sign) - sign) >> 7);
    lanes fast_step = (lanes)(STEP_AT(fast) >> fast_shifts);
    lanes slow_step = (lanes)(STEP_AT(slow) >> slow_shifts);
    c->fast += (fast_step ^ sign) - sign;
    c->slow += (slow_step ^ sign) - sign;
}

static void reset(copies *c, int64_t count) {
    for (int64_t i = 0; i < count; i++) {
        c[i].fast = first_fast;
        c[i].slow = first_slow;
    }
}

static void reset_all(search *s, const esp_nnc_tensor *tensor) {
    reset(s->significant, 24);
    reset(s->sign, 3);
    reset(s->remainder, ESP_NNC_REMAINDERS);
    reset(s->greater, 2 * (int64_t)tensor->greater);
}

int64_t esp_nnc_search_size(const esp_nnc_tensor *tensor) {
    return (int64_t)sizeof(search) + 2 * tensor->greater * (int64_t)sizeof(copies);
}

static void run_value(
    search *s, const esp_nnc_tensor *tensor, int32_t level, int state, int neighbour, int known) {
    run(s, &s->significant[3 * state + neighbour], level != 0);
    if (level == 0) return;
    int negative = level < 0;
    if (known < 0) run(s, &s->sign[neighbour], (unsigned)negative);
    int64_t limit = esp_nnc_limit(tensor, negative), reached = 1;
    int64_t magnitude = negative ? -(int64_t)level : level;
    if (limit <= 1) return;
    unsigned flag;
    int j = 0;
    do {
        flag = magnitude > reached;
        run(s, &s->greater[2 * j + negative], flag);
        reached += flag;
        j++;
    } while (flag && j < tensor->greater && reached < limit);
    if (!flag || reached >= limit) return;
    int r = 0, k = 0;
    do {
        flag = magnitude >= reached + ((int64_t)1 << r);
        run(s, &s->remainder[k++], flag);
        if (flag) reached += (int64_t)1 << r++;
    } while (flag && k < 31 && limit >= reached + ((int64_t)1 << r));
}

// The cheapest start; the first of equal ones, as an index other than 0 costs three bits more.
static uint8_t best(const copies *c) {
    int least = 0;
    for (int i = 1; i < STARTS; i++)
        if (c->costs[i] + (3 << 15) < c->costs[least] + (least > 0 ? 3 << 15 : 0)) least = i;
    return (uint8_t)least;
}

void esp_nnc_search_starts(
    const esp_nnc_tensor *tensor, const int32_t *levels, int64_t limit, void *workspace,
    uint8_t *starts) {
    search *s = workspace;
    memset(s, 0, (size_t)esp_nnc_search_size(tensor));
    esp_nnc_costs_fill(&s->costs);
    reset_all(s, tensor);
    const int known = esp_nnc_known_sign(tensor);
    int state = 0;
    int64_t left = limit;
    for (int64_t b = 0; b < esp_nnc_block_rows(tensor) && left > 0; b++) {
        int neighbour = 0;
        if (b > 0) reset_all(s, tensor);
        int64_t segments = esp_nnc_segments(tensor, b);
        for (int64_t i = 0; i < segments && left > 0; i++) {
            esp_nnc_segment segment = esp_nnc_segment_at(tensor, b, i);
            if (tensor->skips && tensor->skips[segment.row]) {
                state = esp_nnc_skip(state, tensor->width);
                continue;
            }
            const int32_t *source = levels + segment.row * tensor->width + segment.start;
            for (int64_t j = 0; j < segment.length && left > 0; j++, left--) {
                int32_t level = source[j];
                run_value(s, tensor, level, tensor->dependent ? state : 0, neighbour, known);
                state = esp_nnc_next[state][level & 1];
                neighbour = level == 0 ? 0 : level < 0 ? 1 : 2;
            }
        }
    }
    // The model's contexts are where the copies are; those of updates are not searched.
    static const esp_nnc_model shape;
#define VISIT(context)                                                                     \
    do {                                                                                   \
        const esp_nnc_context *at = &(context);                                            \
        uint8_t start = 0;                                                                 \
        if (at >= shape.significant && at < shape.significant + 24)                        \
            start = best(&s->significant[at - shape.significant]);                         \
        else if (at >= shape.sign && at < shape.sign + 3)                                  \
            start = best(&s->sign[at - shape.sign]);                                       \
        else if (at >= shape.greater && at < shape.greater + 2 * ESP_NNC_MAX_GREATER)      \
            start = best(&s->greater[at - shape.greater]);                                 \
        else if (at >= shape.remainder && at < shape.remainder + ESP_NNC_REMAINDERS)       \
            start = best(&s->remainder[at - shape.remainder]);                             \
        *starts++ = start;                                                                 \
    } while (0)
    ESP_NNC_FOR_STARTS(&shape, tensor, VISIT);
#undef VISIT
}
