/* Softmax, dropout masks and dense layers on ragged sizes. */
#include "check.h"

#define BP_REAL_BITS 64
#include "kernels/random.h"

TEST(softmax_on_ragged_sizes)
{
    for (int64_t n = 0; n <= 3; n++)
        for (int64_t k = 1; k <= 40; k++) {
            void *x = random_reals(s, n * k, -5, 5, (uint64_t)k), *y = reals(s, n * k);
            void *dy = random_reals(s, n * k, -1, 1, (uint64_t)k + 50), *dx = reals(s, n * k);
            s->kernels->softmax_forward(y, x, n, k);
            s->kernels->softmax_backward(dx, dy, y, n, k);
            for (int64_t r = 0; r < n; r++) {
                double sum = 0, inner = 0;
                for (int64_t j = 0; j < k; j++) sum += exp(get(s->dtype, x, r * k + j));
                for (int64_t j = 0; j < k; j++) inner += exp(get(s->dtype, x, r * k + j)) / sum * get(s->dtype, dy, r * k + j);
                for (int64_t j = 0; j < k; j++) {
                    const double p = exp(get(s->dtype, x, r * k + j)) / sum;
                    CHECK_NEAR(get(s->dtype, y, r * k + j), p, 32 * s->epsilon * p, r * k + j);
                    CHECK_NEAR(get(s->dtype, dx, r * k + j), p * (get(s->dtype, dy, r * k + j) - inner), 32 * s->epsilon,
                               r * k + j);
                }
            }
            release(x);
            release(y);
            release(dy);
            release(dx);
        }
}

TEST(softmax_of_large_logits)
{
    void *x = reals(s, 3), *y = reals(s, 3);
    set(s->dtype, x, 0, 3e38);
    set(s->dtype, x, 1, -3e38);
    set(s->dtype, x, 2, 3e38);
    s->kernels->softmax_forward(y, x, 1, 3);
    CHECK_NEAR(get(s->dtype, y, 0), 0.5, 0, 0);
    CHECK_NEAR(get(s->dtype, y, 1), 0, 0, 1);
    CHECK_NEAR(get(s->dtype, y, 2), 0.5, 0, 2);
    release(x);
    release(y);
}

/* Element i is dropped where philox(counter i + the key's upper half, the key's lower half) < p 2^32. */
TEST(dropout_masks_follow_philox)
{
    const double ps[] = {0, 0.1, 0.5, 0.999};
    const uint64_t key = 0x0123456789abcdefu;
    for (int i = 0; i < 4; i++)
        for (int64_t n = 0; n <= 40; n++) {
            void *mask = reals(s, n);
            s->kernels->dropout_mask(mask, key, ps[i], n);
            for (int64_t j = 0; j < n; j++) {
                const uint32_t draw = philox2x32((key >> 32 << 32) + (uint64_t)j, (uint32_t)key);
                const int dropped = (double)draw < floor(ps[i] * 4294967296.0);
                CHECK_NEAR(get(s->dtype, mask, j), dropped ? 0 : 1 / (1 - ps[i]), s->epsilon / (1 - ps[i]), j);
            }
            release(mask);
        }
}

TEST(dropout_drops_the_share_it_should)
{
    enum { N = 20000 };
    void *mask = reals(s, N);
    int dropped = 0;
    s->kernels->dropout_mask(mask, 77, 0.3, N);
    for (int i = 0; i < N; i++) dropped += get(s->dtype, mask, i) == 0;
    CHECK_NEAR(dropped / (double)N, 0.3, 6 * sqrt(0.3 * 0.7 / N), 0);
    release(mask);
}

/* ---- Dense ----------------------------------------------------------------------------------------------------------- */

typedef struct dense_arrays {
    int64_t n, n_in, n_out;
    void *x, *weight, *bias, *y, *dy, *dx, *grad_weight, *grad_bias, *transposed;
} dense_arrays;

static void check_forward(const setting *s, const dense_arrays *a, const void *bias)
{
    s->kernels->dense_forward(a->y, a->x, a->weight, bias, a->n, a->n_in, a->n_out);
    for (int64_t r = 0; r < a->n; r++)
        for (int64_t j = 0; j < a->n_out; j++) {
            double sum = bias ? get(s->dtype, bias, j) : 0;
            for (int64_t l = 0; l < a->n_in; l++)
                sum += get(s->dtype, a->x, r * a->n_in + l) * get(s->dtype, a->weight, l * a->n_out + j);
            CHECK_NEAR(get(s->dtype, a->y, r * a->n_out + j), sum, 4 * s->epsilon * (double)(a->n_in + 2), r * a->n_out + j);
        }
}

