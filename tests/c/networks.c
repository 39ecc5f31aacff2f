/* See networks.h. */
#include "networks.h"

#define DENSE(in, out) {.kind = BP_LAYER_DENSE, .n_in = (in), .n_out = (out), .has_bias = 1}
#define UNBIASED(in, out) {.kind = BP_LAYER_DENSE, .n_in = (in), .n_out = (out)}
#define APPLY(name, value) {.kind = BP_LAYER_ACTIVATION, .activation = BP_ACTIVATION_##name, .parameter = (value)}
#define SOFTMAX {.kind = BP_LAYER_SOFTMAX}
#define DROPOUT(p) {.kind = BP_LAYER_DROPOUT, .parameter = (p)}

const network networks[] = {
    {"4-5-3 tanh, l2", 4, 3, {DENSE(4, 5), APPLY(tanh, 0), DENSE(5, 3)}, {.loss = BP_LOSS_mse, .l2 = 0.01}, 0},
    {"one weight", 1, 1, {UNBIASED(1, 1)}, {.loss = BP_LOSS_huber, .parameter = 0.3}, 0},
    {"sigmoid and bce, fused",
     3,
     4,
     {DENSE(3, 17), APPLY(leaky_relu, 0.1), UNBIASED(17, 2), APPLY(sigmoid, 0)},
     {.loss = BP_LOSS_bce, .reduction = BP_REDUCTION_SAMPLE_MEAN},
     0},
    {"softmax and cross-entropy, fused; dropout, l1",
     5,
     5,
     {DENSE(5, 9), APPLY(softplus, 0), DROPOUT(0.25), DENSE(9, 4), SOFTMAX},
     {.loss = BP_LOSS_cross_entropy, .l1 = 0.001},
     1},
    {"an activation first, one output",
     7,
     4,
     {APPLY(silu, 0), DENSE(7, 33), APPLY(gelu, 0), DENSE(33, 1)},
     {.loss = BP_LOSS_bce_logits},
     0},
    {"softmax inside, sum",
     4,
     3,
     {DENSE(4, 6), SOFTMAX, DENSE(6, 2)},
     {.loss = BP_LOSS_mse, .reduction = BP_REDUCTION_SUM, .l2 = 0.1, .l1 = 0.1},
     0},
    {"no parameters", 3, 1, {APPLY(tanh, 0)}, {.loss = BP_LOSS_mae}, 0},
    {"dropout first and twice",
     6,
     5,
     {DROPOUT(0.3), DENSE(6, 8), APPLY(elu, 1), DROPOUT(0.5), DENSE(8, 5)},
     {.loss = BP_LOSS_cross_entropy_logits, .reduction = BP_REDUCTION_SUM},
     1},
    {"several tiles",
     20,
     5,
     {DENSE(20, 64), APPLY(tanh, 0), DENSE(64, 43), APPLY(gelu_tanh, 0), DENSE(43, 10)},
     {.loss = BP_LOSS_mse},
     0},
    {"softmax and squared error, relu",
     2,
     5,
     {DENSE(2, 16), APPLY(relu, 0), DENSE(16, 3), SOFTMAX, APPLY(identity, 0)},
     {.loss = BP_LOSS_mse},
     1},
    {"exp and Poisson, fused",
     3,
     4,
     {DENSE(3, 7), APPLY(tanh, 0), UNBIASED(7, 2), APPLY(exp, 0)},
     {.loss = BP_LOSS_poisson},
     0},
    {"exp inside, quantile",
     4,
     3,
     {DENSE(4, 70), APPLY(exp, 0), DENSE(70, 2)},
     {.loss = BP_LOSS_quantile, .parameter = 0.7, .l2 = 0.01},
     0},
};
const int n_networks = sizeof networks / sizeof networks[0];

int has_dropout(const network *net)
{
    for (int64_t i = 0; i < net->n_layers; i++)
        if (net->layers[i].kind == BP_LAYER_DROPOUT) return 1;
    return 0;
}

rig rig_up(const setting *s, const network *net, int64_t n, int64_t workspace_rows)
{
    rig r = {.s = s, .net = net, .n = n, .n_in = net->n_in};
    if (bp_plan_create(&r.plan, s->dtype, net->n_in, net->layers, net->n_layers, &net->loss) != BP_OK) abort();
    if (bp_workspace_create(&r.workspace, r.plan, workspace_rows, BP_FOR_TRAINING) != BP_OK) abort();
    r.n_out = bp_plan_n_out(r.plan);
    r.n_parameters = bp_plan_n_parameters(r.plan);
    r.parameters = random_reals(s, r.n_parameters, -0.75, 0.75, 11);
    r.x = random_reals(s, n * r.n_in, -1, 1, 12);
    r.target = random_reals(s, n * r.n_out, 0.1, 0.9, 13);
    r.weight = random_reals(s, n, 0.25, 2, 14);
    if (!net->one_hot) return r;
    stream source = {15, 0};
    const bp_random random = random_of(&source);
    r.labels = exact_bytes((size_t)n * sizeof *r.labels);
    bp_integers(r.labels, n, r.n_out, &random);
    for (int64_t i = 0; i < n * r.n_out; i++) set(s->dtype, r.target, i, r.labels[i / r.n_out] == i % r.n_out);
    return r;
}

void rig_down(rig *r)
{
    bp_workspace_destroy(r->workspace);
    bp_plan_destroy(r->plan);
    void *const all[] = {r->parameters, r->x, r->target, r->weight, r->labels};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) release(all[i]);
}

