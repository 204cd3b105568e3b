// Philox 4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011).
#pragma once
#include <stdint.h>

#define ESP_PHILOX_M0 0xD2511F53u
#define ESP_PHILOX_M1 0xCD9E8D57u
#define ESP_PHILOX_W0 0x9E3779B9u
#define ESP_PHILOX_W1 0xBB67AE85u

// The four words of counter (block, stream), low words first.
static inline void esp_philox(uint64_t key, uint64_t block, uint64_t stream, uint32_t *y) {
    uint32_t c0 = (uint32_t)block, c1 = (uint32_t)(block >> 32);
    uint32_t c2 = (uint32_t)stream, c3 = (uint32_t)(stream >> 32);
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
    for (int round = 0; round < 10; round++, k0 += ESP_PHILOX_W0, k1 += ESP_PHILOX_W1) {
        uint64_t p0 = (uint64_t)ESP_PHILOX_M0 * c0, p1 = (uint64_t)ESP_PHILOX_M1 * c2;
        uint32_t n0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0, n2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)p1;
        c3 = (uint32_t)p0;
        c0 = n0;
        c2 = n2;
    }
    y[0] = c0;
    y[1] = c1;
    y[2] = c2;
    y[3] = c3;
}
