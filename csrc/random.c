/* Whole numbers from random bits: those of NumPy's Generator for the same bit generator. */
#include "bpcore.h"

/* Lemire, "Fast random integer generation in an interval" (2019). */
static uint64_t below_32(const bp_random *random, uint32_t high)
{
    uint64_t product = (uint64_t)random->next_uint32(random->state) * high;
    if ((uint32_t)product < high) {
        const uint32_t threshold = (uint32_t)(-high) % high;
        while ((uint32_t)product < threshold) product = (uint64_t)random->next_uint32(random->state) * high;
    }
    return product >> 32;
}

/* The high and low halves of a 128-bit product, in C11. */
static uint64_t multiply_high(uint64_t a, uint64_t b, uint64_t *low)
{
    const uint64_t a0 = (uint32_t)a, a1 = a >> 32, b0 = (uint32_t)b, b1 = b >> 32;
    const uint64_t middle = a1 * b0 + (a0 * b0 >> 32);
    const uint64_t carry = a0 * b1 + (uint32_t)middle;
    *low = a * b;
    return a1 * b1 + (middle >> 32) + (carry >> 32);
}

static uint64_t below_64(const bp_random *random, uint64_t high)
{
    uint64_t low, result = multiply_high(random->next_uint64(random->state), high, &low);
    if (low < high) {
        const uint64_t threshold = (0 - high) % high;
        while (low < threshold) result = multiply_high(random->next_uint64(random->state), high, &low);
    }
    return result;
}

/* A whole number in [0, high), high >= 1. */
static int64_t below(const bp_random *random, uint64_t high)
{
    if (high == 1) return 0;
    if (high <= UINT32_MAX) return (int64_t)below_32(random, (uint32_t)high);
    if (high == (uint64_t)UINT32_MAX + 1) return (int64_t)random->next_uint32(random->state);
    return (int64_t)below_64(random, high);
}

/* A whole number in [0, highest]: bits under the mask 2^k - 1 >= highest, until they fit. */
static int64_t up_to(const bp_random *random, uint64_t highest, uint64_t mask)
{
    uint64_t value;
    do {
        value = highest <= UINT32_MAX ? random->next_uint32(random->state) : random->next_uint64(random->state);
        value &= mask;
    } while (value > highest);
    return (int64_t)value;
}

void bp_permutation(int64_t *order, int64_t n, const bp_random *random)
{
    uint64_t mask = UINT64_MAX;
    for (int64_t i = 0; i < n; i++) order[i] = i;
    for (int64_t i = n - 1; i > 0; i--) { /* Fisher and Yates */
        while (mask >> 1 >= (uint64_t)i) mask >>= 1;
        const int64_t j = up_to(random, (uint64_t)i, mask);
        const int64_t kept = order[j];
        order[j] = order[i];
        order[i] = kept;
    }
}

void bp_integers(int64_t *order, int64_t n, int64_t high, const bp_random *random)
{
    for (int64_t i = 0; i < n; i++) order[i] = below(random, (uint64_t)high);
}
