/* Functions and activations: ragged sizes, memory that ends where the array ends, in place, derivatives. Activations'
 * values are compared with formulas by the tests in Python. */
#include "check.h"

enum { LONGEST = 40 };

static const double PARAMETER = 0.25;

/* y[n] = kind(x[n]), for functions and then for activations. */
enum { N_MAPS = BP_N_FUNCTIONS + BP_N_ACTIVATIONS };

static void map(const bp_kernels *kernels, int which, void *y, const void *x, int64_t n)
{
    if (which < BP_N_FUNCTIONS)
        kernels->function((bp_function)which, y, x, n);
    else
        kernels->activation_forward((bp_activation)(which - BP_N_FUNCTIONS), PARAMETER, y, x, n);
}

static void check_map(const setting *s, int which, int64_t n)
{
    const size_t bytes = (size_t)n * s->size;
    void *x = random_reals(s, n, -0.99, 6, (uint64_t)n), *y = reals(s, n), *kept = copy_of(x, bytes), *one = reals(s, 1);
    map(s->kernels, which, y, x, n);
    CHECK(same_bytes(x, kept, bytes));
    for (int64_t i = 0; i < n; i++) {
        double wide_x = get(s->dtype, x, i), wide_y;
        map(bp_kernels_for(BP_FLOAT64), which, &wide_y, &wide_x, 1);
        CHECK_NEAR(get(s->dtype, y, i), wide_y, 16 * s->epsilon * fabs(wide_y), i);
        map(s->kernels, which, one, (char *)x + (size_t)i * s->size, 1);
        CHECK(same_bytes(one, (char *)y + (size_t)i * s->size, s->size)); /* its place does not matter */
    }
    map(s->kernels, which, x, x, n);
    CHECK(same_bytes(x, y, bytes));
    release(x);
    release(y);
    release(kept);
    release(one);
}

TEST(functions_and_activations_on_ragged_sizes)
{
    for (int which = 0; which < N_MAPS; which++)
        for (int64_t n = 0; n <= LONGEST; n++) check_map(s, which, n);
}

TEST(nan_goes_through)
{
    for (int which = 0; which < N_MAPS; which++)
        for (int64_t n = 1; n <= LONGEST; n++) {
            void *x = random_reals(s, n, 0, 1, 1), *y = reals(s, n);
            set(s->dtype, x, n / 2, (double)NAN);
            map(s->kernels, which, y, x, n);
            for (int64_t i = 0; i < n; i++) CHECK(isnan(get(s->dtype, y, i)) == (i == n / 2));
            release(x);
            release(y);
        }
}

/* exp, log1p, tanh, sigmoid and softplus of x, in more digits than a float64 has where long double has them. */
static long double exact(int function, long double x)
{
    switch (function) {
        case BP_FUNCTION_exp: return expl(x);
        case BP_FUNCTION_log1p: return log1pl(x);
        case BP_FUNCTION_tanh: return tanhl(x);
        case BP_FUNCTION_sigmoid: return 1 / (1 + expl(-x));
        default: return log1pl(expl(-fabsl(x))) + (x > 0 ? x : 0);
    }
}

/* The unit in the last place of a number that the dtype can hold, or nearly. */
static long double unit_of(const setting *s, long double value)
{
    const int wide = s->dtype == BP_FLOAT64, lowest = wide ? -1074 : -149;
    int exponent;
    (void)frexpl(value, &exponent);
    exponent -= wide ? 53 : 24;
    return ldexpl(1, exponent < lowest ? lowest : exponent);
}

/* Below one unit with fma; tests/accuracy tries all float32 numbers. */
static void check_accuracy(const setting *s, int function, double low, double high, double bound)
{
    enum { N = 20000 };
    void *x = random_reals(s, N, low, high, (uint64_t)function), *y = reals(s, N);
    s->kernels->function((bp_function)function, y, x, N);
    for (int64_t i = 0; i < N; i++) {
        const long double expected = exact(function, (long double)get(s->dtype, x, i));
        const double error = (double)(((long double)get(s->dtype, y, i) - expected) / unit_of(s, expected));
        CHECK_NEAR(error, 0, bound, i);
    }
    release(x);
    release(y);
}

TEST(functions_are_right_to_one_unit)
{
    const double finite = s->dtype == BP_FLOAT64 ? 708 : 87, all = s->dtype == BP_FLOAT64 ? 744 : 103;
    const double bound = sizeof(long double) > sizeof(double) || s->dtype == BP_FLOAT32 ? 1 : 1.5; /* the reference's too */
    for (int function = 0; function < BP_N_FUNCTIONS; function++) {
        const int logarithm = function == BP_FUNCTION_log1p;
        check_accuracy(s, function, -0.99, 0.99, bound);
        check_accuracy(s, function, -1e-3, 1e-3, bound);
        check_accuracy(s, function, logarithm ? -0.5 : -20, 20, bound);
        check_accuracy(s, function, logarithm ? 0 : -all, finite, bound);
    }
}

/* f'(x) from differences of the float64 kernel, to about 1e-10. */
static double slope_of(bp_activation kind, double x)
{
    const double step = 1e-5, ends[2] = {x + step, x - step};
    double values[2];
    bp_kernels_for(BP_FLOAT64)->activation_forward(kind, PARAMETER, values, ends, 2);
    return (values[0] - values[1]) / (ends[0] - ends[1]);
}

static void check_backward(const setting *s, bp_activation kind, int64_t n)
{
    void *x = random_reals(s, n, -6, 6, (uint64_t)n + 7), *dy = random_reals(s, n, -2, 2, (uint64_t)n + 8);
    void *y = reals(s, n), *dx = reals(s, n), *one = reals(s, 1);
    s->kernels->activation_forward(kind, PARAMETER, y, x, n);
    s->kernels->activation_backward(kind, PARAMETER, dx, dy, x, y, n);
    for (int64_t i = 0; i < n; i++) {
        const size_t at = (size_t)i * s->size;
        const double expected = slope_of(kind, get(s->dtype, x, i)) * get(s->dtype, dy, i);
        CHECK_NEAR(get(s->dtype, dx, i), expected, (1e-9 + 32 * s->epsilon) * fmax(1, fabs(expected)), i);
        s->kernels->activation_backward(kind, PARAMETER, one, (char *)dy + at, (char *)x + at, (char *)y + at, 1);
        CHECK(same_bytes(one, (char *)dx + at, s->size));
    }
    s->kernels->activation_backward(kind, PARAMETER, dy, dy, x, y, n);
    CHECK(same_bytes(dy, dx, (size_t)n * s->size));
    release(x);
    release(dy);
    release(y);
    release(dx);
    release(one);
}

TEST(derivatives_on_ragged_sizes)
{
    for (int kind = 0; kind < BP_N_ACTIVATIONS; kind++)
        for (int64_t n = 0; n <= LONGEST; n++) check_backward(s, (bp_activation)kind, n);
}

const test_case elementwise_tests[] = {CASE(functions_and_activations_on_ragged_sizes), CASE(nan_goes_through),
                                       CASE(functions_are_right_to_one_unit), CASE(derivatives_on_ragged_sizes), END_OF_CASES};
