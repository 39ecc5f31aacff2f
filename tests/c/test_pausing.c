/* Pauses: train() called again and again gives the bits of one call. */
#include "networks.h"

enum { ROWS = 23, EPOCHS = 4, WORKSPACE_ROWS = 4 };

static const fit_options fits[] = {
    {.optimizer = BP_OPTIMIZER_adam, .sampling = BP_SAMPLING_SHUFFLE, .batch_size = 10, .validated = 1},
    {.optimizer = BP_OPTIMIZER_sgd, .momentum = 1, .sampling = BP_SAMPLING_REPLACEMENT, .batch_size = 7, .weighted = 1},
    {.optimizer = BP_OPTIMIZER_rprop, .sampling = BP_SAMPLING_SEQUENTIAL, .batch_size = ROWS, .validated = 1},
};
enum { N_FITS = sizeof fits / sizeof fits[0] };

static fit_options fit_of(int i)
{
    fit_options options = fits[i];
    options.learning_rate = 0.01;
    options.n_epochs = EPOCHS;
    return options;
}

static void expect_same(const setting *s, const network *net, const fit_options *options, void (*resume)(job *))
{
    rig r = rig_up(s, net, ROWS, WORKSPACE_ROWS);
    job whole, parts;
    job_start(&whole, &r, options);
    job_start(&parts, &r, options);
    CHECK_INT(s->kernels->train(r.plan, r.workspace, &whole.fit), BP_OK);
    resume(&parts);
    check_same_state(&whole, &parts);
    CHECK_INT(parts.fit.epoch, options->n_epochs);
    for (int64_t i = 0; i < options->n_epochs; i++) CHECK(parts.fit.seconds[i] >= (i ? parts.fit.seconds[i - 1] : 0));
    job_end(&whole);
    job_end(&parts);
    rig_down(&r);
}

static void expect_same_everywhere(const setting *s, void (*resume)(job *))
{
    for (int i = 0; i < n_networks; i++)
        for (int o = 0; o < N_FITS; o++) {
            const fit_options options = fit_of(o);
            expect_same(s, &networks[i], &options, resume);
        }
}

/* A pause after every block, each time with a new workspace, and the description of the fit moved elsewhere. */
static void pause_after_each_block(job *j)
{
    bp_status status;
    int64_t pauses = 0;
    const int64_t rows = bp_workspace_n_rows(j->r->workspace);
    do {
        bp_workspace *w = NULL;
        bp_fit *moved = exact_bytes(sizeof *moved);
        if (bp_workspace_create(&w, j->r->plan, rows, BP_FOR_TRAINING) != BP_OK) abort();
        *moved = j->fit;
        moved->budget = 0;
        moved->blocks_per_look = 1;
        status = j->r->s->kernels->train(j->r->plan, w, moved);
        j->fit = *moved;
        release(moved);
        bp_workspace_destroy(w);
        pauses += status == BP_PAUSED;
    } while (status == BP_PAUSED && pauses < 10000);
    CHECK_INT(status, BP_OK);
    CHECK(pauses >= EPOCHS * (ROWS / rows));
}

TEST(pausing_after_each_block_changes_nothing) { expect_same_everywhere(s, pause_after_each_block); }

