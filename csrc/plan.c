/* Layer lists to plans, plans to workspaces: the only file that allocates. */
#include <stdlib.h>
#include <string.h>

#include "plan.h"

#define ALIGNMENT 64
#define WIDTH_SCALE 64 /* a width times this may be computed: some rows of it, padded, in bytes */

/* The sizes that a workspace adds up; `overflow` sticks. */
typedef struct layout {
    size_t used;
    int overflow;
} layout;

static int64_t size_of(bp_dtype dtype) { return dtype == BP_FLOAT64 ? 8 : 4; }

/* a * b, or -1 past what an address can count. a, b >= 0. */
static int64_t checked_product(int64_t a, int64_t b)
{
    const int64_t most = (int64_t)(PTRDIFF_MAX / 16); /* of the largest element with room to round */
    if (a < 0 || b < 0) return -1;
    return b != 0 && a > most / b ? -1 : a * b;
}

static int64_t padded(int64_t width, bp_dtype dtype)
{
    const int64_t lanes = ALIGNMENT / size_of(dtype);
    return (width + lanes - 1) / lanes * lanes;
}

static bp_status place_dense(bp_layer *layer, int64_t *n_parameters)
{
    const int64_t weights = checked_product(layer->n_in, layer->n_out);
    if (weights < 0) return BP_E_OVERFLOW;
    layer->weight_at = *n_parameters;
    layer->bias_at = *n_parameters + weights;
    const int64_t total = layer->bias_at + (layer->has_bias ? layer->n_out : 0);
    if (checked_product(total, 1) < 0) return BP_E_OVERFLOW;
    *n_parameters = total;
    return BP_OK;
}

static bp_status place_layer(bp_plan *plan, int64_t index, const bp_layer_spec *spec, int64_t width)
{
    bp_layer *layer = &plan->layers[index];
    layer->kind = spec->kind;
    layer->activation = spec->activation;
    layer->parameter = spec->parameter;
    layer->n_in = layer->n_out = width;
    switch (spec->kind) {
        case BP_LAYER_DENSE:
            if (spec->n_in < 1 || spec->n_out < 1) return BP_E_ARGUMENT;
            if (spec->n_in != width) return BP_E_SHAPE;
            if (checked_product(spec->n_out, WIDTH_SCALE) < 0) return BP_E_OVERFLOW;
            layer->n_out = spec->n_out;
            layer->has_bias = spec->has_bias;
            if (plan->first_dense == plan->n_layers) plan->first_dense = index;
            break;
        case BP_LAYER_ACTIVATION:
            if ((int)spec->activation < 0 || spec->activation >= BP_N_ACTIVATIONS) return BP_E_ARGUMENT;
            break;
        case BP_LAYER_SOFTMAX: break;
        case BP_LAYER_DROPOUT:
            if (!(spec->parameter >= 0 && spec->parameter < 1)) return BP_E_ARGUMENT;
            plan->has_dropout = 1;
            break;
        default: return BP_E_ARGUMENT;
    }
    layer->in_stride = padded(layer->n_in, plan->dtype);
    layer->out_stride = padded(layer->n_out, plan->dtype);
    if (layer->out_stride > plan->widest_stride) plan->widest_stride = layer->out_stride;
    return layer->kind == BP_LAYER_DENSE ? place_dense(layer, &plan->n_parameters) : BP_OK;
}

/* A last activation that the loss absorbs: see FUSED_LOSS in losses.def. */
static void fuse_loss(bp_plan *plan)
{
    plan->loss_on = plan->loss.loss;
    plan->loss_layers = plan->n_layers;
    const bp_layer *last = &plan->layers[plan->n_layers - 1];
    const int activation = last->kind == BP_LAYER_ACTIVATION ? (int)last->activation : 0;
#define ELEMENT_LOSS(name, averages_outputs)
#define ROW_LOSS(name)
#define FUSED_LOSS(fused_kind, fused_activation, name, on_logits)                                                              \
    if (plan->loss.loss == BP_LOSS_##name && last->kind == BP_LAYER_##fused_kind && activation == (int)(fused_activation)) {   \
        plan->loss_on = BP_LOSS_##on_logits;                                                                                   \
        plan->loss_layers = plan->n_layers - 1;                                                                                \
    }
#include "losses.def"
#undef ELEMENT_LOSS
#undef ROW_LOSS
#undef FUSED_LOSS
}

/* Layers up to this width go through in columns. */
#define NARROW 64

