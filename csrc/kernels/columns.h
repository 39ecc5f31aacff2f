/* A block of rows through a network of narrow layers, one feature a line: value j of row r lies at j * stride + r. So vectors are
 * full however narrow the layers, and weights are broadcast from where they lie. Sums over rows are striped: row r goes to
 * lane r % STRIPE, whatever the level's vectors, and the lanes are folded in halves. */
#ifndef BP_COLUMNS_H
#define BP_COLUMNS_H

#include "network.h"

/* Whether a batch of n rows goes this way: a function of shapes alone, as sums follow it. */
ALWAYS_INLINE int by_columns(const bp_plan *plan, int64_t n) { return plan->is_narrow && n > 1; }

/* Where a block lies: columns of n rows, padding up to `stride`, which is whole stripes. */
typedef struct columns {
    const pass *pass;
    int64_t n, stride;
    real *memory; /* bp_workspace.columns */
    real *input, *target, *weight, *delta, *other;
} columns;

/* The output of a layer, and the mask of a dropout layer after it. */
ALWAYS_INLINE real *output_columns(const columns *c, int64_t layer)
{
    return c->memory + c->pass->plan->layers[layer].column_at * c->stride;
}

ALWAYS_INLINE const real *input_columns(const columns *c, int64_t layer)
{
    return layer ? output_columns(c, layer - 1) : c->input;
}

static columns place_columns(const pass *p, int64_t n)
{
    const bp_plan *plan = p->plan;
    columns c = {.pass = p, .n = n, .stride = n_parts(n, STRIPE) * STRIPE, .memory = p->workspace->columns};
    c.input = c.memory;
    c.target = c.memory + plan->target_column_at * c.stride;
    c.weight = c.target + plan->n_out * c.stride;
    c.delta = c.weight + c.stride;
    c.other = c.delta + plan->widest * c.stride;
    return c;
}

/* ---- Reading ----------------------------------------------------------------------------------------------------------- */

/* Padding like the last row: of zeros, a value on the way could overflow where no row's does, and infinity times zero is no
 * gradient. */
static void repeat_last(real *line, const columns *c)
{
    const real last = line[c->n - 1];
    for (int64_t r = c->n; r < c->stride; r++) line[r] = last;
}

/* Rows that lie as they are wanted are read there; others by way of `rows`, padded rows in the workspace. */
static void read_columns(real *to, const columns *c, const bp_array *array, const int64_t *order, int64_t first, real *rows,
                         int64_t rows_stride)
{
    const real *from = (const real *)(const void *)row_of(array, first);
    int64_t stride = array->row_stride / (int64_t)sizeof(real);
    if (order || !rows_in_place(array)) {
        read_rows(rows, rows_stride, array, order, first, c->n);
        from = rows;
        stride = rows_stride;
    }
    transpose(to, c->stride, from, stride, c->n, array->n_columns);
    for (int64_t j = 0; j < array->n_columns; j++) repeat_last(to + j * c->stride, c);
}

static bp_status read_target_columns(const columns *c, const bp_array *array, const int64_t *order, int64_t first)
{
    const bp_plan *plan = c->pass->plan;
    if (array->dtype != BP_INT64) {
        read_columns(c->target, c, array, order, first, c->pass->workspace->target, plan->target_stride);
        return BP_OK;
    }
    memset(c->target, 0, (size_t)(plan->n_out * c->stride) * sizeof(real));
    for (int64_t r = 0; r < c->n; r++) {
        const int64_t label = read_label(array, order ? order[r] : first + r, plan->n_out);
        if (label < 0) return BP_E_LABEL;
        c->target[label * c->stride + r] = 1;
    }
    return BP_OK;
}

static void read_weight_column(const columns *c, const bp_array *array, const int64_t *order, int64_t first)
{
    read_rows(c->weight, 1, array, order, first, c->n);
    for (int64_t r = c->n; r < c->stride; r++) c->weight[r] = 0;
}

/* ---- Products ---------------------------------------------------------------------------------------------------------- */

/* out[i] = initial[i] + sum over l of a[i * a_row + l * a_column] in[l], for i < m, l < k: columns all. */
typedef struct column_product {
    real *out;
    const real *initial; /* NULL: zeros */
    const real *a;
    int64_t a_row, a_column;
    const real *in;
    int64_t m, k, stride;
} column_product;

