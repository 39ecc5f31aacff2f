/* The largest error of each elementary function on each level, in units in the last place of the exact value: float32 over
 * all 2^32 numbers, float64 over samples of every size and around every edge. Exits with 1 where a bound is broken.
 *
 *   accuracy [float32 | float64] [function ...]     float32 takes one in BPCORE_STRIDE numbers, float64 BPCORE_SAMPLES
 *
 * The exact values are the C library's in a wider type: double for float32 (good to 2^-28 of a unit), long double for float64
 * (2^-10; there must be such a type). */
#define _DEFAULT_SOURCE /* MAP_ANONYMOUS, sysconf */
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bpcore.h"

enum { CHUNK = 4096, MOST_WORKERS = 64, GELU = BP_N_FUNCTIONS, N_KINDS };

/* Errors must stay below these. GELU is x Phi(x), and Phi is rounded first: where it is denormal to half a
 * unit, which is |x| / 2 of the product's, up to 19.5, and a little more for the roundings before that. */
static const double bounds[N_KINDS] = {[BP_FUNCTION_exp] = 1,     [BP_FUNCTION_log1p] = 1,    [BP_FUNCTION_tanh] = 1,
                                       [BP_FUNCTION_sigmoid] = 1, [BP_FUNCTION_softplus] = 1, [GELU] = 22};

static const char *name_of(int kind) { return kind == GELU ? "gelu" : bp_function_names[kind]; }

/* ---- Exact values ---------------------------------------------------------------------------------------------------- */

static long double exact_wide(int kind, long double x)
{
    switch (kind) {
        case BP_FUNCTION_exp: return expl(x);
        case BP_FUNCTION_log1p: return log1pl(x);
        case BP_FUNCTION_tanh: return tanhl(x);
        case BP_FUNCTION_sigmoid: return 1 / (1 + expl(-x));
        case BP_FUNCTION_softplus: return log1pl(expl(-fabsl(x))) + (x > 0 ? x : 0);
        default: return x < -200 ? -0.0L : x / 2 * erfcl(-x * 0.70710678118654752440084436210485L);
    }
}

static double exact_double(int kind, double x)
{
    switch (kind) {
        case BP_FUNCTION_exp: return exp(x);
        case BP_FUNCTION_log1p: return log1p(x);
        case BP_FUNCTION_tanh: return tanh(x);
        case BP_FUNCTION_sigmoid: return 1 / (1 + exp(-x));
        case BP_FUNCTION_softplus: return log1p(exp(-fabs(x))) + (x > 0 ? x : 0);
        default: return x < -200 ? -0.0 : x / 2 * erfc(-x * 0.70710678118654752440);
    }
}

/* ---- Errors ---------------------------------------------------------------------------------------------------------- */

typedef struct format {
    int digits, lowest,
        last;        /* of the mantissa; exponents of the smallest denormal and of the first number that is too large */
    long double end; /* that number */
} format;
static const format single_format = {FLT_MANT_DIG, FLT_MIN_EXP - FLT_MANT_DIG, FLT_MAX_EXP, 0x1p127L * 2},
                    double_format = {DBL_MANT_DIG, DBL_MIN_EXP - DBL_MANT_DIG, DBL_MAX_EXP, 0x1p1023L * 2};

/* 2 to the power of a normal exponent. */
static double power_of_2(int exponent)
{
    const uint64_t pattern = (uint64_t)(exponent + 1023) << 52;
    double power;
    memcpy(&power, &pattern, sizeof power);
    return power;
}

/* The distance in units in the last place of the exact value; infinite where one is nan or has the wrong sign. */
static double error_of(const format *f, double got, long double exact)
{
    if (isnan(exact)) return isnan(got) ? 0 : (double)INFINITY;
    if (isnan(got) || !signbit(got) != !signbit(exact)) return (double)INFINITY;
    if (exact == 0) return got == 0 ? 0 : (double)INFINITY;
    int exponent = f->last - f->digits; /* infinity stands at 2^last */
    if (fabsl(exact) < f->end) {
        (void)frexpl(exact, &exponent);
        exponent -= f->digits;
    } else {
        exact = copysignl(f->end, exact);
    }
    if (exponent < f->lowest) exponent = f->lowest;
    const long double value = isinf(got) ? copysignl(f->end, exact) : (long double)got;
    return (double)ldexpl(fabsl(value - exact), -exponent);
}

/* The same for a float32 and an ordinary exact value, quickly. */
static double error_of_single(double got, double exact)
{
    uint64_t pattern;
    memcpy(&pattern, &exact, sizeof pattern);
    int exponent = (int)(pattern >> 52 & 2047) - 1023 - 23;
    if (exponent < single_format.lowest) exponent = single_format.lowest;
    return fabs(got - exact) * power_of_2(-exponent);
}

typedef struct record {
    double error, at;
    long long tried;
} record;