/* Lines for a block in columns: inputs, outputs with masks, targets, weights and two gradients. */
static void place_columns(bp_plan *plan)
{
    plan->widest = plan->n_in;
    plan->is_narrow = plan->n_in <= NARROW && plan->first_dense < plan->loss_layers && !bp_is_called(plan->loss_on);
    int64_t lines = plan->n_in;
    for (int64_t i = 0; i < plan->n_layers && plan->is_narrow; i++) {
        bp_layer *layer = &plan->layers[i];
        plan->is_narrow = layer->n_out <= NARROW && (layer->kind != BP_LAYER_SOFTMAX || i >= plan->loss_layers);
        if (!plan->is_narrow) break;
        layer->column_at = lines;
        lines += layer->n_out * (layer->kind == BP_LAYER_DROPOUT ? 2 : 1);
        if (layer->n_out > plan->widest) plan->widest = layer->n_out;
    }
    plan->target_column_at = lines;
    plan->n_columns = plan->is_narrow ? lines + plan->n_out + 1 + 2 * plan->widest : 0;
}

/* Weights that training one row at a time may keep twice, in padded rows, in bytes: up to here they stay in caches, and take
 * 0.55 to 0.7 of the general path's time. */
#define ROWS_MOST_BYTES (8192 * 1024)

/* One dense layer, and the activation that may follow it; returns the layers taken. */
static int64_t place_stage(bp_plan *plan, int64_t index)
{
    const bp_layer *dense = &plan->layers[index], *next = dense + 1;
    bp_stage *stage = &plan->stages[plan->n_stages++];
    const int activated = index + 1 < plan->loss_layers && next->kind == BP_LAYER_ACTIVATION;
    stage->n_in = dense->n_in;
    stage->n_out = dense->n_out;
    stage->in_stride = dense->in_stride;
    stage->out_stride = dense->out_stride;
    stage->weight_at = dense->weight_at;
    stage->bias_at = dense->has_bias ? dense->bias_at : -1;
    stage->activation = activated ? next->activation : BP_ACTIVATION_identity;
    stage->parameter = activated ? next->parameter : 0;
    stage->rows_at = plan->rows_size;
    stage->transposed_at = stage->rows_at + (dense->n_in + 1) * dense->out_stride;
    stage->value_at = stage->transposed_at + dense->n_out * dense->in_stride;
    plan->rows_size = stage->value_at + 3 * dense->out_stride;
    return 1 + activated;
}

/* Training one row at a time knows only one chain for each sum. */
static int any_striped(const bp_plan *plan, const bp_layer *dense)
{
    return bp_is_striped(plan->dtype, dense->n_out, dense->n_in) || bp_is_striped(plan->dtype, dense->n_in, dense->n_out);
}

/* The stages below the loss, if there are only dense and elementwise layers, few enough and narrow enough. */
static void place_stages(bp_plan *plan)
{
    const int64_t most = ROWS_MOST_BYTES / size_of(plan->dtype);
    int64_t index = 0;
    if (bp_is_called(plan->loss_on)) return;
    plan->rows_size = plan->target_stride; /* a row of targets */
    while (index < plan->loss_layers) {
        const bp_layer *layer = &plan->layers[index];
        if (layer->kind != BP_LAYER_DENSE || plan->n_stages == BP_MOST_STAGES || layer->n_in > most || layer->n_out > most)
            break;
        if (any_striped(plan, layer)) break;
        index += place_stage(plan, index);
        if (plan->rows_size > most) break;
    }
    if (index < plan->loss_layers || plan->rows_size > most) plan->n_stages = plan->rows_size = 0;
}

/* Networks up to here share blocks between threads, larger ones products. */
#define SHARED_MOST_PARAMETERS 250000

/* Rows a block: enough to pay for a pass over the weights, few enough that their activations stay in L2. A function of the
 * shapes alone, because sums of losses follow it. */
static int64_t choose_block_rows(const bp_plan *plan)
{
    const int64_t size = size_of(plan->dtype);
    if (plan->is_narrow) {
        const int64_t rows = 256 * 1024 / (plan->n_columns * size) / 16 * 16;
        return rows < 64 ? 64 : rows > 1024 ? 1024 : rows;
    }
    int64_t row_bytes = 2 * plan->widest_stride * size;
    for (int64_t i = 0; i < plan->n_layers && row_bytes < (int64_t)1 << 60; i++) row_bytes += plan->layers[i].out_stride * size;
    const int64_t weights = plan->n_parameters < (int64_t)1 << 50 ? plan->n_parameters * size : (int64_t)1 << 53;
    const int64_t rows = (512 * 1024 + 2 * weights) / row_bytes / 16 * 16;
    return rows < 32 ? 32 : rows > 512 ? 512 : rows;
}

