/* bpcore: forward and backward passes, losses, optimisers and the training loop of small neural networks, in C11.
 *
 * This header is the whole interface and its manual.
 *
 * Ownership. The caller owns every array that it passes: parameters, gradients, optimiser state, data, records. A plan owns
 * the description of a network, a workspace owns the memory for intermediate results. Only plan.c allocates, and only in
 * bp_plan_create and bp_workspace_create; no other function allocates, exits or prints, and none keeps a pointer that it
 * uses after it returns.
 *
 * Arrays. `real` below stands for float (BP_FLOAT32) or double (BP_FLOAT64), the dtype of the plan or of the table of
 * kernels. Rows are samples. Matrices are in C order unless a bp_array describes them. A dense layer computes
 * z[n][n_out] = x[n][n_in] @ weight[n_in][n_out] + bias[n_out]. Sizes and strides are 64-bit; strides of a bp_array are in bytes.
 *
 * Parameters of a network are ONE array: for each dense layer its weight in C order, then its bias (if it has one).
 * Gradients and optimiser slots have the same layout.
 *
 * Threads. Functions are reentrant; a workspace serves one call at a time. Large work is shared with threads of the library's
 * own, which sleep when there is none. Global state is the chosen level, the number of threads, and these threads; after a
 * fork the child starts its own.
 */
#ifndef BPCORE_H
#define BPCORE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Status ------------------------------------------------------------------------------------------------------- */

typedef enum bp_status {
    BP_OK = 0,
    BP_PAUSED,     /* bp_kernels.train: the time budget is used up; call again to go on */
    BP_STOPPED,    /* bp_fit.poll or bp_loss_call gave the present batch up; in a fit all is as after the batch before */
    BP_E_ARGUMENT, /* a value out of its range: an unknown kind, a negative size */
    BP_E_SHAPE,    /* layers whose widths do not meet */
    BP_E_OVERFLOW, /* a size that 64 bits of bytes cannot hold */
    BP_E_MEMORY,   /* malloc refused */
    BP_E_LEVEL,    /* an instruction-set level that is unknown, or that this machine lacks */
    BP_E_LABEL,    /* a class label outside [0, n_out) was met while training */
    BP_E_DIVERGED  /* a loss, gradient or parameter became non-finite; the last finite parameters are kept */
} bp_status;

/* A sentence for a status; never NULL. */
const char *bp_status_text(bp_status status);

/* ---- Kinds -------------------------------------------------------------------------------------------------------- */

typedef enum bp_dtype { BP_FLOAT32 = 0, BP_FLOAT64 = 1, BP_INT64 = 2 } bp_dtype; /* BP_INT64 only for class labels */

#define ACTIVATION(name) BP_ACTIVATION_##name,
typedef enum bp_activation {
#include "activations.def"
    BP_N_ACTIVATIONS
} bp_activation;
#undef ACTIVATION

#define ELEMENT_LOSS(name, averages_outputs) BP_LOSS_##name,
#define ROW_LOSS(name) BP_LOSS_##name,
#define FUSED_LOSS(kind, activation, name, on_logits)
typedef enum bp_loss {
#include "losses.def"
    BP_N_LOSSES,
    /* a loss of the caller's own, see bp_loss_call: one number a row, or one for each element, which "mean" averages */
    BP_LOSS_CALLED_ROWS = BP_N_LOSSES,
    BP_LOSS_CALLED_ELEMENTS
} bp_loss;
#undef ELEMENT_LOSS
#undef ROW_LOSS
#undef FUSED_LOSS

#define OPTIMIZER(name, n_slots) BP_OPTIMIZER_##name,
typedef enum bp_optimizer {
#include "optimizers.def"
    BP_N_OPTIMIZERS
} bp_optimizer;
#undef OPTIMIZER

#define FUNCTION(name) BP_FUNCTION_##name,
typedef enum bp_function {
#include "functions.def"
    BP_N_FUNCTIONS
} bp_function;
#undef FUNCTION

