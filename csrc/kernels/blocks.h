/* Training a block of rows at a time: batches, and the step at the end of each. */
#ifndef BP_BLOCKS_H
#define BP_BLOCKS_H

#include "../pool.h"
#include "gradients.h"

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

/* A call of train(): the fit, and how long the quick way of guard.h is known to be safe. */
typedef struct session {
    const bp_plan *plan;
    bp_workspace *workspace;
    bp_fit *fit;
    watch watch;
    int64_t harmless;                  /* steps from here */
    double rate_limit, gradient_limit; /* that are no larger than these */
} session;

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
    fit->careful = 0;
    draw_batch(plan, fit);
    const batch b = present_batch(fit);
    fit->batch_weight = sum_of_weights(&fit->data.weight, b.order, b.base, b.n);
    fit->batch_loss = 0;
    if (!by_columns(plan, b.n)) prepare_transposes(plan, w, fit->parameters, 0, b.n);
}

/* How many steps at this rate, after batches of up to n_rows whose numbers are modest, cannot reach the ends of the reals. The
 * parameters are measured when it is not known. */
static int64_t harmless_ahead(session *s, double rate, int64_t n_rows)
{
    const bp_fit *fit = s->fit;
    const double gradient = (double)n_rows * VALUE_LIMIT * VALUE_LIMIT;
    if (!(rate >= 0)) return 0;
    if (s->harmless > 0 && rate <= s->rate_limit && gradient <= s->gradient_limit) return s->harmless;
    const penalty_rates penalty = {s->plan->loss.l2, s->plan->loss.l1};
    const extent now = extent_of(fit->optimizer, fit->parameters, (real *const *)fit->slots, s->plan->n_parameters);
    s->gradient_limit = gradient;
    s->rate_limit = rate < 1 ? 1 : rate; /* schedules may raise it */
    s->harmless = harmless_steps(fit->optimizer, now, fit->hyper, s->rate_limit, gradient, penalty);
    if (s->harmless > 0) return s->harmless;
    s->rate_limit = rate;
    s->harmless = harmless_steps(fit->optimizer, now, fit->hyper, rate, gradient, penalty);
    return s->harmless;
}

static int step_is_harmless(session *s, double rate, int64_t n_rows)
{
    if (s->fit->careful || harmless_ahead(s, rate, n_rows) == 0) {
        s->harmless = 0; /* the careful step may go anywhere, so measure again after it */
        return 0;
    }
    s->harmless--;
    return 1;
}

/* The last of this call of train(): its gradient is left in fit->gradients. */
static int is_last_batch(const bp_fit *fit)
{
    return fit->epoch + 1 == fit->stop_epoch && (fit->batch + 1) * fit->batch_size >= fit->data.n_rows;
}

/* Nothing but a gradient times the rate makes the step. */
static int is_plain_descent(const bp_plan *plan, const bp_fit *fit)
{
    return fit->optimizer == BP_OPTIMIZER_sgd && !fit->slots[0] && !(fit->gradient_clip > 0) && !has_penalty(plan);
}

/* Whether the batch's last block can be one with the step: plain descent whose gradient nobody needs. It must not take long, as
 * it cannot be given up. */
static int is_fused(const session *s, const batch *b, int64_t n)
{
    const bp_fit *fit = s->fit;
    return is_plain_descent(s->plan, fit) && !is_last_batch(fit) && fit->row + n == b->n &&
           (double)n * (double)s->plan->n_parameters < PATIENCE;
}

/* The step of an optimiser from the whole gradient of a batch, the penalty's left out. */
static bp_status take_update(session *s, double rate, int harmless, double *loss)
{
    bp_fit *fit = s->fit;
    real *const *slots = (real *const *)fit->slots;
    real *gradients = fit->gradients;
    const int64_t n = s->plan->n_parameters;
    const int clips = fit->gradient_clip > 0;
    const step_work step =
        prepare_step(fit->optimizer, fit->parameters, gradients, slots, fit->hyper, rate, fit->n_steps + 1, n);
    update u = {.plan = s->plan,
                .parameters = fit->parameters,
                .gradients = gradients,
                .factor = 1,
                .step = harmless && !clips ? &step : NULL,
                .penalise = has_penalty(s->plan),
                .measure = clips};
    if (u.step && !isfinite(*loss)) return BP_E_DIVERGED;
    if (u.step || u.penalise || u.measure) update_all(&u);
    *loss += u.values[0];
    if (u.step) return BP_OK; /* the penalty of harmless parameters is finite */
    if (!isfinite(*loss)) return BP_E_DIVERGED;
    if (clips) clip_gradients(s->plan, gradients, u.squares[0], fit->gradient_clip);
    return guarded_step(fit->optimizer, fit->parameters, gradients, slots, fit->hyper, rate, fit->n_steps + 1, n);
}

