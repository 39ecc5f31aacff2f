/* Each elementwise activation: name_f(x, parameter), and its derivative name_df(x, y, parameter) with y = name_f(x).
 * At a kink the derivative is that of the left side. Any value may come in, infinities and nan included. */
#ifndef BP_ACTIVATIONS_H
#define BP_ACTIVATIONS_H

#include "math.h"

#define F(name) ALWAYS_INLINE vec name##_f(MAYBE_UNUSED vec x, MAYBE_UNUSED vec parameter)
#define DF(name) ALWAYS_INLINE vec name##_df(MAYBE_UNUSED vec x, MAYBE_UNUSED vec y, MAYBE_UNUSED vec parameter)

F(identity) { return x; }
DF(identity) { return vset(1); }

F(sigmoid) { return sigmoid_v(x); }
DF(sigmoid) { return y * (vset(1) - y); }

F(relu) { return vmax(x, vset(0)); }
DF(relu) { return vselect(vless(vset(0), y), vset(1), vset(0)); }

F(tanh) { return tanh_v(x); }
DF(tanh) { return (vset(1) - y) * (vset(1) + y); }

/* x > 0 ? x : slope x */
F(leaky_relu) { return vselect(vless(vset(0), x), x, parameter * x); }
DF(leaky_relu) { return vselect(vless(vset(0), x), vset(1), parameter); }

/* x > 0 ? x : alpha (exp(x) - 1) */
F(elu) { return vselect(vless(vset(0), x), x, parameter * expm1_negative_v(vmin(x, vset(0)))); }
DF(elu) { return vselect(vless(vset(0), x), vset(1), parameter * exp_v(vmin(x, vset(0)))); } /* y + alpha cancels */

F(softplus) { return softplus_v(x); }
DF(softplus) { return -expm1_negative_v(-y); } /* sigmoid(x) = 1 - exp(-y) */

/* x Phi(x); the bound keeps -inf * 0 from becoming nan */
F(gelu)
{
    vec density;
    return vmax(x, vset(-REAL_MAX)) * normal_cdf_v(x, &density);
}
DF(gelu)
{
    vec density;
    vec cdf = normal_cdf_v(x, &density);
    return vfma(vmin(vmax(x, vset(-REAL_MAX)), vset(REAL_MAX)), density, cdf);
}

/* x/2 (1 + tanh(u/2)) = x sigmoid(u), u = 2 sqrt(2/pi) (x + 0.044715 x^3): Hendrycks and Gimpel (2016), eq. 2 */
#define GELU_LINEAR C(1.5957691216057308)
#define GELU_CUBIC C(0.071354816272600250)
F(gelu_tanh)
{
    vec u = x * vfma(vset(GELU_CUBIC) * x, x, vset(GELU_LINEAR));
    return vmax(x, vset(-REAL_MAX)) * sigmoid_v(u);
}
DF(gelu_tanh)
{
    vec near = vmin(vmax(x, vset(-30)), vset(30)); /* the derivative is 0 or 1 long before */
    vec square = near * near;
    vec s = sigmoid_v(near * vfma(vset(GELU_CUBIC), square, vset(GELU_LINEAR)));
    vec du = vfma(vset(3 * GELU_CUBIC), square, vset(GELU_LINEAR));
    return vfma(near * du * s, vset(1) - s, s);
}

F(silu) { return vmax(x, vset(-REAL_MAX)) * sigmoid_v(x); }
DF(silu)
{
    vec s = sigmoid_v(x);
    vec finite = vmin(vmax(x, vset(-REAL_MAX)), vset(REAL_MAX));
    return vfma(finite * s, sigmoid_v(-finite), s); /* 1 - s, without its rounding error */
}

F(exp) { return exp_v(x); }
DF(exp) { return y; }

#undef F
#undef DF

/* The same by kind, for loops in which it does not change. */
ALWAYS_INLINE vec activation_f(bp_activation kind, vec x, vec parameter)
{
#define ACTIVATION(name)                                                                                                       \
    case BP_ACTIVATION_##name: return name##_f(x, parameter);
    switch (kind) {
#include "../activations.def"
        case BP_N_ACTIVATIONS: break;
    }
#undef ACTIVATION
    return x;
}

