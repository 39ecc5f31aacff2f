/* Training one row at a time, for narrow layers. For as long as it lasts the weights lie in rows padded to whole stripes, with
 * a transposed copy of each, so that every product is a few broadcasts and multiply-adds of whole vectors, and what is stored
 * is read back as it was written. The same operations on each number as in network.h, so the same bits. */
#ifndef BP_ROWS_H
#define BP_ROWS_H

#include "../plan.h"
#include "activations.h"
#include "data.h"
#include "gemm.h"
#include "losses.h"

/* A stage of bp_plan.stages where its numbers lie. Values are rows of n_out, padded. */
typedef struct row_stage {
    const real *in;
    real *weight, *bias, *transposed; /* bias: NULL where there is none */
    real *before, *after, *delta;     /* the activation, and the gradient before it */
    int64_t n_in, n_out, in_stride, out_stride;
    bp_activation activation;
    real parameter;
} row_stage;

/* What an update by plain SGD needs. */
typedef struct row_update {
    row_stage stage[BP_MOST_STAGES];
    int64_t n_stages;
    const real *target;
    bp_loss loss;
    real loss_parameter, scale; /* scale: of the loss */
    real step;                  /* minus the learning rate */
} row_update;

static void place_rows(row_update *u, const bp_plan *plan, real *memory)
{
    u->n_stages = plan->n_stages;
    u->loss = plan->loss_on;
    u->loss_parameter = (real)plan->loss.parameter;
    for (int64_t i = 0; i < plan->n_stages; i++) {
        const bp_stage *from = &plan->stages[i];
        row_stage *s = &u->stage[i];
        s->in = i ? u->stage[i - 1].after : NULL; /* of the first: the present row of the data */
        s->weight = memory + from->rows_at;
        s->bias = from->bias_at < 0 ? NULL : s->weight + from->n_in * from->out_stride;
        s->transposed = memory + from->transposed_at;
        s->before = memory + from->value_at;
        s->after = s->before + from->out_stride;
        s->delta = s->after + from->out_stride;
        s->n_in = from->n_in;
        s->n_out = from->n_out;
        s->in_stride = from->in_stride;
        s->out_stride = from->out_stride;
        s->activation = from->activation;
        s->parameter = (real)from->parameter;
    }
}

/* ---- Between the array of parameters and padded rows ------------------------------------------------------------------- */

static void load_rows(const bp_plan *plan, real *memory, const real *parameters)
{
    for (int64_t i = 0; i < plan->n_stages; i++) {
        const bp_stage *s = &plan->stages[i];
        const real *weight = parameters + s->weight_at;
        real *rows = memory + s->rows_at, *bias = rows + s->n_in * s->out_stride;
        copy_columns(rows, s->out_stride, weight, s->n_out, s->n_in, s->n_out);
        if (s->bias_at >= 0) memcpy(bias, parameters + s->bias_at, (size_t)s->n_out * sizeof(real));
        transpose(memory + s->transposed_at, s->in_stride, weight, s->n_out, s->n_in, s->n_out);
    }
}

static void store_rows(const bp_plan *plan, const real *memory, real *parameters)
{
    for (int64_t i = 0; i < plan->n_stages; i++) {
        const bp_stage *s = &plan->stages[i];
        real *weight = parameters + s->weight_at;
        const real *rows = memory + s->rows_at, *bias = rows + s->n_in * s->out_stride;
        copy_columns(weight, s->n_out, rows, s->out_stride, s->n_in, s->n_out);
        if (s->bias_at >= 0) memcpy(parameters + s->bias_at, bias, (size_t)s->n_out * sizeof(real));
    }
}

/* ---- Vectors of a row, `count` of them from element `at` on ------------------------------------------------------------ */

/* call(at, count) for all vectors of a row. */
#define IN_GROUPS(width, call)                                                                                                 \
    do {                                                                                                                       \
        int64_t at_ = 0, left_ = n_parts(width, WIDTH);                                                                        \
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
    for (const real *end = in + n; in < end; in++, rows += stride) {
        UNROLL
        for (int v = 0; v < count; v++) sum[v] = vfma(vset(*in), vload(rows + v * WIDTH), sum[v]);
    }
}

/* The same for rows of one vector, which are a stripe apart, from the vector of what goes in: a lane is nearer than a load of what
 * was just stored. Unrolled: the loop would cost as much as what it does. */
ALWAYS_INLINE vec combine_lanes(vec sum, vec in, int64_t n, const real *rows)
{
    UNROLL
    for (int k = 0; k < WIDTH; k++) {
        if (k >= n) break;
        sum = vfma(vlane(in, k), vload(rows + k * STRIPE), sum);
    }
    return sum;
}