/* One for each worker, function and level; in memory that the workers share. */
typedef record table[N_KINDS][BP_N_LEVELS];

static void note(record *r, double at, double error)
{
    r->tried++;
    if (error <= r->error) return;
    r->error = error;
    r->at = at;
}

static void merge(record *into, const record *from)
{
    const long long tried = into->tried + from->tried;
    if (from->error > into->error) *into = *from;
    into->tried = tried;
}

static void evaluate(bp_dtype dtype, int kind, void *y, const void *x, int64_t n)
{
    const bp_kernels *kernels = bp_kernels_for(dtype);
    if (kind == GELU)
        kernels->activation_forward(BP_ACTIVATION_gelu, 0, y, x, n);
    else
        kernels->function((bp_function)kind, y, x, n);
}

static double error_of_any_single(double got, double exact)
{
    const int ordinary = exact != 0 && fabs(exact) < (double)FLT_MAX && fabs(got) <= (double)FLT_MAX && got * exact > 0;
    return ordinary ? error_of_single(got, exact) : error_of(&single_format, got, (long double)exact);
}

static void try_singles(record *records, int kind, const float *x, int64_t n)
{
    float y[CHUNK], before[CHUNK] = {0};
    double exact[CHUNK];
    record here = {0, 0, 0};
    for (int64_t i = 0; i < n; i++) exact[i] = exact_double(kind, (double)x[i]);
    for (int level = 0; level < BP_N_LEVELS; level++) {
        if (bp_level_choose((bp_level)level) != BP_OK) continue;
        evaluate(BP_FLOAT32, kind, y, x, n);
        if (here.tried == 0 || memcmp(y, before, (size_t)n * sizeof *y) != 0) { /* else the errors are those before */
            here = (record){0, 0, 0};
            for (int64_t i = 0; i < n; i++) note(&here, (double)x[i], error_of_any_single((double)y[i], exact[i]));
        }
        merge(&records[level], &here);
        memcpy(before, y, sizeof y);
    }
}

static void try_doubles(record *records, int kind, const double *x, int64_t n)
{
    double y[CHUNK];
    long double exact[CHUNK];
    for (int64_t i = 0; i < n; i++) exact[i] = exact_wide(kind, (long double)x[i]);
    for (int level = 0; level < BP_N_LEVELS; level++) {
        if (bp_level_choose((bp_level)level) != BP_OK) continue;
        evaluate(BP_FLOAT64, kind, y, x, n);
        for (int64_t i = 0; i < n; i++) note(&records[level], x[i], error_of(&double_format, y[i], exact[i]));
    }
}

/* ---- Inputs ---------------------------------------------------------------------------------------------------------- */

