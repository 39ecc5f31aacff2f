/* Losses that the caller computes: beside the same loss of the library, and when they give up. */
#include "networks.h"

enum { ROWS = 23, WORKSPACE_ROWS = 4, BATCH = 9, BLOCKS = 3 /* of the first two batches; the last has two */ };

#define DENSE(in, out) {.kind = BP_LAYER_DENSE, .n_in = (in), .n_out = (out), .has_bias = 1}

/* Too wide to go by columns, as a called loss does not either. */
static const network own = {"4-70-3",
                            4,
                            3,
                            {DENSE(4, 70), {.kind = BP_LAYER_ACTIVATION, .activation = BP_ACTIVATION_tanh}, DENSE(70, 3)},
                            {.loss = BP_LOSS_mse},
                            0};

typedef struct caller {
    const setting *s;
    int by_element;
    int calls, gives_up_at; /* the call that gives up, from 1; 0: none */
} caller;

static int squares(void *context, void *losses, void *gradient, const void *prediction, const void *target, int64_t n,
                   int64_t k, int64_t stride)
{
    caller *c = context;
    const bp_dtype dtype = c->s->dtype;
    CHECK(n >= 1 && n <= WORKSPACE_ROWS && stride >= k);
    for (int64_t r = 0; r < n; r++) {
        double sum = 0;
        for (int64_t j = 0; j < k; j++) {
            const double d = get(dtype, prediction, r * stride + j) - get(dtype, target, r * stride + j);
            sum += d * d;
            if (c->by_element) set(dtype, losses, r * k + j, d * d);
            if (gradient) set(dtype, gradient, r * stride + j, 2 * (dtype == BP_FLOAT32 ? (double)(float)d : d));
        }
        if (!c->by_element) set(dtype, losses, r, sum);
    }
    return ++c->calls == c->gives_up_at;
}

static network called(bp_loss loss, bp_reduction reduction)
{
    network net = own;
    net.loss.loss = loss;
    net.loss.reduction = reduction;
    return net;
}

static void check_near(const rig *r, double got, double expected)
{
    CHECK_NEAR(got, expected, 32 * r->s->epsilon * fabs(expected), 0);
}

TEST(called_losses_have_the_gradient_of_the_librarys)
{
    for (int i = 0; i < 12; i++) {
        const bp_loss kind = i % 2 ? BP_LOSS_CALLED_ROWS : BP_LOSS_CALLED_ELEMENTS;
        const bp_reduction reduction = (bp_reduction)(i / 2 % 3);
        const int weighted = i / 6;
        const network net = called(kind, reduction);
        network same = own;
        same.loss.reduction =
            kind == BP_LOSS_CALLED_ROWS && reduction == BP_REDUCTION_MEAN ? BP_REDUCTION_SAMPLE_MEAN : reduction;
        rig a = rig_up(s, &net, ROWS, WORKSPACE_ROWS), b = rig_up(s, &same, ROWS, WORKSPACE_ROWS);
        caller c = {.s = s, .by_element = kind == BP_LOSS_CALLED_ELEMENTS};
        const bp_loss_call call = {squares, &c};
        bp_dataset data = data_of(&a, weighted), other = data_of(&b, weighted);
        void *ga = reals(s, a.n_parameters), *gb = reals(s, b.n_parameters);
        void *xa = reals(s, ROWS * a.n_in), *xb = reals(s, ROWS * a.n_in);
        double va = (double)NAN, vb = (double)NAN;
        CHECK_INT(s->kernels->loss_and_gradient(a.plan, a.workspace, &va, ga, xa, a.parameters, &data, 0, 0), BP_E_ARGUMENT);
        data.loss = &call;
        CHECK_INT(s->kernels->loss_and_gradient(a.plan, a.workspace, &va, ga, xa, a.parameters, &data, 0, 0), BP_OK);
        CHECK_INT(s->kernels->loss_and_gradient(b.plan, b.workspace, &vb, gb, xb, b.parameters, &other, 0, 0), BP_OK);
        check_near(&a, va, vb);
        CHECK(same_bytes(ga, gb, (size_t)a.n_parameters * s->size));
        CHECK(same_bytes(xa, xb, (size_t)(ROWS * a.n_in) * s->size));
        CHECK_INT(s->kernels->loss_and_gradient(a.plan, a.workspace, &va, NULL, NULL, a.parameters, &data, 0, 0), BP_OK);
        check_near(&a, va, vb);
        CHECK_INT(c.calls, 2 * ((ROWS + WORKSPACE_ROWS - 1) / WORKSPACE_ROWS));
        void *const all[] = {ga, gb, xa, xb};
        for (int k = 0; k < 4; k++) release(all[k]);
        rig_down(&a);
        rig_down(&b);
    }
}

