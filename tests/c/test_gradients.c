/* Gradients against central differences. In float64 directly; in float32 against the float64 kernels on the same numbers. */
#include "networks.h"

enum { N = 7 };

static const double STEP = 1e-5;

static double loss_of(const rig *r, const bp_dataset *data)
{
    double value = (double)NAN;
    CHECK_INT(r->s->kernels->loss_and_gradient(r->plan, r->workspace, &value, NULL, NULL, r->parameters, data, 1, 21), BP_OK);
    return value;
}

/* The slope of `f` by values[i], which is put back. */
static double slope_of(double (*f)(const rig *, const void *), const rig *r, const void *with, double *values, int64_t i)
{
    const double kept = values[i];
    values[i] = kept + STEP;
    const double above = f(r, with);
    values[i] = kept - STEP;
    const double below = f(r, with);
    values[i] = kept;
    return (above - below) / (2 * STEP);
}

static double loss_with(const rig *r, const void *data) { return loss_of(r, data); }

/* sum(dy y) of a forward pass with dropout, and the penalty. */
static double weighted_output(const rig *r, const void *dy)
{
    const bp_array x = contiguous(r->s->dtype, r->x, r->n, r->n_in);
    void *y = reals(r->s, r->n * r->n_out);
    double sum = penalty_of(r);
    r->s->kernels->forward(r->plan, r->workspace, y, r->parameters, &x, 1, 21);
    for (int64_t i = 0; i < r->n * r->n_out; i++) sum += get(r->s->dtype, y, i) * get(r->s->dtype, dy, i);
    release(y);
    return sum;
}

static void check_slopes(double (*f)(const rig *, const void *), const rig *r, const void *with, const void *gradients,
                         const void *dx)
{
    for (int64_t i = 0; i < r->n_parameters; i++) {
        const double slope = slope_of(f, r, with, r->parameters, i);
        CHECK_NEAR(get(BP_FLOAT64, gradients, i), slope, 2e-9 * (1 + fabs(slope)), i);
    }
    for (int64_t i = 0; i < r->n * r->n_in; i++) {
        const double slope = slope_of(f, r, with, r->x, i);
        CHECK_NEAR(get(BP_FLOAT64, dx, i), slope, 2e-9 * (1 + fabs(slope)), i);
    }
}

static void check_near_wide(const setting *s, const void *narrow, const void *wide, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        const double expected = get(BP_FLOAT64, wide, i);
        CHECK_NEAR(get(s->dtype, narrow, i), expected, 200 * s->epsilon * (1 + fabs(expected)), i);
    }
}

static void loss_gradients(const setting *s, const network *net, int weighted)
{
    const setting wide = {BP_FLOAT64, s->level, bp_kernels_for(BP_FLOAT64), 8, 2.220446049250313e-16};
    rig r = rig_up(s, net, N, 3);
    const bp_dataset data = data_of(&r, weighted);
    void *gradients = reals(s, r.n_parameters), *dx = reals(s, N * r.n_in);
    double value = (double)NAN;
    s->kernels->loss_and_gradient(r.plan, r.workspace, &value, gradients, dx, r.parameters, &data, 1, 21);
    if (s->dtype == BP_FLOAT64) {
        check_slopes(loss_with, &r, &data, gradients, dx);
    } else {
        rig w = widened(&r, &wide);
        const bp_dataset same = data_of(&w, weighted);
        void *expected = reals(&wide, r.n_parameters), *dx_expected = reals(&wide, N * r.n_in);
        double value_expected = (double)NAN;
        wide.kernels->loss_and_gradient(w.plan, w.workspace, &value_expected, expected, dx_expected, w.parameters, &same, 1,
                                        21);
        CHECK_NEAR(value, value_expected, 200 * s->epsilon * (1 + fabs(value)), 0);
        check_near_wide(s, gradients, expected, r.n_parameters);
        check_near_wide(s, dx, dx_expected, N * r.n_in);
        release(expected);
        release(dx_expected);
        rig_down(&w);
    }
    release(gradients);
    release(dx);
    rig_down(&r);
}

TEST(gradients_of_losses)
{
    for (int i = 0; i < n_networks; i++) {
        loss_gradients(s, &networks[i], 0);
        loss_gradients(s, &networks[i], 1);
    }
}

TEST(gradients_of_outputs)
{
    for (int i = 0; i < n_networks; i++) {
        rig r = rig_up(s, &networks[i], N, N);
        void *dy = random_reals(s, N * r.n_out, -1, 1, 31), *gradients = reals(s, r.n_parameters), *dx = reals(s, N * r.n_in);
        weighted_output(&r, dy);
        s->kernels->backward(r.plan, r.workspace, gradients, dx, dy, r.parameters, N);
        void *alone = reals(s, r.n_parameters);
        s->kernels->backward(r.plan, r.workspace, alone, NULL, dy, r.parameters, N);
        CHECK(same_bytes(alone, gradients, (size_t)r.n_parameters * s->size));
        if (s->dtype == BP_FLOAT64) check_slopes(weighted_output, &r, dy, gradients, dx);
        for (int64_t j = 0; j < r.n_parameters; j++) CHECK(isfinite(get(s->dtype, gradients, j)));
        for (int64_t j = 0; j < N * r.n_in; j++) CHECK(isfinite(get(s->dtype, dx, j)));
        release(alone);
        release(dy);
        release(gradients);
        release(dx);
        rig_down(&r);
    }
}

/* For one output of all rows: dy, 1 there and 0 elsewhere. */
static void *unit_slopes(const rig *r, int64_t output)
{
    void *dy = reals(r->s, r->n * r->n_out);
    for (int64_t i = 0; i < r->n * r->n_out; i++) set(r->s->dtype, dy, i, i % r->n_out == output);
    return dy;
}

