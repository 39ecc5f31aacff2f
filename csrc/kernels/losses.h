/* Each loss: its value, and the derivative of exactly that value by the prediction.
 * Elementwise losses are name_f(p, t, parameter) and name_df(p, t, parameter) for prediction p and target t. */
#ifndef BP_LOSSES_H
#define BP_LOSSES_H

#include "math.h"

#define F(name) ALWAYS_INLINE vec name##_f(vec p, vec t, MAYBE_UNUSED vec parameter)
#define DF(name) ALWAYS_INLINE vec name##_df(vec p, MAYBE_UNUSED vec t, MAYBE_UNUSED vec parameter)

F(mse) { return (p - t) * (p - t); }
DF(mse) { return vset(2) * (p - t); }

F(mae) { return vabs(p - t); }
DF(mae) { return vselect(vless(t, p), vset(1), vselect(vless(p, t), vset(-1), p - t)); /* p - t: 0, or nan */ }

/* d^2/2 up to delta, delta (|d| - delta/2) beyond */
F(huber)
{
    vec d = vabs(p - t);
    return vselect(vless(parameter, d), parameter * (d - vset(C(0.5)) * parameter), vset(C(0.5)) * d * d);
}
DF(huber) { return vmin(vmax(p - t, -parameter), parameter); }

/* -t log p - (1 - t) log(1 - p), p clipped to [eps, 1 - eps], where the value no longer depends on p */
ALWAYS_INLINE vec clipped(vec p) { return vmin(vmax(p, vset(REAL_EPSILON)), vset(1 - REAL_EPSILON)); }
F(bce)
{
    vec q = clipped(p);
    return -vfma(t, log_v(q, q - q), (vset(1) - t) * log1p_finite_v(-q));
}
DF(bce)
{
    vec q = clipped(p);
    vec slope = (q - t) / (q * (vset(1) - q));
    return vselect(vless(p, q), vset(0), vselect(vless(q, p), vset(0), slope));
}

/* The same from the logit z = p: softplus(z) - t z, without cancellation for either sign of z */
F(bce_logits)
{
    vec away = vmax(p, vset(0)) - p * t; /* exact for targets 0 and 1 */
    return away + log1p_exp_v(vabs(p), vset(0));
}
DF(bce_logits)
{
    /* for t = 1 and large z: -sigmoid(-z), which does not cancel */
    const vec smaller = sigmoid_v(-vabs(p));
    return vselect(vless(vset(0), p), (vset(1) - t) - smaller, smaller - t);
}

/* -t log p, p clipped to at least eps */
F(cross_entropy)
{
    vec q = vmax(p, vset(REAL_EPSILON));
    return -t * log_v(q, q - q);
}
DF(cross_entropy) { return vselect(vless(p, vset(REAL_EPSILON)), vset(0), -t / p); }

/* q d or (q - 1) d, whichever is larger, for d = t - p and the quantile q */
F(quantile) { return vmax(parameter * (t - p), (parameter - vset(1)) * (t - p)); }
DF(quantile) { return vselect(vless(p, t), -parameter, vselect(vless(t, p), vset(1) - parameter, p - t)); /* 0, or nan */ }

/* p - t log p, p clipped to at least eps; the other bound keeps the log of infinity from becoming nan */
F(poisson)
{
    const vec q = vmax(p, vset(REAL_EPSILON)), finite = vmin(q, vset(REAL_MAX));
    return q - t * log_v(finite, finite - finite);
}
DF(poisson)
{
    const vec finite = vmin(p, vset(REAL_MAX));
    return vselect(vless(p, vset(REAL_EPSILON)), vset(0), (finite - t) / finite);
}

/* The same from the log of the rate z = p: exp(z) - t z. Beyond the bounds exp(z) is 0 or infinity, and 0 times infinity is nan. */
F(poisson_log) { return exp_v(p) - t * vmin(vmax(p, vset(-REAL_MAX)), vset(EXP_HIGHEST)); }
DF(poisson_log) { return exp_v(p) - t; }

#undef F
#undef DF

