/* From the sum of the blocks' gradients to the next parameters: penalty, clipping and step, each parameter once, a slice at
 * a time. Slices are a function of the number of parameters alone, as sums over them follow it. */
#ifndef BP_UPDATE_H
#define BP_UPDATE_H

#include "../plan.h"
#include "../pool.h"
#include "guard.h"

enum { MAX_SLICES = 64, SLICE = 8192, CHUNK = 2048 }; /* chunks stay in L1 between two loops over them */
enum { SHARED_SLICES = 8 };                           /* that pay for waking a thread */

static int64_t slice_size(int64_t n)
{
    const int64_t even = (n + MAX_SLICES - 1) / MAX_SLICES;
    return even < SLICE ? SLICE : (even + CHUNK - 1) / CHUNK * CHUNK;
}

static int64_t n_slices(int64_t n) { return n_parts(n, slice_size(n)); }

/* In double, over eight lanes that a compiler can keep in vectors. */
static double fold_lanes(const double *lane)
{
    return ((lane[0] + lane[4]) + (lane[2] + lane[6])) + ((lane[1] + lane[5]) + (lane[3] + lane[7]));
}

static double sum_of_squares(const real *x, int64_t n)
{
    double lane[8] = {0};
    int64_t i = 0;
    for (; i + 8 <= n; i += 8)
        for (int k = 0; k < 8; k++) lane[k] += (double)x[i + k] * (double)x[i + k];
    for (; i < n; i++) lane[0] += (double)x[i] * (double)x[i];
    return fold_lanes(lane);
}

static double sum_of_magnitudes(const real *x, int64_t n)
{
    double lane[8] = {0};
    int64_t i = 0;
    for (; i + 8 <= n; i += 8)
        for (int k = 0; k < 8; k++) lane[k] += fabs((double)x[i + k]);
    for (; i < n; i++) lane[0] += fabs((double)x[i]);
    return fold_lanes(lane);
}

/* The Euclidean norm where squares overflow. */
static double huge_norm(const real *g, int64_t n)
{
    const double scale = 0x1p-600;
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += (double)g[i] * scale * ((double)g[i] * scale);
    return sqrt(sum) / scale;
}

/* What to do with a slice, and what comes out of it. */
typedef struct update {
    const bp_plan *plan;
    const real *parameters;
    real *gradients;       /* NULL: only the penalty's value is wanted */
    real factor;           /* for the gradients, after the penalty's; 1: none */
    const step_work *step; /* NULL: no step */
    int penalise, measure; /* add the penalty to values and gradients; sum the squares of the gradients */
    double values[MAX_SLICES], squares[MAX_SLICES];
} update;

/* The penalty on n weights; adds its gradient. */
static double penalise(const bp_loss_spec *loss, const real *weight, real *gradient, int64_t n)
{
    double value = 0;
    if (loss->l2 > 0) value += loss->l2 / 2 * sum_of_squares(weight, n);
    if (loss->l1 > 0) value += loss->l1 * sum_of_magnitudes(weight, n);
    const real l2 = (real)loss->l2, l1 = (real)loss->l1;
    for (int64_t j = 0; gradient && j < n; j++) {
        const real sign = (real)((weight[j] > 0) - (weight[j] < 0));
        gradient[j] += l2 * weight[j] + l1 * sign;
    }
    return value;
}

/* The penalty on what of the elements from..to are weights, not biases. */
static double penalise_range(const update *u, int64_t from, int64_t to)
{
    double value = 0;
    for (int64_t i = u->plan->first_dense; i < u->plan->n_layers; i++) {
        const bp_layer *layer = &u->plan->layers[i];
        if (layer->kind != BP_LAYER_DENSE) continue;
        const int64_t first = layer->weight_at > from ? layer->weight_at : from;
        const int64_t end = layer->weight_at + layer->n_in * layer->n_out, last = end < to ? end : to;
        real *gradient = u->gradients ? u->gradients + first : NULL;
        if (first < last) value += penalise(&u->plan->loss, u->parameters + first, gradient, last - first);
    }
    return value;
}

static void update_slice(void *argument, int64_t index)
{
    update *u = argument;
    const int64_t n = u->plan->n_parameters, size = slice_size(n);
    const int64_t start = index * size, end = n - start < size ? n : start + size;
    double value = 0, squares = 0;
    for (int64_t from = start; from < end; from += CHUNK) {
        const int64_t to = end - from < CHUNK ? end : from + CHUNK;
        if (u->penalise) value += penalise_range(u, from, to);
        if (u->measure) squares += sum_of_squares(u->gradients + from, to - from);
        for (int64_t i = from; u->factor != 1 && i < to; i++) u->gradients[i] *= u->factor;
        if (u->step) take_step(u->step, from, to);
    }
    u->values[index] = value;
    u->squares[index] = squares;
}

/* All slices; afterwards values[0] and squares[0] are the sums. */
static void update_all(update *u)
{
    const int64_t n = u->plan->n_parameters, slices = n_slices(n);
    u->values[0] = u->squares[0] = 0;
    if (slices >= SHARED_SLICES) bp_pool_run(update_slice, u, slices);
    for (int64_t i = 0; slices < SHARED_SLICES && i < slices; i++) update_slice(u, i);
    for (int64_t i = 1; i < slices; i++) {
        u->values[0] += u->values[i];
        u->squares[0] += u->squares[i];
    }
}

static int has_penalty(const bp_plan *plan) { return plan->loss.l2 != 0 || plan->loss.l1 != 0; }

/* Adds the penalty's gradient (unless gradients is NULL); returns its value. */
static double penalty(const bp_plan *plan, const real *parameters, real *gradients)
{
    if (!has_penalty(plan)) return 0;
    update u = {.plan = plan, .parameters = parameters, .gradients = gradients, .factor = 1, .penalise = 1};
    update_all(&u);
    return u.values[0];
}

/* Scales gradients that are longer than `longest` down to it. `squares`: the sum of their squares. */
static void clip_gradients(const bp_plan *plan, real *gradients, double squares, double longest)
{
    double norm = sqrt(squares);
    if (!isfinite(norm)) norm = huge_norm(gradients, plan->n_parameters);
    if (!(norm > longest) || !isfinite(norm)) return;
    update u = {.plan = plan, .gradients = gradients, .factor = (real)(longest / norm)};
    update_all(&u);
}

#endif
