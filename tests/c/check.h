/* The test harness: checks that count, tests that carry on after a failure, and memory whose ends are watched. */
#ifndef CHECK_H
#define CHECK_H

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bpcore.h"

/* ---- Checks ---------------------------------------------------------------------------------------------------------- */

/* Each failed check is printed (the first few of a test); the test goes on. */
void check_failed(const char *file, int line, const char *format, ...) __attribute__((format(printf, 3, 4)));

#define CHECK(condition)                                                                                                       \
    do {                                                                                                                       \
        if (!(condition)) check_failed(__FILE__, __LINE__, "%s", #condition);                                                  \
    } while (0)

#define CHECK_INT(got, expected)                                                                                               \
    do {                                                                                                                       \
        const long long got_ = (long long)(got), expected_ = (long long)(expected);                                            \
        if (got_ != expected_) check_failed(__FILE__, __LINE__, "%s: got %lld, expected %lld", #got, got_, expected_);         \
    } while (0)

/* |got - expected| <= tolerance; equal infinities and two nans agree as well. The place is printed where it fails. */
#define CHECK_NEAR(got, expected, tolerance, place)                                                                            \
    do {                                                                                                                       \
        const double got_ = (got), expected_ = (expected), tolerance_ = (tolerance);                                           \
        if (!is_near(got_, expected_, tolerance_))                                                                             \
            check_failed(__FILE__, __LINE__, "%s at %lld: got %.17g, expected %.17g within %g", #got, (long long)(place),      \
                         got_, expected_, tolerance_);                                                                         \
    } while (0)

int is_near(double got, double expected, double tolerance);

/* ---- Tests ----------------------------------------------------------------------------------------------------------- */

/* What a test runs on; tests of the kernels run once for each dtype and level. */
typedef struct setting {
    bp_dtype dtype;
    bp_level level;
    const bp_kernels *kernels;
    size_t size;    /* of a real */
    double epsilon; /* of the dtype */
} setting;

typedef struct test_case {
    const char *name;
    void (*run)(const setting *s); /* s is NULL for tests that use no kernels */
} test_case;

#define TEST(name) static void name(const setting *s)
#define CASE(name) {#name, name}
#define END_OF_CASES {NULL, NULL}
#define UNUSED(a) (void)(a)

/* ---- Memory ---------------------------------------------------------------------------------------------------------- */

/* Exactly `bytes` bytes, filled with 0xA5. Under a sanitizer from malloc, otherwise so that the last byte stands before a page
 * that cannot be touched: one element too many is noticed either way, masked vector loads included. */
void *exact_bytes(size_t bytes);
void release(void *memory);

/* ---- Arrays of reals ------------------------------------------------------------------------------------------------- */

double get(bp_dtype dtype, const void *array, int64_t i);
void set(bp_dtype dtype, void *array, int64_t i, double value);

/* n reals, each nan, so that what is not written shows. */
void *reals(const setting *s, int64_t n);
/* n reals between low and high, the same numbers on every machine for a seed; multiples of 2^-20 of the range. */
void *random_reals(const setting *s, int64_t n, double low, double high, uint64_t seed);
void *copy_of(const void *array, size_t bytes);
int same_bytes(const void *a, const void *b, size_t bytes);

/* ---- Random bits ----------------------------------------------------------------------------------------------------- */

/* splitmix64; a 32-bit draw takes the lower half of a 64-bit one. */
typedef struct stream {
    uint64_t state;
    int64_t draws;
} stream;

uint64_t stream_uint64(void *state);
uint32_t stream_uint32(void *state);
bp_random random_of(stream *source);
double stream_uniform(stream *source); /* in [0, 1), a multiple of 2^-20 */

/* ---- Fingerprints ---------------------------------------------------------------------------------------------------- */

/* FNV-1a over reals, all nans alike: their sign and payload are the processor's own. */
uint64_t fingerprint(uint64_t before, bp_dtype dtype, const void *array, int64_t n);
#define FINGERPRINT_START 0xcbf29ce484222325u

#endif