#define ISA(name) BP_LEVEL_##name,
typedef enum bp_level {
#include "isa.def"
    BP_N_LEVELS
} bp_level;
#undef ISA

/* Names, in the order of the enumerations; each array is as long as its BP_N_ constant. */
extern const char *const bp_activation_names[BP_N_ACTIVATIONS];
extern const char *const bp_loss_names[BP_N_LOSSES];
extern const char *const bp_optimizer_names[BP_N_OPTIMIZERS];
extern const char *const bp_function_names[BP_N_FUNCTIONS];
extern const char *const bp_level_names[BP_N_LEVELS];
extern const int bp_optimizer_slots[BP_N_OPTIMIZERS]; /* how many arrays of state each has */

/* With l the loss of one element or row and w its sample weight (k outputs, sums over the rows of a batch): */
typedef enum bp_reduction {
    BP_REDUCTION_MEAN,       /* sum(w l) / (k sum(w)); cross-entropy, one number a row, is not divided by k */
    BP_REDUCTION_SUM,        /* sum(w l) */
    BP_REDUCTION_SAMPLE_MEAN /* sum(w l) / sum(w) */
} bp_reduction;

typedef enum bp_layer_kind { BP_LAYER_DENSE, BP_LAYER_ACTIVATION, BP_LAYER_SOFTMAX, BP_LAYER_DROPOUT } bp_layer_kind;

#define BP_MAX_SLOTS 2
#define BP_N_HYPER 4

/* ---- Plans -------------------------------------------------------------------------------------------------------- */

typedef struct bp_layer_spec {
    bp_layer_kind kind;
    bp_activation activation; /* of BP_LAYER_ACTIVATION */
    double parameter;         /* of an activation; the probability of BP_LAYER_DROPOUT */
    int64_t n_in, n_out;      /* of BP_LAYER_DENSE; the others take the width that reaches them */
    int has_bias;             /* of BP_LAYER_DENSE */
} bp_layer_spec;

typedef struct bp_loss_spec {
    bp_loss loss;
    double parameter; /* Huber's delta */
    bp_reduction reduction;
    double l2, l1; /* the penalty l2/2 sum(W^2) + l1 sum(|W|) over the weights, not the biases */
} bp_loss_spec;

typedef struct bp_plan bp_plan;

/* Make the plan of a network with n_in inputs. Fails with BP_E_ARGUMENT, _SHAPE, _OVERFLOW or _MEMORY, and *plan is NULL. */
bp_status bp_plan_create(bp_plan **plan, bp_dtype dtype, int64_t n_in, const bp_layer_spec *layers, int64_t n_layers,
                         const bp_loss_spec *loss);
void bp_plan_destroy(bp_plan *plan); /* NULL is allowed */

int64_t bp_plan_n_in(const bp_plan *plan);
int64_t bp_plan_n_out(const bp_plan *plan);
int64_t bp_plan_n_parameters(const bp_plan *plan);
bp_dtype bp_plan_dtype(const bp_plan *plan);

/* Rows that go through the network at a time, a function of the shapes alone. */
int64_t bp_plan_block_rows(const bp_plan *plan);

/* Inference is enough for predict() and for a loss without its gradient. */
typedef enum bp_workspace_kind { BP_FOR_INFERENCE, BP_FOR_TRAINING } bp_workspace_kind;

typedef struct bp_workspace bp_workspace;

/* Memory for blocks of up to n_rows rows (>= 1). Fails with BP_E_ARGUMENT, _OVERFLOW or _MEMORY, and *workspace is NULL. */
bp_status bp_workspace_create(bp_workspace **workspace, const bp_plan *plan, int64_t n_rows, bp_workspace_kind kind);
/* The same with room for several such blocks at a time: what bp_plan_parts() says is worth it for a call of so many rows. */
bp_status bp_workspace_create_parts(bp_workspace **workspace, const bp_plan *plan, int64_t n_rows, int n_parts,
                                    bp_workspace_kind kind);
