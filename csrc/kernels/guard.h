/* The guard against divergence: after BP_E_DIVERGED the parameters and slots are the last finite ones.
 *
 * The careful way costs passes over everything: the gradient is looked over, and a step that might reach the ends of the reals is
 * tried on copies first. The quick way needs none of it. While every input of a dense layer and every gradient at its output is
 * below VALUE_LIMIT in a batch, each gradient of a parameter is a sum of `rows` products, so it is below rows * VALUE_LIMIT^2
 * (and the penalty's is below l2 |p| + l1). From the largest parameters and slots, measured now and then, and such gradients
 * name_reach() of the optimiser bounds all that the next steps can compute. If that is below REACH_LIMIT, they cannot
 * but leave finite numbers: the distance from there to the largest real, 2^7 in float32 and 2^23 in float64, is more than what
 * rounding adds, as no chain of roundings is longer than GUARDED_STEPS plus the rows. How fast activations and losses grow does not
 * come into it, exponentials included: the numbers that they gave are looked at in each batch, before its step. */
#ifndef BP_GUARD_H
#define BP_GUARD_H

#include "optimizers.h"

#define VALUE_LIMIT (BP_REAL_BITS == 64 ? C(0x1p200) : C(0x1p20))
#define REACH_LIMIT (BP_REAL_BITS == 64 ? 0x1p1000 : 0x1p120)
#define GUARDED_STEPS 65536

/* Small enough that the scaled sum of any finite numbers stays finite. */
#define SUM_SCALE C(9.094947017729282e-13) /* 2^-40 */

/* 2^-40 times the sum of |x|: non-finite if and only if some x is. *lowest becomes the least of the elements and 0. */
static real scaled_magnitude(const real *x, int64_t n, real *lowest)
{
    enum { CHAINS = 4 }; /* side by side, so that memory and not the additions' latency is the limit */
    const vec zero = vset(0), scale = vset(SUM_SCALE);
    vec sum[CHAINS] = {zero, zero, zero, zero}, least[CHAINS] = {zero, zero, zero, zero};
    int64_t i = 0;
    for (; i <= n - CHAINS * WIDTH; i += CHAINS * WIDTH) {
        UNROLL
        for (int k = 0; k < CHAINS; k++) {
            const vec v = vload(x + i + k * WIDTH);
            sum[k] = vfma(vabs(v), scale, sum[k]);
            least[k] = vmin(least[k], v);
        }
    }
    for (; i < n; i += WIDTH) {
        const vec v = vload_part(x + i, vpart(n - i < WIDTH ? n - i : WIDTH));
        sum[0] = vfma(vabs(v), scale, sum[0]);
        least[0] = vmin(least[0], v);
    }
    real lane[WIDTH];
    vstore(lane, vmin(vmin(least[0], least[1]), vmin(least[2], least[3])));
    *lowest = 0;
    for (int k = 0; k < WIDTH; k++) *lowest = lane[k] < *lowest ? lane[k] : *lowest;
    return vfold((sum[0] + sum[1]) + (sum[2] + sum[3]));
}

/* At least the largest |x|; non-finite if some x is. What scaling took from the smallest numbers is put back. */
static double magnitude(const real *x, int64_t n, real *lowest)
{
    return (double)scaled_magnitude(x, n, lowest) / (double)SUM_SCALE + 1;
}

/* Whether the k numbers in each of n rows are below `most` in magnitude; nan is not. */
static int rows_are_below(const real *x, int64_t stride, int64_t n, int64_t k, real most)
{
    const vec limit = vset(most), one = vset(1);
    vec beyond = vset(0);
    for (int64_t r = 0; r < n; r++, x += stride) {
        int64_t j = 0;
        for (; j <= k - WIDTH; j += WIDTH) beyond = vselect(vless(vabs(vload(x + j)), limit), beyond, one);
        if (j < k) beyond = vselect(vless(vabs(vload_part(x + j, vpart(k - j))), limit), beyond, one);
    }
    return !vany(vless(vset(0), beyond));
}

