/* Training one row at a time, for narrow layers. For as long as it lasts the weights lie in rows padded to whole stripes, with
 * a transposed copy of each, so that every product is a few broadcasts and multiply-adds of whole vectors, and what is stored
 * is read back as it was written. The same operations on each number as in network.h, so the same bits. */
#ifndef BP_ROWS_H
#define BP_ROWS_H

#include "../plan.h"
#include "activations.h"
#include "gemm.h"
#include "losses.h"

/* What an update by plain SGD needs. */
typedef struct row_update {
    const bp_plan *plan;
    real *memory; /* bp_workspace.rows */
    const real *x, *target;
    double loss_scale;
    real step; /* minus the learning rate */
} row_update;

/* The rows of values of a stage. */
enum { BEFORE, AFTER, DELTA };
ALWAYS_INLINE real *value_row(const row_update *u, const bp_stage *s, int which)
{
    return u->memory + s->value_at + which * s->out_stride;
}

/* What goes into stage i. */
ALWAYS_INLINE const real *input_row(const row_update *u, int64_t i)
{
    return i ? value_row(u, &u->plan->stages[i - 1], AFTER) : u->x;
}

/* ---- Between the array of parameters and padded rows ------------------------------------------------------------------- */

static void load_rows(const bp_plan *plan, real *memory, const real *parameters)
{
    for (int64_t i = 0; i < plan->n_stages; i++) {
        const bp_stage *s = &plan->stages[i];
        const real *weight = parameters + s->weight_at;
        real *rows = memory + s->rows_at, *bias = rows + s->n_in * s->out_stride;
        const size_t bytes = (size_t)s->n_out * sizeof(real);
        for (int64_t k = 0; k < s->n_in; k++) memcpy(rows + k * s->out_stride, weight + k * s->n_out, bytes);
        if (s->bias_at >= 0) memcpy(bias, parameters + s->bias_at, bytes);
        transpose(memory + s->transposed_at, s->in_stride, weight, s->n_out, s->n_in, s->n_out);
    }
}

static void store_rows(const bp_plan *plan, const real *memory, real *parameters)
{
    for (int64_t i = 0; i < plan->n_stages; i++) {
        const bp_stage *s = &plan->stages[i];
        real *weight = parameters + s->weight_at;
        const real *rows = memory + s->rows_at, *bias = rows + s->n_in * s->out_stride;
        const size_t bytes = (size_t)s->n_out * sizeof(real);
        for (int64_t k = 0; k < s->n_in; k++) memcpy(weight + k * s->n_out, rows + k * s->out_stride, bytes);
        if (s->bias_at >= 0) memcpy(parameters + s->bias_at, bias, bytes);
    }
}

/* ---- Vectors of a row, `count` of them from element `at` on ------------------------------------------------------------ */

/* call(at, count) for all vectors of a row; with `single` a constant 1, for rows of one vector. */
#define IN_GROUPS(single, width, call)                                                                                         \
    do {                                                                                                                       \
        int64_t at_ = 0, left_ = ((width) + WIDTH - 1) / WIDTH;                                                                \
        if (single) {                                                                                                          \
            call(0, 1);                                                                                                        \
            break;                                                                                                             \
        }                                                                                                                      \
        for (; left_ >= 4; left_ -= 4, at_ += 4 * WIDTH) call(at_, 4);                                                         \
        if (left_ & 2) {                                                                                                       \
            call(at_, 2);                                                                                                      \
            at_ += 2 * WIDTH;                                                                                                  \
        }                                                                                                                      \
        if (left_ & 1) call(at_, 1);                                                                                           \
    } while (0)

/* sum = initial + sum over k of in[k] rows[k] */
ALWAYS_INLINE void combine(vec *sum, const int count, const real *initial, const real *in, int64_t n, const real *rows,
                           int64_t stride)
{
    UNROLL
    for (int v = 0; v < count; v++) sum[v] = initial ? vload(initial + v * WIDTH) : vset(0);
    for (int64_t k = 0; k < n; k++) {
        UNROLL
        for (int v = 0; v < count; v++) sum[v] = vfma(vset(in[k]), vload(rows + k * stride + v * WIDTH), sum[v]);
    }
}