/* rows[k] = rows[k] + step (factor[k] row), for k < n: the gradient is rounded before it is used, as everywhere. `width` counts
 * what is left of the row, so that padding stays zero. */
ALWAYS_INLINE void add_outer(real *rows, int64_t stride, const real *factor, int64_t n, const real *row, int64_t width,
                             const int count, vec step)
{
    const vec zero = vset(0);
    vec part_of_row[4];
    UNROLL
    for (int v = 0; v < count; v++) part_of_row[v] = vkeep(vload(row + v * WIDTH), vpart_of(v * WIDTH, width));
    for (const real *end = factor + n; factor < end; factor++, rows += stride) {
        UNROLL
        for (int v = 0; v < count; v++)
            vstore(rows + v * WIDTH, vfma(step, vfma(vset(*factor), part_of_row[v], zero), vload(rows + v * WIDTH)));
    }
}

/* The same for rows of one vector, `row` without padding. */
ALWAYS_INLINE void add_lanes(real *rows, const real *factor, int64_t n, vec row, vec step)
{
    UNROLL
    for (int k = 0; k < WIDTH; k++) {
        if (k >= n) break;
        vstore(rows + k * STRIPE, vfma(step, vfma(vset(factor[k]), row, vset(0)), vload(rows + k * STRIPE)));
    }
}

/* A stage before its activation, and what comes down from a stage; the activations follow in forward_stage, backward_stage. */
ALWAYS_INLINE void forward_vectors(const row_stage *s, int64_t at, const int count)
{
    vec sum[4];
    combine(sum, count, s->weight + s->n_in * s->out_stride + at, s->in, s->n_in, s->weight + at, s->out_stride);
    UNROLL
    for (int v = 0; v < count; v++) vstore(s->before + at + v * WIDTH, sum[v]);
}

ALWAYS_INLINE void backward_vectors(const row_stage *s, int64_t at, const int count)
{
    real *delta = s[-1].delta + at;
    vec sum[4];
    combine(sum, count, NULL, s->delta, s->n_out, s->transposed + at, s->in_stride);
    UNROLL
    for (int v = 0; v < count; v++) vstore(delta + v * WIDTH, sum[v]);
}

/* From the gradient at the output of a stage to that before its activation. */
ALWAYS_INLINE vec through_activation(const row_stage *s, int64_t at, vec slope)
{
    return slope * activation_df(s->activation, vload(s->before + at), vload(s->after + at), vset(s->parameter));
}

ALWAYS_INLINE void forward_stage(const row_stage *s, vec *carried, const int single)
{
#define FORWARD(at, count) forward_vectors(s, at, count)
    if (single) {
        const vec sum = combine_lanes(vload(s->weight + s->n_in * STRIPE), *carried, s->n_in, s->weight);
        *carried = activation_f(s->activation, sum, vset(s->parameter));
        vstore(s->before, sum);
        vstore(s->after, *carried);
        return;
    }
    IN_GROUPS(s->n_out, FORWARD);
    activation_forwards[s->activation](s->after, s->before, s->out_stride, s->parameter);
}

ALWAYS_INLINE void backward_stage(const row_stage *s, vec *carried, const int single)
{
    const row_stage *below = s - 1;
#define BACKWARD(at, count) backward_vectors(s, at, count)
    if (single) {
        const vec sum = combine_lanes(vset(0), *carried, s->n_out, s->transposed);
        *carried = through_activation(below, 0, sum);
        vstore(below->delta, *carried);
        return;
    }
    IN_GROUPS(s->n_in, BACKWARD);
    activation_backwards[below->activation](below->delta, below->delta, below->before, below->after, below->out_stride,
                                            below->parameter);
}

/* ---- A row ----------------------------------------------------------------------------------------------------------------- */

static double row_loss_by_call(const row_update *u, const row_stage *s)
{
    const loss_rows rows = {s->delta,      s->after,         u->target,        NULL, 1, s->n_out,
                            s->out_stride, (double)u->scale, u->loss_parameter};
    const double value = loss_table[u->loss].rows(&rows);
    for (int64_t j = 0; j < s->n_out; j += WIDTH) vstore(s->delta + j, through_activation(s, j, vload(s->delta + j)));
    return value;
}