#define BP_MOST_PARTS 32
int bp_plan_parts(const bp_plan *plan, int64_t n_rows);
void bp_workspace_destroy(bp_workspace *workspace); /* NULL is allowed */
int64_t bp_workspace_n_rows(const bp_workspace *workspace);
int bp_workspace_n_parts(const bp_workspace *workspace);
size_t bp_workspace_bytes(const bp_workspace *workspace);

/* ---- Data, randomness, training ----------------------------------------------------------------------------------- */

/* A read-only matrix of any layout and byte order. Strides are in bytes, of any sign or 0. data == NULL: not given. */
typedef struct bp_array {
    const void *data;
    int64_t n_rows, n_columns;
    int64_t row_stride, column_stride;
    bp_dtype dtype;
    int swapped; /* the bytes of each element are in the other order than this machine's */
} bp_array;

/* A source of random bits; the two functions share one stream, as those of NumPy's bit generators do. */
typedef struct bp_random {
    void *state;
    uint64_t (*next_uint64)(void *state);
    uint32_t (*next_uint32)(void *state);
} bp_random;

typedef enum bp_sampling { BP_SAMPLING_SEQUENTIAL, BP_SAMPLING_SHUFFLE, BP_SAMPLING_REPLACEMENT } bp_sampling;

/* A loss that the caller computes: for n rows of k predictions and targets, `stride` reals from one row to the next, evaluate()
 * fills in losses[n] (BP_LOSS_CALLED_ROWS) or losses[n][k] (_ELEMENTS), without weights, and unless it is NULL gradient[n][k], with
 * the same stride: the derivative of the sum of the losses. A row's loss must not depend on other rows. Other than 0: the
 * batch is given up. It is called by the thread that called the kernel, one block after the other in the order of the rows, with
 * the floating-point state that this thread had. */
typedef struct bp_loss_call {
    int (*evaluate)(void *context, void *losses, void *gradient, const void *prediction, const void *target, int64_t n,
                    int64_t k, int64_t stride);
    void *context;
} bp_loss_call;

typedef struct bp_dataset {
    bp_array x;
    bp_array target;     /* [n][n_out] floats, or BP_INT64 labels [n][1] */
    bp_array weight;     /* [n][1], or not given */
    const int64_t *rows; /* the n_rows rows that count, in this order; NULL: all n_rows of them */
    int64_t n_rows;
    const bp_loss_call *loss; /* where the plan's loss is the caller's, else not looked at */
} bp_dataset;

/* All of a fit: what it works on, where it stands, and what it records. The caller fills it once and calls train() until it
 * returns something other than BP_PAUSED or stop_epoch is reached; train() moves the fields under `position`. */
typedef struct bp_fit {
    bp_dataset data, validation;  /* validation.n_rows == 0: none */
    void *parameters, *gradients; /* real[n_parameters] each; gradients are those of the last step once stop_epoch is reached */
    bp_random random;

    bp_optimizer optimizer;
    void *slots[BP_MAX_SLOTS]; /* real[n_parameters] each; SGD without momentum needs none */
    double hyper[BP_N_HYPER];  /* see kernels/optimizers.h */
    double gradient_clip;      /* largest Euclidean norm of the whole gradient; 0: no limit */

    bp_sampling sampling;
    int64_t batch_size;           /* >= 1 */
    int64_t *order;               /* room for max(number of rows, batch_size) row numbers; NULL when sequential */
    const double *learning_rates; /* [n_epochs] */
    int64_t stop_epoch;           /* return when this many epochs are done */
    double budget;                /* seconds until train() returns BP_PAUSED */
    int (*poll)(void *context);   /* unless NULL, called in long batches about every 50 ms; other than 0: give the batch up */
    void *poll_context;

    double *losses, *validation_losses, *seconds; /* [n_epochs] records; validation_losses may be NULL */

    /* position */
    int64_t epoch, batch, row; /* row: rows already passed of the present batch, or of the validation set */
    int drawn;                 /* the rows of the present batch are in `order`, its dropout key is drawn */
    int validating;            /* the epoch's batches are done, its validation loss is not */
    int64_t n_steps;           /* optimiser steps so far */
    int careful;               /* a number of the present batch is too large for the quick way of kernels/guard.h */
    double batch_loss, batch_weight;
    double epoch_loss, epoch_weight;
    uint64_t dropout_key;
    double elapsed;          /* seconds inside train() so far */
    int64_t timed_epochs;    /* epochs whose time is in `seconds` (to about a millisecond) */
    int64_t blocks_per_look; /* blocks between two looks at the clock, at first 1; adapts itself */
} bp_fit;

