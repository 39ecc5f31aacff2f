/* Products alone: compiled by products.py once for each dtype and level, as csrc/variant.c is. */
#define _POSIX_C_SOURCE 200809L
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

#include "kernels/gemm.h"

#ifndef BENCH_CLOCK
#define BENCH_CLOCK CLOCK_PROCESS_CPUTIME_ID /* one thread: what others take is not its time */
#endif

static double now(void)
{
    struct timespec t;
    clock_gettime(BENCH_CLOCK, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* The fused multiply-adds of a second, times two: twelve chains hide the latency of any processor with these levels. */
double peak_flops(double seconds)
{
    enum { CHAINS = 12, TURNS = 20000 };
    static volatile real sink[CHAINS * WIDTH];
    double best = 0;
    for (const double until = now() + seconds; now() < until;) {
        vec sum[CHAINS];
        for (int i = 0; i < CHAINS; i++) sum[i] = vset((real)i);
        const vec x = vset(C(0.999)), y = vset(C(0.001));
        const double start = now();
        for (int turn = 0; turn < TURNS; turn++) {
            UNROLL
            for (int i = 0; i < CHAINS; i++) sum[i] = vfma(sum[i], x, y);
        }
        const double flops = 2.0 * TURNS * CHAINS * WIDTH / (now() - start);
        if (flops > best) best = flops;
        for (int i = 0; i < CHAINS; i++) vstore((real *)sink + i * WIDTH, sum[i]);
    }
    return best;
}

static real *numbers(int64_t n)
{
    real *array = aligned_alloc(64, (size_t)(n * (int64_t)sizeof(real) + 63) / 64 * 64);
    if (!array) abort();
    for (int64_t i = 0; i < n; i++) array[i] = (real)((i * 7919) % 1000) * C(1e-6);
    return array;
}

/* Seconds of one product m x n x k, the least of several rounds. `kind`: 0 a b, 1 a^T b, 2 a b^T; `mode` is a store_mode. */
double product_seconds(int kind, int mode, int64_t m, int64_t n, int64_t k, double seconds)
{
    real *a = numbers(m * k), *b = numbers(k * n), *c = numbers(m * n);
    const product p = {.c = c,
                       .c_stride = n,
                       .a = a,
                       .a_row = kind == 1 ? 1 : k,
                       .a_column = kind == 1 ? m : 1,
                       .b = b,
                       .b_row = kind == 2 ? 1 : n,
                       .b_column = kind == 2 ? k : 1,
                       .m = m,
                       .n = n,
                       .k = k,
                       .mode = (store_mode)mode,
                       .factor = C(-1e-9),
                       .narrow = kind != 1};
    double best = 1e30;
    int64_t repeats = 1;
    const double until = now() + seconds;
    do {
        const double start = now();
        for (int64_t i = 0; i < repeats; i++) multiply(&p);
        const double passed = now() - start;
        if (passed / (double)repeats < best) best = passed / (double)repeats;
        if (passed < seconds / 20) repeats *= 2;
    } while (now() < until);
    free(a);
    free(b);
    free(c);
    return best;
}
