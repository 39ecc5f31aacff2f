/* The quick way past divergence and the careful one, subnormal numbers, giving a batch up, and blocks that threads share. */
#include <fenv.h>
#include <float.h>

#include "float_state.h"
#include "networks.h"

enum { ROWS = 23, WORKSPACE_ROWS = 4 };

/* ---- Quick and careful ----------------------------------------------------------------------------------------------- */

/* Of a value's magnitude: from here on a batch is trained the careful way. */
static double value_limit(const setting *s) { return s->dtype == BP_FLOAT32 ? 0x1p20 : 0x1p200; }

static double below(const setting *s, double x) { return s->dtype == BP_FLOAT32 ? nextafterf((float)x, 0) : nextafter(x, 0); }

/* Too wide to go in columns; Huber bounds the gradient at the output. */
static const network hundred = {"a hundred weights",
                                100,
                                1,
                                {{.kind = BP_LAYER_DENSE, .n_in = 100, .n_out = 1}},
                                {.loss = BP_LOSS_huber, .parameter = 0.3},
                                0};

/* So many inputs that the product going forward is striped, and looks at them itself. */
static const network thousand = {"a thousand weights",
                                 1000,
                                 1,
                                 {{.kind = BP_LAYER_DENSE, .n_in = 1000, .n_out = 1}},
                                 {.loss = BP_LOSS_huber, .parameter = 0.3},
                                 0};

/* Plain descent does not store the gradient of a batch on the quick way, unless it is the last one. */
static int stores_gradient(const setting *s, const network *net, double x, double target)
{
    rig r = rig_up(s, net, 4, 4);
    const fit_options options = {.batch_size = 2, .n_epochs = 1, .learning_rate = 1e-30};
    set(s->dtype, r.x, 0, x);
    set(s->dtype, r.target, 0, target);
    job j;
    job_start(&j, &r, &options);
    j.fit.budget = 0;
    CHECK_INT(s->kernels->train(r.plan, r.workspace, &j.fit), BP_PAUSED);
    CHECK_INT(j.fit.n_steps, 1);
    const int stores = !isnan(get(s->dtype, j.fit.gradients, 0));
    CHECK_INT(s->kernels->train(r.plan, r.workspace, &j.fit), BP_OK);
    CHECK(isfinite(get(s->dtype, j.fit.gradients, 0)));
    job_end(&j);
    rig_down(&r);
    return stores;
}

TEST(numbers_from_the_limit_on_are_taken_with_care)
{
    const double limit = value_limit(s);
    const network *nets[] = {&hundred, &thousand};
    for (int i = 0; i < 2; i++) {
        CHECK(!stores_gradient(s, nets[i], 0.5, 0.5));
        CHECK(!stores_gradient(s, nets[i], below(s, limit), 0.5));
        CHECK(!stores_gradient(s, nets[i], -below(s, limit), 0.5));
        CHECK(stores_gradient(s, nets[i], limit, 0.5));
        CHECK(stores_gradient(s, nets[i], -limit, 0.5));
        CHECK(stores_gradient(s, nets[i], 4 * limit, 0.5));
    }
}

/* The quick way beside the careful one, which a limit for the gradient's norm that never acts asks for. */
static void expect_same_steps(const setting *s, const network *net, bp_optimizer optimizer, double scale)
{
    rig r = rig_up(s, net, ROWS, WORKSPACE_ROWS);
    for (int64_t i = 0; i < ROWS * r.n_in; i++) set(s->dtype, r.x, i, get(s->dtype, r.x, i) * scale);
    fit_options options = {.optimizer = optimizer, .batch_size = 5, .n_epochs = 2, .learning_rate = 1e-20};
    job quick, careful;
    job_start(&quick, &r, &options);
    options.gradient_clip = 1e300;
    job_start(&careful, &r, &options);
    const bp_status status = s->kernels->train(r.plan, r.workspace, &quick.fit); /* the largest squares overflow */
    CHECK(status == BP_OK || (status == BP_E_DIVERGED && scale > 1));
    CHECK_INT(s->kernels->train(r.plan, r.workspace, &careful.fit), status);
    check_same_state(&quick, &careful);
    if (status == BP_OK) CHECK(same_bytes(quick.fit.gradients, careful.fit.gradients, (size_t)r.n_parameters * s->size));
    job_end(&quick);
    job_end(&careful);
    rig_down(&r);
}

