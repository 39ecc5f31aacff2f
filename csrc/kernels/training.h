/* The training loop. */
#ifndef BP_TRAINING_H
#define BP_TRAINING_H

#include "column_training.h"
#include "row_training.h"

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

/* Blocks until the epochs, the time or the luck runs out. */
static bp_status train_on(session *s, double entered)
{
    bp_fit *fit = s->fit;
    double looked = 0;
    bp_status status = BP_OK;
    const int by_row = trains_by_row(s->plan, fit), by_column = trains_by_columns(s->plan, s->workspace, fit);
    int64_t blocks = 0, done = 1;
    while (fit->epoch < fit->stop_epoch && status == BP_OK) {
        if (fit->validating) {
            unload_rows(s->plan, s->workspace, fit);
            status = validate_block(s);
        } else if (by_row) {
            status = train_by_rows(s, fit->blocks_per_look - blocks, &done);
        } else if (by_column) {
            status = train_by_columns(s, fit->blocks_per_look - blocks, &done);
        } else {
            status = train_block(s);
        }
        blocks += done;
        if (blocks < fit->blocks_per_look) continue;
        blocks = 0;
        const double now = note_time(fit, entered);
        adapt_looks(fit, now - looked);
        looked = now;
        if (now >= fit->budget && status == BP_OK) status = BP_PAUSED;
    }
    unload_rows(s->plan, s->workspace, fit);
    return status;
}

/* Data that are read in their own order need not be read again while this call lasts. */
static void hold_all_columns(bp_workspace *w, int holds)
{
    for (int i = 0; i < w->n_parts; i++) {
        w[i].holds_columns = holds;
        w[i].held = NULL;
    }
}

static bp_status train(const bp_plan *plan, bp_workspace *w, bp_fit *fit)
{
    const double entered = bp_clock();
    const float_state before = float_state_flush_subnormals();
    w->callers_state = before;
    session s = {.plan = plan, .workspace = w, .fit = fit, .watch = {fit->poll, fit->poll_context, entered + POLL_INTERVAL}};
    if (fit->row > 0 && !fit->validating)
        prepare_transposes(plan, w, fit->parameters, 0, INT64_MAX); /* perhaps a new workspace */
    hold_all_columns(w, 1);
    const bp_status status = train_on(&s, entered);
    hold_all_columns(w, 0);
    float_state_set(before);
    if (status == BP_STOPPED && !fit->validating) fit->row = 0; /* the batch starts again */
    fit->elapsed += note_time(fit, entered);
    return status == BP_PAUSED && fit->epoch >= fit->stop_epoch ? BP_OK : status;
}

#endif
