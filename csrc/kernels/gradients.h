/* The loss of a network on a batch, and its gradient. */
#ifndef BP_GRADIENTS_H
#define BP_GRADIENTS_H

#include "../float_state.h"
#include "columns.h"
#include "update.h"

/* One batch of a data set: rows order[0..n), or base..base + n where order is NULL. */
typedef struct batch {
    const bp_dataset *data;
    const int64_t *order;
    int64_t base, n;
    double weight; /* the sum of its weights */
} batch;

static batch whole_set(const bp_dataset *data, double weight)
{
    const batch b = {data, data->rows, 0, data->n_rows, weight};
    return b;
}

/* The sum over a block of weight times loss where the caller computes the loss. */
static bp_status called_loss(const pass *p, const bp_loss_call *call, const loss_rows *rows, double *value)
{
    const bp_workspace *w = p->workspace;
    if (!call) return BP_E_ARGUMENT;
    const float_state own = float_state_get();
    float_state_set(w->callers_state);
    const int gives_up = call->evaluate(call->context, w->losses, rows->gradient, rows->prediction, rows->target, rows->n,
                                        rows->k, rows->stride);
    float_state_set(own);
    if (gives_up) return BP_STOPPED;
    *value = weigh_losses(w->losses, p->plan->loss_on == BP_LOSS_CALLED_ELEMENTS ? rows->k : 1, rows);
    return BP_OK;
}

/* The sum over one block, rows first..first + n of the batch, of weight times loss. Unless gradient_scale is NULL, its
 * gradient times that is left in the delta_at() of the last of plan->loss_layers. */
static bp_status block_loss(const pass *p, const batch *b, int64_t first, int64_t n, const double *gradient_scale,
                            double *value)
{
    const bp_plan *plan = p->plan;
    bp_workspace *w = p->workspace;
    const int64_t *order = b->order ? b->order + first : NULL;
    int64_t stride;
    const real *x = input_block(plan, w, &b->data->x, order, b->base + first, n, &stride);
    const bp_status status =
        read_targets(w->target, plan->target_stride, &b->data->target, order, b->base + first, n, plan->n_out);
    if (status != BP_OK) return status;
    const int weighted = b->data->weight.data != NULL;
    if (weighted) read_rows(w->weight, 1, &b->data->weight, order, b->base + first, n);
    const real *prediction = forward_block(p, x, stride, n, plan->loss_layers);
    if (!prediction) return BP_STOPPED;
    const loss_rows rows = {.gradient = gradient_scale ? delta_at(p, plan->loss_layers - 1) : NULL,
                            .prediction = prediction,
                            .target = w->target,
                            .weight = weighted ? w->weight : NULL,
                            .n = n,
                            .k = plan->n_out,
                            .stride = plan->target_stride,
                            .gradient_scale = gradient_scale ? *gradient_scale : 0,
                            .parameter = (real)plan->loss.parameter};
    if (bp_is_called(plan->loss_on)) return called_loss(p, b->data->loss, &rows, value);
    *value = loss_table[plan->loss_on].rows(&rows);
    return BP_OK;
}

/* What a block adds to a batch: the sum of weight times loss, and unless gradient_scale is NULL its gradient, to `gradients` or, if
 * is_first, over them. The gradient at the input, if it is wanted, is then in scratch[0]. Narrow layers go by columns unless
 * the batch is a single row. */
static bp_status add_block(const pass *p, const batch *b, int64_t first, int64_t n, double *value, const double *gradient_scale,
                           real *gradients, int is_first, int input_gradient)
{
    const bp_plan *plan = p->plan;
    if (!by_columns(plan, b->n)) {
        const bp_status status = block_loss(p, b, first, n, gradient_scale, value);
        if (status != BP_OK || !gradient_scale) return status;
        if (backward_deltas(p, n, plan->loss_layers, input_gradient)) return BP_STOPPED;
        return backward_parameters(p, gradients, is_first, n, plan->loss_layers) ? BP_STOPPED : BP_OK;
    }
    columns c = place_columns(p, n);
    const bp_status status = column_block(&c, b->data, b->order ? b->order + first : NULL, b->base + first, value,
                                          gradient_scale, gradients, is_first, input_gradient);
    if (status != BP_OK || !input_gradient) return status;
    transpose(p->workspace->scratch[0], plan->layers[0].in_stride, c.delta, c.stride, plan->n_in, n);
    return BP_OK;
}

static bp_status loss_and_gradient(const bp_plan *plan, bp_workspace *w, double *value, real *gradients, real *dx,
                                   const real *parameters, const bp_dataset *data, int training, uint64_t dropout_key)
{
    if ((gradients || training) && w->kind != BP_FOR_TRAINING) return BP_E_ARGUMENT;
    const batch b = whole_set(data, sum_of_weights(&data->weight, data->rows, 0, data->n_rows));
    const double scale = loss_scale(plan->loss_on, plan->loss.reduction, b.weight, plan->n_out);
    double sum = 0;
    w->callers_state = float_state_get();
    if (gradients && !by_columns(plan, b.n)) prepare_transposes(plan, w, parameters, dx != NULL, b.n);
    const int64_t rows = even_rows(w, b.n);
    for (int64_t first = 0; first < b.n; first += rows) {
        const int64_t n = b.n - first < rows ? b.n - first : rows;
        const pass p = {plan, w, parameters, training, dropout_key, first, NULL};
        double block;
        const bp_status status =
            add_block(&p, &b, first, n, &block, gradients ? &scale : NULL, gradients, first == 0, dx != NULL);
        if (status != BP_OK) return status;
        sum += block;
        if (dx) copy_columns(dx + first * plan->n_in, plan->n_in, w->scratch[0], plan->layers[0].in_stride, n, plan->n_in);
    }
    *value = scale * sum + penalty(plan, parameters, gradients);
    return BP_OK;
}

/* After forward() on n rows: the gradient of what dy is the gradient of, with that of the penalty. */
static void backward(const bp_plan *plan, bp_workspace *w, real *gradients, real *dx, const real *dy, const real *parameters,
                     int64_t n)
{
    const pass p = {plan, w, parameters, w->kept_training, 0, 0, NULL};
    copy_columns(delta_at(&p, plan->n_layers - 1), plan->target_stride, dy, plan->n_out, n, plan->n_out);
    prepare_transposes(plan, w, parameters, dx != NULL, n);
    backward_deltas(&p, n, plan->n_layers, dx != NULL);
    backward_parameters(&p, gradients, 1, n, plan->n_layers);
    if (dx) copy_columns(dx, plan->n_in, w->scratch[0], plan->layers[0].in_stride, n, plan->n_in);
    penalty(plan, parameters, gradients);
}

#endif
