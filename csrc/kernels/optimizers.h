/* Each optimiser: one pass over parameters, gradients and slots. name_v() moves one vector of parameters; c holds the
 * constants that name_constants() derives from `hyper`, the learning rate and the step (from 1). name_reach() bounds all that
 * some steps compute, for kernels/guard.h.
 *
 *   sgd      momentum, nesterov (0 or 1)             slots: velocity (NULL without momentum)
 *   rmsprop  rho, epsilon                            slots: square_average
 *   adam     beta_1, beta_2, epsilon                 slots: first_moment, second_moment
 *   adamw    beta_1, beta_2, epsilon, weight_decay   slots: first_moment, second_moment
 *   rprop    eta_minus, eta_plus, step_min, step_max slots: previous_gradient, step_size */
#ifndef BP_OPTIMIZERS_H
#define BP_OPTIMIZERS_H

#include "../element.h"
#include "simd.h"

/* Bounds on the magnitudes of all parameters and of all elements of either slot; -1 for a slot that is not there. */
typedef struct extent {
    double parameter, slot[BP_MAX_SLOTS];
    int negative[BP_MAX_SLOTS]; /* some element of the slot is below 0 */
} extent;

#define N_CONSTANTS 8
#define CONSTANTS(name)                                                                                                        \
    static void name##_constants(double *c, MAYBE_UNUSED const double *hyper, MAYBE_UNUSED double rate,                        \
                                 MAYBE_UNUSED int64_t step)
/* The extent after `steps` steps at up to `rate` with gradients up to g. Returns a bound on whatever the steps compute on
 * the way, in exact arithmetic; nan or infinity: there is none. */
#define REACH(name)                                                                                                            \
    static double name##_reach(extent *e, MAYBE_UNUSED const double *hyper, MAYBE_UNUSED double rate, double g, double steps)
#define STEP(name) ALWAYS_INLINE void name##_v(vec *p, vec g, MAYBE_UNUSED vec *first, MAYBE_UNUSED vec *second, const vec *c)

/* A number as the sum of two, the second far smaller. */
typedef struct wide {
    double high, low;
} wide;

static wide wide_product(wide a, wide b)
{
    const double high = a.high * b.high;
    const double low = fma(a.high, b.high, -high) + (a.high * b.low + a.low * b.high);
    const wide product = {high + low, low - ((high + low) - high)};
    return product;
}

/* base^n for n >= 0, rounded once but for rare cases. The C library's pow() would do, but not to the same bits on all machines. */
static double whole_power(double base, int64_t n)
{
    wide power = {1, 0}, square = {base, 0};
    for (uint64_t left = (uint64_t)n; left != 0 && power.high != 0; left >>= 1) {
        if (left & 1) power = wide_product(power, square);
        square = wide_product(square, square);
    }
    return power.high;
}

CONSTANTS(sgd_plain) { c[0] = -rate; }
STEP(sgd_plain) { *p = vfma(c[0], g, *p); }
REACH(sgd_plain)
{
    e->parameter += steps * rate * g;
    return e->parameter;
}

/* v = momentum v + g; p -= rate v, with Nesterov p -= rate (g + momentum v) */
CONSTANTS(sgd_momentum)
{
    c[0] = -rate;
    c[1] = hyper[0];
    c[2] = hyper[1];
}
STEP(sgd_momentum)
{
    *first = vfma(c[1], *first, g);
    vec ahead = vfma(c[1], *first, g);
    *p = vfma(c[0], vselect(vless(vset(0), c[2]), ahead, *first), *p);
}
REACH(sgd_momentum)
{
    if (!(hyper[0] >= 0 && hyper[0] <= 1)) return (double)INFINITY;
    e->slot[0] += steps * g;
    e->parameter += steps * rate * (e->slot[0] + g);
    return e->parameter + e->slot[0] + g;
}

