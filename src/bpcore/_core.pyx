"""The compiled core: NumPy arrays in, calls of csrc/bpcore.h, exceptions out.

Arguments are checked for what would break C (dtype, layout, size); what a user may pass is checked, with better
messages, by the Python modules above. There is no arithmetic here.
"""

cimport cython
from cpython.exc cimport PyErr_CheckSignals
from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memcpy, memset

cimport numpy as cnp

import numpy as np

cnp.import_array()

# Below this many multiplications giving up the GIL costs more than it could gain another thread.
cdef int64_t SMALL_WORK = 20000


# ---- names and levels ----------------------------------------------------------------------------------------------------

cdef tuple names_of(const char *const *names, int n):
    return tuple([names[i].decode() for i in range(n)])


cdef tuple ACTIVATIONS = names_of(bp_activation_names, BP_N_ACTIVATIONS)
cdef tuple LOSSES = names_of(bp_loss_names, BP_N_LOSSES)
cdef tuple OPTIMIZERS = names_of(bp_optimizer_names, BP_N_OPTIMIZERS)
cdef tuple FUNCTIONS = names_of(bp_function_names, BP_N_FUNCTIONS)
cdef tuple LEVELS = names_of(bp_level_names, BP_N_LEVELS)
cdef dict REDUCTIONS = {"mean": BP_REDUCTION_MEAN, "sum": BP_REDUCTION_SUM, "sample_mean": BP_REDUCTION_SAMPLE_MEAN}
cdef dict SAMPLINGS = {
    "shuffle": BP_SAMPLING_SHUFFLE, "sequential": BP_SAMPLING_SEQUENTIAL, "replacement": BP_SAMPLING_REPLACEMENT
}

cdef dict ACTIVATION_KINDS = {name: i for i, name in enumerate(ACTIVATIONS)}
cdef dict LOSS_KINDS = {name: i for i, name in enumerate(LOSSES)}
LOSS_KINDS["called_rows"] = BP_LOSS_CALLED_ROWS
LOSS_KINDS["called_elements"] = BP_LOSS_CALLED_ELEMENTS
cdef dict OPTIMIZER_KINDS = {name: i for i, name in enumerate(OPTIMIZERS)}
cdef dict FUNCTION_KINDS = {name: i for i, name in enumerate(FUNCTIONS)}


def activation_names():
    """Return the names of csrc/activations.def, in its order."""
    return ACTIVATIONS


def loss_names():
    """Return the names of csrc/losses.def, in its order."""
    return LOSSES


def optimizer_names():
    """Return the names of csrc/optimizers.def, in its order."""
    return OPTIMIZERS


def sampling_names():
    """Return the names of the ways to sample batches."""
    return tuple(SAMPLINGS)


bp_level_in_use()  # found out here, while there is one thread


def simd_levels():
    """Return the instruction-set levels that this build has and this machine runs, weakest first.

    Returns
    -------
    list of str

    Examples
    --------
    >>> import bpcore
    >>> bpcore.simd_levels()[0]
    'generic'
    """
    return [LEVELS[i] for i in range(BP_N_LEVELS) if bp_level_runs_here(<bp_level>i)]


def simd_level():
    """Return the instruction-set level in use: the strongest, or what ``BPCORE_SIMD`` said at import.

    Returns
    -------
    str

    Examples
    --------
    >>> import bpcore
    >>> bpcore.simd_level() in bpcore.simd_levels()
    True
    """
    return LEVELS[bp_level_in_use()]


def set_simd_level(str name, str origin="level"):
    """Use another level from now on. For tests: it must not be called while anything computes.

    Raises
    ------
    ValueError
        No such level, or one that this machine or this build lacks.
    """
    if name not in LEVELS:
        import difflib  # as it is rarely needed

        close = difflib.get_close_matches(name, LEVELS, 1)
        meant = f"; did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"{origin} must be one of {', '.join(LEVELS)}, got {name!r}{meant}")
    if bp_level_choose(<bp_level><int>LEVELS.index(name)) != BP_OK:
        raise ValueError(f"{origin}={name}: this machine or this build lacks it; it has {', '.join(simd_levels())}")


def set_num_threads(int n):
    """Set the largest number of threads that a call computes on."""
    check(bp_set_num_threads(n))


def get_num_threads():
    """Return the largest number of threads that a call computes on."""
    return bp_num_threads()


# ---- arrays --------------------------------------------------------------------------------------------------------------

cdef bp_dtype dtype_of(cnp.ndarray array) except *:
    cdef int number = cnp.PyArray_TYPE(array)
    if number == cnp.NPY_FLOAT64:
        return BP_FLOAT64
    if number == cnp.NPY_FLOAT32:
        return BP_FLOAT32
    if array.dtype.kind == "i" and array.dtype.itemsize == 8:
        return BP_INT64
    raise TypeError(f"expected float32 or float64, got {array.dtype}")


cdef void *data_of(cnp.ndarray array, bp_dtype dtype, int64_t size, bint writeable=False) except? NULL:
    """The data of a plain array of `size` elements; anything else is an error, so that C cannot go wrong."""
    if array is None:
        return NULL
    if dtype_of(array) != dtype:
        raise TypeError(f"expected another dtype than {array.dtype}")
    if not cnp.PyArray_ISCARRAY_RO(array):
        raise ValueError("expected a C-contiguous, aligned, native array")
    if writeable and not cnp.PyArray_ISWRITEABLE(array):
        raise ValueError("output array is read-only")
    if cnp.PyArray_SIZE(array) != size:
        raise ValueError(f"expected {size} elements, got {cnp.PyArray_SIZE(array)}")
    return cnp.PyArray_DATA(array)


