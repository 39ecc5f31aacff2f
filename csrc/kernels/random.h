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

#if WIDTH > 1
/* The same in each lane, in the lower half of it. */
ALWAYS_INLINE words philox_words(words counter, uint32_t key)
{
    words low = counter, high = counter >> 32;
    UNROLL
    for (int round = 0; round < 10; round++) {
        const words product = multiply_lower(low, words_of(0xD256D193u));
        low = (product >> 32) ^ words_of(key) ^ high; /* what is in the upper half of `high` stays there */
        high = product;
        key += 0x9E3779B9u;
    }
    return low & words_of(0xFFFFFFFFu);
}

/* All bits of the lanes whose random number is at least the threshold. */
ALWAYS_INLINE words philox_keeps(words counter, uint32_t key, uint64_t threshold)
{
    return (words)(philox_words(counter, key) >= words_of(threshold));
}

ALWAYS_INLINE vec bits_to_vec(words w)
{
    vec v;
    memcpy(&v, &w, sizeof v);
    return v;
}
#endif

/* mask[i] = 0 with probability p, else 1/(1 - p), for the elements first, first + step, ... of the stream of `key`. */
NOINLINE void dropout_fill(real *mask, uint64_t key, uint64_t first, uint64_t step, double p, int64_t n)
{
    const real kept = (real)(1 / (1 - p));
    const uint64_t threshold = (uint64_t)(p * 4294967296.0);
    const uint64_t offset = (key >> 32 << 32) + first;
#if WIDTH > 1
    words lanes;
    for (int i = 0; i < WORDS; i++) lanes[i] = offset + (uint64_t)i * (sizeof(real) == 8 ? 1 : 2) * step;
    const vec value = vset(kept);
    words value_bits;
    memcpy(&value_bits, &value, sizeof value);
    for (int64_t i = 0; i < n; i += WIDTH, lanes += words_of(WIDTH * step)) {
        words keeps = philox_keeps(lanes, (uint32_t)key, threshold);
        if (sizeof(real) == 4) /* two elements a word */
            keeps = (keeps & words_of(0xFFFFFFFFu)) | philox_keeps(lanes + words_of(step), (uint32_t)key, threshold) << 32;
        vstore_part(mask + i, bits_to_vec(keeps & value_bits), vpart_of(i, n));
    }
#else
    for (int64_t i = 0; i < n; i++) mask[i] = philox2x32(offset + (uint64_t)i * step, (uint32_t)key) < threshold ? 0 : kept;
#endif
}

/* Each dropout layer has a stream of its own; odd multiples keep the keys apart. */
ALWAYS_INLINE uint64_t dropout_layer_key(uint64_t key, int64_t layer) { return key + (uint64_t)layer * 0x9E3779B97F4A7C15u; }

#endif