/* s = rho s + (1 - rho) g^2; p -= rate g / (sqrt(s) + epsilon) */
CONSTANTS(rmsprop)
{
    c[0] = -rate;
    c[1] = hyper[0];
    c[2] = 1 - hyper[0];
    c[3] = hyper[1];
}
STEP(rmsprop)
{
    *first = vfma(c[1], *first, c[2] * g * g);
    *p = vfma(c[0], g / (vsqrt(*first) + c[3]), *p);
}
REACH(rmsprop)
{
    if (!(hyper[0] >= 0 && hyper[0] <= 1) || e->negative[0]) return (double)INFINITY;
    e->slot[0] += steps * g * g;
    e->parameter += steps * rate * g / hyper[1];
    return e->parameter + e->slot[0] + g / hyper[1] + 1 / hyper[1];
}

/* m = beta_1 m + (1 - beta_1) g; v = beta_2 v + (1 - beta_2) g^2; p -= rate mhat / (sqrt(vhat) + epsilon):
 * Kingma and Ba (2015), algorithm 1 */
CONSTANTS(adam)
{
    c[0] = -rate / (1 - whole_power(hyper[0], step));
    c[1] = hyper[0];
    c[2] = 1 - hyper[0]; /* in double: 1 minus a rounded beta would be far off */
    c[3] = hyper[1];
    c[4] = 1 - hyper[1];
    c[5] = 1 / sqrt(1 - whole_power(hyper[1], step));
    c[6] = hyper[2];
}
STEP(adam)
{
    *first = vfma(c[1], *first, c[2] * g);
    *second = vfma(c[3], *second, c[4] * g * g);
    *p = vfma(c[0], *first / vfma(vsqrt(*second), c[5], c[6]), *p);
}
REACH(adam)
{
    if (!(hyper[0] >= 0 && hyper[0] < 1 && hyper[1] >= 0 && hyper[1] < 1) || e->negative[1]) return (double)INFINITY;
    e->slot[0] += steps * g;
    e->slot[1] += steps * g * g;
    e->parameter += steps * rate / (1 - hyper[0]) * e->slot[0] / hyper[2];
    const double root = (1 + e->slot[1]) / sqrt(1 - hyper[1]);
    return e->parameter + root + e->slot[0] / hyper[2] + 1 / hyper[2];
}

/* Adam after p *= 1 - rate weight_decay: Loshchilov and Hutter (2019), algorithm 2 */
CONSTANTS(adamw)
{
    adam_constants(c, hyper, rate, step);
    c[7] = 1 - rate * hyper[3];
}
STEP(adamw)
{
    *p = *p * c[7];
    adam_v(p, g, first, second, c);
}
REACH(adamw)
{
    if (!(rate * hyper[3] >= 0 && rate * hyper[3] <= 2)) return (double)INFINITY; /* then decay does not grow */
    return adam_reach(e, hyper, rate, g, steps);
}

/* Each parameter's own step grows while its gradient keeps its sign and shrinks when it turns: Riedmiller and Braun (1993) */
CONSTANTS(rprop)
{
    for (int i = 0; i < 4; i++) c[i] = hyper[i];
}
STEP(rprop)
{
    const vec zero = vset(0), one = vset(1);
    /* signs, as the product of two gradients could underflow */
    const vec sign = vselect(vless(zero, g), one, vselect(vless(g, zero), -one, zero));
    const vec agreement = sign * *first;
    const vmask turned = vless(agreement, zero);
    const vec factor = vselect(turned, c[0], vselect(vless(zero, agreement), c[1], one));
    *second = vmin(vmax(*second * factor, c[2]), c[3]);
    *first = vselect(turned, zero, g);
    *p = vfma(vselect(turned, zero, -sign), *second, *p);
}
REACH(rprop)
{
    e->slot[0] += g;
    e->slot[1] += fabs(hyper[2]) + fabs(hyper[3]);
    e->parameter += steps * e->slot[1];
    return e->parameter + e->slot[0] + (1 + fabs(hyper[0]) + fabs(hyper[1])) * e->slot[1];
}