static uint64_t next(uint64_t *state) /* splitmix64 */
{
    uint64_t z = *state += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

static double uniform(uint64_t *state, double low, double high)
{
    return low + (high - low) * (double)(next(state) >> 11) * 0x1p-53;
}

static double nudged(double x, int64_t steps) /* by so many neighbours */
{
    int64_t bits;
    memcpy(&bits, &x, sizeof bits);
    bits += steps;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* Where some formula changes, is extreme or ends: multiples of ln(2)/4, 2^k, 2^k sqrt(1/2), 2^k - 1 and 2^k sqrt(1/2) - 1, ends of
 * the exponential, and all of these with either sign. */
static double edge(uint64_t *state)
{
    const double ln2 = 0.69314718055994530942, sign = next(state) & 1 ? 1 : -1;
    const double ends[] = {709.782712893384,
                           745.1332191019411,
                           708.3964185322641,
                           36.7368005696771,
                           37.42994775023705,
                           19.06154746539850,
                           690,
                           750,
                           40,
                           20};
    switch (next(state) % 5) {
        case 0: return sign * ln2 / 4 * (double)(next(state) % 4400);
        case 1: return sign * ldexp(1, (int)(next(state) % 2098) - 1074);
        case 2: return sign * ldexp(0.70710678118654752440, (int)(next(state) % 2098) - 1074);
        case 3: return ldexp(next(state) & 1 ? 1 : 0.70710678118654752440, (int)(next(state) % 120) - 55) - 1;
        default: return sign * ends[next(state) % (sizeof ends / sizeof ends[0])];
    }
}

static double sample(uint64_t *state)
{
    uint64_t pattern;
    double x;
    switch (next(state) % 8) {
        case 0:
            pattern = next(state);
            memcpy(&x, &pattern, sizeof x);
            return x; /* any number, nan and infinity too */
        case 1: return uniform(state, -1, 1);
        case 2: return uniform(state, -20, 20);
        case 3: return uniform(state, -40, 40);
        case 4: return uniform(state, -750, 750);
        case 5: return (next(state) & 1 ? 1 : -1) * exp(uniform(state, -45, 4));
        case 6: return nudged(edge(state), (int64_t)(next(state) % 257) - 128);
        default: return edge(state) * (1 + uniform(state, -1e-6, 1e-6));
    }
}

/* ---- Sharing out ----------------------------------------------------------------------------------------------------- */

static void all_singles(table *records, const int *chosen, int worker, int workers, int64_t stride)
{
    float x[CHUNK];
    const int64_t chunks = ((int64_t)1 << 32) / CHUNK / stride;
    for (int64_t chunk = worker; chunk < chunks; chunk += workers) {
        for (int64_t i = 0; i < CHUNK; i++) {
            const uint32_t pattern = (uint32_t)((chunk * CHUNK + i) * stride + chunk % stride);
            memcpy(&x[i], &pattern, sizeof pattern);
        }
        for (int kind = 0; kind < N_KINDS; kind++)
            if (chosen[kind]) try_singles((*records)[kind], kind, x, CHUNK);
    }
}

static void sampled_doubles(table *records, const int *chosen, int worker, int workers, int64_t samples)
{
    double x[CHUNK];
    for (int64_t chunk = worker; chunk * CHUNK < samples; chunk += workers) {
        uint64_t state = (uint64_t)chunk << 32;
        for (int64_t i = 0; i < CHUNK; i++) x[i] = sample(&state);
        for (int kind = 0; kind < N_KINDS; kind++)
            if (chosen[kind]) try_doubles((*records)[kind], kind, x, CHUNK);
    }
}

static int64_t setting_or(const char *name, int64_t usual)
{
    const char *text = getenv(name);
    return text ? strtoll(text, NULL, 10) : usual;
}

static void work(bp_dtype dtype, table *records, const int *chosen, int worker, int workers)
{
    if (dtype == BP_FLOAT32)
        all_singles(records, chosen, worker, workers, setting_or("BPCORE_STRIDE", 1));
    else
        sampled_doubles(records, chosen, worker, workers, setting_or("BPCORE_SAMPLES", 100000000));
}

/* Prints what the workers found; returns how many bounds are broken. */
static int report(bp_dtype dtype, table *records, const int *chosen, int workers)
{
    int broken = 0;
    for (int kind = 0; kind < N_KINDS; kind++)
        for (int level = 0; chosen[kind] && level < BP_N_LEVELS; level++) {
            record worst = {0, 0, 0};
            for (int worker = 0; worker < workers; worker++) merge(&worst, &records[worker][kind][level]);
            if (worst.tried == 0) continue;
            const int bad = !(worst.error < bounds[kind]);
            broken += bad;
            printf("%s %-8s %-7s %10lld inputs, largest error %.4f at %a (%.9g)%s\n",
                   dtype == BP_FLOAT32 ? "float32" : "float64", name_of(kind), bp_level_names[level], worst.tried, worst.error,
                   worst.at, worst.at, bad ? "  TOO LARGE" : "");
        }
    fflush(stdout);
    return broken;
}

static int measure(bp_dtype dtype, const int *chosen)
{
    int workers = (int)sysconf(_SC_NPROCESSORS_ONLN), broken = 0;
    if (workers > MOST_WORKERS) workers = MOST_WORKERS;
    table *records = mmap(NULL, (size_t)workers * sizeof *records, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (records == MAP_FAILED) abort();
    for (int worker = 0; worker < workers; worker++) {
        const pid_t child = fork();
        if (child < 0) abort();
        if (child > 0) continue;
        work(dtype, &records[worker], chosen, worker, workers);
        _exit(0);
    }
    for (int status; wait(&status) > 0;) broken += status != 0;
    broken += report(dtype, records, chosen, workers);
    munmap(records, (size_t)workers * sizeof *records);
    return broken;
}

int main(int n_arguments, char **arguments)
{
    int chosen[N_KINDS] = {0}, any = 0, broken = 0, wanted[2] = {0, 0};
    for (int i = 1; i < n_arguments; i++) {
        int known = 0;
        for (int kind = 0; kind < N_KINDS; kind++)
            if (strcmp(arguments[i], name_of(kind)) == 0) chosen[kind] = any = known = 1;
        if (strcmp(arguments[i], "float32") == 0) wanted[0] = known = 1;
        if (strcmp(arguments[i], "float64") == 0) wanted[1] = known = 1;
        if (!known) {
            fprintf(stderr, "unknown: %s\n", arguments[i]);
            return 2;
        }
    }
    for (int kind = 0; kind < N_KINDS; kind++) chosen[kind] |= !any;
    if (wanted[0] || !wanted[1]) broken += measure(BP_FLOAT32, chosen);
    if (wanted[1] || !wanted[0]) {
        if (LDBL_MANT_DIG > DBL_MANT_DIG)
            broken += measure(BP_FLOAT64, chosen);
        else
            printf("float64: long double is not wider here, nothing to compare with\n");
    }
    return broken > 0;
}