/* A batch's loss is known, and all blocks but perhaps the last are in the gradient. For that one, unless p is NULL: forward and
 * deltas are done, but not yet the gradients of its n rows. */
static bp_status end_batch(session *s, const pass *p, const batch *b, int64_t n, double scale)
{
    bp_fit *fit = s->fit;
    const int is_first = fit->row == 0;
    const double rate = fit->learning_rates[fit->epoch];
    /* of a block in columns no value is left to look at, but few parameters are */
    if (by_columns(s->plan, b->n) && !rows_are_below(fit->gradients, 0, 1, s->plan->n_parameters, VALUE_LIMIT * VALUE_LIMIT))
        fit->careful = 1;
    const int harmless = step_is_harmless(s, rate, b->n);
    double loss = scale * fit->batch_loss;
    if (p && harmless && is_fused(s, b, n)) {
        if (!isfinite(loss)) return BP_E_DIVERGED;
        step_parameters(p, fit->parameters, rate, fit->gradients, is_first, n);
    } else {
        if (p && backward_parameters(p, fit->gradients, is_first, n, s->plan->loss_layers)) return BP_STOPPED;
        const bp_status status = take_update(s, rate, harmless, &loss);
        if (status != BP_OK) return status;
    }
    fit->n_steps++;
    fit->epoch_loss += loss * fit->batch_weight;
    fit->epoch_weight += fit->batch_weight;
    return BP_OK;
}

