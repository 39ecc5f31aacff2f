/* Each optimiser: one pass over parameters, gradients and slots. name_v() moves one vector of parameters; c holds the
 * constants that name_constants() derives from `hyper`, the learning rate and the step (from 1).
 *
 *   sgd      momentum, nesterov (0 or 1)             slots: velocity (NULL without momentum)
 *   rmsprop  rho, epsilon                            slots: square_average
 *   adam     beta_1, beta_2, epsilon                 slots: first_moment, second_moment
 *   adamw    beta_1, beta_2, epsilon, weight_decay   slots: first_moment, second_moment
 *   rprop    eta_minus, eta_plus, step_min, step_max slots: previous_gradient, step_size */
#ifndef BP_OPTIMIZERS_H
#define BP_OPTIMIZERS_H

#include "simd.h"

#define N_CONSTANTS 8
#define CONSTANTS(name)                                                                                                        \
    static void name##_constants(double *c, MAYBE_UNUSED const double *hyper, MAYBE_UNUSED double rate,                        \
                                 MAYBE_UNUSED int64_t step)
#define STEP(name) ALWAYS_INLINE void name##_v(vec *p, vec g, MAYBE_UNUSED vec *first, MAYBE_UNUSED vec *second, const vec *c)

CONSTANTS(sgd_plain) { c[0] = -rate; }
STEP(sgd_plain) { *p = vfma(c[0], g, *p); }

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

/* m = beta_1 m + (1 - beta_1) g; v = beta_2 v + (1 - beta_2) g^2; p -= rate mhat / (sqrt(vhat) + epsilon):
 * Kingma and Ba (2015), algorithm 1 */
