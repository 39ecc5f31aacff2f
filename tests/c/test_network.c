/* Whole networks: predict, forward, backward, loss_and_gradient, in every layout of the data. */
#include <float.h>

#include "networks.h"

static void *predicted(const rig *r, const bp_array *x, int64_t workspace_rows)
{
    bp_workspace *w = NULL;
    void *y = reals(r->s, x->n_rows * r->n_out);
    if (bp_workspace_create(&w, r->plan, workspace_rows, BP_FOR_INFERENCE) != BP_OK) abort();
    r->s->kernels->predict(r->plan, w, y, r->parameters, x);
    bp_workspace_destroy(w);
    return y;
}

/* The network layer by layer with the single kernels; dropout passes everything on. */
static void *layer_by_layer(const rig *r, const network *net)
{
    const bp_kernels *k = r->s->kernels;
    int64_t width = net->n_in, at = 0;
    void *values = copy_of(r->x, (size_t)(r->n * width) * r->s->size);
    for (int64_t i = 0; i < net->n_layers; i++) {
        const bp_layer_spec *layer = &net->layers[i];
        const int64_t n_out = layer->kind == BP_LAYER_DENSE ? layer->n_out : width;
        void *next = reals(r->s, r->n * n_out);
        if (layer->kind == BP_LAYER_DENSE) {
            const char *weight = (const char *)r->parameters + (size_t)at * r->s->size;
            const char *bias = weight + (size_t)(width * n_out) * r->s->size;
            k->dense_forward(next, values, weight, layer->has_bias ? bias : NULL, r->n, width, n_out);
            at += width * n_out + (layer->has_bias ? n_out : 0);
        } else if (layer->kind == BP_LAYER_ACTIVATION) {
            k->activation_forward(layer->activation, layer->parameter, next, values, r->n * width);
        } else if (layer->kind == BP_LAYER_SOFTMAX) {
            k->softmax_forward(next, values, r->n, width);
        } else {
            memcpy(next, values, (size_t)(r->n * width) * r->s->size);
        }
        release(values);
        values = next;
        width = n_out;
    }
    CHECK_INT(at, r->n_parameters);
    return values;
}

TEST(predict_is_its_layers_one_after_another)
{
    for (int i = 0; i < n_networks; i++)
        for (int64_t n = 0; n <= 40; n += n < 10 ? 1 : 10) {
            rig r = rig_up(s, &networks[i], n, 1);
            const bp_array x = contiguous(s->dtype, r.x, n, r.n_in);
            void *y = predicted(&r, &x, 16), *expected = layer_by_layer(&r, &networks[i]);
            CHECK(same_bytes(y, expected, (size_t)(n * r.n_out) * s->size));
            release(y);
            release(expected);
            rig_down(&r);
        }
}

TEST(predict_is_the_same_for_every_block_and_company)
{
    enum { N = 37 };
    for (int i = 0; i < n_networks; i++) {
        rig r = rig_up(s, &networks[i], N, 1);
        const size_t row = (size_t)r.n_out * s->size;
        const bp_array x = contiguous(s->dtype, r.x, N, r.n_in);
        void *y = predicted(&r, &x, N);
        for (int64_t rows = 1; rows <= N + 1; rows += 4) {
            void *again = predicted(&r, &x, rows);
            CHECK(same_bytes(y, again, N * row));
            release(again);
        }
        for (int64_t first = 0; first < N; first++) {
            const bp_array one = contiguous(s->dtype, (char *)r.x + (size_t)(first * r.n_in) * s->size, 1, r.n_in);
            void *alone = predicted(&r, &one, 1);
            CHECK(same_bytes(alone, (char *)y + (size_t)first * row, row));
            release(alone);
        }
        release(y);
        rig_down(&r);
    }
}