/* The loop over n parameters; a slot that the optimiser does not have is NULL. */
#define STEP_LOOP(name, has_first, has_second)                                                                                 \
    NOINLINE void name##_loop(real *p, const real *g, real *const *slots, const double *constants, int64_t n)                  \
    {                                                                                                                          \
        vec c[N_CONSTANTS], first = vset(0), second = vset(0);                                                                 \
        real *s = (has_first) ? slots[0] : NULL, *t = (has_second) ? slots[1] : NULL;                                          \
        for (int i = 0; i < N_CONSTANTS; i++) c[i] = vset((real)constants[i]);                                                 \
        int64_t i = 0;                                                                                                         \
        for (; i <= n - WIDTH; i += WIDTH) {                                                                                   \
            vec value = vload(p + i);                                                                                          \
            if (has_first) first = vload(s + i);                                                                               \
            if (has_second) second = vload(t + i);                                                                             \
            name##_v(&value, vload(g + i), &first, &second, c);                                                                \
            vstore(p + i, value);                                                                                              \
            if (has_first) vstore(s + i, first);                                                                               \
            if (has_second) vstore(t + i, second);                                                                             \
        }                                                                                                                      \
        if (i < n) {                                                                                                           \
            const part rest = vpart(n - i);                                                                                    \
            vec value = vload_part(p + i, rest);                                                                               \
            if (has_first) first = vload_part(s + i, rest);                                                                    \
            if (has_second) second = vload_part(t + i, rest);                                                                  \
            name##_v(&value, vload_part(g + i, rest), &first, &second, c);                                                     \
            vstore_part(p + i, value, rest);                                                                                   \
            if (has_first) vstore_part(s + i, first, rest);                                                                    \
            if (has_second) vstore_part(t + i, second, rest);                                                                  \
        }                                                                                                                      \
    }
STEP_LOOP(sgd_plain, 0, 0)
STEP_LOOP(sgd_momentum, 1, 0)
STEP_LOOP(rmsprop, 1, 0)
STEP_LOOP(adam, 1, 1)
STEP_LOOP(adamw, 1, 1)
STEP_LOOP(rprop, 1, 1)

/* sgd is two: velocities take a slot that plain descent does without. */
CONSTANTS(sgd) { sgd_momentum_constants(c, hyper, rate, step); }
REACH(sgd) { return (e->slot[0] < 0 ? sgd_plain_reach : sgd_momentum_reach)(e, hyper, rate, g, steps); }
static void sgd_loop(real *p, const real *g, real *const *slots, const double *constants, int64_t n)
{
    (slots[0] ? sgd_momentum_loop : sgd_plain_loop)(p, g, slots, constants, n);
}

typedef struct optimizer_entry {
    void (*constants)(double *, const double *, double, int64_t);
    void (*loop)(real *, const real *, real *const *, const double *, int64_t);
    double (*reach)(extent *, const double *, double, double, double);
    int n_slots;
} optimizer_entry;

#define OPTIMIZER(name, n_slots) {name##_constants, name##_loop, name##_reach, n_slots},
static const optimizer_entry optimizer_table[BP_N_OPTIMIZERS] = {
#include "../optimizers.def"
};
#undef OPTIMIZER
#undef CONSTANTS
#undef REACH
#undef STEP
#undef STEP_LOOP

/* One step's work: the optimiser, its settings as constants, and what it moves. */
typedef struct step_work {
    const optimizer_entry *optimizer;
    double constants[N_CONSTANTS];
    real *parameters;
    const real *gradients;
    real *slots[BP_MAX_SLOTS];
    int64_t n;
} step_work;

static step_work prepare_step(bp_optimizer kind, real *p, const real *g, real *const *slots, const double *hyper, double rate,
                              int64_t step, int64_t n)
{
    step_work work = {.optimizer = &optimizer_table[kind], .parameters = p, .gradients = g, .n = n};
    for (int i = 0; i < work.optimizer->n_slots; i++) work.slots[i] = slots[i];
    work.optimizer->constants(work.constants, hyper, rate, step);
    return work;
}

/* The step of the elements from..to. */
static void take_step(const step_work *work, int64_t from, int64_t to)
{
    real *slots[BP_MAX_SLOTS];
    for (int i = 0; i < BP_MAX_SLOTS; i++) slots[i] = work->slots[i] ? work->slots[i] + from : NULL;
    work->optimizer->loop(work->parameters + from, work->gradients + from, slots, work->constants, to - from);
}

#endif
