"""Arrays of other libraries, as NumPy's: ``__array__``, DLPack, and frames column by column."""

from numbers import Real
from typing import Any

import numpy as np

from bpcore.errors import DTypeError, ShapeError

_READABLE = (1, 3, 11, 13)  # DLPack's numbers of devices whose memory a CPU reads


def as_ndarray(value: Any, argument: str) -> np.ndarray:
    """Return what is no ndarray as one, without a copy where its owner allows.

    Parameters
    ----------
    value : object
        With ``__array__`` (frames of pandas and polars, tables of Arrow, tensors of PyTorch),
        ``__dlpack__`` alone, or a nested sequence.
    argument : str
        What the caller calls it, for messages.

    Returns
    -------
    ndarray
        Of any dtype. Columns of a frame that pandas would make objects of, as bool beside float,
        get the dtype that NumPy gives them together; missing values in them become nan.

    Raises
    ------
    DTypeError
        Its owner refuses (it is on a GPU, say), or a column of a frame is no numbers.
    ShapeError
        A nested sequence that is not rectangular.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas
    >>> from bpcore.foreign import as_ndarray
    >>> frame = pandas.DataFrame({"size": np.float32([1.5, 2.5]), "sold": [True, False]})
    >>> as_ndarray(frame, "X")
    array([[1.5, 1. ],
           [2.5, 0. ]], dtype=float32)
    """
    if hasattr(value, "__array__"):
        try:
            array = np.asarray(value)
        except (TypeError, ValueError, RuntimeError) as error:
            raise DTypeError(f"{argument} cannot be read as an array: {error}") from None
        if array.dtype.kind == "O" and array.ndim == 2 and hasattr(value, "items"):
            return _by_columns(value, argument)
        return array
    if hasattr(value, "__dlpack__"):
        return _from_dlpack(value, argument)
    try:
        return np.asarray(value)
    except ValueError as error:
        raise ShapeError(f"{argument} is not a rectangular array: {error}") from None


def check_real(array: np.ndarray, argument: str) -> None:
    """Raise DTypeError unless an array holds booleans, integers or floats.

    Examples
    --------
    >>> import numpy as np
    >>> from bpcore.foreign import check_real
    >>> check_real(np.array([1.0, None]), "x")
    Traceback (most recent call last):
        ...
    bpcore.errors.DTypeError: x must hold real numbers, got dtype object (NoneType)
    """
    if array.dtype.kind in "biuf":
        return
    got = f"dtype {array.dtype}"
    if array.dtype.kind == "O" and array.size:
        culprit = next((each for each in array.flat if not isinstance(each, Real)), array.flat[0])
        got += f" ({type(culprit).__name__})"
    raise DTypeError(f"{argument} must hold real numbers, got {got}")


def _by_columns(frame: Any, argument: str) -> np.ndarray:
    columns = []
    for name, column in frame.items():
        columns.append(as_ndarray(column, f"{argument}, column {name!r},"))
        check_real(columns[-1], f"{argument}, column {name!r},")
    return np.column_stack(columns)


def _from_dlpack(value: Any, argument: str) -> np.ndarray:
    try:
        device = tuple(map(int, value.__dlpack_device__()))
        array = np.from_dlpack(value) if device[0] in _READABLE else None
    except (BufferError, RuntimeError, TypeError, ValueError) as error:
        raise DTypeError(f"{argument} cannot be read as an array: {error}") from None
    if array is None:
        raise DTypeError(
            f"{argument} is on another device than the CPU, {device} in DLPack's numbers; copy it "
            "to the CPU first"
        )
    return array