TEST(predict_reads_every_layout)
{
    enum { N = 11 };
    for (int i = 0; i < n_networks; i++) {
        rig r = rig_up(s, &networks[i], N, 1);
        for (int dtype = BP_FLOAT32; dtype <= BP_FLOAT64; dtype++) {
            if (dtype == BP_FLOAT32) /* numbers that both can hold */
                for (int64_t j = 0; j < N * r.n_in; j++) set(s->dtype, r.x, j, (double)(float)get(s->dtype, r.x, j));
            const bp_array plain = contiguous(s->dtype, r.x, N, r.n_in);
            void *expected = predicted(&r, &plain, 4);
            for (int kind = 0; kind < N_LAYOUTS; kind++) {
                const laid_out x = lay_out((layout_kind)kind, (bp_dtype)dtype, s->dtype, r.x, N, r.n_in);
                void *y = predicted(&r, &x.array, 4);
                CHECK(same_bytes(y, expected, (size_t)(N * r.n_out) * s->size));
                release(y);
                release(x.memory);
            }
            release(expected);
        }
        rig_down(&r);
    }
}

TEST(predict_reads_broadcast_arrays)
{
    enum { N = 9 };
    for (int i = 0; i < n_networks; i++) {
        rig r = rig_up(s, &networks[i], N, 1);
        bp_array x = contiguous(s->dtype, r.x, N, r.n_in);
        x.row_stride = 0; /* one row, N times */
        void *y = predicted(&r, &x, 4);
        for (size_t n = 1; n < N; n++)
            CHECK(same_bytes(y, (char *)y + n * (size_t)r.n_out * s->size, (size_t)r.n_out * s->size));
        release(y);
        rig_down(&r);
    }
}

TEST(forward_is_predict_unless_dropout_acts)
{
    enum { N = 13 };
    for (int i = 0; i < n_networks; i++) {
        rig r = rig_up(s, &networks[i], N, N);
        const size_t bytes = (size_t)(N * r.n_out) * s->size;
        const bp_array x = contiguous(s->dtype, r.x, N, r.n_in);
        void *expected = predicted(&r, &x, N), *y = reals(s, N * r.n_out), *again = reals(s, N * r.n_out);
        s->kernels->forward(r.plan, r.workspace, y, r.parameters, &x, 0, 5);
        CHECK(same_bytes(y, expected, bytes));
        const int dropout = has_dropout(&networks[i]);
        s->kernels->forward(r.plan, r.workspace, y, r.parameters, &x, 1, 5);
        s->kernels->forward(r.plan, r.workspace, again, r.parameters, &x, 1, 5);
        CHECK(same_bytes(y, again, bytes));
        CHECK(same_bytes(y, expected, bytes) == !dropout);
        s->kernels->forward(r.plan, r.workspace, again, r.parameters, &x, 1, 6);
        CHECK(same_bytes(y, again, bytes) == !dropout);
        release(y);
        release(again);
        release(expected);
        rig_down(&r);
    }
}

/* ---- Losses and gradients of networks -------------------------------------------------------------------------------- */

typedef struct outcome {
    bp_status status;
    double value;
    void *gradients, *dx;
} outcome;

static outcome evaluated(const rig *r, const bp_dataset *data)
{
    outcome o = {.value = (double)NAN, .gradients = reals(r->s, r->n_parameters), .dx = reals(r->s, data->n_rows * r->n_in)};
    o.status = r->s->kernels->loss_and_gradient(r->plan, r->workspace, &o.value, o.gradients, o.dx, r->parameters, data, 1, 3);
    return o;
}

static void forget(outcome *o)
{
    release(o->gradients);
    release(o->dx);
}

static void check_same_outcome(const rig *r, const outcome *a, const outcome *b)
{
    CHECK_INT(a->status, BP_OK);
    CHECK_INT(b->status, BP_OK);
    CHECK(same_bytes(&a->value, &b->value, sizeof a->value));
    CHECK(same_bytes(a->gradients, b->gradients, (size_t)r->n_parameters * r->s->size));
    CHECK(same_bytes(a->dx, b->dx, (size_t)(r->n * r->n_in) * r->s->size));
}