/* rows[k] = rows[k] + step (factor[k] row), for k < n: the gradient is rounded before it is used, as everywhere. `width` counts
 * what is left of the row, so that padding stays zero. */
ALWAYS_INLINE void add_outer(real *rows, int64_t stride, const real *factor, int64_t n, const real *row, int64_t width,
                             const int count, real step)
{
    vec part_of_row[4];
    UNROLL
    for (int v = 0; v < count; v++) part_of_row[v] = vkeep(vload(row + v * WIDTH), vpart_of(v * WIDTH, width));
    for (int64_t k = 0; k < n; k++) {
        UNROLL
        for (int v = 0; v < count; v++) {
            real *to = rows + k * stride + v * WIDTH;
            vstore(to, vfma(vset(step), vfma(vset(factor[k]), part_of_row[v], vset(0)), vload(to)));
        }
    }
}

ALWAYS_INLINE void forward_vectors(const row_update *u, int64_t i, int64_t at, const int count)
{
    const bp_stage *s = &u->plan->stages[i];
    const real *rows = u->memory + s->rows_at + at;
    const vec parameter = vset((real)s->parameter);
    vec sum[4];
    combine(sum, count, rows + s->n_in * s->out_stride, input_row(u, i), s->n_in, rows, s->out_stride);
    UNROLL
    for (int v = 0; v < count; v++) {
        vstore(value_row(u, s, BEFORE) + at + v * WIDTH, sum[v]);
        vstore(value_row(u, s, AFTER) + at + v * WIDTH, activation_f(s->activation, sum[v], parameter));
    }
}

/* From the gradient at the output of stage i to that before its activation. */
ALWAYS_INLINE vec through_activation(const row_update *u, const bp_stage *s, int64_t at, vec slope)
{
    const vec x = vload(value_row(u, s, BEFORE) + at), y = vload(value_row(u, s, AFTER) + at);
    return slope * activation_df(s->activation, x, y, vset((real)s->parameter));
}

/* The gradient before the activation of stage i - 1, from that of stage i. */
ALWAYS_INLINE void backward_vectors(const row_update *u, int64_t i, int64_t at, const int count)
{
    const bp_stage *s = &u->plan->stages[i], *below = s - 1;
    vec sum[4];
    combine(sum, count, NULL, value_row(u, s, DELTA), s->n_out, u->memory + s->transposed_at + at, s->in_stride);
    UNROLL
    for (int v = 0; v < count; v++) {
        const int64_t j = at + v * WIDTH;
        vstore(value_row(u, below, DELTA) + j, through_activation(u, below, j, sum[v]));
    }
}

/* ---- A row ----------------------------------------------------------------------------------------------------------------- */

/* The loss before scaling; its gradient goes to the last stage's delta. */
ALWAYS_INLINE double row_loss(const row_update *u, const int single)
{
    const bp_plan *plan = u->plan;
    const bp_stage *s = &plan->stages[plan->n_stages - 1];
    const real *prediction = value_row(u, s, AFTER);
    real *delta = value_row(u, s, DELTA);
    const vec parameter = vset((real)plan->loss.parameter), scale = vset((real)u->loss_scale);
    if (!loss_table[plan->loss_on].by_element) {
        const loss_rows rows = {delta, prediction, u->target, NULL, 1, s->n_out, s->out_stride, u->loss_scale, 0};
        const double value = loss_table[plan->loss_on].rows(&rows);
        for (int64_t j = 0; j < s->n_out; j += WIDTH) vstore(delta + j, through_activation(u, s, j, vload(delta + j)));
        return value;
    }
    stripe total = stripe_zero();
    for (int64_t j = 0; single ? j < 1 : j < s->n_out; j += WIDTH) {
        const part rest = vpart_of(j, s->n_out);
        const vec p = vload(prediction + j), t = vload_part(u->target + j, rest);
        LANES(&total, j) = LANES(&total, j) + vkeep(loss_f(plan->loss_on, p, t, parameter), rest);
        const vec slope = vkeep(scale * loss_df(plan->loss_on, p, t, parameter), rest);
        vstore(delta + j, through_activation(u, s, j, slope));
    }
    return (double)stripe_sum(&total);
}

