# What _core.pyx uses of csrc/bpcore.h.
from libc.stdint cimport int64_t, uint32_t, uint64_t

# cimport from numpy.random would import it, which takes 10 ms.
cdef extern from "numpy/random/bitgen.h":
    ctypedef struct bitgen_t:
        void *state
        uint64_t (*next_uint64)(void *state) noexcept nogil
        uint32_t (*next_uint32)(void *state) noexcept nogil

cdef extern from "bpcore.h" nogil:
    ctypedef enum bp_status:
        BP_OK
        BP_PAUSED
        BP_STOPPED
        BP_E_MEMORY
        BP_E_OVERFLOW
        BP_E_DIVERGED

    ctypedef enum bp_dtype:
        BP_FLOAT32
        BP_FLOAT64
        BP_INT64

    ctypedef enum bp_activation:
        BP_N_ACTIVATIONS
    ctypedef enum bp_loss:
        BP_N_LOSSES
        BP_LOSS_CALLED_ROWS
        BP_LOSS_CALLED_ELEMENTS
    ctypedef enum bp_optimizer:
        BP_OPTIMIZER_sgd
        BP_N_OPTIMIZERS
    ctypedef enum bp_function:
        BP_N_FUNCTIONS
    ctypedef enum bp_level:
        BP_N_LEVELS
    ctypedef enum bp_reduction:
        BP_REDUCTION_MEAN
        BP_REDUCTION_SUM
        BP_REDUCTION_SAMPLE_MEAN
    ctypedef enum bp_layer_kind:
        BP_LAYER_DENSE
        BP_LAYER_ACTIVATION
        BP_LAYER_SOFTMAX
        BP_LAYER_DROPOUT
    ctypedef enum bp_sampling:
        BP_SAMPLING_SEQUENTIAL
        BP_SAMPLING_SHUFFLE
        BP_SAMPLING_REPLACEMENT
    ctypedef enum bp_workspace_kind:
        BP_FOR_INFERENCE
        BP_FOR_TRAINING
    enum:
        BP_MAX_SLOTS
        BP_N_HYPER

    const char *const *bp_activation_names
    const char *const *bp_loss_names
    const char *const *bp_optimizer_names
    const char *const *bp_function_names
    const char *const *bp_level_names
    const int *bp_optimizer_slots

    const char *bp_status_text(bp_status status)

    ctypedef struct bp_layer_spec:
        bp_layer_kind kind
        bp_activation activation
        double parameter
        int64_t n_in
        int64_t n_out
        int has_bias

    ctypedef struct bp_loss_spec:
        bp_loss loss
        double parameter
        bp_reduction reduction
        double l2
        double l1

    ctypedef struct bp_plan:
        pass

    bp_status bp_plan_create(bp_plan **plan, bp_dtype dtype, int64_t n_in, const bp_layer_spec *layers, int64_t n_layers,
                             const bp_loss_spec *loss)
    void bp_plan_destroy(bp_plan *plan)
    int64_t bp_plan_n_in(const bp_plan *plan)
    int64_t bp_plan_n_out(const bp_plan *plan)
    int64_t bp_plan_n_parameters(const bp_plan *plan)
    int64_t bp_plan_block_rows(const bp_plan *plan)

    ctypedef struct bp_workspace:
        pass

    bp_status bp_workspace_create(bp_workspace **workspace, const bp_plan *plan, int64_t n_rows, bp_workspace_kind kind)
    bp_status bp_workspace_create_parts(bp_workspace **workspace, const bp_plan *plan, int64_t n_rows, int n_parts,
                                        bp_workspace_kind kind)
    int bp_plan_parts(const bp_plan *plan, int64_t n_rows)
    int bp_workspace_n_parts(const bp_workspace *workspace)
    void bp_workspace_destroy(bp_workspace *workspace)
    int64_t bp_workspace_n_rows(const bp_workspace *workspace)

    ctypedef struct bp_array:
        const void *data
        int64_t n_rows
        int64_t n_columns
        int64_t row_stride
        int64_t column_stride
        bp_dtype dtype
        int swapped

    ctypedef struct bp_random:
        void *state
        uint64_t (*next_uint64)(void *state) noexcept nogil
        uint32_t (*next_uint32)(void *state) noexcept nogil

    ctypedef struct bp_loss_call:
        int (*evaluate)(void *context, void *losses, void *gradient, const void *prediction, const void *target, int64_t n,
                        int64_t k, int64_t stride) noexcept nogil
        void *context

    ctypedef struct bp_dataset:
        bp_array x
        bp_array target
        bp_array weight
        const int64_t *rows
        int64_t n_rows
        const bp_loss_call *loss

    ctypedef struct bp_fit:
        bp_dataset data
        bp_dataset validation
        void *parameters
        void *gradients
        bp_random random
        bp_optimizer optimizer
        void *slots[BP_MAX_SLOTS]
        double hyper[BP_N_HYPER]
        double gradient_clip
        bp_sampling sampling
        int64_t batch_size
        int64_t *order
        const double *learning_rates
        int64_t stop_epoch
        double budget
        int (*poll)(void *context) noexcept nogil
        void *poll_context
        double *losses
        double *validation_losses
        double *seconds
        int64_t epoch
        int64_t batch
        int64_t row
        int drawn
        int validating
        int64_t n_steps
        double batch_weight
        double epoch_loss
        double epoch_weight
        uint64_t dropout_key
        double elapsed
        int64_t timed_epochs
        int64_t blocks_per_look

    int bp_find_unfit(const bp_array *array, bp_dtype to, int64_t *row, int64_t *column)

    ctypedef struct bp_kernels:
        void (*function)(bp_function function, void *y, const void *x, int64_t n) noexcept nogil
        void (*activation_forward)(bp_activation kind, double parameter, void *y, const void *x, int64_t n) noexcept nogil
        void (*activation_backward)(bp_activation kind, double parameter, void *dx, const void *dy, const void *x,
                                    const void *y, int64_t n) noexcept nogil
        void (*softmax_forward)(void *y, const void *x, int64_t n, int64_t k) noexcept nogil
        void (*softmax_backward)(void *dx, const void *dy, const void *y, int64_t n, int64_t k) noexcept nogil
        void (*dropout_mask)(void *mask, uint64_t key, double p, int64_t n) noexcept nogil
        void (*dense_forward)(void *y, const void *x, const void *weight, const void *bias, int64_t n, int64_t n_in,
                              int64_t n_out) noexcept nogil
        void (*dense_backward)(void *grad_weight, void *grad_bias, void *dx, void *transposed, const void *dy, const void *x,
                               const void *weight, int64_t n, int64_t n_in, int64_t n_out) noexcept nogil
        void (*loss)(const bp_loss_spec *spec, double *value, void *gradient, const void *prediction, const void *target,
                     const void *weight, int64_t n, int64_t k) noexcept nogil
        void (*weigh)(const bp_loss_spec *spec, double *value, void *gradient, const void *losses, const void *weight,
                      int64_t n, int64_t k) noexcept nogil
        bp_status (*optimizer_step)(bp_optimizer kind, void *parameters, const void *gradients, void **slots,
                                    const double *hyper, double learning_rate, int64_t step, int64_t n) noexcept nogil
        void (*predict)(const bp_plan *plan, bp_workspace *workspace, void *y, const void *parameters,
                        const bp_array *x) noexcept nogil
        void (*forward)(const bp_plan *plan, bp_workspace *workspace, void *y, const void *parameters, const bp_array *x,
                        int training, uint64_t dropout_key) noexcept nogil
        void (*backward)(const bp_plan *plan, bp_workspace *workspace, void *gradients, void *dx, const void *dy,
                         const void *parameters, int64_t n) noexcept nogil
        bp_status (*loss_and_gradient)(const bp_plan *plan, bp_workspace *workspace, double *value, void *gradients, void *dx,
                                       const void *parameters, const bp_dataset *data, int training,
                                       uint64_t dropout_key) noexcept nogil
        bp_status (*train)(const bp_plan *plan, bp_workspace *workspace, bp_fit *fit) noexcept nogil

    bp_level bp_level_in_use()
    int bp_level_runs_here(bp_level level)
    bp_status bp_level_choose(bp_level level)
    const bp_kernels *bp_kernels_for(bp_dtype dtype)
    const bp_kernels *bp_kernels_for_fit(const bp_plan *plan, const bp_fit *fit)

    int bp_num_threads()
    bp_status bp_set_num_threads(int n)
