/* What the processor and its memory can do at most, to hold kernels against.
 *
 * BYTES is the size of a vector of the level that the flags select, REAL the type.
 */
#define _POSIX_C_SOURCE 200809L
#include <stddef.h>
#include <time.h>

typedef REAL real;
typedef real vector __attribute__((vector_size(BYTES)));

enum { CHAINS = 12, TURNS = 20000, LANES = BYTES / sizeof(real) };

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time); /* one thread, so what others do on the machine counts less */
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

/* Multiplications and additions a second, fused where the level can: enough independent chains to hide their latency. */
double peak_flops(double seconds)
{
    static volatile real sink;
    double best = 0;
    for (double until = now() + seconds; now() < until;) {
        vector sum[CHAINS];
        for (int i = 0; i < CHAINS; i++) sum[i] = (vector){0} + (real)i;
        vector x = (vector){0} + (real)0.999, y = (vector){0} + (real)0.001;
        double start = now();
        for (int turn = 0; turn < TURNS; turn++)
#pragma GCC unroll 12
            for (int i = 0; i < CHAINS; i++) sum[i] = sum[i] * x + y;
        double flops = 2.0 * TURNS * CHAINS * LANES / (now() - start);
        if (flops > best) best = flops;
        for (int i = 0; i < CHAINS; i++) sink = sum[i][0];
    }
    return best;
}

/* Runs LOOP so many times in a row, again and again until the time is up, and returns the least seconds of one. */
#define LEAST_SECONDS(turns, seconds, LOOP)                                                                                    \
    double best = 1e9;                                                                                                         \
    for (double until = now() + (seconds); now() < until || best > 1e8;) {                                                     \
        double start = now();                                                                                                  \
        for (ptrdiff_t turn = 0; turn < (turns); turn++) {                                                                     \
            LOOP __asm__ volatile("" :: : "memory"); /* no turn may be left out */                                             \
        }                                                                                                                      \
        double took = (now() - start) / (double)(turns);                                                                       \
        if (took < best) best = took;                                                                                          \
    }                                                                                                                          \
    return best

/* a = b + s c over n elements each. */
double triad_seconds(real *restrict a, const real *restrict b, const real *restrict c, ptrdiff_t n, ptrdiff_t turns,
                     double seconds)
{
    LEAST_SECONDS(turns, seconds, {
        for (ptrdiff_t i = 0; i < n; i++) a[i] = b[i] + (real)0.5 * c[i];
    });
}

/* The least work on what Adam reads (p, g, m, v) and writes (p, m, v). */
double four_arrays_seconds(real *restrict p, const real *restrict g, real *restrict m, real *restrict v, ptrdiff_t n,
                           ptrdiff_t turns, double seconds)
{
    LEAST_SECONDS(turns, seconds, {
        for (ptrdiff_t i = 0; i < n; i++) {
            m[i] = (real)0.5 * m[i] + g[i];
            v[i] = (real)0.5 * v[i] + g[i];
            p[i] = (real)0.5 * p[i] + m[i] + v[i];
        }
    });
}