CONSTANTS(adam)
{
    c[0] = -rate / (1 - pow(hyper[0], (double)step));
    c[1] = hyper[0];
    c[2] = 1 - hyper[0]; /* in double: 1 minus a rounded beta would be far off */
    c[3] = hyper[1];
    c[4] = 1 - hyper[1];
    c[5] = 1 / sqrt(1 - pow(hyper[1], (double)step));
    c[6] = hyper[2];
}
STEP(adam)
{
    *first = vfma(c[1], *first, c[2] * g);
    *second = vfma(c[3], *second, c[4] * g * g);
    *p = vfma(c[0], *first / vfma(vsqrt(*second), c[5], c[6]), *p);
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

/* The loop over n parameters; a slot that the optimiser does not have is NULL. */
#define STEP_LOOP(name, has_first, has_second)                                                                                 \
    NOINLINE void name##_loop(real *p, const real *g, real *const *slots, const double *hyper, double rate, int64_t step,      \
                              int64_t n)                                                                                       \
    {                                                                                                                          \
        double constants[N_CONSTANTS] = {0};                                                                                   \
        vec c[N_CONSTANTS], first = vset(0), second = vset(0);                                                                 \
        real *s = (has_first) ? slots[0] : NULL, *t = (has_second) ? slots[1] : NULL;                                          \
        name##_constants(constants, hyper, rate, step);                                                                        \
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

static void sgd_loop(real *p, const real *g, real *const *slots, const double *hyper, double rate, int64_t step, int64_t n)
{
    if (slots[0])
        sgd_momentum_loop(p, g, slots, hyper, rate, step, n);
    else
        sgd_plain_loop(p, g, slots, hyper, rate, step, n);
}

typedef struct optimizer_entry {
    void (*loop)(real *, const real *, real *const *, const double *, double, int64_t, int64_t);
    int n_slots;
} optimizer_entry;

#define OPTIMIZER(name, n_slots) {name##_loop, n_slots},
static const optimizer_entry optimizer_table[BP_N_OPTIMIZERS] = {
#include "../optimizers.def"
};
#undef OPTIMIZER

/* ---- Gradients before a step ---------------------------------------------------------------------------------------- */

/* Small enough that the scaled sum of any finite gradients stays finite. */
#define SUM_SCALE C(9.094947017729282e-13) /* 2^-40 */

/* 2^-40 times the sum of |g|: non-finite if and only if some g is. */
static real scaled_magnitude(const real *g, int64_t n)
{
    stripe total = stripe_zero();
    for (int64_t i = 0; i < n; i += WIDTH) {
        const vec v = i + WIDTH <= n ? vload(g + i) : vload_part(g + i, vpart(n - i));
        LANES(&total, i) = vfma(vabs(v), vset(SUM_SCALE), LANES(&total, i));
    }
    return stripe_sum(&total);
}

/* In double, over eight lanes that a compiler can keep in vectors. */
static double sum_of_squares(const real *x, int64_t n)
{
    double lane[8] = {0};
    int64_t i = 0;
    for (; i + 8 <= n; i += 8)
        for (int k = 0; k < 8; k++) lane[k] += (double)x[i + k] * (double)x[i + k];
    for (; i < n; i++) lane[0] += (double)x[i] * (double)x[i];
    return ((lane[0] + lane[4]) + (lane[2] + lane[6])) + ((lane[1] + lane[5]) + (lane[3] + lane[7]));
}

/* The Euclidean norm, also where squares overflow. */
static double norm_of(const real *g, int64_t n)
{
    const double norm = sqrt(sum_of_squares(g, n)), scale = 0x1p-600;
    if (isfinite(norm)) return norm;
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += (double)g[i] * scale * ((double)g[i] * scale);
    return sqrt(sum) / scale;
}

static void scale_in_place(real *g, real factor, int64_t n)
{
    for (int64_t i = 0; i < n; i++) g[i] *= factor;
}

/* Would this step leave every parameter and slot finite? Tries it on copies, a few elements at a time. */
static int step_stays_finite(const optimizer_entry *optimizer, const real *p, const real *g, real *const *slots,
                             const double *hyper, double rate, int64_t step, int64_t n)
{
    enum { TRIAL = 256 };
    real parameters[TRIAL], slot_copies[BP_MAX_SLOTS][TRIAL];
    for (int64_t start = 0; start < n; start += TRIAL) {
        const int64_t count = n - start < TRIAL ? n - start : TRIAL;
        const size_t bytes = (size_t)count * sizeof(real);
        real *trial_slots[BP_MAX_SLOTS] = {NULL, NULL};
        memcpy(parameters, p + start, bytes);
        for (int i = 0; i < BP_MAX_SLOTS && i < optimizer->n_slots; i++) {
            if (!slots[i]) continue;
            memcpy(slot_copies[i], slots[i] + start, bytes);
            trial_slots[i] = slot_copies[i];
        }
        optimizer->loop(parameters, g + start, trial_slots, hyper, rate, step, count);
        real after = scaled_magnitude(parameters, count);
        for (int i = 0; i < BP_MAX_SLOTS; i++)
            if (trial_slots[i]) after += scaled_magnitude(trial_slots[i], count);
        if (!isfinite((double)after)) return 0;
    }
    return 1;
}

/* Numbers up to here, their reciprocals and products of four of them are far from the ends of the reals. */
#define MODEST (BP_REAL_BITS == 64 ? 0x1p200 : 0x1p28)

/* A setting h that neither is nor divides by anything extreme, as h, 1/h, or 1/(1 - h), into which betas go. */
static int is_modest(double h)
{
    if (h == 0) return 1;
    return h < MODEST && 1 / h < MODEST && (h == 1 || 1 / fabs(1 - h) < MODEST);
}

/* Whether no number in a step can get near the ends of the reals. No optimiser multiplies more than four of: parameter,
 * gradient, slots, rate, and what is_modest() bounds. The answer "no" costs a trial, a wrong "yes" the weights. */
static int step_is_harmless(const optimizer_entry *optimizer, double gradient_magnitude, const real *p, real *const *slots,
                            const double *hyper, double rate, int64_t n)
{
    double magnitude = gradient_magnitude + (double)scaled_magnitude(p, n) / (double)SUM_SCALE;
    for (int i = 0; i < BP_MAX_SLOTS && i < optimizer->n_slots; i++)
        if (slots[i]) magnitude += (double)scaled_magnitude(slots[i], n) / (double)SUM_SCALE;
    int modest = magnitude < MODEST && is_modest(rate);
    for (int i = 0; i < BP_N_HYPER; i++) modest &= is_modest(hyper[i]);
    return modest;
}

/* One step, unless the gradient is, or a parameter or slot would become, non-finite: then BP_E_DIVERGED and no change. */
static bp_status guarded_step(bp_optimizer kind, real *p, const real *g, real *const *slots, const double *hyper, double rate,
                              int64_t step, int64_t n)
{
    const optimizer_entry *optimizer = &optimizer_table[kind];
    const double magnitude = (double)scaled_magnitude(g, n) / (double)SUM_SCALE;
    if (!isfinite(magnitude)) return BP_E_DIVERGED;
    if (!step_is_harmless(optimizer, magnitude, p, slots, hyper, rate, n) &&
        !step_stays_finite(optimizer, p, g, slots, hyper, rate, step, n))
        return BP_E_DIVERGED;
    optimizer->loop(p, g, slots, hyper, rate, step, n);
    return BP_OK;
}

#endif