#define COLUMN_VECTORS 3

ALWAYS_INLINE void column_tile(const int rows, const int vectors, const column_product *p, int64_t i, int64_t r)
{
    vec sum[4][COLUMN_VECTORS];
    UNROLL
    for (int t = 0; t < rows; t++) {
        const vec initial = p->initial ? vset(p->initial[i + t]) : vset(0);
        UNROLL
        for (int v = 0; v < vectors; v++) sum[t][v] = initial;
    }
    /* copies, as a store of a vector may be to anything, and all of it would be read again */
    const int64_t a_row = p->a_row, a_column = p->a_column, stride = p->stride;
    const real *a = p->a + i * a_row, *in = p->in + r;
    real *out = p->out + i * stride + r;
    for (int64_t l = p->k; l > 0; l--, a += a_column, in += stride) {
        vec x[COLUMN_VECTORS];
        UNROLL
        for (int v = 0; v < vectors; v++) x[v] = vload(in + v * WIDTH);
        UNROLL
        for (int t = 0; t < rows; t++) {
            const vec scalar = vset(a[t * a_row]);
            UNROLL
            for (int v = 0; v < vectors; v++) sum[t][v] = vfma(scalar, x[v], sum[t][v]);
        }
    }
    UNROLL
    for (int t = 0; t < rows; t++) {
        UNROLL
        for (int v = 0; v < vectors; v++) vstore(out + v * WIDTH, sum[t][v]);
        out += stride;
    }
}

#define COLUMN_TILES(vectors)                                                                                                  \
    static void column_tiles_##vectors(const column_product *p, int64_t r)                                                     \
    {                                                                                                                          \
        int64_t i = 0;                                                                                                         \
        for (; i + 4 <= p->m; i += 4) column_tile(4, vectors, p, i, r);                                                        \
        if (p->m & 2) {                                                                                                        \
            column_tile(2, vectors, p, i, r);                                                                                  \
            i += 2;                                                                                                            \
        }                                                                                                                      \
        if (p->m & 1) column_tile(1, vectors, p, i, r);                                                                        \
    }
COLUMN_TILES(1)
COLUMN_TILES(2)
COLUMN_TILES(3)

static void column_multiply(const column_product *p)
{
    int64_t r = 0;
    for (; r + 3 * WIDTH <= p->stride; r += 3 * WIDTH) column_tiles_3(p, r);
    if (r + 2 * WIDTH <= p->stride) {
        column_tiles_2(p, r);
        r += 2 * WIDTH;
    }
    if (r < p->stride) column_tiles_1(p, r);
}

/* ---- Sums over rows ------------------------------------------------------------------------------------------------------ */

#if defined(BP_LEVEL_IS_avx512)
#define OUTER_ROWS 4
#define OUTER_COLUMNS 4
#elif defined(BP_LEVEL_IS_avx2)
#define OUTER_ROWS 2
#define OUTER_COLUMNS 3
#elif defined(BP_LEVEL_IS_neon)
#define OUTER_ROWS 2
#define OUTER_COLUMNS 2
#else
#define OUTER_ROWS 1
#define OUTER_COLUMNS 1
#endif

/* A number for the gradient: the first block's is stored, later ones are added. */
ALWAYS_INLINE void put_sum(real *to, real sum, int is_first) { *to = is_first ? sum : *to + sum; }

/* gradient[k][j] = sum over rows of x[k] delta[j], for k0 <= k < k0 + rows, j0 <= j < j0 + width; n_out numbers a row. */
ALWAYS_INLINE void outer_tile(const int rows, const int width, real *gradient, int64_t n_out, const real *x, const real *delta,
                              int64_t stride, int is_first)
{
    stripe sum[OUTER_ROWS][OUTER_COLUMNS];
    UNROLL
    for (int k = 0; k < rows; k++) {
        UNROLL
        for (int j = 0; j < width; j++) sum[k][j] = stripe_zero();
    }
    for (int64_t r = 0; r < stride; r += STRIPE) {
        UNROLL
        for (int part = 0; part < STRIPE_PARTS; part++) {
            const int64_t at = r + part * WIDTH;
            vec d[OUTER_COLUMNS];
            UNROLL
            for (int j = 0; j < width; j++) {
                d[j] = vload(delta + j * stride + at);
                IN_REGISTER(d[j]);
            }
            UNROLL
            for (int k = 0; k < rows; k++) {
                vec value = vload(x + k * stride + at);
                IN_REGISTER(value);
                UNROLL
                for (int j = 0; j < width; j++) sum[k][j].part[part] = vfma(value, d[j], sum[k][j].part[part]);
            }
        }
    }
    UNROLL
    for (int k = 0; k < rows; k++) {
        UNROLL
        for (int j = 0; j < width; j++) put_sum(gradient + k * n_out + j, stripe_sum(&sum[k][j]), is_first);
    }
}

