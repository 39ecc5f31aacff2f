/* Forward, backward and inference over a plan, a block of rows at a time. */
#ifndef BP_NETWORK_H
#define BP_NETWORK_H

#include "../plan.h"
#include "activations.h"
#include "data.h"
#include "dense.h"
#include "losses.h"
#include "random.h"

ALWAYS_INLINE dense_shape shape_of(const bp_layer *layer, int64_t n)
{
    const dense_shape shape = {n, layer->n_in, layer->n_out, layer->in_stride, layer->out_stride};
    return shape;
}

ALWAYS_INLINE const real *bias_of(const bp_layer *layer, const real *parameters)
{
    return layer->has_bias ? parameters + layer->bias_at : NULL;
}

/* A mask for rows first_row...: independent of how the batch is cut into blocks. */
static void fill_masks(real *mask, const bp_layer *layer, uint64_t key, int64_t index, int64_t first_row, int64_t n)
{
    const uint64_t layer_key = dropout_layer_key(key, index);
    for (int64_t r = 0; r < n; r++)
        dropout_fill(mask + r * layer->out_stride, layer_key, (uint64_t)((first_row + r) * layer->n_out), 1, layer->parameter,
                     layer->n_out);
}

typedef struct pass {
    const bp_plan *plan;
    bp_workspace *workspace;
    const real *parameters;
    int training; /* dropout acts */
    uint64_t dropout_key;
    int64_t first_row; /* of the block in its batch, for dropout */
} pass;

/* One layer on n rows: from `in` to workspace->outputs[index]; returns where the result is. */
static const real *forward_layer(const pass *p, int64_t index, const real *in, int64_t in_stride, int64_t n)
{
    const bp_layer *layer = &p->plan->layers[index];
    real *out = p->workspace->outputs[index];
    const dense_shape shape = shape_of(layer, n);
    switch (layer->kind) {
        case BP_LAYER_DENSE:
            dense_forward(out, in, in_stride, p->parameters + layer->weight_at, bias_of(layer, p->parameters), &shape);
            return out;
        case BP_LAYER_ACTIVATION:
            activation_forwards[layer->activation](out, in, n * layer->out_stride, (real)layer->parameter);
            return out;
        case BP_LAYER_SOFTMAX:
            for (int64_t r = 0; r < n; r++) softmax_row(out + r * layer->out_stride, in + r * layer->out_stride, layer->n_out);
            return out;
        case BP_LAYER_DROPOUT: break;
    }
    if (!p->training) return in;
    real *mask = p->workspace->masks[index];
    fill_masks(mask, layer, p->dropout_key, index, p->first_row, n);
    for (int64_t i = 0; i < n * layer->out_stride; i++) out[i] = in[i] * mask[i];
    return out;
}

/* The first n_layers layers on n rows; what went into each stays in workspace->values. */
static const real *forward_block(const pass *p, const real *x, int64_t x_stride, int64_t n, int64_t n_layers)
{
    bp_workspace *w = p->workspace;
    w->values[0] = x;
    w->value_stride = x_stride;
    for (int64_t i = 0; i < n_layers; i++)
        w->values[i + 1] = forward_layer(p, i, w->values[i], i == 0 ? x_stride : p->plan->layers[i].in_stride, n);
    return w->values[n_layers];
}

/* Transposes for the backward pass; the parameters must not change before it. */
static void transpose_weights(const bp_plan *plan, bp_workspace *w, const real *parameters, int input_gradient)
{
    for (int64_t i = 0; i < plan->n_layers; i++) {
        const bp_layer *layer = &plan->layers[i];
        if (layer->kind != BP_LAYER_DENSE || (i == plan->first_dense && !input_gradient)) continue;
        transpose(w->transposed[i], layer->in_stride, parameters + layer->weight_at, layer->n_out, layer->n_in, layer->n_out);
    }
}