cdef bint extent(cnp.ndarray array, char **first, char **end):
    """Where the bytes of an array of any layout begin and end; false if it has none."""
    cdef int i
    cdef int64_t span
    first[0] = cnp.PyArray_BYTES(array)
    end[0] = first[0] + cnp.PyArray_ITEMSIZE(array)
    for i in range(cnp.PyArray_NDIM(array)):
        if array.shape[i] == 0:
            return False
        span = (array.shape[i] - 1) * array.strides[i]
        if span < 0:
            first[0] += span
        else:
            end[0] += span
    return True


cdef bint overlap(cnp.ndarray a, cnp.ndarray b):
    cdef char *first_a
    cdef char *end_a
    cdef char *first_b
    cdef char *end_b
    return extent(a, &first_a, &end_a) and extent(b, &first_b, &end_b) and first_a < end_b and first_b < end_a


def may_overlap(cnp.ndarray a not None, cnp.ndarray b not None):
    """Return False if the bytes of one array end before those of the other begin."""
    return overlap(a, b)


cdef int need_matrix(cnp.ndarray array) except -1:
    if cnp.PyArray_NDIM(array) != 2:
        raise ValueError("expected a matrix")
    return 0


cdef int describe(bp_array *to, cnp.ndarray array, int64_t n_rows, int64_t n_columns) except -1:
    """A matrix (or one column, as a vector) of any layout."""
    cdef int n_dim
    memset(to, 0, sizeof(bp_array))
    if array is None:
        return 0
    n_dim = cnp.PyArray_NDIM(array)
    to.dtype = dtype_of(array)
    to.data = cnp.PyArray_DATA(array)
    to.swapped = cnp.PyArray_ISBYTESWAPPED(array)
    if n_dim not in (1, 2):
        raise ValueError("expected a matrix")
    to.n_rows = array.shape[0]
    to.row_stride = array.strides[0]
    to.n_columns = array.shape[1] if n_dim == 2 else 1
    to.column_stride = array.strides[1] if n_dim == 2 else cnp.PyArray_ITEMSIZE(array)
    if to.dtype == BP_INT64 and to.swapped:
        raise TypeError("labels must be in native byte order")
    if (n_rows >= 0 and to.n_rows != n_rows) or (n_columns >= 0 and to.n_columns != n_columns):
        raise ValueError(f"expected shape ({n_rows}, {n_columns}), got {np.shape(array)}")
    return 0


cdef bp_dtype dtype_named(name) except *:
    if name == "float64":
        return BP_FLOAT64
    if name == "float32":
        return BP_FLOAT32
    raise TypeError(f"expected float32 or float64, got {name}")


cdef int check(bp_status status) except -1:
    if status == BP_OK or status == BP_PAUSED:
        return 0
    message = bp_status_text(status).decode()
    if status in (BP_E_MEMORY, BP_E_OVERFLOW):
        raise MemoryError(message)
    if status == BP_E_DIVERGED:
        raise ArithmeticError(message)
    raise ValueError(message)


def find_unfit(cnp.ndarray array not None, cnp.dtype dtype not None):
    """Return (row, column) of the first element that is nan, infinite or too large for `dtype`, or None."""
    cdef bp_array described
    cdef bp_dtype to = BP_FLOAT32 if dtype.itemsize == 4 else BP_FLOAT64
    cdef int64_t row = 0, column = 0
    cdef int found
    describe(&described, array, -1, -1)
    with nogil:
        found = bp_find_unfit(&described, to, &row, &column)
    return (row, column) if found else None


# ---- layers, losses and optimisers alone ---------------------------------------------------------------------------------

def evaluate_function(str name, cnp.ndarray x not None, cnp.ndarray out not None):
    """Fill `out` with exp, log1p, tanh, sigmoid or softplus of `x`; `out` may be `x`."""
    cdef bp_function function = <bp_function><int>FUNCTION_KINDS[name]
    cdef bp_dtype dtype = dtype_of(x)
    cdef int64_t n = cnp.PyArray_SIZE(x)
    cdef void *source = data_of(x, dtype, n)
    cdef void *target = data_of(out, dtype, n, True)
    with nogil:
        bp_kernels_for(dtype).function(function, target, source, n)


def activation_forward(str name, double parameter, cnp.ndarray x not None, cnp.ndarray out not None):
    """Fill `out` with the activation of `x`."""
    cdef bp_activation kind = <bp_activation><int>ACTIVATION_KINDS[name]
    cdef bp_dtype dtype = dtype_of(x)
    cdef int64_t n = cnp.PyArray_SIZE(x)
    cdef void *source = data_of(x, dtype, n)
    cdef void *target = data_of(out, dtype, n, True)
    with nogil:
        bp_kernels_for(dtype).activation_forward(kind, parameter, target, source, n)


def activation_backward(
    str name, double parameter, cnp.ndarray dy not None, cnp.ndarray x not None, cnp.ndarray y not None,
    cnp.ndarray out not None,
):
    """Fill `out` with dy f'(x), where y = f(x)."""
    cdef bp_activation kind = <bp_activation><int>ACTIVATION_KINDS[name]
    cdef bp_dtype dtype = dtype_of(x)
    cdef int64_t n = cnp.PyArray_SIZE(x)
    cdef void *slope = data_of(dy, dtype, n)
    cdef void *source = data_of(x, dtype, n)
    cdef void *value = data_of(y, dtype, n)
    cdef void *target = data_of(out, dtype, n, True)
    with nogil:
        bp_kernels_for(dtype).activation_backward(kind, parameter, target, slope, source, value, n)


def softmax_forward(cnp.ndarray x not None, cnp.ndarray out not None):
    """Fill `out` with the softmax of each row of the matrix `x`."""
    need_matrix(x)
    cdef bp_dtype dtype = dtype_of(x)
    cdef int64_t n = x.shape[0], k = x.shape[1]
    cdef void *source = data_of(x, dtype, n * k)
    cdef void *target = data_of(out, dtype, n * k, True)
    with nogil:
        bp_kernels_for(dtype).softmax_forward(target, source, n, k)