/* The tiles of one band of columns. */
ALWAYS_INLINE void outer_band(const int width, real *gradient, int64_t n_in, int64_t n_out, const real *x, const real *delta,
                              int64_t stride, int is_first)
{
    int64_t k = 0;
    for (; k + OUTER_ROWS <= n_in; k += OUTER_ROWS)
        outer_tile(OUTER_ROWS, width, gradient + k * n_out, n_out, x + k * stride, delta, stride, is_first);
    for (; k < n_in; k++) outer_tile(1, width, gradient + k * n_out, n_out, x + k * stride, delta, stride, is_first);
}

static void column_outer(real *gradient, int64_t n_in, int64_t n_out, const real *x, const real *delta, int64_t stride,
                         int is_first)
{
    int64_t j = 0;
    for (; j + OUTER_COLUMNS <= n_out; j += OUTER_COLUMNS)
        outer_band(OUTER_COLUMNS, gradient + j, n_in, n_out, x, delta + j * stride, stride, is_first);
    for (; j < n_out; j++) outer_band(1, gradient + j, n_in, n_out, x, delta + j * stride, stride, is_first);
}

/* Several at a time, as each is a chain of additions. */
ALWAYS_INLINE void sums_of_columns(const int n, real *sums, const real *columns, int64_t stride, int is_first)
{
    stripe total[4];
    UNROLL
    for (int j = 0; j < n; j++) total[j] = stripe_zero();
    for (int64_t r = 0; r < stride; r += STRIPE) {
        UNROLL
        for (int part = 0; part < STRIPE_PARTS; part++) {
            UNROLL
            for (int j = 0; j < n; j++)
                total[j].part[part] = total[j].part[part] + vload(columns + j * stride + r + part * WIDTH);
        }
    }
    UNROLL
    for (int j = 0; j < n; j++) put_sum(sums + j, stripe_sum(&total[j]), is_first);
}

static void column_sums(real *sums, const real *columns, int64_t k, int64_t stride, int is_first)
{
    int64_t j = 0;
    for (; j + 4 <= k; j += 4) sums_of_columns(4, sums + j, columns + j * stride, stride, is_first);
    for (; j < k; j++) sums_of_columns(1, sums + j, columns + j * stride, stride, is_first);
}

/* ---- Passes ---------------------------------------------------------------------------------------------------------------- */

static void drop_columns(const columns *c, int64_t index, const real *in, real *out)
{
    const bp_layer *layer = &c->pass->plan->layers[index];
    const int64_t size = layer->n_out * c->stride;
    if (!c->pass->training) {
        memcpy(out, in, (size_t)size * sizeof(real));
        return;
    }
    real *mask = out + size;
    const uint64_t key = dropout_layer_key(c->pass->dropout_key, index);
    for (int64_t j = 0; j < layer->n_out; j++) {
        dropout_fill(mask + j * c->stride, key, (uint64_t)(c->pass->first_row * layer->n_out + j), (uint64_t)layer->n_out,
                     layer->parameter, c->n);
        repeat_last(mask + j * c->stride, c);
    }
    for (int64_t i = 0; i < size; i++) out[i] = in[i] * mask[i];
}

static void forward_columns(const columns *c)
{
    const bp_plan *plan = c->pass->plan;
    for (int64_t i = 0; i < plan->loss_layers; i++) {
        const bp_layer *layer = &plan->layers[i];
        const real *in = input_columns(c, i);
        real *out = output_columns(c, i);
        if (layer->kind == BP_LAYER_DENSE) {
            const column_product p = {out,
                                      bias_of(layer, c->pass->parameters),
                                      c->pass->parameters + layer->weight_at,
                                      1,
                                      layer->n_out,
                                      in,
                                      layer->n_out,
                                      layer->n_in,
                                      c->stride};
            column_multiply(&p);
        } else if (layer->kind == BP_LAYER_ACTIVATION) {
            activation_forwards[layer->activation](out, in, layer->n_out * c->stride, (real)layer->parameter);
        } else {
            drop_columns(c, i, in, out);
        }
    }
}