/* The same by kind, for loops in which it does not change; row losses have neither. */
#define ROW_LOSS(name) case BP_LOSS_##name:
#define FUSED_LOSS(kind, activation, name, on_logits)
ALWAYS_INLINE vec loss_f(bp_loss kind, vec p, vec t, vec parameter)
{
#define ELEMENT_LOSS(name, averages_outputs)                                                                                   \
    case BP_LOSS_##name: return name##_f(p, t, parameter);
    switch (kind) {
#include "../losses.def"
        case BP_LOSS_CALLED_ROWS:
        case BP_LOSS_CALLED_ELEMENTS: break;
    }
#undef ELEMENT_LOSS
    return p;
}

ALWAYS_INLINE vec loss_df(bp_loss kind, vec p, vec t, vec parameter)
{
#define ELEMENT_LOSS(name, averages_outputs)                                                                                   \
    case BP_LOSS_##name: return name##_df(p, t, parameter);
    switch (kind) {
#include "../losses.def"
        case BP_LOSS_CALLED_ROWS:
        case BP_LOSS_CALLED_ELEMENTS: break;
    }
#undef ELEMENT_LOSS
    return p;
}
#undef ROW_LOSS
#undef FUSED_LOSS

/* What a loss is evaluated on: n rows of k columns, `stride` reals apart; gradient and weight may be NULL.
 * Where stride leaves room, rows are stored in whole vectors. */
typedef struct loss_rows {
    real *gradient;
    const real *prediction, *target, *weight;
    int64_t n, k, stride;
    double gradient_scale;
    real parameter;
} loss_rows;

ALWAYS_INLINE void store_columns(real *p, vec v, int64_t j, const loss_rows *rows)
{
    const part rest = vpart_of(j, rows->k);
    if (j + WIDTH <= rows->stride)
        vstore(p + j, vkeep(v, rest));
    else
        vstore_part(p + j, v, rest);
}

/* Rows whose losses are summed in reals before the sum is folded into a double. */
#define FOLDED_ROWS 32