/* Seconds on a clock that never goes back. */
double bp_clock(void);

/* Fill order[n] with 0..n-1 shuffled: the order of NumPy's Generator.permutation(n) for the same bits. */
void bp_permutation(int64_t *order, int64_t n, const bp_random *random);

/* Fill order[n] with whole numbers in [0, high): those of NumPy's Generator.integers(0, high, n) for the same bits. */
void bp_integers(int64_t *order, int64_t n, int64_t high, const bp_random *random);

/* First element, in C order, that is nan, infinite, or too large for dtype `to`: returns 1 and its place, or 0. */
int bp_find_unfit(const bp_array *array, bp_dtype to, int64_t *row, int64_t *column);

/* ---- Kernels ------------------------------------------------------------------------------------------------------ */

typedef enum bp_store_mode { BP_STORE, BP_ADD, BP_STEP } bp_store_mode;

/* acc[i][j] = initial[i][j] + the sum over l of a[i][l] b[l][j], for i < m, j < n, l < k, as one fma chain in increasing l; then
 *
 *   BP_STORE   c = acc
 *   BP_ADD     c = c + acc
 *   BP_STEP    c = factor acc + c, rounded once: plain SGD where acc is a gradient, c the weight and factor = -learning_rate
 *
 * where acc is first replaced by added + acc if there is an `added` (BP_ADD and BP_STEP only).
 * Strides count elements. a[i][l] is a[i * a_row + l * a_column] and b[l][j] is b[l * b_row + j * b_column]; b_row or b_column
 * must be 1. An `initial` of stride 0 is one row for all, NULL is zero. c must not overlap what is read, but for `initial` and
 * `added` where they are c itself. What lies in c between n and c_stride may be overwritten.
 * finish(context, i, j, rows, columns), unless NULL, is called once for each part of c, when it has been stored and is still in
 * cache; parts may come in any order, and from several threads. */
typedef struct bp_product {
    void *c;
    int64_t c_stride;
    const void *initial;
    int64_t initial_stride;
    const void *a;
    int64_t a_row, a_column;
    const void *b;
    int64_t b_row, b_column;
    int64_t m, n, k;
    bp_store_mode mode;
    double factor;
    const void *added;
    int64_t added_stride;
    int narrow; /* the product of a layer: see bp_is_striped() in plan.h. Needs a_column 1 */
    void (*finish)(void *context, int64_t i, int64_t j, int64_t rows, int64_t columns);
    void *context;
} bp_product;