/* How large parameters and slots are. */
static extent extent_of(bp_optimizer kind, const real *p, real *const *slots, int64_t n)
{
    real lowest;
    extent e = {magnitude(p, n, &lowest), {-1, -1}, {0, 0}};
    for (int i = 0; i < optimizer_table[kind].n_slots; i++) {
        if (!slots[i]) continue;
        e.slot[i] = magnitude(slots[i], n, &lowest);
        e.negative[i] = lowest < 0;
    }
    return e;
}

/* The penalty's share in the gradient of a weight: l2 |w| + l1 at most. */
typedef struct penalty_rates {
    double l2, l1;
} penalty_rates;

/* How many steps at up to `rate` from this extent cannot reach the ends of the reals, if all gradients before the penalty's are
 * up to g; up to GUARDED_STEPS. With a penalty gradients grow with the weights, so the steps are followed one by one. */
static int64_t harmless_steps(bp_optimizer kind, extent now, const double *hyper, double rate, double g, penalty_rates penalty)
{
    const optimizer_entry *optimizer = &optimizer_table[kind];
    if (!(rate >= 0)) return 0;
    if (penalty.l2 == 0) {
        for (int64_t steps = GUARDED_STEPS; steps > 0; steps /= 256) {
            extent e = now;
            if (optimizer->reach(&e, hyper, rate, g + penalty.l1, (double)steps) < REACH_LIMIT) return steps;
        }
        return 0;
    }
    for (int64_t steps = 0; steps < 64; steps++) {
        const double larger = g + penalty.l2 * now.parameter + penalty.l1;
        if (!(optimizer->reach(&now, hyper, rate, larger, 1) < REACH_LIMIT)) return steps;
    }
    return 64;
}

/* Would this step leave every parameter and slot finite? Tries it on copies, a few elements at a time. */
static int step_stays_finite(const step_work *work)
{
    enum { TRIAL = 256 };
    real parameters[TRIAL], slot_copies[BP_MAX_SLOTS][TRIAL];
    for (int64_t start = 0; start < work->n; start += TRIAL) {
        const int64_t count = work->n - start < TRIAL ? work->n - start : TRIAL;
        const size_t bytes = (size_t)count * sizeof(real);
        real *trial_slots[BP_MAX_SLOTS] = {NULL, NULL};
        memcpy(parameters, work->parameters + start, bytes);
        for (int i = 0; i < BP_MAX_SLOTS; i++) {
            if (!work->slots[i]) continue;
            memcpy(slot_copies[i], work->slots[i] + start, bytes);
            trial_slots[i] = slot_copies[i];
        }
        work->optimizer->loop(parameters, work->gradients + start, trial_slots, work->constants, count);
        real lowest, after = scaled_magnitude(parameters, count, &lowest);
        for (int i = 0; i < BP_MAX_SLOTS; i++)
            if (trial_slots[i]) after += scaled_magnitude(trial_slots[i], count, &lowest);
        if (!isfinite((double)after)) return 0;
    }
    return 1;
}

/* One step, unless the gradient is, or a parameter or slot would become, non-finite: then BP_E_DIVERGED and no change. */
static bp_status guarded_step(bp_optimizer kind, real *p, const real *g, real *const *slots, const double *hyper, double rate,
                              int64_t step, int64_t n)
{
    real lowest;
    const double largest = magnitude(g, n, &lowest);
    if (!isfinite(largest)) return BP_E_DIVERGED;
    const penalty_rates none = {0, 0}; /* the gradient holds it already */
    const step_work work = prepare_step(kind, p, g, slots, hyper, rate, step, n);
    if (harmless_steps(kind, extent_of(kind, p, slots, n), hyper, rate, largest, none) == 0 && !step_stays_finite(&work))
        return BP_E_DIVERGED;
    take_step(&work, 0, n);
    return BP_OK;
}

#endif