/* Parts that pay for a call of n_rows rows: where blocks are shared, as many as there are blocks and threads. */
int bp_plan_parts(const bp_plan *plan, int64_t n_rows)
{
    const int64_t blocks = (n_rows + plan->block_rows - 1) / plan->block_rows, threads = bp_num_threads();
    const int64_t parts = blocks < threads ? blocks : threads;
    if (!plan->shares_blocks || parts < 1) return 1;
    return parts < BP_MOST_PARTS ? (int)parts : BP_MOST_PARTS;
}

bp_status bp_plan_create(bp_plan **out, bp_dtype dtype, int64_t n_in, const bp_layer_spec *layers, int64_t n_layers,
                         const bp_loss_spec *loss)
{
    *out = NULL;
    if (dtype != BP_FLOAT32 && dtype != BP_FLOAT64) return BP_E_ARGUMENT;
    if (n_in < 1 || n_layers < 1 || n_layers > 1000000) return BP_E_ARGUMENT;
    if ((int)loss->loss < 0 || loss->loss > BP_LOSS_CALLED_ELEMENTS) return BP_E_ARGUMENT;
    if (checked_product(n_in, WIDTH_SCALE) < 0) return BP_E_OVERFLOW;
    bp_plan *plan = calloc(1, sizeof *plan + (size_t)n_layers * sizeof(bp_layer));
    if (!plan) return BP_E_MEMORY;
    plan->dtype = dtype;
    plan->n_in = n_in;
    plan->n_layers = plan->first_dense = n_layers;
    plan->widest_stride = padded(n_in, dtype);
    plan->loss = *loss;
    int64_t width = n_in;
    for (int64_t i = 0; i < n_layers; i++) {
        const bp_status status = place_layer(plan, i, &layers[i], width);
        if (status != BP_OK) {
            free(plan);
            return status;
        }
        width = plan->layers[i].n_out;
    }
    plan->n_out = width;
    plan->target_stride = padded(width, dtype);
    fuse_loss(plan);
    place_stages(plan);
    place_columns(plan);
    plan->block_rows = choose_block_rows(plan);
    plan->shares_blocks = plan->n_parameters <= SHARED_MOST_PARAMETERS;
    *out = plan;
    return BP_OK;
}

void bp_plan_destroy(bp_plan *plan) { free(plan); }

int64_t bp_plan_n_in(const bp_plan *plan) { return plan->n_in; }
int64_t bp_plan_n_out(const bp_plan *plan) { return plan->n_out; }
int64_t bp_plan_n_parameters(const bp_plan *plan) { return plan->n_parameters; }
bp_dtype bp_plan_dtype(const bp_plan *plan) { return plan->dtype; }
int64_t bp_plan_block_rows(const bp_plan *plan) { return plan->block_rows; }

/* ---- Workspaces ------------------------------------------------------------------------------------------------------- */