/* One table for each dtype and level. Outputs first, then inputs, then sizes. Matrices are contiguous, in C order. */
typedef struct bp_kernels {
    /* y[n] = f(x[n]); y may be x. */
    void (*function)(bp_function function, void *y, const void *x, int64_t n);
    void (*activation_forward)(bp_activation kind, double parameter, void *y, const void *x, int64_t n);
    /* dx[n] = dy[n] f'(x[n]), with y = f(x); dx may be dy. */
    void (*activation_backward)(bp_activation kind, double parameter, void *dx, const void *dy, const void *x, const void *y,
                                int64_t n);
    /* Over the columns of [n][k]. */
    void (*softmax_forward)(void *y, const void *x, int64_t n, int64_t k);
    void (*softmax_backward)(void *dx, const void *dy, const void *y, int64_t n, int64_t k);
    /* mask[n]: 0 with probability p, else 1 / (1 - p), from counter-based random bits. */
    void (*dropout_mask)(void *mask, uint64_t key, double p, int64_t n);
    /* y[n][n_out] = x[n][n_in] @ weight[n_in][n_out] + bias[n_out]; bias may be NULL. */
    void (*dense_forward)(void *y, const void *x, const void *weight, const void *bias, int64_t n, int64_t n_in, int64_t n_out);
    /* Overwrites grad_weight[n_in][n_out], grad_bias[n_out] (may be NULL) and dx[n][n_in] (may be NULL; then so may be
     * transposed, else room for n_in * n_out reals). */
    void (*dense_backward)(void *grad_weight, void *grad_bias, void *dx, void *transposed, const void *dy, const void *x,
                           const void *weight, int64_t n, int64_t n_in, int64_t n_out);
    /* *value = the reduced loss of [n][k] and, unless NULL, gradient[n][k] = its derivative by prediction. weight may be NULL. */
    void (*loss)(const bp_loss_spec *spec, double *value, void *gradient, const void *prediction, const void *target,
                 const void *weight, int64_t n, int64_t k);
    /* The same for losses that the caller has computed, [n] or [n][k], with their gradient, which becomes that of *value. */
    void (*weigh)(const bp_loss_spec *spec, double *value, void *gradient, const void *losses, const void *weight, int64_t n,
                  int64_t k);
    /* BP_E_DIVERGED, and nothing has changed, where a gradient is or a parameter would become non-finite. */
    bp_status (*optimizer_step)(bp_optimizer kind, void *parameters, const void *gradients, void *const *slots,
                                const double *hyper, double learning_rate, int64_t step, int64_t n);

    /* Whole networks. `workspace` must have been made for the same plan. */

    /* y[n][n_out] for all rows of x; inference. */
    void (*predict)(const bp_plan *plan, bp_workspace *workspace, void *y, const void *parameters, const bp_array *x);
    /* The same with everything kept for backward(); needs a training workspace of at least x.n_rows rows. */
    void (*forward)(const bp_plan *plan, bp_workspace *workspace, void *y, const void *parameters, const bp_array *x,
                    int training, uint64_t dropout_key);
    /* After forward() on n rows: overwrites gradients and dx[n][n_in] (may be NULL). The penalty counts. */
    void (*backward)(const bp_plan *plan, bp_workspace *workspace, void *gradients, void *dx, const void *dy,
                     const void *parameters, int64_t n);
    /* *value = loss with penalty. With gradients != NULL also its derivative, and with dx != NULL [n][n_in] that by the inputs. */
    bp_status (*loss_and_gradient)(const bp_plan *plan, bp_workspace *workspace, double *value, void *gradients, void *dx,
                                   const void *parameters, const bp_dataset *data, int training, uint64_t dropout_key);
    /* See bp_fit. */
    bp_status (*train)(const bp_plan *plan, bp_workspace *workspace, bp_fit *fit);
    void (*multiply)(const bp_product *product);
} bp_kernels;

/* ---- Levels ------------------------------------------------------------------------------------------------------- */

/* The level in use: the best that this machine runs, unless chosen otherwise. */
bp_level bp_level_in_use(void);
int bp_level_runs_here(bp_level level);           /* built in, and the CPU and the system support it */
bp_status bp_level_choose(bp_level level);        /* BP_E_LEVEL when it does not run here */
const bp_kernels *bp_kernels_for(bp_dtype dtype); /* of the level in use */
/* The same for train(); a level below where rows are so short that narrower vectors are faster, which changes no bit. */
const bp_kernels *bp_kernels_for_fit(const bp_plan *plan, const bp_fit *fit);

/* ---- Threads ------------------------------------------------------------------------------------------------------ */

/* The largest number of threads that a call computes on, the caller's included: as many as this process may use processors,
 * unless set otherwise. May be set at any time, beyond the processors too. No result depends on it. */
int bp_num_threads(void);
bp_status bp_set_num_threads(int n); /* BP_E_ARGUMENT unless n >= 1 */

#ifdef __cplusplus
}
#endif
#endif