def softmax_backward(cnp.ndarray dy not None, cnp.ndarray y not None, cnp.ndarray out not None):
    """Fill `out` with the gradient at the input of a softmax whose output was `y`."""
    need_matrix(y)
    cdef bp_dtype dtype = dtype_of(y)
    cdef int64_t n = y.shape[0], k = y.shape[1]
    cdef void *slope = data_of(dy, dtype, n * k)
    cdef void *value = data_of(y, dtype, n * k)
    cdef void *target = data_of(out, dtype, n * k, True)
    with nogil:
        bp_kernels_for(dtype).softmax_backward(target, slope, value, n, k)


def dropout_mask(uint64_t key, double p, cnp.ndarray out not None):
    """Fill `out` with 0 (with probability `p`) and 1 / (1 - p)."""
    cdef bp_dtype dtype = dtype_of(out)
    cdef int64_t n = cnp.PyArray_SIZE(out)
    cdef void *target = data_of(out, dtype, n, True)
    with nogil:
        bp_kernels_for(dtype).dropout_mask(target, key, p, n)


def dense_forward(cnp.ndarray x not None, cnp.ndarray weight not None, cnp.ndarray bias, cnp.ndarray out not None):
    """Fill `out` with x @ weight + bias."""
    need_matrix(x)
    need_matrix(weight)
    cdef bp_dtype dtype = dtype_of(weight)
    cdef int64_t n = x.shape[0], n_in = weight.shape[0], n_out = weight.shape[1]
    cdef void *source = data_of(x, dtype, n * n_in)
    cdef void *w = data_of(weight, dtype, n_in * n_out)
    cdef void *b = data_of(bias, dtype, n_out)
    cdef void *target = data_of(out, dtype, n * n_out, True)
    with nogil:
        bp_kernels_for(dtype).dense_forward(target, source, w, b, n, n_in, n_out)


def dense_backward(
    cnp.ndarray dy not None, cnp.ndarray x not None, cnp.ndarray weight not None, cnp.ndarray grad_weight not None,
    cnp.ndarray grad_bias, cnp.ndarray dx,
):
    """Fill `grad_weight`, `grad_bias` and `dx` (the last two may be None)."""
    need_matrix(x)
    need_matrix(weight)
    cdef bp_dtype dtype = dtype_of(weight)
    cdef int64_t n = x.shape[0], n_in = weight.shape[0], n_out = weight.shape[1]
    cdef void *slope = data_of(dy, dtype, n * n_out)
    cdef void *source = data_of(x, dtype, n * n_in)
    cdef void *w = data_of(weight, dtype, n_in * n_out)
    cdef void *gradient_w = data_of(grad_weight, dtype, n_in * n_out, True)
    cdef void *gradient_b = data_of(grad_bias, dtype, n_out, True)
    cdef void *target = data_of(dx, dtype, n * n_in, True)
    transposed = None if dx is None else np.empty(n_in * n_out, weight.dtype)
    cdef void *scratch = data_of(transposed, dtype, n_in * n_out)
    with nogil:
        bp_kernels_for(dtype).dense_backward(gradient_w, gradient_b, target, scratch, slope, source, w, n, n_in, n_out)


cdef int fill_loss(bp_loss_spec *spec, tuple loss) except -1:
    name, parameter, reduction, l2, l1 = loss
    spec.loss = <bp_loss><int>LOSS_KINDS[name]
    spec.parameter = parameter
    spec.reduction = <bp_reduction><int>REDUCTIONS[reduction]
    spec.l2 = l2
    spec.l1 = l1
    return 0


def loss_evaluate(
    str name, double parameter, str reduction, cnp.ndarray prediction not None, cnp.ndarray target not None,
    cnp.ndarray sample_weight, cnp.ndarray gradient,
):
    """Return the loss of predictions (n, k) and, unless `gradient` is None, fill that."""
    need_matrix(prediction)
    cdef bp_loss_spec spec
    cdef bp_dtype dtype = dtype_of(prediction)
    cdef int64_t n = prediction.shape[0], k = prediction.shape[1]
    cdef double value = 0
    if dtype_of(target) == BP_INT64:
        one_hot = np.zeros((n, k), prediction.dtype)
        one_hot[np.arange(n), target] = 1
        target = one_hot
    fill_loss(&spec, (name, parameter, reduction, 0.0, 0.0))
    cdef void *p = data_of(prediction, dtype, n * k)
    cdef void *t = data_of(target, dtype, n * k)
    cdef void *w = data_of(sample_weight, dtype, n)
    cdef void *g = data_of(gradient, dtype, n * k, True)
    with nogil:
        bp_kernels_for(dtype).loss(&spec, &value, g, p, t, w, n, k)
    return value


def loss_weigh(
    str name, str reduction, cnp.ndarray losses not None, cnp.ndarray sample_weight, cnp.ndarray gradient, int64_t k,
):
    """Return the loss for `losses` of n rows ("called_rows"), or of their k elements ("called_elements").

    Unless it is None, `gradient` (n, k) holds the derivative of their sum and becomes that of what is returned.
    """
    cdef bp_loss_spec spec
    cdef bp_dtype dtype = dtype_of(losses)
    cdef int64_t n = losses.shape[0]
    cdef double value = 0
    fill_loss(&spec, (name, 0.0, reduction, 0.0, 0.0))
    cdef void *each = data_of(losses, dtype, n * k if spec.loss == BP_LOSS_CALLED_ELEMENTS else n)
    cdef void *w = data_of(sample_weight, dtype, n)
    cdef void *g = data_of(gradient, dtype, n * k, True)
    with nogil:
        bp_kernels_for(dtype).weigh(&spec, &value, g, each, w, n, k)
    return value


