/* Losses: every reduction and weighting from single rows, gradients against differences, ragged sizes. Their values are
 * compared with formulas by the tests in Python. */
#include "check.h"

#define ELEMENT_LOSS(name, averages_outputs) averages_outputs,
#define ROW_LOSS(name) 0,
#define FUSED_LOSS(kind, activation, name, on_logits)
static const int is_averaged[BP_N_LOSSES] = {
#include "losses.def"
};

static const double PARAMETER = 0.75; /* Huber's delta */

/* The loss of one row of k numbers, in float64. */
static double row_loss(bp_loss loss, const double *prediction, const double *target, int64_t k)
{
    const bp_loss_spec spec = {.loss = loss, .parameter = PARAMETER, .reduction = BP_REDUCTION_SUM};
    double value = (double)NAN;
    bp_kernels_for(BP_FLOAT64)->loss(&spec, &value, NULL, prediction, target, NULL, 1, k);
    return value;
}

/* What the weighted sum over rows is divided by. */
static double divisor(const bp_loss_spec *spec, double total_weight, int64_t k)
{
    if (spec->reduction == BP_REDUCTION_SUM) return 1;
    return spec->reduction == BP_REDUCTION_MEAN && is_averaged[spec->loss] ? total_weight * (double)k : total_weight;
}

static void check_loss(const setting *s, const bp_loss_spec *spec, int64_t n, int64_t k, int weighted)
{
    enum { WIDEST = 40 };
    const uint64_t seed = (uint64_t)(n * 100 + k);
    void *prediction = random_reals(s, n * k, 0.02, 0.98, seed), *target = random_reals(s, n * k, 0, 1, seed + 1);
    void *weight = weighted ? random_reals(s, n, 0.1, 3, seed + 2) : NULL, *gradient = reals(s, n * k);
    double value = (double)NAN, value_alone = (double)NAN, expected = 0, total_weight = 0, p[WIDEST], t[WIDEST];
    s->kernels->loss(spec, &value, gradient, prediction, target, weight, n, k);
    s->kernels->loss(spec, &value_alone, NULL, prediction, target, weight, n, k);
    CHECK(value == value_alone);
    for (int64_t r = 0; r < n; r++) total_weight += weighted ? get(s->dtype, weight, r) : 1;
    const double per = divisor(spec, total_weight, k);
    for (int64_t r = 0; r < n; r++) {
        const double w = (weighted ? get(s->dtype, weight, r) : 1) / per;
        for (int64_t j = 0; j < k; j++) {
            p[j] = get(s->dtype, prediction, r * k + j);
            t[j] = get(s->dtype, target, r * k + j);
        }
        expected += w * row_loss(spec->loss, p, t, k);
        for (int64_t j = 0; j < k; j++) {
            const double step = 1e-6, at = p[j];
            p[j] = at + step;
            const double above = row_loss(spec->loss, p, t, k);
            p[j] = at - step;
            const double slope = (above - row_loss(spec->loss, p, t, k)) / (2 * step);
            p[j] = at;
            CHECK_NEAR(get(s->dtype, gradient, r * k + j), w * slope, w * (1e-7 + 100 * s->epsilon) * (1 + fabs(slope)),
                       r * k + j);
        }
    }
    CHECK_NEAR(value, expected, 64 * s->epsilon * (1 + fabs(expected)), n * 100 + k);
    release(prediction);
    release(target);
    release(gradient);
    release(weight);
}

TEST(losses_on_ragged_sizes)
{
    for (int loss = 0; loss < BP_N_LOSSES; loss++)
        for (int reduction = 0; reduction < 3; reduction++)
            for (int weighted = 0; weighted < 2; weighted++) {
                const bp_loss_spec spec = {.loss = (bp_loss)loss, .parameter = PARAMETER, .reduction = (bp_reduction)reduction};
                for (int64_t k = 1; k <= 40; k++) check_loss(s, &spec, 1 + k % 3, k, weighted);
                for (int64_t n = 1; n <= 40; n++) check_loss(s, &spec, n, 1 + n % 2, weighted);
            }
}

/* Sums past the blocks in which single numbers are added. */
TEST(losses_of_many_rows)
{
    const int64_t sizes[] = {511, 512, 513, 1025};
    for (int loss = 0; loss < BP_N_LOSSES; loss++)
        for (int i = 0; i < 4; i++) {
            const bp_loss_spec spec = {.loss = (bp_loss)loss, .parameter = PARAMETER};
            check_loss(s, &spec, sizes[i], 3, i % 2);
        }
}

/* A row of weight 0 takes no part, and a logit of -inf at a target of 0 costs nothing. */
TEST(losses_with_weights_and_targets_of_zero)
{
    const bp_loss_spec spec = {.loss = BP_LOSS_cross_entropy_logits};
    void *logits = random_reals(s, 6, -1, 1, 3), *target = reals(s, 6), *weight = reals(s, 2), *gradient = reals(s, 6);
    for (int i = 0; i < 6; i++) set(s->dtype, target, i, i % 3 == 1);
    set(s->dtype, logits, 2, -(double)INFINITY);
    set(s->dtype, weight, 0, 2);
    set(s->dtype, weight, 1, 0);
    double value = (double)NAN, alone = (double)NAN;
    s->kernels->loss(&spec, &value, gradient, logits, target, weight, 2, 3);
    s->kernels->loss(&spec, &alone, NULL, logits, target, NULL, 1, 3);
    CHECK(isfinite(value));
    CHECK_NEAR(value, alone, 4 * s->epsilon * fabs(alone), 0);
    for (int i = 2; i < 6; i++) CHECK_NEAR(get(s->dtype, gradient, i), 0, 0, i);
    release(logits);
    release(target);
    release(weight);
    release(gradient);
}

const test_case loss_tests[] = {CASE(losses_on_ragged_sizes), CASE(losses_of_many_rows),
                                CASE(losses_with_weights_and_targets_of_zero), END_OF_CASES};