TEST(loss_and_gradient_in_parts)
{
    for (int i = 0; i < n_networks; i++)
        for (int64_t n = 1; n <= 40; n += n < 10 ? 1 : 10) {
            rig r = rig_up(s, &networks[i], n, 7);
            const bp_dataset data = data_of(&r, n % 2 == 0);
            outcome whole = evaluated(&r, &data), part = {.value = (double)NAN, .gradients = reals(s, r.n_parameters)};
            for (int64_t j = 0; j < n * r.n_in; j++) CHECK(isfinite(get(s->dtype, whole.dx, j)));
            part.dx = copy_of(whole.dx, (size_t)(n * r.n_in) * s->size);
            part.status = s->kernels->loss_and_gradient(r.plan, r.workspace, &part.value, part.gradients, NULL, r.parameters,
                                                        &data, 1, 3);
            check_same_outcome(&r, &whole, &part);
            double value = (double)NAN;
            CHECK_INT(s->kernels->loss_and_gradient(r.plan, r.workspace, &value, NULL, NULL, r.parameters, &data, 1, 3), BP_OK);
            CHECK(value == whole.value);
            bp_workspace *small = NULL;
            CHECK_INT(bp_workspace_create(&small, r.plan, 7, BP_FOR_INFERENCE), BP_OK);
            CHECK_INT(s->kernels->loss_and_gradient(r.plan, small, &value, NULL, NULL, r.parameters, &data, 0, 0), BP_OK);
            CHECK_INT(s->kernels->loss_and_gradient(r.plan, small, &value, part.gradients, NULL, r.parameters, &data, 0, 0),
                      BP_E_ARGUMENT);
            bp_workspace_destroy(small);
            if (!has_dropout(&networks[i])) CHECK(value == whole.value);
            forget(&whole);
            forget(&part);
            rig_down(&r);
        }
}

TEST(loss_and_gradient_reads_every_layout)
{
    enum { N = 10 };
    for (int i = 0; i < n_networks; i++) {
        rig r = rig_up(s, &networks[i], N, 4);
        const bp_dataset plain = data_of(&r, 1);
        outcome expected = evaluated(&r, &plain);
        for (int kind = 0; kind < N_LAYOUTS; kind++) {
            const layout_kind k = (layout_kind)kind;
            const laid_out x = lay_out(k, s->dtype, s->dtype, r.x, N, r.n_in);
            const laid_out target = lay_out(k, s->dtype, s->dtype, r.target, N, r.n_out);
            const laid_out weight = lay_out(k, s->dtype, s->dtype, r.weight, N, 1);
            const bp_dataset data = {.x = x.array, .target = target.array, .weight = weight.array, .n_rows = N};
            outcome o = evaluated(&r, &data);
            check_same_outcome(&r, &expected, &o);
            forget(&o);
            if (r.labels) {
                const laid_out labels = lay_out_labels(k, r.labels, N);
                const bp_dataset labelled = {.x = x.array, .target = labels.array, .weight = weight.array, .n_rows = N};
                o = evaluated(&r, &labelled);
                check_same_outcome(&r, &expected, &o);
                forget(&o);
                release(labels.memory);
            }
            release(x.memory);
            release(target.memory);
            release(weight.memory);
        }
        forget(&expected);
        rig_down(&r);
    }
}

/* Rows picked by number, some twice, are the same as their copies in a data set of their own. */
TEST(loss_and_gradient_of_chosen_rows)
{
    enum { N = 12, CHOSEN = 9 };
    const int64_t chosen[CHOSEN] = {11, 0, 3, 3, 7, 10, 0, 5, 1};
    for (int i = 0; i < n_networks; i++) {
        rig r = rig_up(s, &networks[i], N, 4), few = rig_up(s, &networks[i], CHOSEN, 4);
        int64_t *rows = copy_of(chosen, sizeof chosen);
        bp_dataset data = data_of(&r, 1);
        data.rows = rows;
        data.n_rows = CHOSEN;
        for (int64_t c = 0; c < CHOSEN; c++) {
            for (int64_t j = 0; j < r.n_in; j++)
                set(s->dtype, few.x, c * r.n_in + j, get(s->dtype, r.x, chosen[c] * r.n_in + j));
            for (int64_t j = 0; j < r.n_out; j++)
                set(s->dtype, few.target, c * r.n_out + j, get(s->dtype, r.target, chosen[c] * r.n_out + j));
            set(s->dtype, few.weight, c, get(s->dtype, r.weight, chosen[c]));
        }
        const bp_dataset copied = data_of(&few, 1);
        outcome a = evaluated(&r, &data), b = evaluated(&few, &copied);
        check_same_outcome(&few, &a, &b);
        forget(&a);
        forget(&b);
        release(rows);
        rig_down(&r);
        rig_down(&few);
    }
}