def optimizer_step(
    str name, cnp.ndarray parameters not None, cnp.ndarray gradients not None, tuple slots, tuple hyper,
    double learning_rate, int64_t step,
):
    """Take one step on flat arrays, in place; `step` counts from 1.

    Raises
    ------
    ArithmeticError
        A gradient is non-finite or a parameter would become so; nothing has changed.
    """
    cdef bp_optimizer kind = <bp_optimizer><int>OPTIMIZER_KINDS[name]
    cdef bp_dtype dtype = dtype_of(parameters)
    cdef int64_t n = cnp.PyArray_SIZE(parameters)
    cdef void *p = data_of(parameters, dtype, n, True)
    cdef void *g = data_of(gradients, dtype, n)
    cdef void *s[BP_MAX_SLOTS]
    cdef double h[BP_N_HYPER]
    fill_optimizer(s, h, kind, slots, hyper, dtype, n)
    cdef bp_status status
    with nogil:
        status = bp_kernels_for(dtype).optimizer_step(kind, p, g, s, h, learning_rate, step, n)
    check(status)


cdef int fill_optimizer(
    void **s, double *h, bp_optimizer kind, tuple slots, tuple hyper, bp_dtype dtype, int64_t n
) except -1:
    cdef int i
    cdef int n_slots = bp_optimizer_slots[<int>kind]
    if len(slots) != n_slots and not (kind == BP_OPTIMIZER_sgd and not slots):
        raise ValueError(f"{OPTIMIZERS[<int>kind]} has {n_slots} slots, got {len(slots)}")
    for i in range(BP_MAX_SLOTS):
        s[i] = data_of(slots[i], dtype, n, True) if i < len(slots) else NULL
    for i in range(BP_N_HYPER):
        h[i] = hyper[i]
    return 0


# ---- networks ------------------------------------------------------------------------------------------------------------

@cython.final
cdef class Workspace:
    """The memory for intermediate results of one call at a time."""

    cdef bp_workspace *workspace

    def __cinit__(self, Plan plan not None, int64_t n_rows, bint training, int n_parts=1):
        check(bp_workspace_create_parts(
            &self.workspace, plan.plan, n_rows, n_parts, BP_FOR_TRAINING if training else BP_FOR_INFERENCE))

    def __dealloc__(self):
        bp_workspace_destroy(self.workspace)

    cdef int64_t n_rows(self):
        return bp_workspace_n_rows(self.workspace)

    cdef bint serves(self, int64_t n_rows, int n_parts):
        return bp_workspace_n_rows(self.workspace) >= n_rows and bp_workspace_n_parts(self.workspace) >= n_parts


@cython.final
cdef class LossCall:
    """A loss in Python as C calls it during one call or one fit, and what it raised.

    Parameters
    ----------
    loss : object
        Its ``losses_of(prediction, target)`` and ``slopes_of(prediction, target)`` return arrays of the predictions' dtype.
    dtype : bp_dtype
        That of the network.
    lock : object or None
        What the caller holds, and the loss might ask for.
    """

    cdef bp_loss_call call
    cdef object loss
    cdef object lock
    cdef object error
    cdef int number
    cdef int64_t itemsize

    def __cinit__(self, loss, bp_dtype dtype, lock):
        self.call.evaluate = evaluate_loss
        self.call.context = <void *>self
        self.loss, self.lock = loss, lock
        self.number = cnp.NPY_FLOAT64 if dtype == BP_FLOAT64 else cnp.NPY_FLOAT32
        self.itemsize = 8 if dtype == BP_FLOAT64 else 4

    cdef cnp.ndarray copy(self, const void *rows, int64_t n, int64_t k, int64_t stride):
        """Rows of a workspace as an array of their own, which the loss may keep, but not change."""
        cdef cnp.ndarray array = cnp.PyArray_EMPTY(2, [n, k], self.number, 0)
        cdef char *to = cnp.PyArray_BYTES(array)
        cdef int64_t r
        for r in range(n):
            memcpy(to + r * k * self.itemsize, <const char *>rows + r * stride * self.itemsize, k * self.itemsize)
        cnp.PyArray_CLEARFLAGS(array, cnp.NPY_ARRAY_WRITEABLE)
        return array

    cdef int evaluate(self, void *losses, void *gradient, const void *prediction, const void *target, int64_t n, int64_t k,
                      int64_t stride) except -1:
        cdef cnp.ndarray p = self.copy(prediction, n, k, stride), t = self.copy(target, n, k, stride), result
        cdef bp_dtype dtype = dtype_of(p)
        cdef char *slopes
        cdef int64_t r
        result = self.loss.losses_of(p, t)
        memcpy(losses, data_of(result, dtype, n * k if cnp.PyArray_NDIM(result) == 2 else n), cnp.PyArray_NBYTES(result))
        if gradient == NULL:
            return 0
        result = self.loss.slopes_of(p, t)
        slopes = <char *>data_of(result, dtype, n * k)
        for r in range(n):
            memcpy(<char *>gradient + r * stride * self.itemsize, slopes + r * k * self.itemsize, k * self.itemsize)
        return 0


cdef int evaluate_loss(void *context, void *losses, void *gradient, const void *prediction, const void *target, int64_t n,
                       int64_t k, int64_t stride) noexcept with gil:
    """Call a loss in Python; 1 if that, or a signal's handler meanwhile, raised an exception."""
    cdef LossCall call = <LossCall>context
    if call.lock is not None:
        call.lock.release()
    try:
        call.evaluate(losses, gradient, prediction, target, n, k, stride)
    except BaseException as error:
        call.error = error
    if call.lock is not None:
        interruption = take(call.lock)
        call.error = call.error or interruption
    return call.error is not None


