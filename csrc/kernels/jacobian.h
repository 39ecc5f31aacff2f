/* Derivatives of every output by the inputs, for each row on its own: a backward pass for each output, all from the values of one
 * forward pass. */
#ifndef BP_JACOBIAN_H
#define BP_JACOBIAN_H

#include "network.h"

/* The gradient of one output of n rows: roots[r], or 1 where that is NULL, and 0 at the other outputs. */
static void set_unit_deltas(const pass *p, int64_t output, const real *roots, int64_t n)
{
    const int64_t stride = p->plan->target_stride;
    real *delta = delta_at(p, p->plan->n_layers - 1);
    memset(delta, 0, (size_t)(n * stride) * sizeof(real));
    for (int64_t r = 0; r < n; r++) delta[r * stride + output] = roots ? roots[r] : 1;
}

/* What threads that share the blocks know. */
typedef struct jacobian {
    const bp_plan *plan;
    bp_workspace *workspace;
    real *by_inputs; /* [n][n_out][n_in] */
    const real *parameters;
    const bp_array *x;
    int64_t parts;
} jacobian;

static void jacobian_block(const jacobian *all, bp_workspace *w, int64_t first)
{
    const bp_plan *plan = all->plan;
    const pass p = {plan, w, all->parameters, 0, 0, 0, NULL};
    const int64_t n = at_most(all->x->n_rows - first, w->n_rows), row_size = plan->n_out * plan->n_in;
    int64_t stride;
    const real *in = input_block(plan, w, all->x, NULL, first, n, &stride);
    forward_block(&p, in, stride, n, plan->n_layers);
    for (int64_t k = 0; k < plan->n_out; k++) {
        set_unit_deltas(&p, k, NULL, n);
        backward_deltas(&p, n, plan->n_layers, 1);
        copy_columns(all->by_inputs + first * row_size + k * plan->n_in, row_size, w->scratch[0], plan->layers[0].in_stride, n,
                     plan->n_in);
    }
}

static void jacobian_part(void *argument, int64_t part)
{
    const jacobian *all = argument;
    bp_workspace *w = all->workspace + part;
    for (int64_t first = part * w->n_rows; first < all->x->n_rows; first += all->parts * w->n_rows)
        jacobian_block(all, w, first);
}

static bp_status input_jacobian(const bp_plan *plan, bp_workspace *w, real *by_inputs, const real *parameters,
                                const bp_array *x)
{
    if (w->kind != BP_FOR_TRAINING) return BP_E_ARGUMENT;
    const int64_t blocks = n_parts(x->n_rows, w->n_rows);
    jacobian all = {plan, w, by_inputs, parameters, x, at_most(w->n_parts, at_most(bp_num_threads(), blocks))};
    prepare_transposes(plan, w, parameters, 1, x->n_rows * plan->n_out);
    if (all.parts > 1)
        bp_pool_run(jacobian_part, &all, all.parts);
    else if (blocks > 0)
        jacobian_part(&all, 0);
    return BP_OK;
}

#endif
