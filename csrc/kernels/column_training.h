/* The training loop for small batches in columns: every batch is one block, and the step follows its gradient at once. */
#ifndef BP_COLUMN_TRAINING_H
#define BP_COLUMN_TRAINING_H

#include "blocks.h"

/* Whether batches, but perhaps for the last of an epoch, are such blocks, and nothing comes between gradient and step, which is
 * too small to share. */
static int trains_by_columns(const bp_plan *plan, const bp_workspace *w, const bp_fit *fit)
{
    return by_columns(plan, fit->batch_size) && fit->batch_size <= w->n_rows && !fit->data.weight.data &&
           !(fit->gradient_clip > 0) && !has_penalty(plan) && n_slices(plan->n_parameters) < SHARED_SLICES;
}

/* Batches of an epoch that have all their rows. */
static int64_t whole_batches(const bp_fit *fit)
{
    const int64_t n = fit->data.n_rows;
    return fit->sampling == BP_SAMPLING_REPLACEMENT ? n_parts(n, fit->batch_size) : n / fit->batch_size;
}

/* One update with the present batch, or none if its loss or gradient is not modest. */
static bp_status update_by_columns(const session *s, const columns *placed, step_work *step, double scale, int *is_modest)
{
    bp_fit *fit = s->fit;
    columns c = *placed; /* a pass swaps its lines */
    const batch b = present_batch(fit);
    double loss;
    const bp_status status = column_block(&c, b.data, b.order, b.base, &loss, &scale, fit->gradients, 1, 0);
    if (status != BP_OK) return status;
    loss *= scale;
    *is_modest = isfinite(loss) && rows_are_below(fit->gradients, 0, 1, step->n, VALUE_LIMIT * VALUE_LIMIT);
    if (!*is_modest) return BP_OK;
    fit->n_steps++;
    step->optimizer->constants(step->constants, fit->hyper, fit->learning_rates[fit->epoch], fit->n_steps);
    take_step(step, 0, step->n);
    fit->epoch_loss += loss * (double)b.n;
    fit->epoch_weight += (double)b.n;
    return BP_OK;
}

/* Up to `most` updates; *done counts them. What is not modest or not whole is left to train_block(). */
static bp_status train_by_columns(session *s, int64_t most, int64_t *done)
{
    const bp_plan *plan = s->plan;
    bp_fit *fit = s->fit;
    const int64_t whole = whole_batches(fit);
    const double scale = loss_scale(plan->loss_on, plan->loss.reduction, (double)fit->batch_size, plan->n_out);
    const int draws = plan->has_dropout || fit->sampling == BP_SAMPLING_REPLACEMENT;
    pass p = {plan, s->workspace, fit->parameters, 1, 0, 0, NULL};
    const columns placed = place_columns(&p, fit->batch_size);
    step_work step = prepare_step(fit->optimizer, fit->parameters, fit->gradients, (real *const *)fit->slots, fit->hyper, 0, 1,
                                  plan->n_parameters);
    int is_modest = 1;
    fit->careful = 0;
    for (*done = 0; *done < most && fit->epoch < fit->stop_epoch && !fit->validating; ++*done) {
        if (fit->row > 0 || fit->batch >= whole || harmless_ahead(s, fit->learning_rates[fit->epoch], fit->batch_size) == 0)
            break;
        if (draws || fit->batch == 0) draw_batch(plan, fit);
        p.dropout_key = fit->dropout_key;
        const bp_status status = update_by_columns(s, &placed, &step, scale, &is_modest);
        if (status != BP_OK) return status;
        if (!is_modest) break;
        s->harmless--;
        count_batch(fit);
    }
    if (*done > 0) return BP_OK;
    *done = 1;
    return train_block(s);
}

#endif