cdef object take(lock):
    """Wait for a lock until it is there; return the first exception that signals' handlers raised meanwhile, or None."""
    interruption = None
    while True:
        try:
            lock.acquire()
            return interruption
        except BaseException as error:
            interruption = interruption or error


cdef int fill_data(bp_dataset *to, Plan plan, tuple data) except -1:
    """From (x, target, weight or None, rows or None), all of it checked."""
    cdef cnp.ndarray x, target, weight, rows
    x, target, weight, rows = data
    describe(&to.x, x, -1, bp_plan_n_in(plan.plan))
    describe(&to.target, target, to.x.n_rows, -1)
    describe(&to.weight, weight, to.x.n_rows, 1)
    if to.x.dtype == BP_INT64 or (weight is not None and to.weight.dtype == BP_INT64):
        raise TypeError("expected floats")
    if to.target.n_columns != (1 if to.target.dtype == BP_INT64 else bp_plan_n_out(plan.plan)):
        raise ValueError("the target has another width than the network")
    to.rows = NULL
    to.loss = NULL
    to.n_rows = to.x.n_rows
    if rows is not None:
        to.rows = <const int64_t *>data_of(rows, BP_INT64, rows.shape[0])
        to.n_rows = rows.shape[0]
        if to.n_rows and (rows.min() < 0 or rows.max() >= to.x.n_rows):
            raise IndexError("a row number is out of range")
    return 0