/* Whether all that the gradients of a block are products of is small enough for the quick way. */
static int block_is_modest(const pass *p, int64_t n)
{
    const bp_plan *plan = p->plan;
    const bp_workspace *w = p->workspace;
    for (int64_t i = plan->first_dense; i < plan->loss_layers; i++) {
        const bp_layer *layer = &plan->layers[i];
        if (layer->kind != BP_LAYER_DENSE) continue;
        const int64_t stride = value_stride(p, i);
        const int seen = bp_is_striped(plan->dtype, layer->n_out, layer->n_in) &&
                         !bp_flag_get(&w->immodest); /* by the product going forward */
        if (!seen && !rows_are_below(w->values[i], stride, n, layer->n_in, VALUE_LIMIT)) return 0;
        if (!rows_are_below(w->deltas[i], layer->out_stride, n, layer->n_out, VALUE_LIMIT)) return 0;
    }
    return 1;
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

/* A batch is done, and with the last one the epoch. */
static void count_batch(bp_fit *fit)
{
    fit->drawn = 0;
    fit->batch++;
    if (fit->batch * fit->batch_size >= fit->data.n_rows) end_epoch(fit);
}

/* Rows of the batch from fit->row on, all of them if it has no more than a block; with the last of them the step. */
static bp_status train_rows(session *s, const batch *b, int64_t n)
{
    const bp_plan *plan = s->plan;
    bp_fit *fit = s->fit;
    const double scale = loss_scale(plan->loss_on, plan->loss.reduction, b->weight, plan->n_out);
    const pass p = {plan, s->workspace, fit->parameters, 1, fit->dropout_key, fit->row, fit->poll ? &s->watch : NULL};
    const int is_last = fit->row + n == b->n;
    double block;
    if (by_columns(plan, b->n)) {
        const bp_status status = add_block(&p, b, fit->row, n, &block, &scale, fit->gradients, fit->row == 0, 0);
        if (status != BP_OK) return status;
        fit->batch_loss += block;
        return is_last ? end_batch(s, NULL, b, n, scale) : BP_OK;
    }
    const bp_status status = block_loss(&p, b, fit->row, n, &scale, &block);
    if (status != BP_OK) return status;
    fit->batch_loss += block;
    if (backward_deltas(&p, n, plan->loss_layers, 0)) return BP_STOPPED;
    if (!block_is_modest(&p, n)) fit->careful = 1;
    if (is_last) return end_batch(s, &p, b, n, scale);
    return backward_parameters(&p, fit->gradients, fit->row == 0, n, plan->loss_layers) ? BP_STOPPED : BP_OK;
}

/* Blocks of one batch that threads compute at the same time. */
typedef struct shared_blocks {
    const session *s;
    const batch *b;
    double scale;
    double losses[BP_MOST_PARTS];
    bp_status statuses[BP_MOST_PARTS];
    int modest[BP_MOST_PARTS];
} shared_blocks;

static void compute_shared(void *argument, int64_t part)
{
    shared_blocks *blocks = argument;
    const session *s = blocks->s;
    const bp_fit *fit = s->fit;
    bp_workspace *w = s->workspace + part;
    const int64_t rows = even_rows(w, blocks->b->n), first = fit->row + part * rows;
    const int64_t n = blocks->b->n - first < rows ? blocks->b->n - first : rows;
    const pass p = {s->plan, w, fit->parameters, 1, fit->dropout_key, first, NULL};
    blocks->statuses[part] = add_block(&p, blocks->b, first, n, &blocks->losses[part], &blocks->scale, w->block_gradient, 1, 0);
    blocks->modest[part] = blocks->statuses[part] == BP_OK && (by_columns(s->plan, blocks->b->n) || block_is_modest(&p, n));
}

/* The parts' gradients onto those of the blocks before, in the order of the blocks. */
static void add_shared(const session *s, int64_t parts)
{
    real *gradients = s->fit->gradients;
    const int64_t n = s->plan->n_parameters;
    for (int64_t i = 0; i < parts; i++) {
        const real *block = s->workspace[i].block_gradient;
        if (i == 0 && s->fit->row == 0)
            memcpy(gradients, block, (size_t)n * sizeof(real));
        else
            for (int64_t j = 0; j < n; j++) gradients[j] += block[j];
    }
}

/* As train_rows(), for the next n rows: as many blocks as there are parts. */
static bp_status train_shared(session *s, const batch *b, int64_t n, int64_t parts)
{
    bp_fit *fit = s->fit;
    const double scale = loss_scale(s->plan->loss_on, s->plan->loss.reduction, b->weight, s->plan->n_out);
    shared_blocks blocks = {.s = s, .b = b, .scale = scale};
    bp_pool_run(compute_shared, &blocks, parts);
    for (int64_t i = 0; i < parts; i++) {
        if (blocks.statuses[i] != BP_OK) return blocks.statuses[i];
        fit->batch_loss += blocks.losses[i];
        if (!blocks.modest[i]) fit->careful = 1;
    }
    add_shared(s, parts);
    return fit->row + n == b->n ? end_batch(s, NULL, b, n, scale) : BP_OK;
}

/* Blocks that are to be computed at the same time, from the present row on. A caller's loss is called for one after the other. */
static int64_t parts_ahead(const session *s, const batch *b)
{
    const int64_t rows = even_rows(s->workspace, b->n), blocks = n_parts(b->n - s->fit->row, rows);
    int64_t parts = bp_is_called(s->plan->loss_on) ? 1 : s->workspace->n_parts;
    if (parts > bp_num_threads()) parts = bp_num_threads();
    return parts < blocks ? parts : blocks;
}

/* One block of the batch, or some; with the last block the optimiser's step, with the last batch the epoch's end. */
static bp_status train_block(session *s)
{
    bp_fit *fit = s->fit;
    if (fit->row == 0) begin_batch(s->plan, s->workspace, fit);
    const batch b = present_batch(fit);
    const int64_t parts = parts_ahead(s, &b), rows = parts * even_rows(s->workspace, b.n);
    const int64_t n = b.n - fit->row < rows ? b.n - fit->row : rows;
    if (!(b.weight <= 0)) { /* a batch of zero weights has no loss; nan is for end_batch() to find */
        const bp_status status = parts > 1 ? train_shared(s, &b, n, parts) : train_rows(s, &b, n);
        if (status != BP_OK) return status;
    }
    fit->row += n;
    if (fit->row < b.n) return BP_OK;
    fit->row = 0;
    count_batch(fit);
    return BP_OK;
}

static bp_status validate_block(session *s)
{
    const bp_plan *plan = s->plan;
    bp_workspace *w = s->workspace;
    bp_fit *fit = s->fit;
    const batch b = whole_set(&fit->validation, fit->batch_weight);
    const pass p = {plan, w, fit->parameters, 0, 0, 0, fit->poll ? &s->watch : NULL};
    const int64_t rows = even_rows(w, b.n), n = b.n - fit->row < rows ? b.n - fit->row : rows;
    double block;
    const bp_status status = add_block(&p, &b, fit->row, n, &block, NULL, NULL, 0, 0);
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

#endif