bp_dataset data_of(const rig *r, int weighted)
{
    const bp_dtype dtype = r->s->dtype;
    bp_dataset data = {
        .x = contiguous(dtype, r->x, r->n, r->n_in), .target = contiguous(dtype, r->target, r->n, r->n_out), .n_rows = r->n};
    if (weighted) data.weight = contiguous(dtype, r->weight, r->n, 1);
    return data;
}

double penalty_of(const rig *r)
{
    double value = 0;
    int64_t at = 0;
    for (int64_t i = 0; i < r->net->n_layers; i++) {
        const bp_layer_spec *layer = &r->net->layers[i];
        if (layer->kind != BP_LAYER_DENSE) continue;
        for (int64_t j = 0; j < layer->n_in * layer->n_out; j++) {
            const double w = get(r->s->dtype, r->parameters, at + j);
            value += r->net->loss.l2 / 2 * w * w + r->net->loss.l1 * fabs(w);
        }
        at += layer->n_in * layer->n_out + (layer->has_bias ? layer->n_out : 0);
    }
    return value;
}

static void copy_reals(const rig *to, void *array, const rig *from, const void *values, int64_t n)
{
    for (int64_t i = 0; i < n; i++) set(to->s->dtype, array, i, get(from->s->dtype, values, i));
}

rig widened(const rig *r, const setting *wide)
{
    rig w = rig_up(wide, r->net, r->n, bp_workspace_n_rows(r->workspace));
    copy_reals(&w, w.parameters, r, r->parameters, r->n_parameters);
    copy_reals(&w, w.x, r, r->x, r->n * r->n_in);
    copy_reals(&w, w.target, r, r->target, r->n * r->n_out);
    copy_reals(&w, w.weight, r, r->weight, r->n);
    return w;
}

/* ---- Fits ------------------------------------------------------------------------------------------------------------ */

const double test_hyper[BP_N_HYPER] = {0.9, 0.99, 0.001, 0.01};

static double *numbers(int64_t n)
{
    double *array = exact_bytes((size_t)n * sizeof *array);
    for (int64_t i = 0; i < n; i++) array[i] = (double)NAN;
    return array;
}

void job_start(job *j, rig *r, const fit_options *o)
{
    const int slots = o->optimizer == BP_OPTIMIZER_sgd && !o->momentum ? 0 : bp_optimizer_slots[o->optimizer];
    const int64_t n_rows = o->rows ? o->n_rows : r->n, longest = n_rows > o->batch_size ? n_rows : o->batch_size;
    memset(j, 0, sizeof *j);
    j->r = r;
    j->source.state = 99;
    j->rates = numbers(o->n_epochs);
    for (int64_t i = 0; i < o->n_epochs; i++) j->rates[i] = o->learning_rate / (double)(1 + i);
    bp_fit *f = &j->fit;
    f->data = data_of(r, o->weighted);
    f->data.rows = o->rows;
    f->data.n_rows = n_rows;
    if (o->validated) f->validation = data_of(r, !o->weighted);
    f->parameters = copy_of(r->parameters, (size_t)r->n_parameters * r->s->size);
    f->gradients = reals(r->s, r->n_parameters);
    f->random = random_of(&j->source);
    f->optimizer = o->optimizer;
    for (int i = 0; i < slots; i++) {
        f->slots[i] = reals(r->s, r->n_parameters);
        for (int64_t p = 0; p < r->n_parameters; p++) set(r->s->dtype, f->slots[i], p, 0);
    }
    if (slots) memcpy(f->hyper, test_hyper, sizeof f->hyper);
    f->gradient_clip = o->gradient_clip;
    f->sampling = o->sampling;
    f->batch_size = o->batch_size;
    f->order = o->sampling == BP_SAMPLING_SEQUENTIAL ? NULL : exact_bytes((size_t)longest * sizeof *f->order);
    f->learning_rates = j->rates;
    f->stop_epoch = o->n_epochs;
    f->budget = 1e9;
    f->losses = numbers(o->n_epochs);
    f->validation_losses = o->validated ? numbers(o->n_epochs) : NULL;
    f->seconds = numbers(o->n_epochs);
    f->blocks_per_look = 1;
}

void job_end(job *j)
{
    bp_fit *f = &j->fit;
    void *const all[] = {f->parameters, f->gradients,         f->slots[0], f->slots[1], f->order,
                         f->losses,     f->validation_losses, f->seconds,  j->rates};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) release(all[i]);
}

void check_same_state(const job *a, const job *b)
{
    const bp_fit *f = &a->fit, *g = &b->fit;
    const size_t bytes = (size_t)a->r->n_parameters * a->r->s->size, records = (size_t)f->stop_epoch * sizeof(double);
    CHECK_INT(f->epoch, g->epoch);
    CHECK_INT(f->n_steps, g->n_steps);
    CHECK(same_bytes(f->parameters, g->parameters, bytes));
    CHECK(same_bytes(f->losses, g->losses, records));
    CHECK(!f->validation_losses == !g->validation_losses);
    if (f->validation_losses) CHECK(same_bytes(f->validation_losses, g->validation_losses, records));
    for (int i = 0; i < BP_MAX_SLOTS; i++)
        if (f->slots[i]) CHECK(same_bytes(f->slots[i], g->slots[i], bytes));
    CHECK(a->source.state == b->source.state);
}