@cython.final
cdef class Plan:
    """A network's description in C, with the workspaces for it.

    Parameters
    ----------
    dtype : {"float32", "float64"}
    n_in : int
    layers : list of tuple
        ("dense", n_in, n_out, has_bias), ("activation", name, parameter), ("softmax",) or ("dropout", p).
    loss : tuple
        (name, parameter, reduction, l2, l1).
    called : object or None
        The loss in Python (see LossCall) where the name is "called_rows" or "called_elements".
    """

    cdef bp_plan *plan
    cdef bp_dtype dtype
    cdef int64_t work_a_row
    cdef Workspace spare  # for inference, not in use; nor are those in `idle`, which only several threads need
    cdef list idle
    cdef Workspace training
    cdef Workspace differentiating  # for derivatives, not in use
    cdef Workspace tape
    cdef int64_t tape_rows
    cdef object called

    def __cinit__(self, str dtype, int64_t n_in, list layers, tuple loss, called=None):
        cdef bp_loss_spec loss_spec
        cdef cnp.ndarray memory = np.zeros(max(1, len(layers)) * sizeof(bp_layer_spec), np.uint8)
        cdef bp_layer_spec *specs = <bp_layer_spec *>cnp.PyArray_DATA(memory)
        cdef int i
        for i, layer in enumerate(layers):
            fill_layer(&specs[i], layer)
        fill_loss(&loss_spec, loss)
        self.dtype = dtype_named(dtype)
        self.called = called
        check(bp_plan_create(&self.plan, self.dtype, n_in, specs, len(layers), &loss_spec))
        self.work_a_row = bp_plan_n_parameters(self.plan) + bp_plan_n_in(self.plan)
        self.idle = []
        self.tape_rows = -1

    def __dealloc__(self):
        bp_plan_destroy(self.plan)

    @property
    def n_in(self):
        return bp_plan_n_in(self.plan)

    @property
    def n_out(self):
        return bp_plan_n_out(self.plan)

    @property
    def n_parameters(self):
        return bp_plan_n_parameters(self.plan)

    cdef void *flat(self, cnp.ndarray array, bint writeable=False) except? NULL:
        return data_of(array, self.dtype, bp_plan_n_parameters(self.plan), writeable)

    cdef LossCall loss_call(self, lock):
        """What calls the loss, if that is in Python."""
        return None if self.called is None else LossCall(self.called, self.dtype, lock)

    cdef Workspace borrow(self, int64_t n_rows):
        """An inference workspace for a call of n_rows rows."""
        cdef Workspace workspace = self.spare
        cdef int n_parts = bp_plan_parts(self.plan, n_rows)
        self.spare = None
        if workspace is None and self.idle:
            workspace = <Workspace>self.idle.pop()
        n_rows = max(1, min(n_rows, bp_plan_block_rows(self.plan)))
        if workspace is None or not workspace.serves(n_rows, n_parts):
            return Workspace(self, n_rows, False, n_parts)
        return workspace

    cdef int give_back(self, Workspace workspace) except -1:
        if self.spare is None:
            self.spare = workspace
        elif len(self.idle) < 3:
            self.idle.append(workspace)
        return 0

    cdef Workspace for_training(self, int64_t n_rows):
        """A training workspace for batches of n_rows rows."""
        cdef int n_parts = bp_plan_parts(self.plan, n_rows)
        n_rows = max(1, min(n_rows, bp_plan_block_rows(self.plan)))
        if self.training is None or not self.training.serves(n_rows, n_parts):
            self.training = Workspace(self, n_rows, True, n_parts)
        return self.training

    cdef int run(self, void *parameters, const bp_array *x, void *y) except -1:
        """Fill y with the outputs for x."""
        cdef Workspace w = self.borrow(x.n_rows)
        if x.n_rows * self.work_a_row < SMALL_WORK:
            bp_kernels_for(self.dtype).predict(self.plan, w.workspace, y, parameters, x)
        else:
            with nogil:
                bp_kernels_for(self.dtype).predict(self.plan, w.workspace, y, parameters, x)
        return self.give_back(w)

    def predict(self, cnp.ndarray parameters not None, cnp.ndarray x not None, cnp.ndarray out not None):
        """Fill `out` (n, n_out) with the network's outputs for `x` (n, n_in), of any layout."""
        cdef bp_array described
        cdef void *p = self.flat(parameters)
        describe(&described, x, -1, bp_plan_n_in(self.plan))
        if described.dtype == BP_INT64:
            raise TypeError("expected floats")
        self.run(p, &described, data_of(out, self.dtype, described.n_rows * bp_plan_n_out(self.plan), True))

    def predict_plain(self, cnp.ndarray parameters not None, x, out):
        """Return the outputs for `x`, in `out` unless that is None; or None, and nothing is done, unless all is plain.

        Plain is an ndarray, no subclass, of the plan's dtype, in C order, and of the right shape with at least one row; `out`
        must be writeable and share no memory with `x`. Whatever else is right, or wrong, and how, is for Python to find out.
        """
        cdef int64_t n
        cdef bp_array described
        if not self.is_plain(x, bp_plan_n_in(self.plan)):
            return None
        n = cnp.PyArray_DIM(<cnp.ndarray>x, 0)
        if out is None:
            out = cnp.PyArray_EMPTY(2, [n, bp_plan_n_out(self.plan)], cnp.PyArray_TYPE(<cnp.ndarray>x), 0)
        elif not (self.is_plain(out, bp_plan_n_out(self.plan)) and cnp.PyArray_DIM(<cnp.ndarray>out, 0) == n
                  and cnp.PyArray_ISWRITEABLE(<cnp.ndarray>out) and not overlap(<cnp.ndarray>x, <cnp.ndarray>out)):
            return None
        describe(&described, <cnp.ndarray>x, -1, -1)
        self.run(self.flat(parameters), &described, cnp.PyArray_DATA(<cnp.ndarray>out))
        return out

    cdef bint is_plain(self, array, int64_t n_columns):
        cdef int expected = cnp.NPY_FLOAT64 if self.dtype == BP_FLOAT64 else cnp.NPY_FLOAT32
        return (
            cnp.PyArray_CheckExact(array)
            and cnp.PyArray_TYPE(<cnp.ndarray>array) == expected
            and cnp.PyArray_NDIM(<cnp.ndarray>array) == 2
            and cnp.PyArray_DIM(<cnp.ndarray>array, 0) > 0
            and cnp.PyArray_DIM(<cnp.ndarray>array, 1) == n_columns
            and cnp.PyArray_ISCARRAY_RO(<cnp.ndarray>array)
        )

    def forward(self, cnp.ndarray parameters not None, cnp.ndarray x not None, cnp.ndarray out not None, bint training,
                uint64_t dropout_key):
        """As `predict`, but with all that `backward` needs kept."""
        cdef bp_array described
        cdef void *p = self.flat(parameters)
        describe(&described, x, -1, bp_plan_n_in(self.plan))
        if described.dtype == BP_INT64:
            raise TypeError("expected floats")
        cdef int64_t n = described.n_rows
        cdef void *y = data_of(out, self.dtype, n * bp_plan_n_out(self.plan), True)
        self.tape_rows = -1
        if self.tape is None or self.tape.n_rows() < n or self.tape.n_rows() > 4 * n + 64:
            self.tape = None  # before the new one, for the memory
            self.tape = Workspace(self, max(1, n), True)
        cdef Workspace tape = self.tape
        with nogil:
            bp_kernels_for(self.dtype).forward(self.plan, tape.workspace, y, p, &described, training, dropout_key)
        self.tape_rows = n

    def backward(self, cnp.ndarray parameters not None, cnp.ndarray gradients not None, cnp.ndarray dy not None,
                 cnp.ndarray dx):
        """Overwrite `gradients` and `dx` from the gradient at the output of the last `forward`."""
        if self.tape is None or self.tape_rows < 0:
            raise RuntimeError("backward needs the values of a forward pass: call forward first")
        cdef int64_t n = self.tape_rows
        cdef Workspace tape = self.tape
        cdef void *p = self.flat(parameters)
        cdef void *g = self.flat(gradients, True)
        cdef void *slope = data_of(dy, self.dtype, n * bp_plan_n_out(self.plan))
        cdef void *target = data_of(dx, self.dtype, n * bp_plan_n_in(self.plan), True)
        with nogil:
            bp_kernels_for(self.dtype).backward(self.plan, tape.workspace, g, target, slope, p, n)

    @property
    def rows_kept(self):
        """Rows of the last `forward`, or -1."""
        return self.tape_rows

    def loss(self, cnp.ndarray parameters not None, cnp.ndarray x not None, cnp.ndarray target not None, cnp.ndarray weight):
        """Return the loss, with penalty."""
        cdef Workspace w = self.borrow(x.shape[0])
        value = self.evaluate(w, parameters, x, target, weight, None, None, False, 0)
        self.give_back(w)
        return value

    def loss_and_gradient(
        self, cnp.ndarray parameters not None, cnp.ndarray x not None, cnp.ndarray target not None, cnp.ndarray weight,
        cnp.ndarray gradients not None, cnp.ndarray dx, bint training, uint64_t dropout_key,
    ):
        """Return the loss, with penalty, and overwrite `gradients` and, unless None, `dx`."""
        cdef Workspace w = self.for_training(x.shape[0])
        return self.evaluate(w, parameters, x, target, weight, gradients, dx, training, dropout_key)

    cdef evaluate(self, Workspace w, cnp.ndarray parameters, cnp.ndarray x, cnp.ndarray target, cnp.ndarray weight,
                  cnp.ndarray gradients, cnp.ndarray dx, bint training, uint64_t dropout_key):
        cdef bp_dataset data
        cdef bp_status status
        cdef double value = 0
        cdef LossCall call = self.loss_call(None)
        fill_data(&data, self, (x, target, weight, None))
        if call is not None:
            data.loss = &call.call
        cdef void *p = self.flat(parameters)
        cdef void *g = self.flat(gradients, True) if gradients is not None else NULL
        cdef void *input_gradient = data_of(dx, self.dtype, data.n_rows * bp_plan_n_in(self.plan), True)
        with nogil:
            status = bp_kernels_for(self.dtype).loss_and_gradient(
                self.plan, w.workspace, &value, g, input_gradient, p, &data, training, dropout_key)
        if status == BP_STOPPED:
            raise call.error
        check(status)
        return value

    def input_jacobian(self, cnp.ndarray parameters not None, cnp.ndarray x not None, cnp.ndarray by_inputs not None):
        """Fill `by_inputs` (n, n_out, n_in) with the derivatives of the outputs for `x` (n, n_in), of any layout."""
        cdef bp_array described
        cdef bp_status status
        cdef void *p = self.flat(parameters)
        describe(&described, x, -1, bp_plan_n_in(self.plan))
        if described.dtype == BP_INT64:
            raise TypeError("expected floats")
        cdef int64_t n = described.n_rows
        cdef void *slopes = data_of(by_inputs, self.dtype, n * bp_plan_n_out(self.plan) * bp_plan_n_in(self.plan), True)
        cdef Workspace w = self.borrow_differentiating(n)
        with nogil:
            status = bp_kernels_for(self.dtype).input_jacobian(self.plan, w.workspace, slopes, p, &described)
        self.differentiating = w
        check(status)

    def gauss_newton(
        self, cnp.ndarray parameters not None, cnp.ndarray x not None, cnp.ndarray target not None, cnp.ndarray weight,
        cnp.ndarray matrix not None, cnp.ndarray gradient not None, cnp.ndarray jacobian not None,
    ):
        """Fill `matrix` (n_parameters, n_parameters) with sum(w J^T J) and `gradient` with sum(w J^T e); see csrc/bpcore.h.

        `jacobian` is room for some rows of J, of shape (a multiple of 16, n_out, n_parameters).
        """
        cdef bp_dataset data
        cdef bp_status status
        cdef int64_t n = bp_plan_n_parameters(self.plan), rows = jacobian.shape[0]
        fill_data(&data, self, (x, target, weight, None))
        cdef void *p = self.flat(parameters)
        cdef void *m = data_of(matrix, self.dtype, n * n, True)
        cdef void *g = self.flat(gradient, True)
        cdef void *j = data_of(jacobian, self.dtype, rows * bp_plan_n_out(self.plan) * n, True)
        if rows < 16 or rows % 16:
            raise ValueError("expected a multiple of 16 rows")
        cdef Workspace w = self.borrow_differentiating(data.n_rows)
        with nogil:
            status = bp_kernels_for(self.dtype).gauss_newton(self.plan, w.workspace, m, g, j, rows, p, &data)
        self.differentiating = w
        check(status)

    cdef Workspace borrow_differentiating(self, int64_t n_rows):
        """A training workspace that no other call uses meanwhile."""
        cdef Workspace workspace = self.differentiating
        cdef int n_parts = bp_plan_parts(self.plan, n_rows)
        self.differentiating = None
        n_rows = max(1, min(n_rows, bp_plan_block_rows(self.plan)))
        if workspace is None or not workspace.serves(n_rows, n_parts):
            return Workspace(self, n_rows, True, n_parts)
        return workspace


