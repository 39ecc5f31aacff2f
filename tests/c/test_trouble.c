/* Training that cannot go on: labels out of range, divergence, numbers that are not finite. */
#include "networks.h"

enum { ROWS = 23, WORKSPACE_ROWS = 4 };

static int all_finite(const rig *r, const void *array)
{
    for (int64_t i = 0; i < r->n_parameters; i++)
        if (!isfinite(get(r->s->dtype, array, i))) return 0;
    return 1;
}

static fit_options plain_options(double learning_rate)
{
    const fit_options options = {.batch_size = 5, .n_epochs = 50, .learning_rate = learning_rate, .validated = 1};
    return options;
}

TEST(labels_out_of_range_stop_training)
{
    for (int i = 0; i < n_networks; i++) {
        if (!networks[i].one_hot) continue;
        rig r = rig_up(s, &networks[i], ROWS, WORKSPACE_ROWS);
        const int64_t bad[] = {-1, r.n_out, INT64_MIN, INT64_MAX};
        for (int64_t row = 0; row < ROWS; row++)
            for (int in_validation = 0; in_validation < 2; in_validation++) {
                const fit_options options = plain_options(0.01);
                job j;
                job_start(&j, &r, &options);
                int64_t *labels = copy_of(r.labels, ROWS * sizeof *labels);
                labels[row] = bad[row % 4];
                bp_dataset *data = in_validation ? &j.fit.validation : &j.fit.data;
                data->target = contiguous(BP_INT64, labels, ROWS, 1);
                CHECK_INT(s->kernels->train(r.plan, r.workspace, &j.fit), BP_E_LABEL);
                CHECK_INT(j.fit.epoch, 0);
                CHECK_INT(j.fit.n_steps, in_validation ? 5 : row / 5);
                CHECK(all_finite(&r, j.fit.parameters));
                release(labels);
                job_end(&j);
            }
        rig_down(&r);
    }
}

/* Until the loss overflows; the parameters are then those before the step that failed, which a shorter fit has too. */
TEST(divergence_keeps_the_last_finite_parameters)
{
    for (int optimizer = 0; optimizer < BP_N_OPTIMIZERS; optimizer++)
        for (int rate = 0; rate < 3; rate++) {
            const double rates[] = {1e3, 1e30, 1e300};
            rig r = rig_up(s, &networks[0], ROWS, WORKSPACE_ROWS);
            fit_options options = plain_options(rates[rate]);
            options.optimizer = (bp_optimizer)optimizer;
            options.momentum = rate % 2;
            options.validated = 0;
            job j;
            job_start(&j, &r, &options);
            const bp_status status = s->kernels->train(r.plan, r.workspace, &j.fit);
            CHECK(status == BP_OK || status == BP_E_DIVERGED);
            CHECK(all_finite(&r, j.fit.parameters));
            if (optimizer == BP_OPTIMIZER_sgd) CHECK_INT(status, BP_E_DIVERGED);
            for (int i = 0; i < BP_MAX_SLOTS; i++) /* a moment may be infinite only where a parameter became so next */
                if (j.fit.slots[i] && status == BP_OK) CHECK(all_finite(&r, j.fit.slots[i]));
            job_end(&j);
            rig_down(&r);
        }
}

/* The number at one place of x, target or weight is bad: the batch that meets it changes nothing. */
TEST(bad_numbers_in_the_data_change_no_parameter)
{
    const double bad[] = {(double)NAN, (double)INFINITY, -(double)INFINITY};
    for (int i = 0; i < n_networks; i++)
        for (int where = 0; where < 2; where++)
            for (int b = 0; b < 3; b++) {
                if (networks[i].n_layers == 1 && where == 0) continue; /* tanh makes infinity finite */
                if (networks[i].one_hot && b == 2) continue;
                rig r = rig_up(s, &networks[i], ROWS, WORKSPACE_ROWS);
                const size_t bytes = (size_t)r.n_parameters * s->size;
                const fit_options options = plain_options(0.01);
                set(s->dtype, where ? r.target : r.x, 7 * (where ? r.n_out : r.n_in), bad[b]); /* in the second batch */
                job j, first_batch;
                job_start(&j, &r, &options);
                fit_options short_options = options;
                short_options.n_epochs = 1;
                short_options.validated = 0;
                job_start(&first_batch, &r, &short_options);
                first_batch.fit.data.n_rows = 5;
                CHECK_INT(s->kernels->train(r.plan, r.workspace, &first_batch.fit), BP_OK);
                const bp_status status = s->kernels->train(r.plan, r.workspace, &j.fit);
                CHECK(all_finite(&r, j.fit.parameters));
                if (isnan(bad[b]) || where) {
                    CHECK_INT(status, BP_E_DIVERGED);
                    CHECK_INT(j.fit.n_steps, 1);
                    CHECK_INT(j.fit.epoch, 0);
                    CHECK_INT(j.fit.batch, 1);
                    CHECK(same_bytes(j.fit.parameters, first_batch.fit.parameters, bytes));
                }
                job_end(&j);
                job_end(&first_batch);
                rig_down(&r);
            }
}

