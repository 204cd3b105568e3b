#include "nnc_costs.h"

#include <math.h>

void esp_nnc_costs_fill(esp_nnc_costs *costs) {
    for (int i = 0; i < 1024; i++) {
        int state = i - 512;
        double distance = state >= 0 ? state + 0.5 : -state + 0.5;
        double less = 32768 + 400.8 * distance;
        double more = -32768 * log2(1 - exp2(-less / 32768));
        unsigned probable = state >= 0;
        costs->of[probable][i] = (uint32_t)lrint(more);
        costs->of[!probable][i] = (uint32_t)lrint(less);
    }
}
