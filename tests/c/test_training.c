/* train() against a training loop written with loss_and_gradient() and optimizer_step(), bit by bit. */
#include "networks.h"

enum { ROWS = 23, EPOCHS = 3, WORKSPACE_ROWS = 4 };

static const int64_t chosen[] = {22, 1, 1, 8, 0, 14, 9, 3, 17};
enum { N_CHOSEN = sizeof chosen / sizeof chosen[0] };

/* The rows of the next batch of an epoch. */
static void next_batch(bp_fit *f, int64_t *order, int64_t at, int64_t n, int64_t n_rows)
{
    const int shuffled = f->sampling == BP_SAMPLING_SHUFFLE && f->batch_size < n_rows;
    if (f->sampling == BP_SAMPLING_REPLACEMENT) {
        bp_integers(order + at, n, n_rows, &f->random);
    } else if (at == 0) {
        for (int64_t i = 0; i < n_rows; i++) order[i] = i;
        if (shuffled) bp_permutation(order, n_rows, &f->random);
    }
}

static double weight_of(const rig *r, const bp_dataset *d)
{
    double sum = 0;
    for (int64_t i = 0; i < d->n_rows; i++) sum += d->weight.data ? get(r->s->dtype, r->weight, d->rows[i]) : 1;
    return sum;
}

static void train_by_hand(job *j, const network *net)
{
    bp_fit *f = &j->fit;
    rig *r = j->r;
    const bp_kernels *k = r->s->kernels;
    const int64_t n_rows = f->data.n_rows;
    int64_t *order = exact_bytes((size_t)(n_rows + f->batch_size) * sizeof *order), *rows;
    for (; f->epoch < f->stop_epoch; f->epoch++) {
        double total = 0, total_weight = 0;
        for (int64_t at = 0; at < n_rows; at += f->batch_size) {
            const int replacing = f->sampling == BP_SAMPLING_REPLACEMENT;
            const int64_t n = !replacing && n_rows - at < f->batch_size ? n_rows - at : f->batch_size;
            next_batch(f, order, at, n, n_rows);
            rows = copy_of(order + at, (size_t)n * sizeof *rows);
            for (int64_t i = 0; f->data.rows && i < n; i++) rows[i] = f->data.rows[rows[i]];
            const uint64_t key = has_dropout(net) ? f->random.next_uint64(f->random.state) : 0;
            bp_dataset batch = f->data;
            batch.rows = rows;
            batch.n_rows = n;
            const double weight = weight_of(r, &batch);
            double value;
            if (weight > 0) {
                k->loss_and_gradient(r->plan, r->workspace, &value, f->gradients, NULL, f->parameters, &batch, 1, key);
                CHECK_INT(k->optimizer_step(f->optimizer, f->parameters, f->gradients, f->slots, f->hyper,
                                            f->learning_rates[f->epoch], ++f->n_steps, r->n_parameters),
                          BP_OK);
                total += value * weight;
                total_weight += weight;
            }
            release(rows);
        }
        f->losses[f->epoch] = total / total_weight;
        if (f->validation.n_rows)
            k->loss_and_gradient(r->plan, r->workspace, &f->validation_losses[f->epoch], NULL, NULL, f->parameters,
                                 &f->validation, 0, 0);
    }
    release(order);
}

static void check_training(const setting *s, const network *net, const fit_options *options)
{
    rig r = rig_up(s, net, ROWS, WORKSPACE_ROWS);
    job trained, by_hand;
    job_start(&trained, &r, options);
    job_start(&by_hand, &r, options);
    CHECK_INT(s->kernels->train(r.plan, r.workspace, &trained.fit), BP_OK);
    train_by_hand(&by_hand, net);
    check_same_state(&trained, &by_hand);
    CHECK_INT(trained.fit.epoch, options->n_epochs);
    for (int64_t i = 0; i < options->n_epochs; i++) {
        CHECK(isfinite(trained.fit.losses[i]));
        CHECK(trained.fit.seconds[i] >= (i ? trained.fit.seconds[i - 1] : 0));
    }
    CHECK(trained.fit.elapsed >= trained.fit.seconds[options->n_epochs - 1]);
    job_end(&trained);
    job_end(&by_hand);
    rig_down(&r);
}

TEST(every_network_trains)
{
    const int64_t batch_sizes[] = {1, 2, 5, ROWS - 1, ROWS, ROWS + 9};
    for (int i = 0; i < n_networks; i++)
        for (int b = 0; b < 6; b++)
            for (int sampling = 0; sampling < 3; sampling++) {
                const fit_options options = {.optimizer = BP_OPTIMIZER_sgd,
                                             .sampling = (bp_sampling)sampling,
                                             .batch_size = batch_sizes[b],
                                             .n_epochs = EPOCHS,
                                             .learning_rate = 0.01,
                                             .weighted = b % 2,
                                             .validated = (b + sampling) % 2};
                check_training(s, &networks[i], &options);
            }
}