TEST(both_ways_give_the_same_bits)
{
    for (int i = 0; i < n_networks; i++)
        for (int optimizer = 0; optimizer < BP_N_OPTIMIZERS; optimizer++) {
            if (networks[i].layers[0].kind != BP_LAYER_DENSE) continue;
            expect_same_steps(s, &networks[i], (bp_optimizer)optimizer, 1);
            expect_same_steps(s, &networks[i], (bp_optimizer)optimizer, 2 * value_limit(s));
        }
}

/* One row's number is infinite from the start, but its batch comes late: all batches before are as if it were not there. */
TEST(infinity_in_the_middle_of_a_fit)
{
    for (int momentum = 0; momentum < 2; momentum++) {
        rig r = rig_up(s, &networks[0], ROWS, WORKSPACE_ROWS);
        const fit_options options = {.momentum = momentum, .batch_size = 5, .n_epochs = 3, .learning_rate = 0.01};
        job broken, whole;
        set(s->dtype, r.target, 17 * r.n_out, (double)INFINITY);
        job_start(&broken, &r, &options);
        job_start(&whole, &r, &options);
        whole.fit.data.n_rows = 15;
        whole.fit.stop_epoch = 1;
        CHECK_INT(s->kernels->train(r.plan, r.workspace, &broken.fit), BP_E_DIVERGED);
        CHECK_INT(s->kernels->train(r.plan, r.workspace, &whole.fit), BP_OK);
        CHECK_INT(broken.fit.batch, 3);
        CHECK_INT(broken.fit.n_steps, 3);
        CHECK(same_bytes(broken.fit.parameters, whole.fit.parameters, (size_t)r.n_parameters * s->size));
        if (momentum) CHECK(same_bytes(broken.fit.slots[0], whole.fit.slots[0], (size_t)r.n_parameters * s->size));
        job_end(&broken);
        job_end(&whole);
        rig_down(&r);
    }
}

/* ---- Subnormal numbers ------------------------------------------------------------------------------------------------- */

static bp_status train_at(const setting *s, rig *r, const fit_options *options, float_state state, int bad_label)
{
    job j;
    job_start(&j, r, options);
    int64_t *labels = exact_bytes((size_t)r->n * sizeof *labels);
    for (int64_t i = 0; i < r->n; i++) labels[i] = r->labels ? r->labels[i] : 0;
    labels[r->n - 1] = -1;
    if (bad_label) j.fit.data.target = contiguous(BP_INT64, labels, r->n, 1);
    const float_state before = float_state_get();
    float_state_set(state);
    const bp_status status = s->kernels->train(r->plan, r->workspace, &j.fit);
    CHECK_INT((long long)float_state_get(), (long long)state);
    float_state_set(before);
    release(labels);
    job_end(&j);
    return status;
}

TEST(the_caller_keeps_its_floating_point_state)
{
    volatile double tiny = DBL_MIN;
    CHECK(tiny / 4 > 0); /* after all the tests before */
    const float_state plain = float_state_get(), flushing = (float_state_flush_subnormals(), float_state_get());
    float_state_set(plain);
    const float_state states[] = {plain, flushing};
    for (int i = 0; i < 2; i++) {
        rig r = rig_up(s, &networks[3], ROWS, WORKSPACE_ROWS);
        fit_options options = {.batch_size = 5, .n_epochs = 2, .learning_rate = 0.01};
        CHECK_INT(train_at(s, &r, &options, states[i], 0), BP_OK);
        CHECK_INT(train_at(s, &r, &options, states[i], 1), BP_E_LABEL);
        set(s->dtype, r.x, 0, (double)INFINITY);
        CHECK_INT(train_at(s, &r, &options, states[i], 0), BP_E_DIVERGED);
        rig_down(&r);
    }
}

static void compute_all(const setting *s, rig *r, void *gradients, void *y, void *const *slots)
{
    const bp_dataset data = data_of(r, 1);
    const bp_array x = contiguous(s->dtype, r->x, ROWS, r->n_in);
    double value;
    for (int f = 0; f < BP_N_FUNCTIONS; f++) s->kernels->function((bp_function)f, y, r->target, ROWS * r->n_out);
    s->kernels->predict(r->plan, r->workspace, y, r->parameters, &x);
    CHECK_INT(s->kernels->loss_and_gradient(r->plan, r->workspace, &value, gradients, NULL, r->parameters, &data, 1, 7), BP_OK);
    for (int o = 0; o < BP_N_OPTIMIZERS; o++) /* with whatever another one has left: it may be refused */
        s->kernels->optimizer_step((bp_optimizer)o, r->parameters, gradients, slots, test_hyper, 0.001, 1, r->n_parameters);
}