/* The mean over single rows of the loss, and of its gradient, beside those of the batch. */
static void check_mean_of_rows(const rig *r, const char *what)
{
    bp_dataset data = data_of(r, 0);
    const double n = (double)r->n;
    outcome whole = evaluated(r, &data);
    double value = 0, *mean = calloc((size_t)r->n_parameters, sizeof *mean),
           *size = calloc((size_t)r->n_parameters, sizeof *size);
    int64_t *row = exact_bytes(sizeof *row);
    for (*row = 0; *row < r->n; ++*row) {
        data.rows = row;
        data.n_rows = 1;
        outcome one = evaluated(r, &data);
        value += one.value / n;
        for (int64_t i = 0; i < r->n_parameters; i++) {
            mean[i] += get(r->s->dtype, one.gradients, i) / n;
            size[i] += fabs(get(r->s->dtype, one.gradients, i)) / n;
        }
        forget(&one);
    }
    CHECK(isfinite(value));
    CHECK_NEAR(whole.value, value, 64 * r->s->epsilon * fabs(value), what[0]);
    for (int64_t i = 0; i < r->n_parameters; i++)
        CHECK_NEAR(get(r->s->dtype, whole.gradients, i), mean[i], 64 * r->s->epsilon * size[i], what[0] * 100 + i);
    forget(&whole);
    release(row);
    free(mean);
    free(size);
}

/* One row goes by rows, several go by columns here. Targets do not sum to 1. */
TEST(cross_entropy_of_a_batch_is_that_of_its_rows)
{
    enum { N = 5, K = 3 };
    const network net = {
        "logits", K, 1, {{.kind = BP_LAYER_DENSE, .n_in = K, .n_out = K}}, {.loss = BP_LOSS_cross_entropy_logits}, 0};
    rig r = rig_up(s, &net, N, N);
    check_mean_of_rows(&r, "usual logits");
    for (int64_t i = 0; i < N * K; i++) set(s->dtype, r.x, i, 1e4 * get(s->dtype, r.x, i));
    check_mean_of_rows(&r, "large logits");
    /* a logit of -inf at a target of 0 costs nothing */
    for (int64_t i = 0; i < N; i++) set(s->dtype, r.x, i * K, i == 0 ? 2 : 0);
    set(s->dtype, r.parameters, 2, s->dtype == BP_FLOAT32 ? -(double)FLT_MAX : -DBL_MAX);
    set(s->dtype, r.target, 2, 0);
    check_mean_of_rows(&r, "infinite logit");
    rig_down(&r);
}

TEST(labels_out_of_range_are_refused)
{
    enum { N = 10 };
    for (int i = 0; i < n_networks; i++) {
        if (!networks[i].one_hot) continue;
        rig r = rig_up(s, &networks[i], N, 4);
        const int64_t bad[] = {-1, r.n_out, r.n_out + 1, INT64_MIN, INT64_MAX};
        for (int64_t row = 0; row < N; row++)
            for (int b = 0; b < 5; b++) {
                const int64_t kept = r.labels[row];
                r.labels[row] = bad[b];
                bp_dataset data = data_of(&r, 0);
                data.target = contiguous(BP_INT64, r.labels, N, 1);
                outcome o = evaluated(&r, &data);
                CHECK_INT(o.status, BP_E_LABEL);
                r.labels[row] = kept;
                forget(&o);
            }
        rig_down(&r);
    }
}

const test_case network_tests[] = {CASE(predict_is_its_layers_one_after_another),
                                   CASE(predict_is_the_same_for_every_block_and_company),
                                   CASE(predict_reads_every_layout),
                                   CASE(predict_reads_broadcast_arrays),
                                   CASE(forward_is_predict_unless_dropout_acts),
                                   CASE(loss_and_gradient_in_parts),
                                   CASE(loss_and_gradient_reads_every_layout),
                                   CASE(loss_and_gradient_of_chosen_rows),
                                   CASE(cross_entropy_of_a_batch_is_that_of_its_rows),
                                   CASE(labels_out_of_range_are_refused),
                                   END_OF_CASES};
