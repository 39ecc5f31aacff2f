/* The loss of a network on a batch, its gradient, and the training loop. */
#ifndef BP_TRAINING_H
#define BP_TRAINING_H

#include "columns.h"
#include "network.h"
#include "optimizers.h"
#include "rows.h"

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

/* The sum over one block, rows first..first + n of the batch, of weight times loss. Unless gradient_scale is NULL, its
 * gradient times that is left in workspace->scratch[0]. */
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
    const loss_rows rows = {.gradient = gradient_scale ? w->scratch[0] : NULL,
                            .prediction = forward_block(p, x, stride, n, plan->loss_layers),
                            .target = w->target,
                            .weight = weighted ? w->weight : NULL,
                            .n = n,
                            .k = plan->n_out,
                            .stride = plan->target_stride,
                            .gradient_scale = gradient_scale ? *gradient_scale : 0,
                            .parameter = (real)plan->loss.parameter};
    *value = loss_table[plan->loss_on].rows(&rows);
    return BP_OK;
}

/* Adds the penalty's gradient (unless gradients is NULL); returns its value. */
static double penalty(const bp_plan *plan, const real *parameters, real *gradients)
{
    const double l2 = plan->loss.l2, l1 = plan->loss.l1;
    double value = 0;
    if (l2 == 0 && l1 == 0) return 0;
    for (int64_t i = 0; i < plan->n_layers; i++) {
        const bp_layer *layer = &plan->layers[i];
        if (layer->kind != BP_LAYER_DENSE) continue;
        const int64_t n = layer->n_in * layer->n_out;
        const real *weight = parameters + layer->weight_at;
        if (l2 > 0) value += l2 / 2 * sum_of_squares(weight, n);
        for (int64_t j = 0; l1 > 0 && j < n; j++) value += l1 * fabs((double)weight[j]);
        if (!gradients) continue;
        real *gradient = gradients + layer->weight_at;
        for (int64_t j = 0; j < n; j++) {
            const real sign = (real)((weight[j] > 0) - (weight[j] < 0));
            gradient[j] += (real)l2 * weight[j] + (real)l1 * sign;
        }
    }
    return value;
}

/* The backward pass of a block, whose gradient is added to that of the blocks before it. A sum of blocks stays accurate over
 * millions of rows, and does not care who computes a block. */
static const real *backward_and_add(const pass *p, real *gradients, int is_first, int64_t n, int input_gradient)
{
    real *block = is_first ? gradients : p->workspace->block_gradient;
    const real *delta = backward_block(p, block, n, p->plan->loss_layers, input_gradient);
    for (int64_t i = 0; !is_first && i < p->plan->n_parameters; i++) gradients[i] += block[i];
    return delta;
}

/* What a block adds to a batch: the sum of weight times loss, and unless gradient_scale is NULL its gradient. *dx is then that at
 * the input, in padded rows, if it is wanted. Narrow layers go by columns unless the batch is a single row. */
static bp_status add_block(const pass *p, const batch *b, int64_t first, int64_t n, double *value, const double *gradient_scale,
                           real *gradients, const real **dx)
{
    const bp_plan *plan = p->plan;
    if (!by_columns(plan, b->n)) {
        const bp_status status = block_loss(p, b, first, n, gradient_scale, value);
        if (status != BP_OK || !gradient_scale) return status;
        const real *delta = backward_and_add(p, gradients, first == 0, n, dx != NULL);
        if (dx) *dx = delta;
        return BP_OK;
    }
    columns c = place_columns(p, n);
    const bp_status status = column_block(&c, b->data, b->order ? b->order + first : NULL, b->base + first, value,
                                          gradient_scale, gradients, first == 0, dx != NULL);
    if (status != BP_OK || !dx) return status;
    *dx = p->workspace->scratch[0];
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
    if (gradients && !by_columns(plan, b.n)) transpose_weights(plan, w, parameters, dx != NULL);
    for (int64_t first = 0; first < b.n; first += w->n_rows) {
        const int64_t n = b.n - first < w->n_rows ? b.n - first : w->n_rows;
        const pass p = {plan, w, parameters, training, dropout_key, first};
        const real *delta;
        double block;
        const bp_status status = add_block(&p, &b, first, n, &block, gradients ? &scale : NULL, gradients, dx ? &delta : NULL);
        if (status != BP_OK) return status;
        sum += block;
        if (dx) copy_columns(dx + first * plan->n_in, plan->n_in, delta, plan->layers[0].in_stride, n, plan->n_in);
    }
    *value = scale * sum + penalty(plan, parameters, gradients);
    return BP_OK;
}