cdef int fill_layer(bp_layer_spec *spec, tuple layer) except -1:
    kind = layer[0]
    if kind == "dense":
        spec.kind = BP_LAYER_DENSE
        spec.n_in, spec.n_out, spec.has_bias = layer[1], layer[2], layer[3]
    elif kind == "activation":
        spec.kind = BP_LAYER_ACTIVATION
        spec.activation = <bp_activation><int>ACTIVATION_KINDS[layer[1]]
        spec.parameter = layer[2]
    elif kind == "softmax":
        spec.kind = BP_LAYER_SOFTMAX
    elif kind == "dropout":
        spec.kind = BP_LAYER_DROPOUT
        spec.parameter = layer[1]
    else:
        raise ValueError(f"unknown kind of layer {kind!r}")
    return 0


cdef int look_at_signals(void *context) noexcept with gil:
    """Let the handlers of signals run in the middle of a batch; 1 if one of them raised an exception."""
    cdef Fit fit = <Fit>context
    fit.generator.bit_generator.lock.release()  # a handler may draw numbers
    try:
        PyErr_CheckSignals()
    except BaseException as error:
        fit.interruption = error
    interruption = take(fit.generator.bit_generator.lock)
    fit.interruption = fit.interruption or interruption
    return fit.interruption is not None