/* Finite gradients whose squares are too large for the dtype are clipped like any others. */
TEST(huge_gradients_are_clipped)
{
    const double huge = s->dtype == BP_FLOAT32 ? 1e25 : 1e200;
    rig r = rig_up(s, &networks[1], 1, 1); /* one weight, no bias, Huber */
    bp_workspace_destroy(r.workspace);
    bp_plan_destroy(r.plan);
    const bp_layer_spec layer = networks[1].layers[0];
    const bp_loss_spec absolute = {.loss = BP_LOSS_mae};
    if (bp_plan_create(&r.plan, s->dtype, 1, &layer, 1, &absolute) != BP_OK) abort();
    if (bp_workspace_create(&r.workspace, r.plan, 1, BP_FOR_TRAINING) != BP_OK) abort();
    set(s->dtype, r.parameters, 0, 0.5);
    set(s->dtype, r.x, 0, huge); /* the gradient is x */
    const fit_options options = {.batch_size = 1, .n_epochs = 1, .learning_rate = 0.25, .gradient_clip = 1};
    job j;
    job_start(&j, &r, &options);
    CHECK_INT(s->kernels->train(r.plan, r.workspace, &j.fit), BP_OK);
    CHECK_NEAR(get(s->dtype, j.fit.parameters, 0), 0.25, 1e-6, 0);
    job_end(&j);
    rig_down(&r);
}

/* A step that would carry a parameter past the largest number is not taken, though loss and gradient are finite. */
TEST(a_step_to_infinity_is_not_taken)
{
    const double largest = s->dtype == BP_FLOAT32 ? 3.4e38 : 1.7e308;
    for (int momentum = 0; momentum < 2; momentum++) {
        rig r = rig_up(s, &networks[1], 1, 1);
        set(s->dtype, r.x, 0, 1);
        set(s->dtype, r.parameters, 0, 0.5);
        set(s->dtype, r.target, 0, -largest); /* Huber's gradient is its delta, 0.3 */
        const fit_options options = {.momentum = momentum, .batch_size = 1, .n_epochs = 5, .learning_rate = largest};
        job j;
        job_start(&j, &r, &options);
        for (int64_t i = 0; i < options.n_epochs; i++) j.rates[i] = largest;
        CHECK_INT(s->kernels->train(r.plan, r.workspace, &j.fit), BP_E_DIVERGED);
        CHECK(all_finite(&r, j.fit.parameters));
        job_end(&j);
        rig_down(&r);
    }
}

TEST(nothing_left_to_do_is_done_at_once)
{
    const fit_options options = {.batch_size = 5, .n_epochs = 3, .learning_rate = 0.01, .sampling = BP_SAMPLING_SHUFFLE};
    rig r = rig_up(s, &networks[0], ROWS, WORKSPACE_ROWS);
    job j;
    job_start(&j, &r, &options);
    j.fit.stop_epoch = 0;
    j.fit.budget = 0;
    CHECK_INT(s->kernels->train(r.plan, r.workspace, &j.fit), BP_OK);
    CHECK_INT(j.source.draws, 0);
    CHECK(same_bytes(j.fit.parameters, r.parameters, (size_t)r.n_parameters * s->size));
    job_end(&j);
    rig_down(&r);
}

const test_case trouble_tests[] = {CASE(labels_out_of_range_stop_training),
                                   CASE(divergence_keeps_the_last_finite_parameters),
                                   CASE(bad_numbers_in_the_data_change_no_parameter),
                                   CASE(huge_gradients_are_clipped),
                                   CASE(a_step_to_infinity_is_not_taken),
                                   CASE(nothing_left_to_do_is_done_at_once),
                                   END_OF_CASES};