TEST(other_calls_do_not_touch_the_floating_point_state)
{
    const float_state plain = float_state_get(), flushing = (float_state_flush_subnormals(), float_state_get());
    float_state_set(plain);
    fesetround(FE_UPWARD);
    const float_state upward = float_state_get();
    fesetround(FE_TONEAREST);
    const float_state states[] = {plain, flushing, upward};
    for (int i = 0; i < 3; i++) {
        rig r = rig_up(s, &networks[3], ROWS, ROWS);
        void *gradients = reals(s, r.n_parameters), *y = reals(s, ROWS * r.n_out);
        void *slots[BP_MAX_SLOTS];
        for (int j = 0; j < BP_MAX_SLOTS; j++) slots[j] = random_reals(s, r.n_parameters, 0.1, 0.2, 5);
        float_state_set(states[i]);
        compute_all(s, &r, gradients, y, slots);
        CHECK_INT((long long)(float_state_get() & FLOAT_STATE_CONTROLS), (long long)(states[i] & FLOAT_STATE_CONTROLS));
        float_state_set(plain);
        for (int j = 0; j < BP_MAX_SLOTS; j++) release(slots[j]);
        release(gradients);
        release(y);
        rig_down(&r);
    }
}

/* A gradient that is subnormal counts as zero in training, and not elsewhere. */
TEST(training_flushes_subnormals_to_zero)
{
    const double smallest = s->dtype == BP_FLOAT32 ? FLT_MIN : DBL_MIN;
    const float_state plain = float_state_get(), flushing = (float_state_flush_subnormals(), float_state_get());
    float_state_set(plain);
    if (plain == flushing) return; /* a processor that cannot */
    rig r = rig_up(s, &networks[1], 2, 2);
    const bp_loss_spec absolute = {.loss = BP_LOSS_mae, .reduction = BP_REDUCTION_SUM};
    bp_plan *plan = NULL;
    if (bp_plan_create(&plan, s->dtype, 1, networks[1].layers, 1, &absolute) != BP_OK) abort();
    for (int64_t i = 0; i < 2; i++) set(s->dtype, r.x, i, smallest / 4); /* the gradient of the weight is the sum of both */
    set(s->dtype, r.parameters, 0, 0);
    const fit_options options = {.batch_size = 2, .n_epochs = 1, .learning_rate = 1};
    job j;
    job_start(&j, &r, &options);
    double value;
    CHECK_INT(s->kernels->loss_and_gradient(plan, r.workspace, &value, j.fit.gradients, NULL, r.parameters, &j.fit.data, 0, 0),
              BP_OK);
    CHECK(get(s->dtype, j.fit.gradients, 0) == -smallest / 2);
    CHECK_INT(s->kernels->train(plan, r.workspace, &j.fit), BP_OK);
    CHECK(get(s->dtype, j.fit.gradients, 0) == 0);
    CHECK(get(s->dtype, j.fit.parameters, 0) == 0);
    job_end(&j);
    bp_plan_destroy(plan);
    rig_down(&r);
}

/* ---- Giving up --------------------------------------------------------------------------------------------------------- */

typedef struct asker {
    int asked, give_up; /* gives up this many times */
} asker;

static int ask(void *context)
{
    asker *a = context;
    return a->asked++ < a->give_up;
}

static const network wide = {"wide",
                             100,
                             3,
                             {{.kind = BP_LAYER_DENSE, .n_in = 100, .n_out = 120, .has_bias = 1},
                              {.kind = BP_LAYER_ACTIVATION, .activation = BP_ACTIVATION_relu},
                              {.kind = BP_LAYER_DENSE, .n_in = 120, .n_out = 100, .has_bias = 1}},
                             {.loss = BP_LOSS_mse},
                             0};