/* The sum over rows and columns of weight times loss. */
#define ELEMENT_LOSS(name, averages_outputs)                                                                                   \
    ALWAYS_INLINE void name##_row(const loss_rows *rows, int64_t r, stripe *total, vec c)                                      \
    {                                                                                                                          \
        const real weight = rows->weight ? rows->weight[r] : 1;                                                                \
        const vec w = vset(weight), gradient_w = vset((real)(weight * rows->gradient_scale));                                  \
        const real *prediction = rows->prediction + r * rows->stride, *target = rows->target + r * rows->stride;               \
        for (int64_t j = 0; j < rows->k; j += WIDTH) {                                                                         \
            const part rest = vpart_of(j, rows->k);                                                                            \
            const vec p = vload_part(prediction + j, rest), t = vload_part(target + j, rest);                                  \
            LANES(total, j) = vfma(w, vkeep(name##_f(p, t, c), rest), LANES(total, j));                                        \
            if (rows->gradient) store_columns(rows->gradient + r * rows->stride, gradient_w * name##_df(p, t, c), j, rows);    \
        }                                                                                                                      \
    }                                                                                                                          \
    static double name##_rows(const loss_rows *rows)                                                                           \
    {                                                                                                                          \
        const vec c = vset(rows->parameter);                                                                                   \
        double sum = 0;                                                                                                        \
        for (int64_t first = 0; first < rows->n; first += FOLDED_ROWS) {                                                       \
            const int64_t end = first + FOLDED_ROWS < rows->n ? first + FOLDED_ROWS : rows->n;                                 \
            stripe total = stripe_zero();                                                                                      \
            for (int64_t r = first; r < end; r++) name##_row(rows, r, &total, c);                                              \
            sum += (double)stripe_sum(&total);                                                                                 \
        }                                                                                                                      \
        return sum;                                                                                                            \
    }
#define ROW_LOSS(name)
#define FUSED_LOSS(kind, activation, name, on_logits)
#include "../losses.def"
#undef ELEMENT_LOSS

/* log(sum(exp(z))) sum(t) - sum(t z), with the largest logit taken out first; returns weight times it. */
static double cross_entropy_logits_value(const loss_rows *rows, int64_t r)
{
    const real *z = rows->prediction + r * rows->stride, *target = rows->target + r * rows->stride;
    const real weight = rows->weight ? rows->weight[r] : 1;
    const real largest = row_max(z, rows->k);
    stripe exponentials = stripe_zero(), targets = stripe_zero(), products = stripe_zero();
    for (int64_t j = 0; j < rows->k; j += WIDTH) {
        const part rest = vpart_of(j, rows->k);
        const vec below = vload_part(z + j, rest) - vset(largest), t = vload_part(target + j, rest);
        LANES(&exponentials, j) = LANES(&exponentials, j) + vkeep(exp_v(below), rest);
        LANES(&targets, j) = LANES(&targets, j) + t;
        /* a target of 0 must not meet an infinite logit */
        LANES(&products, j) = LANES(&products, j) + vselect(vless(vset(0), t), t * below, vset(0));
    }
    const real sum = stripe_sum(&exponentials), target_sum = stripe_sum(&targets);
    if (rows->gradient) {
        const vec scale = vset((real)(weight * rows->gradient_scale)), share = vset(target_sum / sum);
        for (int64_t j = 0; j < rows->k; j += WIDTH) {
            const part rest = vpart_of(j, rows->k);
            const vec below = vload_part(z + j, rest) - vset(largest), t = vload_part(target + j, rest);
            store_columns(rows->gradient + r * rows->stride, scale * (exp_v(below) * share - t), j, rows);
        }
    }
    real log_sum[1], excess[1] = {sum - 1};
    log1p_map(log_sum, excess, 1);
    return (double)weight * (double)(target_sum * log_sum[0] - stripe_sum(&products));
}

#undef ROW_LOSS
#define ELEMENT_LOSS(name, averages_outputs)
#define ROW_LOSS(name)                                                                                                         \
    static double name##_rows(const loss_rows *rows)                                                                           \
    {                                                                                                                          \
        double total = 0;                                                                                                      \
        for (int64_t r = 0; r < rows->n; r++) total += name##_value(rows, r);                                                  \
        return total;                                                                                                          \
    }
#include "../losses.def"
#undef ELEMENT_LOSS
#undef ROW_LOSS

/* The same with one column a line: value j of row r at j * stride + r; rows up to `stride` are padding. */
typedef struct loss_columns {
    real *gradient;
    const real *prediction, *target, *weight;
    int64_t n, k, stride;
    real gradient_scale, parameter;
} loss_columns;

/* The part of a vector from row r on that is no padding. */
ALWAYS_INLINE part vpart_of_rows(const loss_columns *c, int64_t r) { return r < c->n ? vpart_of(r, c->n) : vpart(0); }

ALWAYS_INLINE vec weight_of_rows(const loss_columns *c, int64_t r) { return c->weight ? vload(c->weight + r) : vset(1); }

#define ELEMENT_LOSS(name, averages_outputs)                                                                                   \
    ALWAYS_INLINE double name##_column(const loss_columns *c, int64_t j)                                                       \
    {                                                                                                                          \
        const vec parameter = vset(c->parameter), scale = vset(c->gradient_scale);                                             \
        const real *prediction = c->prediction + j * c->stride, *target = c->target + j * c->stride;                           \
        stripe total = stripe_zero();                                                                                          \
        for (int64_t r = 0; r < c->stride; r += WIDTH) {                                                                       \
            const part rest = vpart_of_rows(c, r);                                                                             \
            const vec p = vload(prediction + r), t = vload(target + r), w = weight_of_rows(c, r);                              \
            /* first the gradient, as all that follows waits for it */                                                         \
            if (c->gradient) vstore(c->gradient + j * c->stride + r, vkeep(w * scale * name##_df(p, t, parameter), rest));     \
            LANES(&total, r) = vfma(w, vkeep(name##_f(p, t, parameter), rest), LANES(&total, r));                              \
        }                                                                                                                      \
        return (double)stripe_sum(&total);                                                                                     \
    }                                                                                                                          \
    static double name##_columns(const loss_columns *c)                                                                        \
    {                                                                                                                          \
        double sum = 0;                                                                                                        \
        for (int64_t j = 0; j < c->k; j++) sum += name##_column(c, j);                                                         \
        return sum;                                                                                                            \
    }
#define ROW_LOSS(name)
#define FUSED_LOSS(kind, activation, name, on_logits)
#include "../losses.def"
#undef ELEMENT_LOSS
#undef ROW_LOSS
#undef FUSED_LOSS

/* The rows of one vector of cross_entropy_logits: their losses; leaves the gradient. */
ALWAYS_INLINE vec cross_entropy_logits_vector(const loss_columns *c, int64_t r)
{
    vec largest = vload(c->prediction + r);
    for (int64_t j = 1; j < c->k; j++) largest = vmax(vload(c->prediction + j * c->stride + r), largest);
    vec exponentials = vset(0), targets = vset(0), products = vset(0);
    for (int64_t j = 0; j < c->k; j++) {
        const vec below = vload(c->prediction + j * c->stride + r) - largest, t = vload(c->target + j * c->stride + r);
        const vec e = exp_v(below);
        exponentials = exponentials + e;
        targets = targets + t;
        products = products + vselect(vless(vset(0), t), t * below, vset(0));
        if (c->gradient) vstore(c->gradient + j * c->stride + r, e);
    }
    const vec scale = weight_of_rows(c, r) * vset(c->gradient_scale), share = targets / exponentials;
    for (int64_t j = 0; c->gradient && j < c->k; j++) {
        real *gradient = c->gradient + j * c->stride + r;
        const vec slope = scale * (vload(gradient) * share - vload(c->target + j * c->stride + r));
        vstore(gradient, vkeep(slope, vpart_of_rows(c, r)));
    }
    return targets * log1p_v(exponentials - vset(1)) - products;
}

static double cross_entropy_logits_columns(const loss_columns *c)
{
    stripe total = stripe_zero();
    for (int64_t r = 0; r < c->stride; r += WIDTH) {
        const vec loss = vkeep(cross_entropy_logits_vector(c, r), vpart_of_rows(c, r));
        LANES(&total, r) = vfma(weight_of_rows(c, r), loss, LANES(&total, r));
    }
    return (double)stripe_sum(&total);
}

typedef struct loss_entry {
    double (*rows)(const loss_rows *rows);
    double (*columns)(const loss_columns *columns);
    int by_element, averages_outputs;
} loss_entry;

#define FUSED_LOSS(kind, activation, name, on_logits)
#define ELEMENT_LOSS(name, averages_outputs) {name##_rows, name##_columns, 1, averages_outputs},
#define ROW_LOSS(name) {name##_rows, name##_columns, 0, 0},
static const loss_entry loss_table[BP_LOSS_CALLED_ELEMENTS + 1] = {
#include "../losses.def"
    [BP_LOSS_CALLED_ROWS] = {NULL, NULL, 0, 0},
    [BP_LOSS_CALLED_ELEMENTS] = {NULL, NULL, 0, 1},
};
#undef ELEMENT_LOSS
#undef ROW_LOSS
#undef FUSED_LOSS

/* The sum over rows of weight times loss for losses that the caller has computed, n_losses of each row. Weights and scales their
 * gradient; prediction and target are not needed. */
static double weigh_losses(const real *losses, int64_t n_losses, const loss_rows *rows)
{
    double sum = 0;
    for (int64_t r = 0; r < rows->n; r++) {
        const real weight = rows->weight ? rows->weight[r] : 1, scale = (real)(weight * rows->gradient_scale);
        double loss = 0;
        for (int64_t j = 0; j < n_losses; j++) loss += (double)losses[r * n_losses + j];
        sum += (double)weight * loss;
        real *gradient = rows->gradient ? rows->gradient + r * rows->stride : NULL;
        for (int64_t j = 0; gradient && j < rows->stride; j++) gradient[j] = j < rows->k ? scale * gradient[j] : 0;
    }
    return sum;
}

/* What the sum over rows and columns is multiplied by. */
static double loss_scale(bp_loss loss, bp_reduction reduction, double total_weight, int64_t k)
{
    if (reduction == BP_REDUCTION_SUM) return 1;
    const int averages = reduction == BP_REDUCTION_MEAN && loss_table[loss].averages_outputs;
    return 1 / total_weight / (averages ? (double)k : 1); /* k * total_weight could overflow */
}

#endif