static void check_backward(const setting *s, const dense_arrays *a)
{
    const double tolerance = 4 * s->epsilon;
    s->kernels->dense_backward(a->grad_weight, a->grad_bias, a->dx, a->transposed, a->dy, a->x, a->weight, a->n, a->n_in,
                               a->n_out);
    for (int64_t j = 0; j < a->n_out; j++) {
        double column = 0;
        for (int64_t r = 0; r < a->n; r++) column += get(s->dtype, a->dy, r * a->n_out + j);
        CHECK_NEAR(get(s->dtype, a->grad_bias, j), column, tolerance * (double)(a->n + 1), j);
        for (int64_t i = 0; i < a->n_in; i++) {
            double sum = 0;
            for (int64_t r = 0; r < a->n; r++)
                sum += get(s->dtype, a->x, r * a->n_in + i) * get(s->dtype, a->dy, r * a->n_out + j);
            CHECK_NEAR(get(s->dtype, a->grad_weight, i * a->n_out + j), sum, tolerance * (double)(a->n + 1), i * a->n_out + j);
        }
    }
    for (int64_t r = 0; r < a->n; r++)
        for (int64_t i = 0; i < a->n_in; i++) {
            double sum = 0;
            for (int64_t j = 0; j < a->n_out; j++)
                sum += get(s->dtype, a->dy, r * a->n_out + j) * get(s->dtype, a->weight, i * a->n_out + j);
            CHECK_NEAR(get(s->dtype, a->dx, r * a->n_in + i), sum, tolerance * (double)(a->n_out + 1), r * a->n_in + i);
        }
}

/* Without the optional results: the others keep their bits. */
static void check_parts(const setting *s, const dense_arrays *a)
{
    const int64_t weights = a->n_in * a->n_out;
    void *grad_weight = reals(s, weights);
    s->kernels->dense_backward(grad_weight, NULL, NULL, NULL, a->dy, a->x, a->weight, a->n, a->n_in, a->n_out);
    CHECK(same_bytes(grad_weight, a->grad_weight, (size_t)weights * s->size));
    release(grad_weight);
}

static void check_dense(const setting *s, int64_t n, int64_t n_in, int64_t n_out)
{
    const uint64_t seed = (uint64_t)(n * 10000 + n_in * 100 + n_out);
    const dense_arrays a = {.n = n,
                            .n_in = n_in,
                            .n_out = n_out,
                            .x = random_reals(s, n * n_in, -1, 1, seed),
                            .weight = random_reals(s, n_in * n_out, -1, 1, seed + 1),
                            .bias = random_reals(s, n_out, -1, 1, seed + 2),
                            .dy = random_reals(s, n * n_out, -1, 1, seed + 3),
                            .y = reals(s, n * n_out),
                            .dx = reals(s, n * n_in),
                            .grad_weight = reals(s, n_in * n_out),
                            .grad_bias = reals(s, n_out),
                            .transposed = reals(s, n_in * n_out)};
    check_forward(s, &a, a.bias);
    check_forward(s, &a, NULL);
    check_backward(s, &a);
    check_parts(s, &a);
    void *const all[] = {a.x, a.weight, a.bias, a.dy, a.y, a.dx, a.grad_weight, a.grad_bias, a.transposed};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) release(all[i]);
}

/* Each of the three sizes from 0 or 1 to 40, the other two over a few ragged ones. */
TEST(dense_layers_on_ragged_sizes)
{
    const int64_t others[] = {1, 2, 3, 7, 17};
    enum { N = sizeof others / sizeof others[0] };
    for (int i = 0; i < N * N; i++)
        for (int64_t size = 0; size <= 40; size++) {
            const int64_t a = others[i % N], b = others[i / N];
            check_dense(s, size, a, b);
            if (size == 0) continue;
            check_dense(s, a, size, b);
            check_dense(s, a, b, size);
        }
}

/* A row's result does not depend on the rows beside it. */
TEST(dense_rows_stand_alone)
{
    enum { ROWS = 19, IN = 5, OUT = 27 };
    void *x = random_reals(s, ROWS * IN, -1, 1, 1), *weight = random_reals(s, IN * OUT, -1, 1, 2);
    void *bias = random_reals(s, OUT, -1, 1, 3), *y = reals(s, ROWS * OUT), *one = reals(s, OUT);
    s->kernels->dense_forward(y, x, weight, bias, ROWS, IN, OUT);
    for (size_t r = 0; r < ROWS; r++) {
        s->kernels->dense_forward(one, (char *)x + r * IN * s->size, weight, bias, 1, IN, OUT);
        CHECK(same_bytes(one, (char *)y + r * OUT * s->size, OUT * s->size));
    }
    release(x);
    release(weight);
    release(bias);
    release(y);
    release(one);
}

const test_case layer_tests[] = {CASE(softmax_on_ragged_sizes),
                                 CASE(softmax_of_large_logits),
                                 CASE(dropout_masks_follow_philox),
                                 CASE(dropout_drops_the_share_it_should),
                                 CASE(dense_layers_on_ragged_sizes),
                                 CASE(dense_rows_stand_alone),
                                 END_OF_CASES};