@cython.final
cdef class Fit:
    """One fit: the data, the optimiser and its state, where it stands, and what it has recorded.

    Arrays stay referenced for as long as this lives. `losses`, `validation_losses` (or None) and `seconds` are float64
    arrays as long as `learning_rates`; `order` is None or int64 with room for max(n_rows, batch_size).
    """

    cdef bp_fit fit
    cdef Plan plan
    cdef Workspace workspace
    cdef tuple kept
    cdef object generator
    cdef LossCall call
    cdef object interruption  # what a signal's handler raised in the middle of a batch
    cdef readonly bint diverged

    def __init__(
        self, Plan plan not None, *, tuple data, tuple validation, cnp.ndarray parameters, cnp.ndarray gradients, generator,
        str optimizer, tuple slots, tuple hyper, int64_t n_steps, double gradient_clip, str sampling, int64_t batch_size,
        cnp.ndarray order, cnp.ndarray learning_rates, cnp.ndarray losses, cnp.ndarray validation_losses, cnp.ndarray seconds,
    ):
        cdef int64_t n = bp_plan_n_parameters(plan.plan), epochs = learning_rates.shape[0]
        cdef bp_fit *fit = &self.fit
        memset(fit, 0, sizeof(bp_fit))
        self.plan = plan
        self.generator = generator
        self.kept = (data, validation, parameters, gradients, slots, order, learning_rates, losses, validation_losses, seconds)
        fill_data(&fit.data, plan, data)
        if validation is not None:
            fill_data(&fit.validation, plan, validation)
        self.call = plan.loss_call(generator.bit_generator.lock)
        if self.call is not None:
            fit.data.loss = fit.validation.loss = &self.call.call
        fit.parameters = plan.flat(parameters, True)
        fit.gradients = plan.flat(gradients, True)
        fit.optimizer = <bp_optimizer><int>OPTIMIZER_KINDS[optimizer]
        fill_optimizer(fit.slots, fit.hyper, fit.optimizer, slots, hyper, plan.dtype, n)
        fit.n_steps = n_steps
        fit.gradient_clip = gradient_clip
        fit.sampling = <bp_sampling><int>SAMPLINGS[sampling]
        fit.batch_size = batch_size
        if batch_size < 1 or fit.data.n_rows < 1:
            raise ValueError("a fit needs rows")
        if order is None and fit.sampling != BP_SAMPLING_SEQUENTIAL and not (
                fit.sampling == BP_SAMPLING_SHUFFLE and batch_size >= fit.data.n_rows):
            raise ValueError("this sampling needs `order`")
        fit.order = <int64_t *>data_of(order, BP_INT64, max(fit.data.n_rows, batch_size), True)
        fit.learning_rates = <const double *>data_of(learning_rates, BP_FLOAT64, epochs)
        fit.losses = <double *>data_of(losses, BP_FLOAT64, epochs, True)
        fit.validation_losses = <double *>data_of(validation_losses, BP_FLOAT64, epochs, True)
        fit.seconds = <double *>data_of(seconds, BP_FLOAT64, epochs, True)
        fit.blocks_per_look = 1
        fit.poll = look_at_signals
        fit.poll_context = <void *>self
        self.workspace = plan.for_training(max(min(batch_size, fit.data.n_rows), fit.validation.n_rows))
        cdef bitgen_t *bits = <bitgen_t *>PyCapsule_GetPointer(generator.bit_generator.capsule, "BitGenerator")
        fit.random.state = bits.state
        fit.random.next_uint64 = bits.next_uint64
        fit.random.next_uint32 = bits.next_uint32

    def train(self, int64_t stop_epoch, double budget):
        """Train until `stop_epoch` epochs are done or `budget` seconds are over.

        Returns
        -------
        bool
            Whether stop_epoch was reached.

        Raises
        ------
        ArithmeticError
            The loss, a gradient or a parameter became non-finite; the parameters are from before that.
        BaseException
            What a signal's handler, or a loss in Python, raised in the middle of a batch; the parameters are those of the
            batch before.
        """
        cdef bp_status status
        if stop_epoch > len(self.kept[6]):
            raise ValueError("stop_epoch is beyond the records")
        self.fit.stop_epoch = stop_epoch
        self.fit.budget = budget
        with self.generator.bit_generator.lock, nogil:
            status = bp_kernels_for_fit(self.plan.plan, &self.fit).train(
                self.plan.plan, self.workspace.workspace, &self.fit
            )
        self.diverged = status == BP_E_DIVERGED
        if status == BP_STOPPED:
            interruption, self.interruption = self.interruption, None
            if self.call is not None:
                interruption = interruption or self.call.error
                self.call.error = None
            raise interruption
        check(status)
        return status == BP_OK

    def position(self):
        """Where the fit stands, at the start of a batch or of a validation: the numbers that `go_to` takes, and sums."""
        cdef bp_fit *fit = &self.fit
        numbers = {
            "epoch": fit.epoch, "batch": fit.batch, "drawn": bool(fit.drawn), "validating": bool(fit.validating),
            "dropout_key": fit.dropout_key,
        }
        return numbers, np.array([fit.epoch_loss, fit.epoch_weight, fit.batch_weight, fit.elapsed])

    def go_to(self, dict numbers, cnp.ndarray sums not None):
        """Stand where another fit of the same kind stood. The caller fills `order` and what is recorded already."""
        cdef bp_fit *fit = &self.fit
        cdef int64_t epoch = numbers["epoch"], batch = numbers["batch"]
        cdef int64_t n_batches = (fit.data.n_rows + fit.batch_size - 1) // fit.batch_size
        if not (0 <= epoch <= len(self.kept[6]) and 0 <= batch < n_batches):
            raise ValueError(f"epoch {epoch}, batch {batch}: there is no such batch in this fit")
        if numbers["validating"] and fit.validation.n_rows == 0:
            raise ValueError("this fit has no validation data")
        if cnp.PyArray_SIZE(sums) != 4:
            raise ValueError("expected four sums")
        self.check_order()
        fit.epoch, fit.timed_epochs, fit.batch = epoch, epoch, batch
        fit.drawn, fit.validating, fit.dropout_key = numbers["drawn"], numbers["validating"], numbers["dropout_key"]
        fit.epoch_loss, fit.epoch_weight, fit.batch_weight, fit.elapsed = sums.tolist()

    cdef int check_order(self) except -1:
        """What is to be read by C must be rows that there are."""
        cdef int64_t i
        for i in range(max(self.fit.data.n_rows, self.fit.batch_size) if self.fit.order != NULL else 0):
            if not 0 <= self.fit.order[i] < self.fit.data.x.n_rows:
                raise IndexError("a row number is out of range")
        return 0

    @property
    def epoch(self):
        """Epochs done."""
        return self.fit.epoch

    @property
    def batch(self):
        """Batches done of the present epoch."""
        return self.fit.batch

    @property
    def n_steps(self):
        """Steps of the optimiser, those before this fit included."""
        return self.fit.n_steps