TEST(every_optimizer_trains)
{
    for (int i = 0; i < n_networks; i++)
        for (int optimizer = 0; optimizer < BP_N_OPTIMIZERS; optimizer++) {
            const fit_options options = {.optimizer = (bp_optimizer)optimizer,
                                         .momentum = 1,
                                         .sampling = BP_SAMPLING_SHUFFLE,
                                         .batch_size = 6,
                                         .n_epochs = EPOCHS,
                                         .learning_rate = 0.01,
                                         .validated = 1};
            check_training(s, &networks[i], &options);
        }
}

TEST(chosen_rows_train)
{
    int64_t *rows = copy_of(chosen, sizeof chosen);
    for (int i = 0; i < n_networks; i++)
        for (int sampling = 0; sampling < 3; sampling++)
            for (int64_t batch_size = 1; batch_size <= N_CHOSEN + 3; batch_size += 3) {
                const fit_options options = {.sampling = (bp_sampling)sampling,
                                             .batch_size = batch_size,
                                             .n_epochs = EPOCHS,
                                             .learning_rate = 0.01,
                                             .weighted = sampling == 1,
                                             .rows = rows,
                                             .n_rows = N_CHOSEN};
                check_training(s, &networks[i], &options);
            }
    release(rows);
}

/* Data in any layout trains to the same bits; labels as their one-hot rows do. */
TEST(training_reads_every_layout)
{
    for (int i = 0; i < n_networks; i++)
        for (int kind = 0; kind < N_LAYOUTS; kind++) {
            const layout_kind k = (layout_kind)kind;
            const fit_options options = {.sampling = (bp_sampling)(kind % 3),
                                         .batch_size = 6,
                                         .n_epochs = 2,
                                         .learning_rate = 0.01,
                                         .weighted = 1,
                                         .validated = 1};
            rig r = rig_up(s, &networks[i], ROWS, WORKSPACE_ROWS);
            job plain, other;
            job_start(&plain, &r, &options);
            job_start(&other, &r, &options);
            const laid_out x = lay_out(k, s->dtype, s->dtype, r.x, ROWS, r.n_in);
            const laid_out weight = lay_out(k, s->dtype, s->dtype, r.weight, ROWS, 1);
            const laid_out target =
                r.labels ? lay_out_labels(k, r.labels, ROWS) : lay_out(k, s->dtype, s->dtype, r.target, ROWS, r.n_out);
            other.fit.data.x = other.fit.validation.x = x.array;
            other.fit.data.target = other.fit.validation.target = target.array;
            other.fit.data.weight = weight.array;
            CHECK_INT(s->kernels->train(r.plan, r.workspace, &plain.fit), BP_OK);
            CHECK_INT(s->kernels->train(r.plan, r.workspace, &other.fit), BP_OK);
            check_same_state(&plain, &other);
            release(x.memory);
            release(weight.memory);
            release(target.memory);
            job_end(&plain);
            job_end(&other);
            rig_down(&r);
        }
}

TEST(batches_without_weight_are_passed_over)
{
    for (int i = 0; i < n_networks; i++) {
        const fit_options options = {.batch_size = 5, .n_epochs = EPOCHS, .learning_rate = 0.01, .weighted = 1};
        rig r = rig_up(s, &networks[i], ROWS, WORKSPACE_ROWS);
        job trained, by_hand;
        for (int64_t row = 5; row < 10; row++) set(s->dtype, r.weight, row, 0);
        job_start(&trained, &r, &options);
        job_start(&by_hand, &r, &options);
        CHECK_INT(s->kernels->train(r.plan, r.workspace, &trained.fit), BP_OK);
        train_by_hand(&by_hand, &networks[i]);
        check_same_state(&trained, &by_hand);
        CHECK_INT(trained.fit.n_steps, EPOCHS * 4);
        job_end(&trained);
        job_end(&by_hand);
        rig_down(&r);
    }
}

/* A clipped gradient keeps its direction: with plain descent the step is clip times rate long. */
TEST(gradients_are_clipped)
{
    for (int i = 0; i < n_networks; i++) {
        const double clip = 1e-3, rate = 0.5;
        const fit_options options = {.batch_size = ROWS, .n_epochs = 1, .learning_rate = rate, .gradient_clip = clip};
        rig r = rig_up(s, &networks[i], ROWS, WORKSPACE_ROWS);
        job j;
        job_start(&j, &r, &options);
        CHECK_INT(s->kernels->train(r.plan, r.workspace, &j.fit), BP_OK);
        double moved = 0;
        for (int64_t p = 0; p < r.n_parameters; p++) {
            const double d = get(s->dtype, j.fit.parameters, p) - get(s->dtype, r.parameters, p);
            moved += d * d;
        }
        if (r.n_parameters) CHECK_NEAR(sqrt(moved), clip * rate, clip * rate * 1e-3, i);
        job_end(&j);
        rig_down(&r);
    }
}

const test_case training_tests[] = {CASE(every_network_trains),
                                    CASE(every_optimizer_trains),
                                    CASE(chosen_rows_train),
                                    CASE(training_reads_every_layout),
                                    CASE(batches_without_weight_are_passed_over),
                                    CASE(gradients_are_clipped),
                                    END_OF_CASES};