/* Room for rows x stride elements: where it starts, in bytes from the workspace's aligned start. */
static size_t reserve(layout *l, int64_t rows, int64_t stride, int64_t size)
{
    const int64_t elements = checked_product(rows, stride);
    const int64_t bytes = elements < 0 ? -1 : checked_product(elements, size);
    const size_t at = l->used;
    if (bytes < 0 || (size_t)bytes > (size_t)PTRDIFF_MAX / 2 - l->used) {
        l->overflow = 1;
        return at;
    }
    l->used += ((size_t)bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    return at;
}

static void *at(char *base, size_t offset) { return base ? base + offset : NULL; }

/* Lay one part of a workspace out from `base`; with base NULL only to learn its size. */
static void lay_out(bp_workspace *w, const bp_plan *plan, int is_first, char *base, layout *l)
{
    const int64_t size = size_of(plan->dtype), n = plan->n_layers;
    const int training = w->kind == BP_FOR_TRAINING;
    const int64_t pointer = (int64_t)sizeof(void *);
    w->values = at(base, reserve(l, n + 1, pointer, 1));
    w->outputs = at(base, reserve(l, n, pointer, 1));
    w->masks = at(base, reserve(l, n, pointer, 1));
    if (is_first) w->transposed = at(base, reserve(l, n, pointer, 1));
    w->deltas = at(base, reserve(l, n, pointer, 1));
    w->input = at(base, reserve(l, w->n_rows, padded(plan->n_in, plan->dtype), size));
    w->target = at(base, reserve(l, w->n_rows, plan->target_stride, size));
    w->weight = at(base, reserve(l, w->n_rows, 1, size));
    w->losses = at(base, reserve(l, bp_is_called(plan->loss_on) && is_first ? w->n_rows : 0, plan->n_out, size));
    w->bias_gradient = at(base, reserve(l, training, plan->widest_stride, size));
    w->block_gradient = at(base, reserve(l, training && w->n_parts > 1 ? plan->n_parameters : 0, 1, size));
    w->rows = at(base, reserve(l, training && is_first ? plan->rows_size : 0, 1, size));
    const int64_t lines = plan->n_columns; /* of rows rounded up to whole stripes */
    w->columns = at(base, reserve(l, lines, lines ? w->n_rows : 0, size));
    reserve(l, lines, ALIGNMENT, 1);
    w->scratch[0] = at(base, reserve(l, w->n_rows, plan->widest_stride, size));
    w->scratch[1] = at(base, reserve(l, training ? 0 : w->n_rows, plan->widest_stride, size));
    int turn = 1; /* at inference dense layers take turns at two buffers, and the others work in place */
    for (int64_t i = 0; i < n; i++) {
        const bp_layer *layer = &plan->layers[i];
        const int dense = layer->kind == BP_LAYER_DENSE, dropout = layer->kind == BP_LAYER_DROPOUT;
        const size_t output = reserve(l, training ? w->n_rows : 0, layer->out_stride, size);
        const size_t mask = reserve(l, training && dropout ? w->n_rows : 0, layer->out_stride, size);
        const size_t delta = reserve(l, training && dense ? w->n_rows : 0, layer->out_stride, size);
        const size_t transposed = reserve(l, training && dense && is_first ? layer->n_out : 0, layer->in_stride, size);
        if (!base) continue;
        turn ^= dense;
        w->outputs[i] = training ? at(base, output) : w->scratch[turn];
        w->masks[i] = dropout ? at(base, mask) : NULL;
        if (is_first) w->transposed[i] = dense ? at(base, transposed) : NULL;
        w->deltas[i] = dense ? at(base, delta) : NULL;
    }
}

bp_status bp_workspace_create_parts(bp_workspace **out, const bp_plan *plan, int64_t n_rows, int n_parts,
                                    bp_workspace_kind kind)
{
    *out = NULL;
    if (n_rows < 1 || n_parts < 1 || (kind != BP_FOR_INFERENCE && kind != BP_FOR_TRAINING)) return BP_E_ARGUMENT;
    bp_workspace sizes = {.kind = kind, .n_rows = n_rows, .n_parts = n_parts};
    layout measured = {0, 0};
    for (int i = 0; i < n_parts; i++) lay_out(&sizes, plan, i == 0, NULL, &measured);
    if (measured.overflow) return BP_E_OVERFLOW;
    bp_workspace *w = calloc((size_t)n_parts, sizeof *w);
    void *memory = calloc(1, measured.used + ALIGNMENT); /* zeros: the padding is read */
    if (!w || !memory) {
        free(w);
        free(memory);
        return BP_E_MEMORY;
    }
    char *base = (char *)memory + (ALIGNMENT - (uintptr_t)memory % ALIGNMENT);
    layout laid = {0, 0};
    for (int i = 0; i < n_parts; i++) {
        w[i] = sizes;
        w[i].transposed = w[0].transposed;
        lay_out(&w[i], plan, i == 0, base, &laid);
    }
    w->memory = memory;
    w->bytes = measured.used + ALIGNMENT;
    *out = w;
    return BP_OK;
}

bp_status bp_workspace_create(bp_workspace **out, const bp_plan *plan, int64_t n_rows, bp_workspace_kind kind)
{
    return bp_workspace_create_parts(out, plan, n_rows, 1, kind);
}

void bp_workspace_destroy(bp_workspace *workspace)
{
    if (!workspace) return;
    free(workspace->memory);
    free(workspace);
}

int64_t bp_workspace_n_rows(const bp_workspace *workspace) { return workspace->n_rows; }
int bp_workspace_n_parts(const bp_workspace *workspace) { return workspace->n_parts; }
size_t bp_workspace_bytes(const bp_workspace *workspace) { return workspace->bytes; }
