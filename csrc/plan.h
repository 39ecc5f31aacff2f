/* What plan.c makes and the kernels read. */
#ifndef BP_PLAN_H
#define BP_PLAN_H

#include "pool.h"

typedef struct bp_layer {
    bp_layer_kind kind;
    bp_activation activation;
    double parameter;
    int has_bias;
    int64_t n_in, n_out;
    int64_t in_stride, out_stride; /* widths rounded up to whole stripes of 64 bytes */
    int64_t weight_at, bias_at;    /* places in the array of parameters */
    int64_t column_at;             /* in bp_workspace.columns, in lines: its n_out outputs, then a dropout layer's mask */
} bp_layer;

#define BP_MOST_STAGES 8

/* A dense layer with the elementwise activation after it, for kernels/rows.h: sizes, and places in reals. */
typedef struct bp_stage {
    int64_t n_in, n_out, in_stride, out_stride;
    int64_t weight_at, bias_at; /* in the array of parameters; bias_at < 0: none */
    int64_t rows_at;            /* in bp_workspace.rows: the weight's n_in padded rows, then the bias */
    int64_t transposed_at;      /* there: the weight's transpose, n_out padded rows */
    int64_t value_at;           /* there: before the activation, after it, and the gradient by the former */
    bp_activation activation;
    double parameter;
} bp_stage;

struct bp_plan {
    bp_dtype dtype;
    int64_t n_in, n_out, n_layers, n_parameters, block_rows;
    int64_t widest_stride, target_stride;
    int64_t first_dense; /* n_layers if there is none: nothing below it has a gradient of its own */
    int has_dropout;
    int shares_blocks; /* blocks are too small for threads to share their products, so that they share blocks */
    bp_loss_spec loss;
    bp_loss loss_on;     /* the loss as computed: from the logits where the last activation is fused with it */
    int64_t loss_layers; /* the layers below the loss: one less where fused */
    int is_narrow;       /* the layers and widths that kernels/columns.h is for */
    int64_t widest;
    int64_t target_column_at; /* lines of targets, then of what else a block needs; n_columns in all */
    int64_t n_columns;
    int64_t n_stages;  /* 0: not the layers or not the widths that kernels/rows.h is for */
    int64_t rows_size; /* reals in bp_workspace.rows */
    bp_stage stages[BP_MOST_STAGES];
    bp_layer layers[];
};

struct bp_workspace {
    bp_workspace_kind kind;
    int64_t n_rows;
    int n_parts; /* this workspace and, behind it, n_parts - 1 more for blocks computed at the same time */
    size_t bytes;
    void *memory;
    /* each of n_rows padded rows of reals */
    void *input, *target;
    void *scratch[2];     /* as wide as the widest layer; the second for inference only */
    void **deltas;        /* [n_layers] of dense layers, for training: the gradient at the output of each */
    void *weight;         /* n_rows reals */
    void *losses;         /* n_rows x n_out reals, if the caller computes the loss */
    void *bias_gradient;  /* one row as wide as the widest layer, for training */
    void *block_gradient; /* n_parameters reals, for training with several parts */
    void *rows;           /* see bp_stage */
    void *columns;        /* see kernels/columns.h */
    int holds_columns;    /* while train() runs: data read once in their own order need not be read again */
    const void *held;     /* the data set that `columns` holds held_n rows of, from held_first on, or NULL */
    int64_t held_first, held_n;
    uint64_t callers_state; /* of floating point, for a loss that the caller computes */
    int rows_loaded;        /* while training by rows: the parameters are there */
    int kept_training;      /* whether dropout acted in the last forward() */
    int64_t value_stride;   /* of values[0] */
    bp_flag immodest;       /* striped products going forward may have met numbers beyond the guard's limit */
    const void **values;    /* [n_layers + 1] what went into each layer, and what came out of the last */
    void **outputs;         /* [n_layers] */
    void **masks;           /* [n_layers] of dropout layers, else NULL */
    void **transposed;      /* [n_layers] of dense layers: the weight's transpose, n_out padded rows; all parts share them */
    int has_transposed;     /* else products read the weights themselves */
};

/* Whether the caller computes the loss: see bp_loss_call. Then only training by blocks of rows will do. */
static inline int bp_is_called(bp_loss loss) { return loss >= BP_N_LOSSES; }

/* Where a layer has few outputs and many inputs (or the other way round, going back), its products are too narrow for one chain
 * of multiply-adds for each output to be fast. There term l of a sum goes to lane l modulo the stripe of 64 bytes, each lane is a
 * chain from zero, the lanes are folded in halves, and the bias comes last. n: outputs, k: terms. */
static inline int bp_is_striped(bp_dtype dtype, int64_t n, int64_t k) { return n <= (dtype == BP_FLOAT64 ? 4 : 8) && k >= 256; }

#endif
