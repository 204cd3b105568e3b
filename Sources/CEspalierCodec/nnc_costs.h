// What bins cost, in units of 2^-15 bit (13.4).
#ifndef ESP_NNC_COSTS_H
#define ESP_NNC_COSTS_H

#include "nnc_model.h"

typedef struct {
    // By the bin and 512 + (P >> 3).
    uint32_t of[2][1024];
} esp_nnc_costs;

void esp_nnc_costs_fill(esp_nnc_costs *costs);

#endif