TEST(losses_are_weighed)
{
    enum { N = 5, K = 3 };
    void *losses = random_reals(s, N * K, 0, 1, 1), *weight = random_reals(s, N, 0.25, 2, 2);
    for (int i = 0; i < 12; i++) {
        const int by_element = i % 2, weighted = i / 6, k = by_element ? K : 1;
        const bp_loss_spec spec = {.loss = by_element ? BP_LOSS_CALLED_ELEMENTS : BP_LOSS_CALLED_ROWS,
                                   .reduction = (bp_reduction)(i / 2 % 3)};
        void *gradient = reals(s, N * K);
        for (int e = 0; e < N * K; e++) set(s->dtype, gradient, e, 1);
        double value = (double)NAN, sum = 0, total = 0, again = (double)NAN;
        s->kernels->weigh(&spec, &value, gradient, losses, weighted ? weight : NULL, N, K);
        s->kernels->weigh(&spec, &again, NULL, losses, weighted ? weight : NULL, N, K);
        CHECK(value == again);
        for (int r = 0; r < N; r++) {
            const double w = weighted ? get(s->dtype, weight, r) : 1;
            total += w;
            for (int j = 0; j < k; j++) sum += w * get(s->dtype, losses, r * k + j);
        }
        if (spec.reduction == BP_REDUCTION_SUM) total = 1;
        if (spec.reduction == BP_REDUCTION_MEAN) total *= k;
        CHECK_NEAR(value, sum / total, 8 * s->epsilon * sum / total, i);
        for (int e = 0; e < N * K; e++) {
            const double w = weighted ? get(s->dtype, weight, e / K) : 1;
            CHECK_NEAR(get(s->dtype, gradient, e), w / total, 2 * s->epsilon * w / total, e);
        }
        release(gradient);
    }
    release(losses);
    release(weight);
}

static fit_options options_of(int i)
{
    const fit_options options = {.optimizer = i % 2 ? BP_OPTIMIZER_adam : BP_OPTIMIZER_sgd,
                                 .sampling = (bp_sampling)(i % 3),
                                 .batch_size = i == 5 ? 1 : BATCH,
                                 .n_epochs = 3,
                                 .learning_rate = 0.05,
                                 .gradient_clip = i == 4 ? 0.1 : 0,
                                 .weighted = i % 2,
                                 .validated = i < 4};
    return options;
}

static void use(job *j, const bp_loss_call *call) { j->fit.data.loss = j->fit.validation.loss = call; }

TEST(called_losses_train_as_the_librarys)
{
    const network net = called(BP_LOSS_CALLED_ELEMENTS, BP_REDUCTION_MEAN);
    for (int i = 0; i < 6; i++) {
        rig a = rig_up(s, &net, ROWS, WORKSPACE_ROWS), b = rig_up(s, &own, ROWS, WORKSPACE_ROWS);
        const fit_options options = options_of(i);
        job ours, theirs;
        job_start(&ours, &a, &options);
        job_start(&theirs, &b, &options);
        caller c = {.s = s, .by_element = 1};
        const bp_loss_call call = {squares, &c};
        CHECK_INT(s->kernels->train(a.plan, a.workspace, &ours.fit), BP_E_ARGUMENT);
        use(&ours, &call);
        CHECK_INT(s->kernels->train(a.plan, a.workspace, &ours.fit), BP_OK);
        CHECK_INT(s->kernels->train(b.plan, b.workspace, &theirs.fit), BP_OK);
        CHECK(same_bytes(ours.fit.parameters, theirs.fit.parameters, (size_t)a.n_parameters * s->size));
        CHECK(same_bytes(ours.fit.gradients, theirs.fit.gradients, (size_t)a.n_parameters * s->size));
        for (int e = 0; e < options.n_epochs; e++) {
            check_near(&a, ours.fit.losses[e], theirs.fit.losses[e]);
            if (options.validated) check_near(&a, ours.fit.validation_losses[e], theirs.fit.validation_losses[e]);
        }
        job_end(&ours);
        job_end(&theirs);
        rig_down(&a);
        rig_down(&b);
    }
}

/* At each call once: the parameters are those of the batch before, and the fit goes on to the bits of one that nothing stopped. */
TEST(called_losses_may_give_up)
{
    const network net = called(BP_LOSS_CALLED_ELEMENTS, BP_REDUCTION_MEAN);
    const fit_options options = options_of(1);
    rig r = rig_up(s, &net, ROWS, WORKSPACE_ROWS);
    const size_t bytes = (size_t)r.n_parameters * s->size;
    caller whole = {.s = s, .by_element = 1};
    const bp_loss_call uninterrupted = {squares, &whole};
    job expected;
    job_start(&expected, &r, &options);
    use(&expected, &uninterrupted);
    CHECK_INT(s->kernels->train(r.plan, r.workspace, &expected.fit), BP_OK);
    for (int at = 1; at <= whole.calls; at++) {
        caller c = {.s = s, .by_element = 1, .gives_up_at = at};
        const bp_loss_call call = {squares, &c};
        job j;
        job_start(&j, &r, &options);
        use(&j, &call);
        CHECK_INT(s->kernels->train(r.plan, r.workspace, &j.fit), BP_STOPPED);
        if (at <= BLOCKS) CHECK(same_bytes(j.fit.parameters, r.parameters, bytes) && j.fit.n_steps == 0);
        CHECK(j.fit.validating || j.fit.row == 0);
        CHECK_INT(s->kernels->train(r.plan, r.workspace, &j.fit), BP_OK);
        check_same_state(&j, &expected);
        job_end(&j);
    }
    job_end(&expected);
    rig_down(&r);
}

const test_case called_tests[] = {CASE(called_losses_have_the_gradient_of_the_librarys), CASE(losses_are_weighed),
                                  CASE(called_losses_train_as_the_librarys), CASE(called_losses_may_give_up), END_OF_CASES};
