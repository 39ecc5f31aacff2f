/* Functions and activations: ragged sizes, memory that ends where the array ends, in place, and values that are not finite. */
#include "check.h"

enum { LONGEST = 40 };

static double function_reference(bp_function kind, double x)
{
    switch (kind) {
        case BP_FUNCTION_exp: return exp(x);
        case BP_FUNCTION_log1p: return log1p(x);
        case BP_FUNCTION_tanh: return tanh(x);
        case BP_FUNCTION_sigmoid: return 1 / (1 + exp(-x));
        case BP_FUNCTION_softplus: return x > 0 ? x + log1p(exp(-x)) : log1p(exp(x));
        case BP_N_FUNCTIONS: break;
    }
    CHECK(!"a function without a reference here");
    return (double)NAN;
}

static double normal_cdf(double x) { return 0.5 * erfc(-x / sqrt(2.0)); }

/* f(x), and its derivative in *slope. */
static double activation_reference(bp_activation kind, double parameter, double x, double *slope)
{
    const double sigmoid = 1 / (1 + exp(-x)), density = exp(-x * x / 2) / sqrt(8 * atan(1.0));
    const double u = 2 * sqrt(2 / (4 * atan(1.0))) * (x + 0.044715 * x * x * x), gate = 1 / (1 + exp(-u));
    switch (kind) {
        case BP_ACTIVATION_identity: *slope = 1; return x;
        case BP_ACTIVATION_sigmoid: *slope = sigmoid * (1 - sigmoid); return sigmoid;
        case BP_ACTIVATION_relu: *slope = x > 0; return x > 0 ? x : 0;
        case BP_ACTIVATION_tanh: *slope = 1 - tanh(x) * tanh(x); return tanh(x);
        case BP_ACTIVATION_leaky_relu: *slope = x > 0 ? 1 : parameter; return x > 0 ? x : parameter * x;
        case BP_ACTIVATION_elu: *slope = x > 0 ? 1 : parameter * exp(x); return x > 0 ? x : parameter * expm1(x);
        case BP_ACTIVATION_softplus: *slope = sigmoid; return x > 0 ? x + log1p(exp(-x)) : log1p(exp(x));
        case BP_ACTIVATION_gelu: *slope = normal_cdf(x) + x * density; return x * normal_cdf(x);
        case BP_ACTIVATION_gelu_tanh:
            *slope = gate + x * gate * (1 - gate) * 2 * sqrt(2 / (4 * atan(1.0))) * (1 + 3 * 0.044715 * x * x);
            return x * gate;
        case BP_ACTIVATION_silu: *slope = sigmoid * (1 + x * (1 - sigmoid)); return x * sigmoid;
        case BP_N_ACTIVATIONS: break;
    }
    CHECK(!"an activation without a reference here");
    return (double)NAN;
}

static double parameter_of(bp_activation kind) { return kind == BP_ACTIVATION_elu ? 1.5 : 0.25; }

/* ---- Functions ------------------------------------------------------------------------------------------------------- */

TEST(functions_on_ragged_sizes)
{
    for (int f = 0; f < BP_N_FUNCTIONS; f++)
        for (int64_t n = 0; n <= LONGEST; n++) {
            void *x = random_reals(s, n, f == BP_FUNCTION_log1p ? -0.99 : -6, 6, (uint64_t)(n + 1)), *y = reals(s, n);
            void *kept = copy_of(x, (size_t)n * s->size), *one = reals(s, 1);
            s->kernels->function((bp_function)f, y, x, n);
            CHECK(same_bytes(x, kept, (size_t)n * s->size));
            for (int64_t i = 0; i < n; i++) {
                const double expected = function_reference((bp_function)f, get(s->dtype, x, i));
                CHECK_NEAR(get(s->dtype, y, i), expected, 16 * s->epsilon * fabs(expected), i);
                s->kernels->function((bp_function)f, one, (const char *)x + (size_t)i * s->size, 1);
                CHECK(same_bytes(one, (const char *)y + (size_t)i * s->size, s->size)); /* its place does not matter */
            }
            s->kernels->function((bp_function)f, x, x, n);
            CHECK(same_bytes(x, y, (size_t)n * s->size));
            release(x);
            release(y);
            release(kept);
            release(one);
        }
}