static void backward_elementwise(const pass *p, int64_t index, real *delta, int64_t n)
{
    const bp_layer *layer = &p->plan->layers[index];
    const bp_workspace *w = p->workspace;
    const int64_t stride = layer->out_stride;
    switch (layer->kind) {
        case BP_LAYER_ACTIVATION:
            activation_backwards[layer->activation](delta, delta, w->values[index], w->values[index + 1], n * stride,
                                                    (real)layer->parameter);
            return;
        case BP_LAYER_SOFTMAX:
            for (int64_t r = 0; r < n; r++)
                softmax_backward_row(delta + r * stride, delta + r * stride, (const real *)w->values[index + 1] + r * stride,
                                     layer->n_out);
            return;
        case BP_LAYER_DROPOUT:
            if (!p->training) return;
            for (int64_t i = 0; i < n * stride; i++) delta[i] *= ((const real *)w->masks[index])[i];
            return;
        case BP_LAYER_DENSE: return;
    }
}

/* After forward_block(): from delta, the gradient at the output of layer n_layers - 1 (in workspace->scratch[0]), the
 * gradients of the parameters. Returns the gradient at the input, or NULL unless it is wanted. */
static const real *backward_block(const pass *p, real *gradients, int64_t n, int64_t n_layers, int input_gradient)
{
    bp_workspace *w = p->workspace;
    real *delta = w->scratch[0], *other = w->scratch[1];
    const int64_t lowest = input_gradient ? 0 : p->plan->first_dense;
    for (int64_t i = n_layers - 1; i >= lowest; i--) {
        const bp_layer *layer = &p->plan->layers[i];
        if (layer->kind != BP_LAYER_DENSE) {
            backward_elementwise(p, i, delta, n);
            continue;
        }
        const dense_shape shape = shape_of(layer, n);
        dense_backward_weight(gradients + layer->weight_at, layer->has_bias ? gradients + layer->bias_at : NULL, delta,
                              w->values[i], i == 0 ? w->value_stride : layer->in_stride, &shape);
        if (i == lowest && !input_gradient) break;
        dense_backward_input(other, delta, w->transposed[i], &shape);
        real *swapped = delta;
        delta = other;
        other = swapped;
    }
    return input_gradient ? delta : NULL;
}

/* Rows of x for a block: where they lie if a dense layer can read them there, else copied into the workspace. */
static const real *input_block(const bp_plan *plan, bp_workspace *w, const bp_array *x, const int64_t *order, int64_t first,
                               int64_t n, int64_t *stride)
{
    if (!order && plan->first_dense == 0 && rows_in_place(x)) {
        *stride = x->row_stride / (int64_t)sizeof(real);
        return (const real *)(const void *)row_of(x, first);
    }
    *stride = plan->layers[0].in_stride;
    read_rows(w->input, *stride, x, order, first, n);
    return w->input;
}

static void copy_columns(real *to, int64_t to_stride, const real *from, int64_t from_stride, int64_t n, int64_t k)
{
    for (int64_t r = 0; r < n; r++) memcpy(to + r * to_stride, from + r * from_stride, (size_t)k * sizeof(real));
}

static void predict(const bp_plan *plan, bp_workspace *w, real *y, const real *parameters, const bp_array *x)
{
    const pass p = {plan, w, parameters, 0, 0, 0};
    for (int64_t first = 0; first < x->n_rows; first += w->n_rows) {
        const int64_t n = x->n_rows - first < w->n_rows ? x->n_rows - first : w->n_rows;
        int64_t stride;
        const real *in = input_block(plan, w, x, NULL, first, n, &stride);
        const real *out = forward_block(&p, in, stride, n, plan->n_layers);
        copy_columns(y + first * plan->n_out, plan->n_out, out, plan->target_stride, n, plan->n_out);
    }
}

static void forward(const bp_plan *plan, bp_workspace *w, real *y, const real *parameters, const bp_array *x, int training,
                    uint64_t dropout_key)
{
    const pass p = {plan, w, parameters, training, dropout_key, 0};
    const int64_t stride = plan->layers[0].in_stride;
    read_rows(w->input, stride, x, NULL, 0, x->n_rows); /* a copy: x may be gone by the time of backward() */
    const real *out = forward_block(&p, w->input, stride, x->n_rows, plan->n_layers);
    w->kept_training = training;
    copy_columns(y, plan->n_out, out, plan->target_stride, x->n_rows, plan->n_out);
}

#endif
