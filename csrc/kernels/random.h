/* Random bits from a counter: Philox2x32-10 of Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3"
 * (2011). Element i of a mask depends on the key and i alone, so neither blocks nor threads nor vectors can change it. */
#ifndef BP_RANDOM_H
#define BP_RANDOM_H

#include "simd.h"

/* 32 random bits for the 64-bit counter. */
ALWAYS_INLINE uint32_t philox2x32(uint64_t counter, uint32_t key)
{
    uint32_t low = (uint32_t)counter, high = (uint32_t)(counter >> 32);
    for (int round = 0; round < 10; round++) {
        uint64_t product = (uint64_t)0xD256D193u * low;
        low = (uint32_t)(product >> 32) ^ key ^ high;
        high = (uint32_t)product;
        key += 0x9E3779B9u;
    }
    return low;
}

/* mask[i] = 0 with probability p, else 1/(1 - p), for the elements first, first + step, ... of the stream of `key`. */
ALWAYS_INLINE void dropout_fill(real *RESTRICT mask, uint64_t key, uint64_t first, uint64_t step, double p, int64_t n)
{
    const real kept = (real)(1 / (1 - p));
    const uint64_t threshold = (uint64_t)(p * 4294967296.0);
    const uint64_t offset = (key >> 32 << 32) + first;
    for (int64_t i = 0; i < n; i++) mask[i] = philox2x32(offset + (uint64_t)i * step, (uint32_t)key) < threshold ? 0 : kept;
}

/* Each dropout layer has a stream of its own; odd multiples keep the keys apart. */
ALWAYS_INLINE uint64_t dropout_layer_key(uint64_t key, int64_t layer) { return key + (uint64_t)layer * 0x9E3779B97F4A7C15u; }

#endif