TEST(functions_of_special_values)
{
    const double inf = (double)INFINITY, nan = (double)NAN;
    const struct { bp_function f; double x, y; } cases[] = {
        {BP_FUNCTION_exp, -inf, 0},      {BP_FUNCTION_exp, inf, inf},       {BP_FUNCTION_exp, nan, nan},
        {BP_FUNCTION_exp, 0, 1},         {BP_FUNCTION_exp, 1e30, inf},      {BP_FUNCTION_exp, -1e30, 0},
        {BP_FUNCTION_log1p, -1, -inf},   {BP_FUNCTION_log1p, -2, nan},      {BP_FUNCTION_log1p, inf, inf},
        {BP_FUNCTION_log1p, nan, nan},   {BP_FUNCTION_log1p, 0, 0},         {BP_FUNCTION_log1p, -inf, nan},
        {BP_FUNCTION_tanh, inf, 1},      {BP_FUNCTION_tanh, -inf, -1},      {BP_FUNCTION_tanh, nan, nan},
        {BP_FUNCTION_tanh, 0, 0},        {BP_FUNCTION_sigmoid, inf, 1},     {BP_FUNCTION_sigmoid, -inf, 0},
        {BP_FUNCTION_sigmoid, nan, nan}, {BP_FUNCTION_sigmoid, 0, 0.5},     {BP_FUNCTION_softplus, inf, inf},
        {BP_FUNCTION_softplus, -inf, 0}, {BP_FUNCTION_softplus, nan, nan},
    };
    for (int64_t i = 0; i < (int64_t)(sizeof cases / sizeof cases[0]); i++) {
        void *x = reals(s, 1), *y = reals(s, 1);
        set(s->dtype, x, 0, cases[i].x);
        s->kernels->function(cases[i].f, y, x, 1);
        CHECK_NEAR(get(s->dtype, y, 0), cases[i].y, 0, i);
        release(x);
        release(y);
    }
}

TEST(functions_of_minus_zero)
{
    const bp_function odd[] = {BP_FUNCTION_tanh, BP_FUNCTION_log1p};
    for (int i = 0; i < 2; i++) {
        void *x = reals(s, 1);
        set(s->dtype, x, 0, -0.0);
        s->kernels->function(odd[i], x, x, 1);
        CHECK(get(s->dtype, x, 0) == 0 && signbit(get(s->dtype, x, 0)));
        release(x);
    }
}

/* ---- Activations ----------------------------------------------------------------------------------------------------- */

static void check_activation(const setting *s, bp_activation kind, int64_t n)
{
    const size_t bytes = (size_t)n * s->size;
    const double parameter = parameter_of(kind);
    void *x = random_reals(s, n, -6, 6, (uint64_t)n + 7), *dy = random_reals(s, n, -2, 2, (uint64_t)n + 8);
    void *y = reals(s, n), *dx = reals(s, n), *one = reals(s, 1);
    s->kernels->activation_forward(kind, parameter, y, x, n);
    s->kernels->activation_backward(kind, parameter, dx, dy, x, y, n);
    for (int64_t i = 0; i < n; i++) {
        const size_t at = (size_t)i * s->size;
        double slope;
        const double value = activation_reference(kind, parameter, get(s->dtype, x, i), &slope);
        CHECK_NEAR(get(s->dtype, y, i), value, 32 * s->epsilon * fabs(value), i);
        CHECK_NEAR(get(s->dtype, dx, i), slope * get(s->dtype, dy, i), 32 * s->epsilon, i);
        s->kernels->activation_forward(kind, parameter, one, (char *)x + at, 1);
        CHECK(same_bytes(one, (char *)y + at, s->size));
        s->kernels->activation_backward(kind, parameter, one, (char *)dy + at, (char *)x + at, (char *)y + at, 1);
        CHECK(same_bytes(one, (char *)dx + at, s->size));
    }
    s->kernels->activation_backward(kind, parameter, dy, dy, x, y, n);
    CHECK(same_bytes(dy, dx, bytes));
    s->kernels->activation_forward(kind, parameter, x, x, n);
    CHECK(same_bytes(x, y, bytes));
    release(x);
    release(dy);
    release(y);
    release(dx);
    release(one);
}