/* All is as after the last whole batch, and from there training can go on. */
TEST(a_batch_that_is_given_up_leaves_nothing_behind)
{
    enum { MANY = 260 };
    rig r = rig_up(s, &wide, MANY, 100);
    fit_options options = {.momentum = 1, .batch_size = 201, .n_epochs = 1000000, .learning_rate = 1e-6, .validated = 1};
    options.sampling = BP_SAMPLING_REPLACEMENT;
    job stopped, whole;
    job_start(&stopped, &r, &options);
    asker a = {0, 3};
    stopped.fit.poll = ask;
    stopped.fit.poll_context = &a;
    for (int i = 0; i < a.give_up; i++) CHECK_INT(s->kernels->train(r.plan, r.workspace, &stopped.fit), BP_STOPPED);
    stopped.fit.poll = NULL;
    stopped.fit.stop_epoch = stopped.fit.epoch + 1;
    CHECK_INT(s->kernels->train(r.plan, r.workspace, &stopped.fit), BP_OK);
    job_start(&whole, &r, &options);
    whole.fit.stop_epoch = stopped.fit.stop_epoch;
    CHECK_INT(s->kernels->train(r.plan, r.workspace, &whole.fit), BP_OK);
    check_same_state(&stopped, &whole);
    job_end(&stopped);
    job_end(&whole);
    rig_down(&r);
}

/* ---- Shared blocks ----------------------------------------------------------------------------------------------------- */

static void expect_same_in_parts(const setting *s, const network *net, const fit_options *options, int n_parts, int threads)
{
    rig r = rig_up(s, net, ROWS, WORKSPACE_ROWS);
    bp_workspace *parts = NULL, *inference = NULL;
    CHECK_INT(bp_workspace_create_parts(&parts, r.plan, WORKSPACE_ROWS, n_parts, BP_FOR_TRAINING), BP_OK);
    CHECK_INT(bp_workspace_create_parts(&inference, r.plan, WORKSPACE_ROWS, n_parts, BP_FOR_INFERENCE), BP_OK);
    CHECK_INT(bp_workspace_n_parts(parts), n_parts);
    job alone, shared;
    job_start(&alone, &r, options);
    job_start(&shared, &r, options);
    CHECK_INT(s->kernels->train(r.plan, r.workspace, &alone.fit), BP_OK);
    CHECK_INT(bp_set_num_threads(threads), BP_OK);
    CHECK_INT(s->kernels->train(r.plan, parts, &shared.fit), BP_OK);
    check_same_state(&alone, &shared);
    const bp_array x = contiguous(s->dtype, r.x, ROWS, r.n_in);
    void *y = reals(s, ROWS * r.n_out), *z = reals(s, ROWS * r.n_out);
    s->kernels->predict(r.plan, inference, y, alone.fit.parameters, &x);
    CHECK_INT(bp_set_num_threads(1), BP_OK);
    s->kernels->predict(r.plan, inference, z, alone.fit.parameters, &x);
    CHECK(same_bytes(y, z, (size_t)(ROWS * r.n_out) * s->size));
    release(y);
    release(z);
    job_end(&alone);
    job_end(&shared);
    bp_workspace_destroy(parts);
    bp_workspace_destroy(inference);
    rig_down(&r);
}

TEST(blocks_that_threads_share_give_the_same_bits)
{
    const int before = bp_num_threads();
    for (int i = 0; i < n_networks; i++)
        for (int n_parts = 2; n_parts < 5; n_parts++) {
            const fit_options options = {.optimizer = (bp_optimizer)(i % BP_N_OPTIMIZERS),
                                         .sampling = BP_SAMPLING_SHUFFLE,
                                         .batch_size = n_parts == 3 ? ROWS : 18,
                                         .n_epochs = 2,
                                         .learning_rate = 0.01,
                                         .gradient_clip = i % 2 ? 0.25 : 0,
                                         .weighted = i % 2,
                                         .validated = 1};
            expect_same_in_parts(s, &networks[i], &options, n_parts, 3);
        }
    CHECK_INT(bp_set_num_threads(before), BP_OK);
}

const test_case guard_tests[] = {CASE(numbers_from_the_limit_on_are_taken_with_care),
                                 CASE(both_ways_give_the_same_bits),
                                 CASE(infinity_in_the_middle_of_a_fit),
                                 CASE(the_caller_keeps_its_floating_point_state),
                                 CASE(other_calls_do_not_touch_the_floating_point_state),
                                 CASE(training_flushes_subnormals_to_zero),
                                 CASE(a_batch_that_is_given_up_leaves_nothing_behind),
                                 CASE(blocks_that_threads_share_give_the_same_bits),
                                 END_OF_CASES};