/* The loss before scaling; its gradient goes to the last stage's delta. */
ALWAYS_INLINE double row_loss(const row_update *u, vec *carried, const int single)
{
    const row_stage *s = &u->stage[u->n_stages - 1];
    if (!loss_table[u->loss].by_element) {
        const double value = row_loss_by_call(u, s);
        *carried = vload(s->delta);
        return value;
    }
    const vec parameter = vset(u->loss_parameter), scale = vset(u->scale);
    stripe total = stripe_zero();
    for (int64_t j = 0; single ? j < 1 : j < s->n_out; j += WIDTH) {
        const part rest = vpart_of(j, s->n_out);
        const vec p = single ? *carried : vload(s->after + j), t = vload_part(u->target + j, rest);
        LANES(&total, j) = LANES(&total, j) + vkeep(loss_f(u->loss, p, t, parameter), rest);
        const vec slope = vkeep(scale * loss_df(u->loss, p, t, parameter), rest);
        *carried = slope * activation_df(s->activation, vload(s->before + j), p, vset(s->parameter));
        vstore(s->delta + j, *carried);
    }
    return (double)stripe_sum(&total);
}

/* Squares below this keep every product of two factors, and the sums of many steps, far from the ends of the reals. */
#define MODEST_SQUARE (BP_REAL_BITS == 64 ? 0x1p400 : 0x1p40)

/* Whether all that a gradient of this row is made of is far from the ends of the reals. */
ALWAYS_INLINE int row_is_modest(const row_update *u, const int single)
{
    vec squares = vset(0);
    const real *x = u->stage[0].in;
    const int64_t n_in = u->stage[0].n_in;
    for (int64_t j = 0; single ? j < 1 : j < n_in; j += WIDTH) {
        const vec value = vload_part(x + j, vpart_of(j, n_in));
        squares = vfma(value, value, squares);
    }
    for (const row_stage *s = u->stage; s < u->stage + u->n_stages; s++) {
        for (int64_t j = 0; single ? j < 1 : j < s->n_out; j += WIDTH) {
            const vec y = vload(s->after + j), delta = vload(s->delta + j);
            squares = vfma(delta, delta, vfma(y, y, squares));
        }
    }
    return vall(vless(squares, vset((real)MODEST_SQUARE)));
}

/* `delta` is that of the stage where rows are of one vector. */
ALWAYS_INLINE void update_stage(const row_stage *s, vec delta, int has_transposed, vec step, const int single)
{
    static const real one = 1;
#define UPDATE_BIAS(at, count) add_outer(s->bias + (at), 0, &one, 1, s->delta + (at), s->n_out - (at), count, step)
#define UPDATE_WEIGHT(at, count)                                                                                               \
    add_outer(s->weight + (at), s->out_stride, s->in, s->n_in, s->delta + (at), s->n_out - (at), count, step)
#define UPDATE_TRANSPOSED(at, count)                                                                                           \
    add_outer(s->transposed + (at), s->in_stride, s->delta, s->n_out, s->in + (at), s->n_in - (at), count, step)
    if (single) {
        delta = vkeep(delta, vpart(s->n_out));
        if (s->bias) add_lanes(s->bias, &one, 1, delta, step);
        add_lanes(s->weight, s->in, s->n_in, delta, step);
        if (has_transposed) add_lanes(s->transposed, s->delta, s->n_out, vkeep(vload(s->in), vpart(s->n_in)), step);
        return;
    }
    if (s->bias) IN_GROUPS(s->n_out, UPDATE_BIAS);
    IN_GROUPS(s->n_out, UPDATE_WEIGHT);
    if (has_transposed) IN_GROUPS(s->n_in, UPDATE_TRANSPOSED);
}

/* One update; *loss is that of the row before scaling. Returns 0, and nothing has changed, where numbers are not modest. */
ALWAYS_INLINE int update_by_row(const row_update *u, double *loss, const int single)
{
    const row_stage *const first = u->stage, *const end = first + u->n_stages;
    const vec step = vset(u->step);
    vec carried = vload_part(first->in, vpart_of(0, first->n_in)); /* of one vector: from stage to stage */
    for (const row_stage *s = first; s < end; s++) forward_stage(s, &carried, single);
    *loss = row_loss(u, &carried, single);
    for (const row_stage *s = end - 1; s > first; s--) backward_stage(s, &carried, single);
    if (!row_is_modest(u, single) || !isfinite(*loss * (double)u->scale)) return 0;
    update_stage(first, carried, 0, step, single); /* first, as the next row waits for it */
    for (const row_stage *s = first + 1; s < end; s++) update_stage(s, vload(s->delta), 1, step, single);
    return 1;
}

static int update_by_short_row(const row_update *u, double *loss) { return update_by_row(u, loss, 1); }
static int update_by_long_row(const row_update *u, double *loss) { return update_by_row(u, loss, 0); }

#endif