/* A batch begun in small blocks ends in a workspace that it fits whole; other blocks are other sums, so losses agree nearly. */
TEST(a_larger_workspace_goes_on_where_a_batch_was)
{
    const fit_options options = {.batch_size = 10, .n_epochs = EPOCHS, .learning_rate = 0.01};
    for (int i = 0; i < n_networks; i++) {
        rig r = rig_up(s, &networks[i], ROWS, WORKSPACE_ROWS);
        job whole, grown;
        job_start(&whole, &r, &options);
        job_start(&grown, &r, &options);
        CHECK_INT(s->kernels->train(r.plan, r.workspace, &whole.fit), BP_OK);
        grown.fit.budget = 0;
        grown.fit.blocks_per_look = 1;
        CHECK_INT(s->kernels->train(r.plan, r.workspace, &grown.fit), BP_PAUSED);
        CHECK_INT(grown.fit.row, WORKSPACE_ROWS);
        bp_workspace *larger = NULL;
        if (bp_workspace_create(&larger, r.plan, ROWS, BP_FOR_TRAINING) != BP_OK) abort();
        grown.fit.budget = 1e9;
        CHECK_INT(s->kernels->train(r.plan, larger, &grown.fit), BP_OK);
        CHECK_INT(grown.fit.n_steps, whole.fit.n_steps);
        for (int e = 0; e < EPOCHS; e++)
            CHECK(fabs(grown.fit.losses[e] - whole.fit.losses[e]) <= 1e-3 * fabs(whole.fit.losses[e]));
        bp_workspace_destroy(larger);
        job_end(&whole);
        job_end(&grown);
        rig_down(&r);
    }
}

static void epoch_by_epoch(job *j)
{
    const int64_t last = j->fit.stop_epoch;
    for (j->fit.stop_epoch = 0; j->fit.stop_epoch <= last; j->fit.stop_epoch++) {
        CHECK_INT(j->r->s->kernels->train(j->r->plan, j->r->workspace, &j->fit), BP_OK);
        CHECK_INT(j->fit.epoch, j->fit.stop_epoch);
        CHECK_INT(j->fit.row, 0);
        CHECK_INT(j->fit.batch, 0);
    }
    j->fit.stop_epoch = last;
}

TEST(training_epoch_by_epoch_changes_nothing) { expect_same_everywhere(s, epoch_by_epoch); }

/* The clock looked at as train() sees fit. */
static void small_budgets(job *j)
{
    bp_status status;
    int64_t calls = 0;
    j->fit.budget = 1e-5;
    do status = j->r->s->kernels->train(j->r->plan, j->r->workspace, &j->fit);
    while (status == BP_PAUSED && ++calls < 100000);
    CHECK_INT(status, BP_OK);
}

TEST(small_budgets_change_nothing) { expect_same_everywhere(s, small_budgets); }

/* A workspace may serve another call between two pauses. */
static void busy_workspace(job *j)
{
    bp_status status;
    const rig *r = j->r;
    void *y = reals(r->s, r->n * r->n_out);
    const bp_array x = contiguous(r->s->dtype, r->x, r->n, r->n_in);
    j->fit.budget = 0;
    do {
        j->fit.blocks_per_look = 1;
        status = r->s->kernels->train(r->plan, r->workspace, &j->fit);
        r->s->kernels->predict(r->plan, r->workspace, y, j->fit.parameters, &x);
    } while (status == BP_PAUSED);
    CHECK_INT(status, BP_OK);
    release(y);
}

TEST(other_calls_between_pauses_change_nothing) { expect_same_everywhere(s, busy_workspace); }

/* A budget is kept: a fit that would take years returns soon. */
TEST(budgets_are_kept)
{
    rig r = rig_up(s, &networks[0], ROWS, WORKSPACE_ROWS);
    fit_options options = fit_of(0);
    options.n_epochs = 1000000;
    job j;
    job_start(&j, &r, &options);
    j.fit.budget = 0.02;
    const double before = bp_clock();
    CHECK_INT(s->kernels->train(r.plan, r.workspace, &j.fit), BP_PAUSED);
    const double passed = bp_clock() - before;
    CHECK(passed >= 0.02 && passed < 2);
    CHECK(j.fit.elapsed >= 0.02 && j.fit.elapsed <= passed);
    job_end(&j);
    rig_down(&r);
}

const test_case pausing_tests[] = {CASE(pausing_after_each_block_changes_nothing),
                                   CASE(a_larger_workspace_goes_on_where_a_batch_was),
                                   CASE(training_epoch_by_epoch_changes_nothing),
                                   CASE(small_budgets_change_nothing),
                                   CASE(other_calls_between_pauses_change_nothing),
                                   CASE(budgets_are_kept),
                                   END_OF_CASES};