TEST(activations_on_ragged_sizes)
{
    for (int kind = 0; kind < BP_N_ACTIVATIONS; kind++)
        for (int64_t n = 0; n <= LONGEST; n++) check_activation(s, (bp_activation)kind, n);
}

/* The limits of f and f' at both infinities, nan in and nan out, and the kinks. */
TEST(activations_of_special_values)
{
    const double inf = (double)INFINITY, nan = (double)NAN, a = 1.5, c = 0.25;
    const struct { bp_activation kind; double below, above, slope_below, slope_above; } limits[] = {
        {BP_ACTIVATION_identity, -inf, inf, 1, 1},     {BP_ACTIVATION_sigmoid, 0, 1, 0, 0},
        {BP_ACTIVATION_relu, 0, inf, 0, 1},            {BP_ACTIVATION_tanh, -1, 1, 0, 0},
        {BP_ACTIVATION_leaky_relu, -inf, inf, c, 1},   {BP_ACTIVATION_elu, -a, inf, 0, 1},
        {BP_ACTIVATION_softplus, 0, inf, 0, 1},        {BP_ACTIVATION_gelu, 0, inf, 0, 1},
        {BP_ACTIVATION_gelu_tanh, 0, inf, 0, 1},       {BP_ACTIVATION_silu, 0, inf, 0, 1},
    };
    CHECK_INT(sizeof limits / sizeof limits[0], BP_N_ACTIVATIONS);
    for (int kind = 0; kind < BP_N_ACTIVATIONS; kind++) {
        const double x_values[] = {-inf, inf, nan}, y_expected[] = {limits[kind].below, limits[kind].above, nan};
        const double slopes[] = {limits[kind].slope_below, limits[kind].slope_above, nan};
        CHECK_INT(limits[kind].kind, kind);
        void *x = reals(s, 3), *y = reals(s, 3), *dy = reals(s, 3);
        for (int i = 0; i < 3; i++) {
            set(s->dtype, x, i, x_values[i]);
            set(s->dtype, dy, i, 1);
        }
        const double parameter = parameter_of((bp_activation)kind);
        s->kernels->activation_forward((bp_activation)kind, parameter, y, x, 3);
        s->kernels->activation_backward((bp_activation)kind, parameter, dy, dy, x, y, 3);
        for (int i = 0; i < 3; i++) {
            CHECK_NEAR(get(s->dtype, y, i), y_expected[i], 1e-30, 10 * kind + i);
            /* at a nan the value tells; its slope may be that of one side */
            if (i < 2) CHECK_NEAR(get(s->dtype, dy, i), slopes[i], 1e-15, 10 * kind + i);
        }
        release(x);
        release(y);
        release(dy);
    }
}

TEST(slopes_at_kinks_are_those_of_the_left)
{
    const struct { bp_activation kind; double slope; } kinks[] = {
        {BP_ACTIVATION_relu, 0}, {BP_ACTIVATION_leaky_relu, 0.25}, {BP_ACTIVATION_elu, 1.5}};
    for (int i = 0; i < 3; i++) {
        void *x = reals(s, 1), *y = reals(s, 1), *dx = reals(s, 1), *dy = reals(s, 1);
        set(s->dtype, x, 0, 0);
        set(s->dtype, dy, 0, 1);
        s->kernels->activation_forward(kinks[i].kind, parameter_of(kinks[i].kind), y, x, 1);
        s->kernels->activation_backward(kinks[i].kind, parameter_of(kinks[i].kind), dx, dy, x, y, 1);
        CHECK_NEAR(get(s->dtype, y, 0), 0, 0, i);
        CHECK_NEAR(get(s->dtype, dx, 0), kinks[i].slope, 0, i);
        release(x);
        release(y);
        release(dx);
        release(dy);
    }
}

const test_case elementwise_tests[] = {CASE(functions_on_ragged_sizes),
                                       CASE(functions_of_special_values),
                                       CASE(functions_of_minus_zero),
                                       CASE(activations_on_ragged_sizes),
                                       CASE(activations_of_special_values),
                                       CASE(slopes_at_kinks_are_those_of_the_left),
                                       END_OF_CASES};