/* From the gradient in c->delta at the output of a layer to that at its input, there too. */
static void descend_columns(columns *c, int64_t index)
{
    const bp_layer *layer = &c->pass->plan->layers[index];
    const real *out = output_columns(c, index);
    const int64_t size = layer->n_out * c->stride;
    if (layer->kind == BP_LAYER_ACTIVATION) {
        activation_backwards[layer->activation](c->delta, c->delta, input_columns(c, index), out, size, (real)layer->parameter);
    } else if (layer->kind == BP_LAYER_DROPOUT) {
        for (int64_t e = 0; c->pass->training && e < size; e++) c->delta[e] *= out[size + e];
    } else {
        const column_product p = {
            c->other,     NULL,     c->pass->parameters + layer->weight_at, layer->n_out, 1, c->delta, layer->n_in,
            layer->n_out, c->stride};
        column_multiply(&p);
        real *swapped = c->delta;
        c->delta = c->other;
        c->other = swapped;
    }
}

/* From the gradient in c->delta at the output of the last layer; it ends at the input of the first if that is wanted, and is then in
 * c->delta again. */
static void backward_columns(columns *c, real *gradients, int is_first, int input_gradient)
{
    const bp_plan *plan = c->pass->plan;
    const int64_t lowest = input_gradient ? 0 : plan->first_dense;
    for (int64_t i = plan->loss_layers - 1; i >= lowest; i--) {
        const bp_layer *layer = &plan->layers[i];
        if (layer->kind == BP_LAYER_DENSE) {
            const real *in = input_columns(c, i);
            column_outer(gradients + layer->weight_at, layer->n_in, layer->n_out, in, c->delta, c->stride, is_first);
            if (layer->has_bias) column_sums(gradients + layer->bias_at, c->delta, layer->n_out, c->stride, is_first);
            if (i == lowest && !input_gradient) return;
        }
        descend_columns(c, i);
    }
}

/* Reads a block, unless it is there from the last update. */
static bp_status hold_columns(const columns *c, const bp_dataset *data, const int64_t *order, int64_t first)
{
    bp_workspace *w = c->pass->workspace;
    const int holds = w->holds_columns && !order;
    if (holds && w->held == data && w->held_first == first && w->held_n == c->n) return BP_OK;
    w->held = NULL;
    read_columns(c->input, c, &data->x, order, first, w->input, c->pass->plan->layers[0].in_stride);
    const bp_status status = read_target_columns(c, &data->target, order, first);
    if (status != BP_OK) return status;
    if (data->weight.data) read_weight_column(c, &data->weight, order, first);
    w->held = holds ? data : NULL;
    w->held_first = first;
    w->held_n = c->n;
    return BP_OK;
}

/* The rows first..first + n of a batch: the sum of weight times loss. Unless gradient_scale is NULL, the gradient of that times
 * the scale is stored in `gradients` by the first block and added by later ones, and c->delta is that at the input if it is wanted. */
static bp_status column_block(columns *c, const bp_dataset *data, const int64_t *order, int64_t first, double *value,
                              const double *gradient_scale, real *gradients, int is_first, int input_gradient)
{
    const bp_plan *plan = c->pass->plan;
    const bp_status status = hold_columns(c, data, order, first);
    if (status != BP_OK) return status;
    forward_columns(c);
    const loss_columns loss = {.gradient = gradient_scale ? c->delta : NULL,
                               .prediction = input_columns(c, plan->loss_layers),
                               .target = c->target,
                               .weight = data->weight.data ? c->weight : NULL,
                               .n = c->n,
                               .k = plan->n_out,
                               .stride = c->stride,
                               .gradient_scale = gradient_scale ? (real)*gradient_scale : 0,
                               .parameter = (real)plan->loss.parameter};
    *value = loss_table[plan->loss_on].columns(&loss);
    if (gradient_scale) backward_columns(c, gradients, is_first, input_gradient);
    return BP_OK;
}

#endif