TEST(jacobians_have_the_bits_of_backward_passes)
{
    for (int i = 0; i < n_networks; i++) {
        rig r = rig_up(s, &networks[i], N, N);
        bp_workspace *small;
        CHECK_INT(bp_workspace_create_parts(&small, r.plan, 2, 2, BP_FOR_TRAINING), BP_OK);
        const bp_array x = contiguous(s->dtype, r.x, N, r.n_in);
        void *y = reals(s, N * r.n_out), *jacobian = reals(s, N * r.n_out * r.n_in);
        CHECK_INT(s->kernels->input_jacobian(r.plan, small, jacobian, r.parameters, &x), BP_OK);
        s->kernels->forward(r.plan, r.workspace, y, r.parameters, &x, 0, 0);
        for (int64_t k = 0; k < r.n_out; k++) {
            void *dy = unit_slopes(&r, k), *gradients = reals(s, r.n_parameters), *dx = reals(s, N * r.n_in);
            s->kernels->backward(r.plan, r.workspace, gradients, dx, dy, r.parameters, N);
            for (int64_t row = 0; row < N; row++)
                CHECK(same_bytes((char *)jacobian + (row * r.n_out + k) * r.n_in * (int64_t)s->size,
                                 (char *)dx + row * r.n_in * (int64_t)s->size, (size_t)r.n_in * s->size));
            release(dy);
            release(gradients);
            release(dx);
        }
        bp_workspace_destroy(small);
        release(y);
        release(jacobian);
        rig_down(&r);
    }
}

/* Adds w J^T J and w J^T e of one row, J by a backward pass for each output, to float64 sums. */
static void add_row_by_hand(const rig *r, int64_t row, double weight, double *matrix, double *gradient)
{
    const setting *s = r->s;
    const int64_t n = r->n_parameters;
    const bp_array x = contiguous(s->dtype, (char *)r->x + row * r->n_in * (int64_t)s->size, 1, r->n_in);
    void *y = reals(s, r->n_out), *slopes = reals(s, n), *penalty = reals(s, n), *dy = reals(s, r->n_out);
    s->kernels->forward(r->plan, r->workspace, y, r->parameters, &x, 0, 0);
    for (int64_t j = 0; j < r->n_out; j++) set(s->dtype, dy, j, 0);
    s->kernels->backward(r->plan, r->workspace, penalty, NULL, dy, r->parameters, 1);
    for (int64_t k = 0; k < r->n_out; k++) {
        for (int64_t j = 0; j < r->n_out; j++) set(s->dtype, dy, j, j == k);
        s->kernels->backward(r->plan, r->workspace, slopes, NULL, dy, r->parameters, 1);
        const double error = get(s->dtype, y, k) - get(s->dtype, r->target, row * r->n_out + k);
        for (int64_t i = 0; i < n; i++) {
            const double slope = get(s->dtype, slopes, i) - get(s->dtype, penalty, i);
            gradient[i] += weight * error * slope;
            for (int64_t j = 0; j < n; j++)
                matrix[i * n + j] += weight * slope * (get(s->dtype, slopes, j) - get(s->dtype, penalty, j));
        }
    }
    release(y);
    release(slopes);
    release(penalty);
    release(dy);
}

static int gauss_newton_sums(const setting *s, const network *net, int weighted, int64_t rows_of_workspace)
{
    enum { ROWS = 37, MOST_PARAMETERS = 400 }; /* their squares are summed by hand */
    rig r = rig_up(s, net, ROWS, rows_of_workspace);
    if (r.n_parameters > MOST_PARAMETERS) {
        rig_down(&r);
        return 0;
    }
    const bp_dataset data = data_of(&r, weighted);
    const int64_t n = r.n_parameters;
    void *matrix = reals(s, n * n), *gradient = reals(s, n), *jacobian = reals(s, 16 * r.n_out * n);
    const bp_status status = s->kernels->gauss_newton(r.plan, r.workspace, matrix, gradient, jacobian, 16, r.parameters, &data);
    if (status == BP_OK) {
        double *expected = calloc((size_t)(n * n), sizeof(double)), *slope = calloc((size_t)n, sizeof(double));
        for (int64_t row = 0; row < ROWS; row++)
            add_row_by_hand(&r, row, weighted ? get(s->dtype, r.weight, row) : 1, expected, slope);
        for (int64_t i = 0; i < n; i++) {
            CHECK_NEAR(get(s->dtype, gradient, i), slope[i], ROWS * 8 * s->epsilon * (1 + fabs(slope[i])), i);
            for (int64_t j = 0; j < n; j++) {
                const double scale = sqrt(expected[i * n + i] * expected[j * n + j]); /* no term is larger */
                CHECK_NEAR(get(s->dtype, matrix, i * n + j), expected[i * n + j], ROWS * 8 * s->epsilon * (scale + 1e-3),
                           i * n + j);
            }
        }
        free(expected);
        free(slope);
    } else {
        CHECK_INT(status, BP_E_ARGUMENT); /* the loss is fused with the last activation */
    }
    release(matrix);
    release(gradient);
    release(jacobian);
    rig_down(&r);
    return status == BP_OK;
}

TEST(gauss_newton_sums_are_those_of_single_rows)
{
    int tried = 0;
    for (int i = 0; i < n_networks; i++) {
        tried += gauss_newton_sums(s, &networks[i], 0, 37);
        tried += gauss_newton_sums(s, &networks[i], 1, 5);
    }
    CHECK(tried >= 12);
}

const test_case gradient_tests[] = {CASE(gradients_of_losses), CASE(gradients_of_outputs),
                                    CASE(jacobians_have_the_bits_of_backward_passes),
                                    CASE(gauss_newton_sums_are_those_of_single_rows), END_OF_CASES};
