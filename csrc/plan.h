/* What plan.c makes and the kernels read. */
#ifndef BP_PLAN_H
#define BP_PLAN_H

#include "bpcore.h"

typedef struct bp_layer {
    bp_layer_kind kind;
    bp_activation activation;
    double parameter;
    int has_bias;
    int64_t n_in, n_out;
    int64_t in_stride, out_stride; /* widths rounded up to whole stripes of 64 bytes */
    int64_t weight_at, bias_at;    /* places in the array of parameters */
} bp_layer;

struct bp_plan {
    bp_dtype dtype;
    int64_t n_in, n_out, n_layers, n_parameters, block_rows;
    int64_t widest_stride, target_stride;
    int64_t first_dense; /* n_layers if there is none: nothing below it has a gradient of its own */
    int has_dropout;
    bp_loss_spec loss;
    bp_loss loss_on;     /* the loss as computed: from the logits where the last activation is fused with it */
    int64_t loss_layers; /* the layers below the loss: one less where fused */
    bp_layer layers[];
};

struct bp_workspace {
    bp_workspace_kind kind;
    int64_t n_rows;
    size_t bytes;
    void *memory;
    /* each of n_rows padded rows of reals */
    void *input, *target;
    void *scratch[2];     /* as wide as the widest layer */
    void *weight;         /* n_rows reals */
    void *block_gradient; /* n_parameters reals, for training */
    int kept_training;    /* whether dropout acted in the last forward() */
    int64_t value_stride; /* of values[0] */
    const void **values;  /* [n_layers + 1] what went into each layer, and what came out of the last */
    void **outputs;       /* [n_layers] */
    void **masks;         /* [n_layers] of dropout layers, else NULL */
    void **transposed;    /* [n_layers] of dense layers: the weight's transpose, n_out padded rows */
};

#endif
