/* What a Gauss-Newton step needs: with J the derivatives of a row's outputs by the parameters, e the outputs minus their targets
 * and w the row's weight, the sums over rows of w J^T J and w J^T e. J and e are multiplied by sqrt(w) on the way. */
#ifndef BP_CURVATURE_H
#define BP_CURVATURE_H

#include "columns.h"
#include "jacobian.h"

typedef struct curvature {
    const pass *pass;
    const bp_dataset *data;
    real *matrix, *gradient; /* [n_parameters][n_parameters], of which the lower half is summed, and [n_parameters] */
    real *jacobian;          /* room for n_out padded rows of parameters for each row of a block */
    int is_first;            /* of the blocks: sums are stored, not added */
} curvature;

static void take_roots(real *weights, int64_t n)
{
    for (int64_t r = 0; r < n; r++) weights[r] = (real)sqrt((double)weights[r]);
}

/* ---- Rows ---------------------------------------------------------------------------------------------------------------- */

/* The gradient of one dense layer for row r alone, x^T dy. */
static void row_gradient(const pass *p, int64_t index, real *gradient, int64_t r)
{
    const bp_layer *layer = &p->plan->layers[index];
    const real *x = (const real *)p->workspace->values[index] + r * value_stride(p, index);
    const real *dy = (const real *)p->workspace->deltas[index] + r * layer->out_stride;
    for (int64_t j = 0; j < layer->n_out; j += WIDTH) {
        const part rest = vpart_of(j, layer->n_out);
        const vec slope = vload_part(dy + j, rest);
        for (int64_t i = 0; i < layer->n_in; i++)
            vstore_part(gradient + layer->weight_at + i * layer->n_out + j, vset(x[i]) * slope, rest);
        if (layer->has_bias) vstore_part(gradient + layer->bias_at + j, slope, rest);
    }
}

/* J of one output, for n rows. */
static void jacobian_of_output(const curvature *c, int64_t output, const real *roots, int64_t n)
{
    const bp_plan *plan = c->pass->plan;
    set_unit_deltas(c->pass, output, roots, n);
    backward_deltas(c->pass, n, plan->n_layers, 0);
    for (int64_t i = plan->first_dense; i < plan->n_layers; i++) {
        if (plan->layers[i].kind != BP_LAYER_DENSE) continue;
        for (int64_t r = 0; r < n; r++)
            row_gradient(c->pass, i, c->jacobian + (r * plan->n_out + output) * plan->n_parameters, r);
    }
}

/* Rows of the matrix at a time. */
#define CURVATURE_ROWS 96

/* The products of the rows of J, n_out a row, with themselves and with the errors. */
static void add_rows(const curvature *c, const real *errors, int64_t n)
{
    const int64_t size = c->pass->plan->n_parameters, k = n * c->pass->plan->n_out;
    product p = {.c_stride = size, .b = c->jacobian, .b_row = size, .b_column = 1, .k = k, .mode = c->is_first ? STORE : ADD};
    p.a_row = 1;
    p.a_column = size;
    for (int64_t i = 0; i < size; i += CURVATURE_ROWS) {
        p.m = at_most(CURVATURE_ROWS, size - i);
        p.n = i + p.m; /* and perhaps some more of the upper half */
        p.c = c->matrix + i * size;
        p.a = c->jacobian + i;
        multiply(&p);
    }
    p.a = errors;
    p.a_row = k;
    p.a_column = 1;
    p.c = c->gradient;
    p.m = 1;
    p.n = size;
    multiply(&p);
}

static bp_status curvature_rows(const curvature *c, int64_t first, int64_t n)
{
    const bp_plan *plan = c->pass->plan;
    bp_workspace *w = c->pass->workspace;
    const int64_t *order = c->data->rows ? c->data->rows + first : NULL;
    int64_t stride;
    const real *x = input_block(plan, w, &c->data->x, order, first, n, &stride);
    const bp_status status = read_targets(w->target, plan->target_stride, &c->data->target, order, first, n, plan->n_out);
    if (status != BP_OK) return status;
    real *roots = c->data->weight.data ? w->weight : NULL, *errors = w->target;
    if (roots) {
        read_rows(roots, 1, &c->data->weight, order, first, n);
        take_roots(roots, n);
    }
    const real *y = forward_block(c->pass, x, stride, n, plan->n_layers);
    for (int64_t r = 0; r < n; r++)
        for (int64_t j = 0; j < plan->n_out; j++) {
            const int64_t at = r * plan->target_stride + j;
            errors[r * plan->n_out + j] = (y[at] - errors[at]) * (roots ? roots[r] : 1);
        }
    for (int64_t k = 0; k < plan->n_out; k++) jacobian_of_output(c, k, roots, n);
    add_rows(c, errors, n);
    return BP_OK;
}

