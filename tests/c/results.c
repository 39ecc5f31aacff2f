/* One fingerprint of everything that the kernels of a dtype and level compute. */
#include "networks.h"

uint64_t results_fingerprint(const setting *s);

static uint64_t elementwise(const setting *s, uint64_t so_far)
{
    enum { N = 2001 };
    void *x = random_reals(s, N, -20, 20, 3), *dy = random_reals(s, N, -1, 1, 4), *y = reals(s, N), *dx = reals(s, N);
    const double ends[] = {0, -0.0, (double)INFINITY, -(double)INFINITY, (double)NAN, 1e30, -1e30, 1e-30, -1};
    for (int i = 0; i < 9; i++) set(s->dtype, x, i, ends[i]);
    for (int f = 0; f < BP_N_FUNCTIONS; f++) {
        s->kernels->function((bp_function)f, y, x, N);
        so_far = fingerprint(so_far, s->dtype, y, N);
    }
    for (int kind = 0; kind < BP_N_ACTIVATIONS; kind++) {
        s->kernels->activation_forward((bp_activation)kind, 0.3, y, x, N);
        so_far = fingerprint(so_far, s->dtype, y, N);
        s->kernels->activation_backward((bp_activation)kind, 0.3, dx, dy, x, y, N);
        so_far = fingerprint(so_far, s->dtype, dx, N);
    }
    release(x);
    release(dy);
    release(y);
    release(dx);
    return so_far;
}

static uint64_t losses(const setting *s, uint64_t so_far)
{
    enum { N = 700, K = 13 };
    void *p = random_reals(s, N * K, 0.01, 0.99, 5), *t = random_reals(s, N * K, 0, 1, 6), *w = random_reals(s, N, 0, 2, 7);
    void *gradient = reals(s, N * K);
    for (int loss = 0; loss < BP_N_LOSSES; loss++) {
        const bp_loss_spec spec = {.loss = (bp_loss)loss, .parameter = 0.4};
        double value;
        s->kernels->loss(&spec, &value, gradient, p, t, w, N, K);
        so_far = fingerprint(so_far, BP_FLOAT64, &value, 1);
        so_far = fingerprint(so_far, s->dtype, gradient, N * K);
    }
    release(p);
    release(t);
    release(w);
    release(gradient);
    return so_far;
}

/* On inputs that are multiplied by `scale`. */
static uint64_t training(const setting *s, double scale, uint64_t so_far)
{
    enum { ROWS = 75, EPOCHS = 5 };
    for (int i = 0; i < n_networks; i++)
        for (int optimizer = 0; optimizer < BP_N_OPTIMIZERS; optimizer++) {
            const fit_options options = {.optimizer = (bp_optimizer)optimizer,
                                         .momentum = 1,
                                         .sampling = (bp_sampling)(optimizer % 3),
                                         .batch_size = optimizer % 2 ? 32 : 1,
                                         .n_epochs = EPOCHS,
                                         .learning_rate = 0.002,
                                         .validated = 1};
            rig r = rig_up(s, &networks[i], ROWS, 16);
            for (int64_t k = 0; k < ROWS * r.n_in; k++) set(s->dtype, r.x, k, get(s->dtype, r.x, k) * scale);
            job j;
            job_start(&j, &r, &options);
            CHECK_INT(s->kernels->train(r.plan, r.workspace, &j.fit), BP_OK);
            so_far = fingerprint(so_far, s->dtype, j.fit.parameters, r.n_parameters);
            so_far = fingerprint(so_far, BP_FLOAT64, j.fit.losses, EPOCHS);
            so_far = fingerprint(so_far, BP_FLOAT64, j.fit.validation_losses, EPOCHS);
            job_end(&j);
            rig_down(&r);
        }
    return so_far;
}

uint64_t results_fingerprint(const setting *s)
{
    const double subnormal_squares = s->dtype == BP_FLOAT32 ? 1e-21 : 1e-157; /* of gradients, and more of the like */
    const uint64_t kernels = losses(s, elementwise(s, FINGERPRINT_START));
    return training(s, subnormal_squares, training(s, 1, kernels));
}