/* After forward() on n rows: the gradient of what dy is the gradient of, with that of the penalty. */
static void backward(const bp_plan *plan, bp_workspace *w, real *gradients, real *dx, const real *dy, const real *parameters,
                     int64_t n)
{
    const pass p = {plan, w, parameters, w->kept_training, 0, 0};
    copy_columns(w->scratch[0], plan->target_stride, dy, plan->n_out, n, plan->n_out);
    transpose_weights(plan, w, parameters, dx != NULL);
    const real *delta = backward_block(&p, gradients, n, plan->n_layers, dx != NULL);
    if (dx) copy_columns(dx, plan->n_in, delta, plan->layers[0].in_stride, n, plan->n_in);
    penalty(plan, parameters, gradients);
}

/* ---- The training loop ------------------------------------------------------------------------------------------------- */

/* A batch of all rows keeps their own order. */
static int shuffles(const bp_fit *fit) { return fit->sampling == BP_SAMPLING_SHUFFLE && fit->batch_size < fit->data.n_rows; }

/* Positions among the rows that count to rows of the arrays. */
static void rows_at(int64_t *order, int64_t n, const bp_dataset *data)
{
    for (int64_t i = 0; data->rows && i < n; i++) order[i] = data->rows[order[i]];
}

static batch present_batch(const bp_fit *fit)
{
    const int64_t n = fit->data.n_rows, at = fit->batch * fit->batch_size;
    batch b = {&fit->data, NULL, at, n - at < fit->batch_size ? n - at : fit->batch_size, fit->batch_weight};
    if (fit->sampling == BP_SAMPLING_REPLACEMENT) {
        b.order = fit->order;
        b.n = fit->batch_size;
    } else if (shuffles(fit)) {
        b.order = fit->order + at;
    } else if (fit->data.rows) {
        b.order = fit->data.rows + at;
    }
    return b;
}

/* The rows of the next batch, unless that is done already. */
static void draw_batch(const bp_plan *plan, bp_fit *fit)
{
    const int64_t n = fit->data.n_rows;
    if (fit->drawn) return;
    fit->drawn = 1;
    if (fit->batch == 0) {
        fit->epoch_loss = fit->epoch_weight = 0;
        if (shuffles(fit)) {
            bp_permutation(fit->order, n, &fit->random);
            rows_at(fit->order, n, &fit->data);
        }
    }
    if (fit->sampling == BP_SAMPLING_REPLACEMENT) {
        bp_integers(fit->order, fit->batch_size, n, &fit->random);
        rows_at(fit->order, fit->batch_size, &fit->data);
    }
    if (plan->has_dropout) fit->dropout_key = fit->random.next_uint64(fit->random.state);
}

static void begin_batch(const bp_plan *plan, bp_workspace *w, bp_fit *fit)
{
    draw_batch(plan, fit);
    const batch b = present_batch(fit);
    fit->batch_weight = sum_of_weights(&fit->data.weight, b.order, b.base, b.n);
    fit->batch_loss = 0;
    if (!by_columns(plan, b.n)) transpose_weights(plan, w, fit->parameters, 0);
}

static bp_status end_batch(const bp_plan *plan, bp_fit *fit, double scale)
{
    real *gradients = fit->gradients;
    const int64_t n = plan->n_parameters;
    const double rate = fit->learning_rates[fit->epoch];
    const double loss = scale * fit->batch_loss + penalty(plan, fit->parameters, gradients);
    if (!isfinite(loss)) return BP_E_DIVERGED;
    if (fit->gradient_clip > 0) {
        const double norm = norm_of(gradients, n);
        if (norm > fit->gradient_clip && isfinite(norm)) scale_in_place(gradients, (real)(fit->gradient_clip / norm), n);
    }
    const bp_status status = guarded_step(fit->optimizer, fit->parameters, gradients, (real *const *)fit->slots, fit->hyper,
                                          rate, fit->n_steps + 1, n);
    if (status != BP_OK) return status;
    fit->n_steps++;
    fit->epoch_loss += loss * fit->batch_weight;
    fit->epoch_weight += fit->batch_weight;
    return BP_OK;
}