/* ---- Columns ------------------------------------------------------------------------------------------------------------- */

/* The lines of one dense layer's part of J: column i * n_out + j of its weight is x[i] delta[j]. */
static void column_gradients(const columns *c, const bp_layer *layer, const real *in, real *lines)
{
    const int64_t stride = c->stride;
    real *line = lines + layer->weight_at * stride;
    for (int64_t i = 0; i < layer->n_in; i++)
        for (int64_t j = 0; j < layer->n_out; j++, line += stride)
            for (int64_t r = 0; r < stride; r += WIDTH)
                vstore(line + r, vload(in + i * stride + r) * vload(c->delta + j * stride + r));
    if (layer->has_bias) memcpy(lines + layer->bias_at * stride, c->delta, (size_t)(layer->n_out * stride) * sizeof(real));
}

/* J of one output, one parameter a line. */
static void jacobian_columns(columns *c, int64_t output, const real *roots, real *lines)
{
    const bp_plan *plan = c->pass->plan;
    memset(c->delta, 0, (size_t)(plan->n_out * c->stride) * sizeof(real));
    for (int64_t r = 0; r < c->n; r++) c->delta[output * c->stride + r] = roots ? roots[r] : 1;
    for (int64_t i = plan->loss_layers - 1; i >= plan->first_dense; i--) {
        const bp_layer *layer = &plan->layers[i];
        if (layer->kind == BP_LAYER_DENSE) column_gradients(c, layer, input_columns(c, i), lines);
        if (i > plan->first_dense) descend_columns(c, i);
    }
}

/* The products of the lines of J with themselves and with one output's errors. */
static void add_columns(const curvature *all, const columns *c, const real *errors, int is_first)
{
    const int64_t size = c->pass->plan->n_parameters;
    const real *lines = all->jacobian;
    int64_t j = 0;
    for (; j + OUTER_COLUMNS <= size; j += OUTER_COLUMNS)
        outer_band(OUTER_COLUMNS, all->matrix + j * (size + 1), size - j, size, lines + j * c->stride, lines + j * c->stride,
                   c->stride, is_first);
    for (; j < size; j++)
        outer_band(1, all->matrix + j * (size + 1), size - j, size, lines + j * c->stride, lines + j * c->stride, c->stride,
                   is_first);
    column_outer(all->gradient, size, 1, lines, errors, c->stride, is_first);
}

static bp_status curvature_columns(const curvature *all, int64_t first, int64_t n)
{
    columns c = place_columns(all->pass, n);
    const bp_dataset *data = all->data;
    const bp_status status = hold_columns(&c, data, data->rows ? data->rows + first : NULL, first);
    if (status != BP_OK) return status;
    const int64_t n_out = c.pass->plan->n_out;
    real *roots = data->weight.data ? c.weight : NULL;
    if (roots) take_roots(roots, n);
    forward_columns(&c);
    const real *y = input_columns(&c, c.pass->plan->loss_layers);
    for (int64_t k = 0; k < n_out; k++) {
        real *errors = c.target + k * c.stride;
        for (int64_t r = 0; r < c.stride; r++)
            errors[r] = (y[k * c.stride + r] - errors[r]) * (roots ? roots[r] : 1); /* padding meets zeros of J */
        jacobian_columns(&c, k, roots, all->jacobian);
        add_columns(all, &c, errors, all->is_first && k == 0);
    }
    return BP_OK;
}

/* ---- All ----------------------------------------------------------------------------------------------------------------- */

static bp_status gauss_newton(const bp_plan *plan, bp_workspace *w, real *matrix, real *gradient, real *jacobian, int64_t rows,
                              const real *parameters, const bp_dataset *data)
{
    const int64_t size = plan->n_parameters, block = at_most(rows, w->n_rows);
    if (w->kind != BP_FOR_TRAINING || block < 1 || plan->loss_layers < plan->n_layers) return BP_E_ARGUMENT;
    const pass p = {plan, w, parameters, 0, 0, 0, NULL};
    prepare_transposes(plan, w, parameters, 0, data->n_rows * plan->n_out);
    for (int64_t first = 0; first < data->n_rows; first += block) {
        const curvature c = {&p, data, matrix, gradient, jacobian, first == 0};
        const int64_t n = at_most(block, data->n_rows - first);
        const bp_status status = plan->is_narrow ? curvature_columns(&c, first, n) : curvature_rows(&c, first, n);
        if (status != BP_OK) return status;
    }
    for (int64_t i = 0; i < size; i++)
        for (int64_t j = 0; j < i; j++) matrix[j * size + i] = matrix[i * size + j];
    return BP_OK;
}

#endif
