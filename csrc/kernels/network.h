/* Forward, backward and inference over a plan, a block of rows at a time. */
#ifndef BP_NETWORK_H
#define BP_NETWORK_H

#include "../plan.h"
#include "../pool.h"
#include "activations.h"
#include "data.h"
#include "dense.h"
#include "guard.h"
#include "losses.h"
#include "random.h"

/* Seconds between two questions whether to give up. */
#define POLL_INTERVAL 0.05

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

/* Rows a block of a batch of n: blocks of nearly the same size, as a small one costs as much reading of weights as a large one. */
static int64_t even_rows(const bp_workspace *w, int64_t n)
{
    const int64_t blocks = n_parts(n, w->n_rows);
    return blocks > 1 ? at_most(n_parts(n_parts(n, blocks), 16) * 16, w->n_rows) : w->n_rows;
}

/* Whom to ask, every now and then, whether to give the present batch up. */
typedef struct watch {
    int (*poll)(void *);
    void *context;
    double next; /* when bp_clock() is there */
} watch;

typedef struct pass {
    const bp_plan *plan;
    bp_workspace *workspace;
    const real *parameters;
    int training; /* dropout acts */
    uint64_t dropout_key;
    int64_t first_row; /* of the block in its batch, for dropout */
    watch *watch;      /* NULL: nobody asks */
} pass;

static int given_up(const pass *p)
{
    if (!p->watch || bp_clock() < p->watch->next) return 0;
    const int up = p->watch->poll(p->watch->context) != 0;
    p->watch->next = bp_clock() + POLL_INTERVAL;
    return up;
}

/* Multiplications that this level does in some 25 ms. */
#define PATIENCE (1e8 * WIDTH)

/* multiply(), cut into pieces between which the caller may give up; returns whether it has. */
static int multiply_watched(const pass *p, const product *whole)
{
    const double column = (double)whole->m * (double)whole->k, work = column * (double)whole->n;
    int64_t columns = work <= PATIENCE ? whole->n : (int64_t)(PATIENCE / column) / 48 * 48;
    if (columns < 192) columns = 192; /* each piece reads, and perhaps packs, all of A */
    if (!p->watch || work < 1e6) columns = whole->n;
    for (int64_t j = 0; j < whole->n; j += columns) {
        multiply_columns(whole, j, whole->n - j < columns ? whole->n : j + columns);
        if (work >= 1e6 && given_up(p)) return 1;
    }
    return 0;
}

/* An elementwise layer done on each part of a product while that is in cache. The rows of all arrays are `stride` apart. */
typedef struct epilogue {
    const bp_layer *layer;
    real *to;
    const real *product, *x, *y; /* where the product starts; x and y: of the layer, for its derivative */
    int64_t stride;
} epilogue;

static int64_t place_in(const product *p, const epilogue *e, int64_t i, int64_t j)
{
    return p->c - e->product + i * e->stride + j;
}

static void activate_part(const product *p, int64_t i, int64_t j, int64_t rows, int64_t columns)
{
    const epilogue *e = p->context;
    const activation_forward_fn f = activation_forwards[e->layer->activation];
    for (int64_t r = i; r < i + rows; r++) {
        const int64_t at = place_in(p, e, r, j);
        f(e->to + at, e->product + at, columns, (real)e->layer->parameter);
    }
}

static void derive_part(const product *p, int64_t i, int64_t j, int64_t rows, int64_t columns)
{
    const epilogue *e = p->context;
    const activation_backward_fn f = activation_backwards[e->layer->activation];
    for (int64_t r = i; r < i + rows; r++) {
        const int64_t at = place_in(p, e, r, j);
        f(e->to + at, e->product + at, e->x + at, e->y + at, columns, (real)e->layer->parameter);
    }
}

ALWAYS_INLINE int is_activation(const bp_plan *plan, int64_t index)
{
    return index >= 0 && index < plan->n_layers && plan->layers[index].kind == BP_LAYER_ACTIVATION;
}