/* Squares below this keep every product of two factors, and the sums of many steps, far from the ends of the reals. */
#define MODEST_SQUARE (BP_REAL_BITS == 64 ? 0x1p400 : 0x1p40)

/* Whether all that a gradient of this row is made of is far from the ends of the reals. */
ALWAYS_INLINE int row_is_modest(const row_update *u, const int single)
{
    const bp_plan *plan = u->plan;
    vec squares = vset(0);
    for (int64_t j = 0; single ? j < 1 : j < plan->n_in; j += WIDTH) {
        const vec x = vload_part(u->x + j, vpart_of(j, plan->n_in));
        squares = vfma(x, x, squares);
    }
    for (int64_t i = 0; i < plan->n_stages; i++) {
        const bp_stage *s = &plan->stages[i];
        for (int64_t j = 0; single ? j < 1 : j < s->n_out; j += WIDTH) {
            const vec y = vload(value_row(u, s, AFTER) + j), delta = vload(value_row(u, s, DELTA) + j);
            squares = vfma(delta, delta, vfma(y, y, squares));
        }
    }
    return vall(vless(squares, vset((real)MODEST_SQUARE)));
}

ALWAYS_INLINE void update_stage(const row_update *u, int64_t i, const int single)
{
    const bp_stage *s = &u->plan->stages[i];
    const real *in = input_row(u, i), *delta = value_row(u, s, DELTA);
    real *rows = u->memory + s->rows_at, *transposed = u->memory + s->transposed_at;
    static const real one = 1;
#define UPDATE_BIAS(at, count)                                                                                                 \
    add_outer(rows + s->n_in * s->out_stride + (at), 0, &one, 1, delta + (at), s->n_out - (at), count, u->step)
#define UPDATE_WEIGHT(at, count)                                                                                               \
    add_outer(rows + (at), s->out_stride, in, s->n_in, delta + (at), s->n_out - (at), count, u->step)
#define UPDATE_TRANSPOSED(at, count)                                                                                           \
    add_outer(transposed + (at), s->in_stride, delta, s->n_out, in + (at), s->n_in - (at), count, u->step)
    if (s->bias_at >= 0) IN_GROUPS(single, s->n_out, UPDATE_BIAS);
    IN_GROUPS(single, s->n_out, UPDATE_WEIGHT);
    if (i) IN_GROUPS(single, s->n_in, UPDATE_TRANSPOSED);
}

/* One update; *loss is that of the row before scaling. Returns 0, and nothing has changed, where numbers are not modest. */
ALWAYS_INLINE int update_by_row(const row_update *u, double *loss, const int single)
{
    const bp_plan *plan = u->plan;
#define FORWARD(at, count) forward_vectors(u, i, at, count)
#define BACKWARD(at, count) backward_vectors(u, i, at, count)
    for (int64_t i = 0; i < plan->n_stages; i++) IN_GROUPS(single, plan->stages[i].n_out, FORWARD);
    *loss = row_loss(u, single);
    for (int64_t i = plan->n_stages - 1; i > 0; i--) IN_GROUPS(single, plan->stages[i].n_in, BACKWARD);
    if (!row_is_modest(u, single)) return 0;
    for (int64_t i = 0; i < plan->n_stages; i++) update_stage(u, i, single);
    return 1;
}

static int update_by_short_row(const row_update *u, double *loss) { return update_by_row(u, loss, 1); }
static int update_by_long_row(const row_update *u, double *loss) { return update_by_row(u, loss, 0); }

#endif
