/* The training loop for one row an update, where kernels/rows.h can do it. */
#ifndef BP_ROW_TRAINING_H
#define BP_ROW_TRAINING_H

#include "blocks.h"
#include "rows.h"

/* Whether the network, the data and the settings are those that rows.h is for. */
static int trains_by_row(const bp_plan *plan, const bp_fit *fit)
{
    return plan->n_stages > 0 && fit->batch_size == 1 && is_plain_descent(plan, fit) && !fit->data.weight.data;
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
static bp_status train_by_rows(session *s, int64_t most, int64_t *done)
{
    const bp_plan *plan = s->plan;
    bp_workspace *w = s->workspace;
    bp_fit *fit = s->fit;
    const int single = is_short(plan), replacing = fit->sampling == BP_SAMPLING_REPLACEMENT;
    const row_source source = source_of(fit);
    const double scale = loss_scale(plan->loss_on, plan->loss.reduction, 1, plan->n_out);
    const double rate = fit->learning_rates[fit->epoch];
    row_update u = {.scale = (real)scale, .step = (real)-rate};
    if (s->harmless == 0 || !(rate <= s->rate_limit)) unload_rows(plan, w, fit); /* they are going to be measured */
    const int64_t harmless = harmless_ahead(s, rate, 1);
    if (harmless < most) most = harmless;
    place_rows(&u, plan, w->rows);
    /* the last batch of all is train_block()'s, which keeps its gradient */
    const int64_t n = fit->data.n_rows, last = n - (fit->epoch + 1 == fit->stop_epoch);
    const int64_t end = last - fit->batch < most ? last : fit->batch + most;
    if (fit->batch < end && !w->rows_loaded) {
        load_rows(plan, w->rows, fit->parameters);
        w->rows_loaded = 1;
    }
    for (*done = 0; fit->batch < end; ++*done) {
        if (replacing || fit->batch == 0) draw_batch(plan, fit);
        const int64_t *row = replacing ? fit->order : source.order ? source.order + fit->batch : &fit->batch;
        const bp_status status = read_row(&u, &source, plan, w, *row);
        if (status != BP_OK) return status;
        double loss;
        const int modest = single ? update_by_short_row(&u, &loss) : update_by_long_row(&u, &loss);
        if (!modest) break;
        fit->epoch_loss += scale * loss;
        fit->epoch_weight += 1;
        fit->n_steps++;
        fit->batch++;
        fit->drawn = 0;
        s->harmless--;
    }
    if (fit->batch >= n) end_epoch(fit);
    if (*done > 0) return BP_OK;
    *done = 1;
    unload_rows(plan, w, fit);
    return train_block(s);
}

#endif