static void end_epoch(bp_fit *fit)
{
    const int64_t done = fit->epoch;
    fit->losses[done] = fit->epoch_loss / fit->epoch_weight;
    fit->batch = 0;
    if (fit->validation.n_rows == 0) {
        fit->epoch++;
        return;
    }
    fit->validating = 1;
    fit->blocks_per_look = 1; /* blocks may be far larger now */
    fit->batch_loss = 0;
    fit->batch_weight = sum_of_weights(&fit->validation.weight, fit->validation.rows, 0, fit->validation.n_rows);
}

/* One block of the batch; with its last block the optimiser's step, with the last batch the epoch's end. */
static bp_status train_block(const bp_plan *plan, bp_workspace *w, bp_fit *fit)
{
    if (fit->row == 0) begin_batch(plan, w, fit);
    const batch b = present_batch(fit);
    const int64_t n = b.n - fit->row < w->n_rows ? b.n - fit->row : w->n_rows;
    if (!(b.weight <= 0)) { /* a batch of zero weights has no loss; nan is for end_batch() to find */
        const double scale = loss_scale(plan->loss_on, plan->loss.reduction, b.weight, plan->n_out);
        const pass p = {plan, w, fit->parameters, 1, fit->dropout_key, fit->row};
        double block;
        bp_status status = add_block(&p, &b, fit->row, n, &block, &scale, fit->gradients, NULL);
        if (status != BP_OK) return status;
        fit->batch_loss += block;
        if (fit->row + n == b.n) status = end_batch(plan, fit, scale);
        if (status != BP_OK) return status;
    }
    fit->row += n;
    if (fit->row < b.n) return BP_OK;
    fit->row = fit->drawn = 0;
    fit->batch++;
    if (fit->batch * fit->batch_size >= fit->data.n_rows) end_epoch(fit);
    return BP_OK;
}

static bp_status validate_block(const bp_plan *plan, bp_workspace *w, bp_fit *fit)
{
    const batch b = whole_set(&fit->validation, fit->batch_weight);
    const pass p = {plan, w, fit->parameters, 0, 0, 0};
    const int64_t n = b.n - fit->row < w->n_rows ? b.n - fit->row : w->n_rows;
    double block;
    const bp_status status = add_block(&p, &b, fit->row, n, &block, NULL, NULL, NULL);
    if (status != BP_OK) return status;
    fit->batch_loss += block;
    fit->row += n;
    if (fit->row < b.n) return BP_OK;
    const double scale = loss_scale(plan->loss_on, plan->loss.reduction, b.weight, plan->n_out);
    fit->validation_losses[fit->epoch] = scale * fit->batch_loss + penalty(plan, fit->parameters, NULL);
    fit->row = 0;
    fit->validating = 0;
    fit->epoch++;
    return BP_OK;
}

/* ---- One row an update -------------------------------------------------------------------------------------------------- */

/* Whether the network, the data and the settings are those that rows.h is for. */
static int trains_by_row(const bp_plan *plan, const bp_fit *fit)
{
    const bp_loss_spec *loss = &plan->loss;
    return plan->n_stages > 0 && fit->batch_size == 1 && fit->optimizer == BP_OPTIMIZER_sgd && !fit->slots[0] &&
           !(fit->gradient_clip > 0) && loss->l2 == 0 && loss->l1 == 0 && !fit->data.weight.data;
}

/* Weights come and go; the rows hold them from the first update by rows to the next thing that asks for them elsewhere. */
static void unload_rows(const bp_plan *plan, bp_workspace *w, bp_fit *fit)
{
    if (w->rows_loaded) store_rows(plan, w->rows, fit->parameters);
    w->rows_loaded = 0;
}

/* Where rows come from: `row` of each if it can be used where it lies, else copied. */
typedef struct row_source {
    const bp_array *x, *target;
    const int64_t *order; /* NULL: 0, 1, ... */
    int x_in_place, target_in_place;
} row_source;

static row_source source_of(const bp_fit *fit)
{
    const bp_dataset *data = &fit->data;
    const row_source source = {&data->x, &data->target, shuffles(fit) ? fit->order : data->rows, rows_in_place(&data->x),
                               rows_in_place(&data->target)};
    return source;
}

