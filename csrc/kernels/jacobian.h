/* Derivatives of every output of a network by its inputs and by its parameters, for each row on its own: the backward pass, once for
 * each output, from the values of one forward pass. */
#ifndef BP_JACOBIAN_H
#define BP_JACOBIAN_H

#include "network.h"

/* by_inputs[n][n_out][n_in] and by_parameters[n][n_out][n_parameters], of which either may be NULL. */
typedef struct jacobian {
    const bp_plan *plan;
    bp_workspace *workspace;
    real *by_inputs, *by_parameters;
    const real *parameters;
    const bp_array *x;
    int64_t parts;
} jacobian;

/* The gradient of one output: 1 there and 0 at the others, for all n rows. */
static void set_unit_deltas(const pass *p, int64_t output, int64_t n)
{
    const int64_t stride = p->plan->target_stride;
    real *delta = delta_at(p, p->plan->n_layers - 1);
    memset(delta, 0, (size_t)(n * stride) * sizeof(real));
    for (int64_t r = 0; r < n; r++) delta[r * stride + output] = 1;
}

/* After backward_deltas(): the gradient of one dense layer for row r alone, x^T dy. */
static void row_gradient(const pass *p, int64_t index, real *gradient, int64_t r)
{
    const bp_layer *layer = &p->plan->layers[index];
    const real *x = (const real *)p->workspace->values[index] + r * value_stride(p, index);
    const real *dy = (const real *)p->workspace->deltas[index] + r * layer->out_stride;
    for (int64_t j = 0; j < layer->n_out; j += WIDTH) {
        const part rest = vpart_of(j, layer->n_out);
        const vec slope = vload_part(dy + j, rest);
        for (int64_t i = 0; i < layer->n_in; i++)
            vstore_part(gradient + layer->weight_at + i * layer->n_out + j, vset(x[i]) * slope, rest);
        if (layer->has_bias) vstore_part(gradient + layer->bias_at + j, slope, rest);
    }
}

static void store_row_gradients(const pass *p, real *by_parameters, int64_t output, int64_t n)
{
    const bp_plan *plan = p->plan;
    for (int64_t i = plan->first_dense; i < plan->n_layers; i++) {
        if (plan->layers[i].kind != BP_LAYER_DENSE) continue;
        for (int64_t r = 0; r < n; r++) row_gradient(p, i, by_parameters + (r * plan->n_out + output) * plan->n_parameters, r);
    }
}

static void jacobian_block(const jacobian *all, bp_workspace *w, int64_t first)
{
    const bp_plan *plan = all->plan;
    const pass p = {plan, w, all->parameters, 0, 0, 0, NULL};
    const int64_t n = all->x->n_rows - first < w->n_rows ? all->x->n_rows - first : w->n_rows;
    const int64_t by_row = plan->n_out * plan->n_in;
    int64_t stride;
    const real *in = input_block(plan, w, all->x, NULL, first, n, &stride);
    forward_block(&p, in, stride, n, plan->n_layers);
    for (int64_t k = 0; k < plan->n_out; k++) {
        set_unit_deltas(&p, k, n);
        backward_deltas(&p, n, plan->n_layers, all->by_inputs != NULL);
        if (all->by_inputs)
            copy_columns(all->by_inputs + first * by_row + k * plan->n_in, by_row, w->scratch[0], plan->layers[0].in_stride, n,
                         plan->n_in);
        if (all->by_parameters) store_row_gradients(&p, all->by_parameters + first * plan->n_out * plan->n_parameters, k, n);
    }
}

static void jacobian_part(void *argument, int64_t part)
{
    const jacobian *all = argument;
    bp_workspace *w = all->workspace + part;
    for (int64_t first = part * w->n_rows; first < all->x->n_rows; first += all->parts * w->n_rows)
        jacobian_block(all, w, first);
}

static bp_status jacobians(const bp_plan *plan, bp_workspace *w, real *by_inputs, real *by_parameters, const real *parameters,
                           const bp_array *x)
{
    if (w->kind != BP_FOR_TRAINING) return BP_E_ARGUMENT;
    const int64_t blocks = n_parts(x->n_rows, w->n_rows);
    jacobian all = {plan, w, by_inputs, by_parameters, parameters, x, at_most(w->n_parts, at_most(bp_num_threads(), blocks))};
    prepare_transposes(plan, w, parameters, by_inputs != NULL, x->n_rows * plan->n_out);
    if (all.parts > 1)
        bp_pool_run(jacobian_part, &all, all.parts);
    else if (blocks > 0)
        jacobian_part(&all, 0);
    return BP_OK;
}

#endif