ALWAYS_INLINE vec activation_df(bp_activation kind, vec x, vec y, vec parameter)
{
#define ACTIVATION(name)                                                                                                       \
    case BP_ACTIVATION_##name: return name##_df(x, y, parameter);
    switch (kind) {
#include "../activations.def"
        case BP_N_ACTIVATIONS: break;
    }
#undef ACTIVATION
    return x;
}

#define ACTIVATION(name)                                                                                                       \
    static void name##_forward(real *y, const real *x, int64_t n, real parameter)                                              \
    {                                                                                                                          \
        const vec c = vset(parameter);                                                                                         \
        int64_t i = 0;                                                                                                         \
        for (; i <= n - WIDTH; i += WIDTH) vstore(y + i, name##_f(vload(x + i), c));                                           \
        if (i < n) vstore_part(y + i, name##_f(vload_part(x + i, vpart(n - i)), c), vpart(n - i));                             \
    }                                                                                                                          \
    static void name##_backward(real *dx, const real *dy, const real *x, const real *y, int64_t n, real parameter)             \
    {                                                                                                                          \
        const vec c = vset(parameter);                                                                                         \
        int64_t i = 0;                                                                                                         \
        for (; i <= n - WIDTH; i += WIDTH) vstore(dx + i, vload(dy + i) * name##_df(vload(x + i), vload(y + i), c));           \
        if (i < n) {                                                                                                           \
            const part rest = vpart(n - i);                                                                                    \
            vec slope = name##_df(vload_part(x + i, rest), vload_part(y + i, rest), c);                                        \
            vstore_part(dx + i, vload_part(dy + i, rest) * slope, rest);                                                       \
        }                                                                                                                      \
    }
#include "../activations.def"
#undef ACTIVATION

typedef void (*activation_forward_fn)(real *, const real *, int64_t, real);
typedef void (*activation_backward_fn)(real *, const real *, const real *, const real *, int64_t, real);

#define ACTIVATION(name) name##_forward,
static const activation_forward_fn activation_forwards[BP_N_ACTIVATIONS] = {
#include "../activations.def"
};
#undef ACTIVATION
#define ACTIVATION(name) name##_backward,
static const activation_backward_fn activation_backwards[BP_N_ACTIVATIONS] = {
#include "../activations.def"
};
#undef ACTIVATION

/* ---- Softmax over the first k of `stride` columns ------------------------------------------------------------------- */

ALWAYS_INLINE real row_max(const real *x, int64_t k)
{
    const vec lowest = vset(-(real)INFINITY);
    stripe largest;
    for (int i = 0; i < STRIPE_PARTS; i++) largest.part[i] = lowest;
    for (int64_t j = 0; j < k; j += WIDTH) {
        const part rest = vpart_of(j, k);
        const vmask inside = vless(vset(0), vkeep(vset(1), rest));
        LANES(&largest, j) = vmax(vselect(inside, vload_part(x + j, rest), lowest), LANES(&largest, j));
    }
    return stripe_max(&largest);
}

static void softmax_row(real *y, const real *x, int64_t k)
{
    const vec largest = vset(row_max(x, k));
    stripe total = stripe_zero();
    for (int64_t j = 0; j < k; j += WIDTH) {
        const part rest = vpart_of(j, k);
        vec e = vkeep(exp_v(vload_part(x + j, rest) - largest), rest);
        vstore_part(y + j, e, rest);
        LANES(&total, j) = LANES(&total, j) + e;
    }
    const vec sum = vset(stripe_sum(&total));
    for (int64_t j = 0; j < k; j += WIDTH) {
        const part rest = vpart_of(j, k);
        vstore_part(y + j, vload_part(y + j, rest) / sum, rest);
    }
}

static void softmax_backward_row(real *dx, const real *dy, const real *y, int64_t k)
{
    stripe total = stripe_zero();
    for (int64_t j = 0; j < k; j += WIDTH) {
        const part rest = vpart_of(j, k);
        LANES(&total, j) = vfma(vload_part(dy + j, rest), vload_part(y + j, rest), LANES(&total, j));
    }
    const vec mean = vset(stripe_sum(&total));
    for (int64_t j = 0; j < k; j += WIDTH) {
        const part rest = vpart_of(j, k);
        vstore_part(dx + j, vload_part(y + j, rest) * (vload_part(dy + j, rest) - mean), rest);
    }
}

#endif
