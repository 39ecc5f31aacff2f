/* Steps of the optimisers alone, as a fit takes them: compiled by optimizers.py for a dtype and level. */
#define _POSIX_C_SOURCE 200809L
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

#include "kernels/optimizers.h"

static const char *const names[] = {
#define OPTIMIZER(name, n_slots) #name,
#include "optimizers.def"
#undef OPTIMIZER
};

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static bp_optimizer kind_of(const char *name)
{
    for (int i = 0; i < BP_N_OPTIMIZERS; i++)
        if (strcmp(names[i], name) == 0) return (bp_optimizer)i;
    abort();
}

static real *numbers(int64_t n, real each)
{
    real *array = malloc((size_t)n * sizeof(real));
    if (!array) abort();
    for (int64_t i = 0; i < n; i++) array[i] = each;
    return array;
}

/* Seconds of one step over n parameters, the least of many. */
double step_seconds(const char *name, const double *hyper, int n_slots, int64_t n, double seconds)
{
    enum { CHUNK = 2048 }; /* as in kernels/update.h */
    real *parameters = numbers(n, 1), *gradients = numbers(n, C(1e-3)), *slots[BP_MAX_SLOTS] = {NULL, NULL};
    for (int i = 0; i < n_slots; i++) slots[i] = numbers(n, C(1e-3));
    double best = 1e30;
    int64_t step = 1, repeats = 1;
    for (const double until = now() + seconds; now() < until;) {
        const double start = now();
        for (int64_t turn = 0; turn < repeats; turn++) {
            const step_work work = prepare_step(kind_of(name), parameters, gradients, slots, hyper, 1e-6, step++, n);
            for (int64_t from = 0; from < n; from += CHUNK) take_step(&work, from, n - from < CHUNK ? n : from + CHUNK);
        }
        const double passed = now() - start;
        if (passed / (double)repeats < best) best = passed / (double)repeats;
        if (passed < seconds / 20) repeats *= 2;
    }
    for (int i = 0; i < n_slots; i++) free(slots[i]);
    free(gradients);
    free(parameters);
    return best;
}