/* A dense layer and, if `activated`, the activation after it. */
static int forward_dense(const pass *p, int64_t index, const real *in, int64_t in_stride, int64_t n, int activated)
{
    const bp_layer *layer = &p->plan->layers[index];
    real *out = p->workspace->outputs[index];
    const epilogue e = {.layer = layer + 1,
                        .to = activated ? p->workspace->outputs[index + 1] : NULL,
                        .product = out,
                        .stride = layer->out_stride};
    const dense_shape shape = shape_of(layer, n);
    product z = dense_product(out, in, in_stride, p->parameters + layer->weight_at, bias_of(layer, p->parameters), &shape);
    z.a_limit = VALUE_LIMIT;
    z.a_beyond = &p->workspace->immodest;
    z.finish = activated ? activate_part : NULL;
    z.context = &e;
    return multiply_watched(p, &z);
}

/* A layer without parameters on n rows: from `in` to workspace->outputs[index]; returns where the result is. */
static const real *forward_elementwise(const pass *p, int64_t index, const real *in, int64_t n)
{
    const bp_layer *layer = &p->plan->layers[index];
    real *out = p->workspace->outputs[index];
    switch (layer->kind) {
        case BP_LAYER_DENSE: return NULL;
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

/* The first n_layers layers on n rows; what went into each stays in workspace->values. NULL: given up. */
static const real *forward_block(const pass *p, const real *x, int64_t x_stride, int64_t n, int64_t n_layers)
{
    bp_workspace *w = p->workspace;
    w->values[0] = x;
    w->value_stride = x_stride;
    bp_flag_set(&w->immodest, 0);
    for (int64_t i = 0; i < n_layers; i++) {
        const real *in = w->values[i];
        if (p->plan->layers[i].kind != BP_LAYER_DENSE) {
            w->values[i + 1] = forward_elementwise(p, i, in, n);
            continue;
        }
        const int activated = i + 1 < n_layers && is_activation(p->plan, i + 1);
        if (forward_dense(p, i, in, i == 0 ? x_stride : p->plan->layers[i].in_stride, n, activated)) return NULL;
        w->values[i + 1] = w->outputs[i];
        if (activated) w->values[i + 2] = w->outputs[i + 1];
        i += activated;
    }
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

/* A batch of one block reads the weights as they are: copying them would cost it more than it gains. */
static void prepare_transposes(const bp_plan *plan, bp_workspace *w, const real *parameters, int input_gradient, int64_t n)
{
    const int pays = n > w->n_rows;
    for (int i = 0; i < w->n_parts; i++) w[i].has_transposed = pays;
    if (pays) transpose_weights(plan, w, parameters, input_gradient);
}

/* Where the gradient at the output of a layer is put; index -1: at the input of the network. */
ALWAYS_INLINE real *delta_at(const pass *p, int64_t index)
{
    const int dense = index >= 0 && p->plan->layers[index].kind == BP_LAYER_DENSE;
    return dense ? p->workspace->deltas[index] : p->workspace->scratch[0];
}

/* From dy, the gradient at the output of a layer without parameters, to dx at its input; dx may be dy. */
static void backward_elementwise(const pass *p, int64_t index, real *dx, const real *dy, int64_t n)
{
    const bp_layer *layer = &p->plan->layers[index];
    const bp_workspace *w = p->workspace;
    const int64_t stride = layer->out_stride;
    const real *mask = w->masks[index];
    switch (layer->kind) {
        case BP_LAYER_ACTIVATION:
            activation_backwards[layer->activation](dx, dy, w->values[index], w->values[index + 1], n * stride,
                                                    (real)layer->parameter);
            return;
        case BP_LAYER_SOFTMAX:
            for (int64_t r = 0; r < n; r++)
                softmax_backward_row(dx + r * stride, dy + r * stride, (const real *)w->values[index + 1] + r * stride,
                                     layer->n_out);
            return;
        case BP_LAYER_DROPOUT:
            for (int64_t i = 0; i < n * stride; i++) dx[i] = p->training ? dy[i] * mask[i] : dy[i];
            return;
        case BP_LAYER_DENSE: return;
    }
}

/* dx = dy W^T; if `derived`, at once through the activation below too. */
static int backward_dense(const pass *p, int64_t index, const real *dy, int64_t n, int derived)
{
    const bp_layer *layer = &p->plan->layers[index];
    const bp_workspace *w = p->workspace;
    real *dx = delta_at(p, index - 1);
    epilogue e = {.product = dx, .stride = layer->in_stride};
    if (derived) {
        e.layer = layer - 1;
        e.to = delta_at(p, index - 2);
        e.x = w->values[index - 1];
        e.y = w->values[index];
    }
    const dense_shape shape = shape_of(layer, n);
    const real *weight = w->has_transposed ? w->transposed[index] : p->parameters + layer->weight_at;
    product gradient = input_gradient_product(dx, dy, weight, w->has_transposed, &shape);
    gradient.finish = derived ? derive_part : NULL;
    gradient.context = &e;
    return multiply_watched(p, &gradient);
}

/* After forward_block(): from the gradient at the output of layer n_layers - 1, in its delta_at(), those at the outputs of all
 * dense layers, and with input_gradient that at the input. Nothing that the gradients of the parameters need is lost, and
 * no parameter is needed after this. Returns whether it was given up. */
static int backward_deltas(const pass *p, int64_t n, int64_t n_layers, int input_gradient)
{
    const int64_t lowest = input_gradient ? -1 : p->plan->first_dense;
    int done_with = 0; /* the layer above did this one too */
    for (int64_t i = n_layers - 1; i > lowest; i--) {
        if (done_with) {
            done_with = 0;
        } else if (p->plan->layers[i].kind == BP_LAYER_DENSE) {
            done_with = i - 1 > lowest && is_activation(p->plan, i - 1);
            if (backward_dense(p, i, p->workspace->deltas[i], n, done_with)) return 1;
        } else {
            backward_elementwise(p, i, delta_at(p, i - 1), delta_at(p, i), n);
        }
    }
    return 0;
}

ALWAYS_INLINE int64_t value_stride(const pass *p, int64_t index)
{
    return index == 0 ? p->workspace->value_stride : p->plan->layers[index].in_stride;
}

/* The product of a weight's gradient, for `to`: how it is stored is left to the caller. */
static product weight_gradient(const pass *p, int64_t index, real *to, int64_t n)
{
    const bp_workspace *w = p->workspace;
    const dense_shape shape = shape_of(&p->plan->layers[index], n);
    return weight_gradient_product(to, w->deltas[index], w->values[index], value_stride(p, index), &shape);
}

/* The gradient of a bias, added to that of the blocks before this one unless is_first; returns where the sum is: in
 * `gradients` or, if they are not to change, in the workspace. */
static const real *bias_gradient(const pass *p, int64_t index, real *gradients, int is_first, int keep, int64_t n)
{
    const bp_layer *layer = &p->plan->layers[index];
    real *earlier = gradients + layer->bias_at, *block = p->workspace->bias_gradient;
    real *sum = keep ? block : earlier;
    sum_columns(is_first ? sum : block, p->workspace->deltas[index], layer->out_stride, n, layer->n_out);
    for (int64_t j = 0; !is_first && j < layer->n_out; j++) sum[j] = earlier[j] + block[j];
    return sum;
}

/* After backward_deltas(): the gradients of the parameters of the first n_layers layers, added to those of the blocks before
 * unless is_first. A sum of blocks stays accurate over millions of rows. Returns whether it was given up. */
static int backward_parameters(const pass *p, real *gradients, int is_first, int64_t n, int64_t n_layers)
{
    for (int64_t i = n_layers - 1; i >= p->plan->first_dense; i--) {
        const bp_layer *layer = &p->plan->layers[i];
        if (layer->kind != BP_LAYER_DENSE) continue;
        product gradient = weight_gradient(p, i, gradients + layer->weight_at, n);
        gradient.mode = is_first ? STORE : ADD;
        if (multiply_watched(p, &gradient)) return 1;
        if (layer->has_bias) bias_gradient(p, i, gradients, is_first, 0, n);
    }
    return 0;
}

/* The same for a batch's last block with the step of plain descent in one, to the bits of both one after the other. `gradients`
 * stay those of the blocks before. */
static void step_parameters(const pass *p, real *parameters, double rate, real *gradients, int is_first, int64_t n)
{
    double constants[N_CONSTANTS] = {0};
    sgd_plain_constants(constants, NULL, rate, 0);
    for (int64_t i = p->plan->loss_layers - 1; i >= p->plan->first_dense; i--) {
        const bp_layer *layer = &p->plan->layers[i];
        if (layer->kind != BP_LAYER_DENSE) continue;
        product gradient = weight_gradient(p, i, parameters + layer->weight_at, n);
        gradient.mode = STEP;
        gradient.factor = (real)constants[0];
        gradient.added = is_first ? NULL : gradients + layer->weight_at;
        gradient.added_stride = layer->n_out;
        multiply(&gradient);
        if (!layer->has_bias) continue;
        const real *sum = bias_gradient(p, i, gradients, is_first, 1, n);
        sgd_plain_loop(parameters + layer->bias_at, sum, NULL, constants, layer->n_out);
    }
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

/* What threads that share the blocks of a prediction know. */
typedef struct prediction {
    const bp_plan *plan;
    bp_workspace *workspace;
    real *y;
    const real *parameters;
    const bp_array *x;
    int64_t parts;
} prediction;

static void predict_block(const prediction *all, bp_workspace *w, int64_t first)
{
    const bp_plan *plan = all->plan;
    const pass p = {plan, w, all->parameters, 0, 0, 0, NULL};
    const int64_t n = all->x->n_rows - first < w->n_rows ? all->x->n_rows - first : w->n_rows;
    int64_t stride;
    const real *in = input_block(plan, w, all->x, NULL, first, n, &stride);
    const real *out = forward_block(&p, in, stride, n, plan->n_layers);
    copy_columns(all->y + first * plan->n_out, plan->n_out, out, plan->target_stride, n, plan->n_out);
}

static void predict_part(void *argument, int64_t part)
{
    const prediction *all = argument;
    bp_workspace *w = all->workspace + part;
    for (int64_t first = part * w->n_rows; first < all->x->n_rows; first += all->parts * w->n_rows)
        predict_block(all, w, first);
}

static void predict(const bp_plan *plan, bp_workspace *w, real *y, const real *parameters, const bp_array *x)
{
    const int64_t blocks = n_parts(x->n_rows, w->n_rows);
    prediction all = {plan, w, y, parameters, x, w->n_parts};
    if (all.parts > bp_num_threads()) all.parts = bp_num_threads();
    if (all.parts > blocks) all.parts = blocks;
    if (all.parts > 1)
        bp_pool_run(predict_part, &all, all.parts);
    else if (blocks > 0)
        predict_part(&all, 0);
}

static void forward(const bp_plan *plan, bp_workspace *w, real *y, const real *parameters, const bp_array *x, int training,
                    uint64_t dropout_key)
{
    const pass p = {plan, w, parameters, training, dropout_key, 0, NULL};
    const int64_t stride = plan->layers[0].in_stride;
    read_rows(w->input, stride, x, NULL, 0, x->n_rows); /* a copy: x may be gone by the time of backward() */
    const real *out = forward_block(&p, w->input, stride, x->n_rows, plan->n_layers);
    w->kept_training = training;
    copy_columns(y, plan->n_out, out, plan->target_stride, x->n_rows, plan->n_out);
}

#endif
