"""What every public function asks of its arrays, in one place.

Each function returns its argument in the form that the compiled core wants, or raises an error that
names the argument, what was expected and what was got. Nothing here ever writes to an argument.
The checks of numbers, names and dtypes, in `arguments`, can be had from here as well.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from bpcore import _core
from bpcore.arguments import (
    FLOAT32,
    FLOAT64,
    as_dtype,
    as_generator,
    boolean,
    check_memory,
    choose,
    finite,
    finite_non_negative,
    finite_positive,
    fraction,
    inside_unit,
    units,
    whole,
)
from bpcore.errors import DTypeError, ShapeError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = [
    "FLOAT32",
    "FLOAT64",
    "as_array",
    "as_dtype",
    "as_generator",
    "as_matrix",
    "as_sample_weight",
    "as_target",
    "boolean",
    "check_finite",
    "check_memory",
    "check_non_negative",
    "check_probabilities",
    "choose",
    "finite",
    "finite_non_negative",
    "finite_positive",
    "fraction",
    "inside_unit",
    "units",
    "whole",
]

ONE_HOT_TOLERANCE = 1e-6
_EXACT = 2**53  # float64 holds all integers up to here


def as_array(
    value: "ArrayLike", argument: str, dtype: np.dtype | None = None
) -> np.ndarray[Any, np.dtype[np.floating]]:
    """Return `value` as the core wants it: C-contiguous, aligned, native float32 or float64.

    Parameters
    ----------
    value : array_like
        Real numbers in any shape and layout. Infinities and nan are numbers like any other here.
    argument : str
        What the caller calls it, for messages.
    dtype : numpy.dtype, optional
        float32 or float64. Without it float32 stays float32 and all else becomes float64.

    Returns
    -------
    ndarray
        `value` itself where it already has that form, else a copy.

    Raises
    ------
    DTypeError
        Not real numbers, or a masked array with something masked.
    ShapeError
        A nested sequence that is not rectangular.
    ValueError
        An integer that float64 cannot hold exactly, or a finite value beyond the range of `dtype`.

    Examples
    --------
    >>> from bpcore.checks import FLOAT32, as_array
    >>> as_array([[True, False], [2, 3]], "x")
    array([[1., 0.],
           [2., 3.]])
    >>> as_array([0.0, 1e300], "x", FLOAT32)
    Traceback (most recent call last):
        ...
    ValueError: x[1] is 1e+300, beyond the range of float32
    """
    if type(value) is np.ndarray:
        given = value.dtype
        if given is dtype or (dtype is None and (given is FLOAT64 or given is FLOAT32)):
            flags = value.flags
            if flags.c_contiguous and flags.aligned:
                return value
    array = _as_float(_as_real(value, argument), argument)
    if dtype is None:
        dtype = FLOAT32 if array.dtype.itemsize == 4 else FLOAT64
    if array.dtype.itemsize > dtype.itemsize:
        return _narrow(array, argument, dtype)
    return np.require(array, dtype, ["C", "A"])


def as_matrix(
    value: "ArrayLike", argument: str, n_columns: int | None = None, owner: str = "the network"
) -> np.ndarray[Any, np.dtype[np.floating]]:
    """Return `value` as a matrix of float32 or float64 in whatever layout and byte order it has.

    An array of float32 or float64 is never copied, a memory map included.

    Parameters
    ----------
    value : array_like of shape (n, k)
        Rows are samples.
    argument : str
        What the caller calls it, for messages.
    n_columns : int, optional
        The width it must have.
    owner : str
        Who wants that width, for messages.

    Raises
    ------
    DTypeError, ValueError
        As `as_array`.
    ShapeError
        Not two dimensions, or another width.

    Examples
    --------
    >>> from bpcore.checks import as_matrix
    >>> as_matrix([[1, 2], [3, 4]], "X", 3)
    Traceback (most recent call last):
        ...
    bpcore.errors.ShapeError: X has 2 columns, but the network takes 3
    """
    if type(value) is np.ndarray and (value.dtype is FLOAT64 or value.dtype is FLOAT32):
        array = value
    else:
        array = _as_float(_as_real(value, argument), argument)
    if array.ndim != 2:
        raise ShapeError(_matrix_wanted(array.shape, argument, n_columns))
    if n_columns is not None and array.shape[1] != n_columns:
        raise ShapeError(f"{argument} has {array.shape[1]} columns, but {owner} takes {n_columns}")
    return array


def as_target(
    value: "ArrayLike", argument: str, n_rows: int, n_out: int, labels: bool = False
) -> np.ndarray:
    """Return a target as a matrix that matches the predictions, or as checked class labels.

    Parameters
    ----------
    value : array_like
        Shape (n_rows, n_out); (n_rows,) too where there is one output. With `labels`, whole numbers
        of shape (n_rows,) or (n_rows, 1), or rows of `n_out` probabilities that sum to 1.
    argument : str
        What the caller calls it, for messages.
    n_rows, n_out : int
        The shape of the predictions.
    labels : bool
        Whether class labels are meant (cross-entropy).

    Returns
    -------
    ndarray
        A float32 or float64 matrix of any layout, or labels: a fresh int64 array of shape
        (n_rows,), so that nobody can change them after the check.

    Raises
    ------
    DTypeError, ValueError
        As `as_array`; also a label that is not a whole number or out of range, a probability below
        0 and probabilities that do not sum to 1.
    ShapeError
        Another shape. A target is never broadcast.

    Examples
    --------
    >>> from bpcore.checks import as_target
    >>> as_target([1.0, 2.0], "y", 2, 1).shape
    (2, 1)
    >>> as_target([0, 3], "y", 2, 3, labels=True)
    Traceback (most recent call last):
        ...
    ValueError: y: label 3 in row 1 is out of range; labels go from 0 to 2
    """
    if type(value) is np.ndarray and value.dtype is FLOAT64:
        array = value
    else:
        array = _as_real(value, argument)
    shape = array.shape
    if labels and n_out > 1 and shape in ((n_rows,), (n_rows, 1)):
        return _as_labels(array.reshape(n_rows), argument, n_out)
    array = _as_float(array, argument)
    if n_out == 1 and shape == (n_rows,):
        array = array.reshape(n_rows, 1)
    if array.shape != (n_rows, n_out):
        instead = f", or class labels of shape ({n_rows},)" if labels and n_out > 1 else ""
        raise ShapeError(
            f"{argument} has shape {shape}, expected {(n_rows, n_out)}{instead}, as the predictions"
        )
    if labels:
        _check_one_hot(array, argument)
    return array


def as_sample_weight(
    value: "ArrayLike | None", n_rows: int, dtype: np.dtype | None = None
) -> np.ndarray[Any, np.dtype[np.floating]] | None:
    """Return weights of rows as a contiguous array of shape (n_rows,), or None.

    Examples
    --------
    >>> from bpcore.checks import as_sample_weight
    >>> as_sample_weight([1, 2, -1], 3)
    Traceback (most recent call last):
        ...
    ValueError: sample_weight[2] is -1.0, but weights must be finite and >= 0
    """
    if value is None:
        return None
    weight = as_array(value, "sample_weight", dtype)
    if weight.shape != (n_rows,):
        raise ShapeError(f"sample_weight has shape {weight.shape}, expected ({n_rows},)")
    unfit = ~((weight >= 0) & (weight < np.inf))
    if unfit.any():
        row = int(unfit.argmax())
        raise ValueError(
            f"sample_weight[{row}] is {weight[row]}, but weights must be finite and >= 0"
        )
    if n_rows and not weight.any():
        raise ValueError("sample_weight is all zero, so there is nothing to learn from")
    with np.errstate(over="ignore"):
        total = weight.sum()
    if not np.isfinite(total):
        raise ValueError(f"sample_weight sums to more than {weight.dtype} can hold")
    return weight


def check_finite(matrix: np.ndarray, argument: str, dtype: np.dtype) -> None:
    """Raise ValueError unless all of a float32 or float64 matrix is finite in `dtype`.

    Examples
    --------
    >>> import numpy as np
    >>> from bpcore.checks import FLOAT64, check_finite
    >>> check_finite(np.array([[0.0, np.nan], [np.inf, 1.0]]), "X", FLOAT64)
    Traceback (most recent call last):
        ...
    ValueError: X[0, 1] is nan; 2 of its 4 values are not finite
    """
    place = _core.find_unfit(matrix, dtype)
    if place is None:
        return
    value = matrix[place]
    if np.isfinite(value):
        raise ValueError(_beyond_range(value, _element(argument, place), dtype))
    unfit = matrix.size - np.count_nonzero(np.isfinite(matrix))
    raise ValueError(
        f"{_element(argument, place)} is {value}; "
        f"{unfit} of its {matrix.size} values {'is' if unfit == 1 else 'are'} not finite"
    )


def check_probabilities(target: np.ndarray, argument: str) -> None:
    """Raise ValueError unless all of a matrix lies in [0, 1].

    Examples
    --------
    >>> import numpy as np
    >>> from bpcore.checks import check_probabilities
    >>> check_probabilities(np.array([[0.0], [2.0]]), "y")
    Traceback (most recent call last):
        ...
    ValueError: y[1, 0] is 2.0, but binary cross-entropy wants targets in [0, 1]
    """
    unfit = ~((target >= 0) & (target <= 1))
    if unfit.any():
        place = _first(unfit)
        raise ValueError(
            f"{_element(argument, place)} is {target[place]}, "
            "but binary cross-entropy wants targets in [0, 1]"
        )


def check_non_negative(target: np.ndarray, argument: str) -> None:
    """Raise ValueError unless all of a matrix is 0 or more.

    Examples
    --------
    >>> import numpy as np
    >>> from bpcore.checks import check_non_negative
    >>> check_non_negative(np.array([[0.0], [-2.0]]), "y")
    Traceback (most recent call last):
        ...
    ValueError: y[1, 0] is -2.0, but the Poisson loss wants targets of 0 or more
    """
    unfit = ~(target >= 0)
    if unfit.any():
        place = _first(unfit)
        raise ValueError(
            f"{_element(argument, place)} is {target[place]}, "
            "but the Poisson loss wants targets of 0 or more"
        )


# ----------------------------------------------------------------------------------------- helpers


def _as_real(value: Any, argument: str) -> np.ndarray:
    """Return a plain ndarray of booleans, integers or floats; copies only what is no array."""
    if isinstance(value, np.ndarray):
        if type(value) is not np.ndarray and np.ma.is_masked(value):
            raise DTypeError(
                f"{argument} is a masked array with {np.ma.count_masked(value)} masked values; "
                "fill or drop them first"
            )
        array = value.view(np.ndarray)
    else:
        try:
            array = np.asarray(value)
        except ValueError as error:
            raise ShapeError(f"{argument} is not a rectangular array: {error}") from None
    if array.dtype.kind not in "biuf":
        got = f"dtype {array.dtype}"
        if array.dtype.kind == "O" and array.size:
            got += f" ({type(array.flat[0]).__name__})"
        raise DTypeError(f"{argument} must hold real numbers, got {got}")
    return array


def _as_float(array: np.ndarray, argument: str) -> np.ndarray:
    """Return float32 and float64 as they are, whatever their layout, and all else as float64."""
    kind, size = array.dtype.kind, array.dtype.itemsize
    if kind == "f":
        if size in (4, 8):
            return array
        return _narrow(array, argument, FLOAT64) if size > 8 else array.astype(FLOAT64)
    if size == 8 and array.size and (array.min() < -_EXACT or array.max() > _EXACT):
        _check_exact(array, argument)
    return array.astype(FLOAT64)


def _check_exact(integers: np.ndarray, argument: str) -> None:
    """Raise ValueError if float64 would round one of these 64-bit integers."""
    magnitude = np.abs(integers).astype(np.uint64)
    lowest_bit = np.maximum(magnitude & (~magnitude + np.uint64(1)), np.uint64(1))
    rounded = magnitude // lowest_bit >= _EXACT
    if rounded.any():
        place = _first(rounded)
        raise ValueError(
            f"{_element(argument, place)} is {integers[place]}, which float64 cannot hold exactly"
        )


def _narrow(array: np.ndarray, argument: str, dtype: np.dtype) -> np.ndarray:
    """Return a rounded copy in C order, refusing finite values beyond the range of `dtype`."""
    with np.errstate(over="ignore", under="ignore"):
        narrow = array.astype(dtype, order="C")
    infinite = np.isinf(narrow)
    if infinite.any():
        infinite &= np.isfinite(array)
        if infinite.any():
            place = _first(infinite)
            raise ValueError(_beyond_range(array[place], _element(argument, place), dtype))
    return narrow


def _as_labels(array: np.ndarray, argument: str, n_classes: int) -> np.ndarray:
    labels = array.copy()  # checked and then used: no other thread may change it in between
    if labels.dtype.kind == "f":
        fractional = ~(labels == np.floor(labels)) | np.isinf(labels)
        if fractional.any():
            row = int(fractional.argmax())
            raise ValueError(
                f"{argument}: label {labels[row]} in row {row} is not a whole number; "
                f"labels go from 0 to {n_classes - 1}"
            )
    unfit = (labels < 0) | (labels >= n_classes)
    if unfit.any():
        row = int(unfit.argmax())
        raise ValueError(
            f"{argument}: label {labels[row]} in row {row} is out of range; "
            f"labels go from 0 to {n_classes - 1}"
        )
    return labels.astype(np.int64)


def _check_one_hot(matrix: np.ndarray, argument: str) -> None:
    with np.errstate(invalid="ignore"):
        total = matrix.sum(axis=1, dtype=FLOAT64)
    unfit = ~(np.abs(total - 1) <= ONE_HOT_TOLERANCE)
    if unfit.any():
        row = int(unfit.argmax())
        hint = "; for one output of 0 or 1 use binary cross-entropy" if matrix.shape[1] == 1 else ""
        raise ValueError(f"{argument}: row {row} sums to {total[row]}, expected 1{hint}")
    negative = matrix < 0
    if negative.any():
        place = _first(negative)
        raise ValueError(f"{_element(argument, place)} is {matrix[place]}, but must be >= 0")


def _matrix_wanted(shape: tuple[int, ...], argument: str, n_columns: int | None) -> str:
    width = "k" if n_columns is None else n_columns
    text = f"{argument} must have shape (n, {width}), got {shape}"
    if len(shape) == 1 and shape[0] == n_columns != 1:
        return f"{text}: {argument}.reshape(1, -1) makes it one row"
    if len(shape) == 1 and n_columns == 1:
        return f"{text}: {argument}.reshape(-1, 1) makes it one column"
    if len(shape) == 1:
        one_row, one_column = f"{argument}.reshape(1, -1)", f"{argument}.reshape(-1, 1)"
        return f"{text}: {one_row} makes it one row, {one_column} one column"
    if len(shape) > 2:
        return f"{text}: {argument}.reshape(len({argument}), -1) makes each sample one row"
    return text


def _first(where: np.ndarray) -> tuple[int, ...]:
    return tuple(int(i) for i in np.unravel_index(int(where.argmax()), where.shape))


def _element(argument: str, place: tuple[int, ...]) -> str:
    return f"{argument}[{', '.join(map(str, place))}]" if place else argument


def _beyond_range(value: Any, element: str, dtype: np.dtype) -> str:
    return f"{element} is {value}, beyond the range of {dtype}"