/* Point the update at a row. */
static inline bp_status read_row(row_update *u, const row_source *source, const bp_plan *plan, bp_workspace *w, int64_t row)
{
    if (source->x_in_place) {
        u->stage[0].in = (const real *)(const void *)row_of(source->x, row);
    } else {
        read_rows(w->input, plan->layers[0].in_stride, source->x, &row, 0, 1);
        u->stage[0].in = w->input;
    }
    u->target = (const real *)(const void *)row_of(source->target, row);
    if (source->target_in_place) return BP_OK;
    u->target = w->target;
    return read_targets(w->target, plan->target_stride, source->target, &row, 0, 1, plan->n_out);
}

static int is_short(const bp_plan *plan)
{
    int fits = plan->n_in <= WIDTH;
    for (int64_t i = 0; i < plan->n_stages; i++) fits &= plan->stages[i].n_out <= WIDTH;
    return fits;
}

/* Up to `most` updates of the present epoch; *done counts them. An update that is not modest is left to train_block(). */
static bp_status train_rows(const bp_plan *plan, bp_workspace *w, bp_fit *fit, int64_t most, int64_t *done)
{
    const int64_t n = fit->data.n_rows, end = n - fit->batch < most ? n : fit->batch + most;
    const int single = is_short(plan), replacing = fit->sampling == BP_SAMPLING_REPLACEMENT;
    const row_source source = source_of(fit);
    const double scale = loss_scale(plan->loss_on, plan->loss.reduction, 1, plan->n_out);
    row_update u = {.scale = (real)scale, .step = (real)-fit->learning_rates[fit->epoch]};
    place_rows(&u, plan, w->rows);
    if (!w->rows_loaded) load_rows(plan, w->rows, fit->parameters);
    w->rows_loaded = 1;
    for (*done = 0; fit->batch < end; ++*done) {
        if (replacing || fit->batch == 0) draw_batch(plan, fit);
        const int64_t *row = replacing ? fit->order : source.order ? source.order + fit->batch : &fit->batch;
        const bp_status status = read_row(&u, &source, plan, w, *row);
        if (status != BP_OK) return status;
        double loss;
        const int modest = single ? update_by_short_row(&u, &loss) : update_by_long_row(&u, &loss);
        if (!modest || !isfinite(loss * scale)) {
            unload_rows(plan, w, fit);
            return train_block(plan, w, fit);
        }
        fit->epoch_loss += scale * loss;
        fit->epoch_weight += 1;
        fit->n_steps++;
        fit->batch++;
        fit->drawn = 0;
    }
    if (fit->batch >= n) end_epoch(fit);
    return BP_OK;
}

/* Note the time for the epochs that ended since the last look; returns the seconds since `entered`. */
static double note_time(bp_fit *fit, double entered)
{
    const double passed = bp_clock() - entered;
    for (; fit->timed_epochs < fit->epoch; fit->timed_epochs++) fit->seconds[fit->timed_epochs] = fit->elapsed + passed;
    return passed;
}

/* Look more or less often: about every millisecond. `passed`: the seconds since the last look. */
static void adapt_looks(bp_fit *fit, double passed)
{
    if (passed < 0.0005 && fit->blocks_per_look < 1 << 20) fit->blocks_per_look *= 2;
    if (passed > 0.002 && fit->blocks_per_look > 1) fit->blocks_per_look /= 2;
}

static bp_status train(const bp_plan *plan, bp_workspace *w, bp_fit *fit)
{
    const double entered = bp_clock();
    double looked = 0;
    bp_status status = BP_OK;
    const int by_row = trains_by_row(plan, fit);
    w->holds_columns = 1;
    w->held = NULL;
    int64_t blocks = 0, done = 1;
    if (fit->row > 0 && !fit->validating) transpose_weights(plan, w, fit->parameters, 0); /* the workspace may be a new one */
    while (fit->epoch < fit->stop_epoch && status == BP_OK) {
        if (fit->validating) {
            unload_rows(plan, w, fit);
            status = validate_block(plan, w, fit);
        } else if (by_row) {
            status = train_rows(plan, w, fit, fit->blocks_per_look - blocks, &done);
        } else {
            status = train_block(plan, w, fit);
        }
        blocks += done;
        if (blocks < fit->blocks_per_look) continue;
        blocks = 0;
        const double now = note_time(fit, entered);
        adapt_looks(fit, now - looked);
        looked = now;
        if (now >= fit->budget && status == BP_OK) status = BP_PAUSED;
    }
    unload_rows(plan, w, fit);
    w->holds_columns = 0;
    fit->elapsed += note_time(fit, entered);
    return status == BP_PAUSED && fit->epoch >= fit->stop_epoch ? BP_OK : status;
}

#endif
