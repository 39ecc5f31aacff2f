/* Random numbers: known answers of Philox, permutations and whole numbers in range. */
#include "check.h"

#define BP_REAL_BITS 64
#include "kernels/random.h"

/* Known-answer vectors of philox2x32-10 from Random123, tests/kat_vectors; philox2x32() returns the first word. */
TEST(philox_known_answers)
{
    UNUSED(s);
    const struct {
        uint64_t counter;
        uint32_t key, expected;
    } vectors[] = {
        {0, 0, 0xff1dae59u},
        {0xffffffffffffffffu, 0xffffffffu, 0x2c3f628bu},
        {0x85a308d3243f6a88u, 0x13198a2eu, 0xdd7ce038u},
    };
    for (int i = 0; i < 3; i++) CHECK_INT(philox2x32(vectors[i].counter, vectors[i].key), vectors[i].expected);
}

TEST(permutations_hold_each_number_once)
{
    UNUSED(s);
    for (int64_t n = 0; n <= 300; n++) {
        stream source = {(uint64_t)n, 0};
        const bp_random random = random_of(&source);
        int64_t *order = exact_bytes((size_t)n * sizeof *order);
        char *seen = exact_bytes((size_t)n);
        bp_permutation(order, n, &random);
        if (n) memset(seen, 0, (size_t)n);
        for (int64_t i = 0; i < n; i++) {
            const int inside = order[i] >= 0 && order[i] < n;
            CHECK(inside && !seen[order[i]]);
            if (inside) seen[order[i]] = 1;
        }
        if (n < 2) CHECK_INT(source.draws, 0);
        release(order);
        release(seen);
    }
}

/* All 24 orders of 4, each about equally often. */
TEST(permutations_are_fair)
{
    UNUSED(s);
    enum { TIMES = 24000 };
    int64_t order[4];
    int counts[256] = {0}, kinds = 0;
    stream source = {5, 0};
    const bp_random random = random_of(&source);
    for (int i = 0; i < TIMES; i++) {
        bp_permutation(order, 4, &random);
        counts[order[0] | order[1] << 2 | order[2] << 4 | order[3] << 6]++;
    }
    for (int i = 0; i < 256; i++) {
        if (!counts[i]) continue;
        kinds++;
        CHECK(abs(counts[i] - TIMES / 24) < 6 * 32); /* six standard deviations */
    }
    CHECK_INT(kinds, 24);
}

TEST(integers_stay_below_their_bound)
{
    UNUSED(s);
    const int64_t wide = (int64_t)1 << 32;
    const int64_t highs[] = {1, 2, 3, 5, 10, 41, 1000, wide - 2, wide - 1, wide, wide + 1, 3 * wide, INT64_MAX / 3, INT64_MAX};
    int64_t *order = exact_bytes(500 * sizeof *order);
    for (size_t i = 0; i < sizeof highs / sizeof highs[0]; i++) {
        stream source = {i, 0};
        const bp_random random = random_of(&source);
        bp_integers(order, 500, highs[i], &random);
        double sum = 0;
        for (int j = 0; j < 500; j++) {
            CHECK(order[j] >= 0 && order[j] < highs[i]);
            sum += (double)order[j] / (double)highs[i];
        }
        if (highs[i] >= 1000) CHECK_NEAR(sum / 500, 0.5, 6 * 0.2887 / sqrt(500.0), i);
        if (highs[i] == 1) CHECK_INT(source.draws, 0);
    }
    release(order);
}

/* The upper and lower 64 bits of a product, bit by bit. */
static uint64_t product_of(uint64_t a, uint64_t b, uint64_t *low)
{
    uint64_t high = 0;
    *low = 0;
    for (int bit = 63; bit >= 0; bit--) {
        high = high << 1 | *low >> 63;
        *low <<= 1;
        if (!(b >> bit & 1)) continue;
        *low += a;
        high += *low < a;
    }
    return high;
}

/* Lemire's method: the upper half of draw times bound, unless the lower half is among the first 2^bits mod bound. Bounds up to
 * 2^32 - 1 by draws of 32 bits, 2^32 itself is one draw, larger ones by draws of 64. */
static uint64_t lemire(uint64_t bound, stream *source)
{
    uint64_t low, high;
    if (bound == (uint64_t)1 << 32) return stream_uint32(source);
    if (bound < (uint64_t)1 << 32) {
        do low = stream_uint32(source) * bound;
        while ((uint32_t)low < ((uint64_t)1 << 32) % bound);
        return low >> 32;
    }
    do high = product_of(stream_uint64(source), bound, &low);
    while (low < (0 - bound) % bound);
    return high;
}

TEST(integers_are_those_of_lemire)
{
    UNUSED(s);
    for (int k = 1; k < 63; k++)
        for (int variant = 0; variant < 5; variant++) {
            const int64_t power = (int64_t)1 << k,
                          bounds[] = {power, power + 1, power - 1, power + power / 3, power + power / 2};
            const int64_t bound = bounds[variant];
            stream source = {(uint64_t)k, 0}, again = source;
            const bp_random random = random_of(&source);
            int64_t order[20];
            if (bound < 2) continue;
            bp_integers(order, 20, bound, &random);
            for (int j = 0; j < 20; j++) CHECK_INT(order[j], lemire((uint64_t)bound, &again));
            CHECK_INT(source.draws, again.draws);
        }
}

TEST(integers_of_none_draw_nothing)
{
    UNUSED(s);
    stream source = {1, 0};
    const bp_random random = random_of(&source);
    int64_t *order = exact_bytes(0);
    bp_integers(order, 0, 10, &random);
    bp_permutation(order, 0, &random);
    CHECK_INT(source.draws, 0);
    release(order);
}

const test_case number_tests[] = {CASE(philox_known_answers),
                                  CASE(permutations_hold_each_number_once),
                                  CASE(permutations_are_fair),
                                  CASE(integers_stay_below_their_bound),
                                  CASE(integers_are_those_of_lemire),
                                  CASE(integers_of_none_draw_nothing),
                                  END_OF_CASES};
