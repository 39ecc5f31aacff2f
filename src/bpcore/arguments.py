"""What every public function asks of its numbers, names and dtypes.

Each function returns its argument, checked, or raises an error that names it, what was expected and
what was got.
"""

import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import numpy as np

from bpcore.errors import DTypeError

if TYPE_CHECKING:  # numpy.typing and numpy.random are slow to import; bpcore must not be
    from numpy.typing import DTypeLike

FLOAT32 = np.dtype("float32")
FLOAT64 = np.dtype("float64")


def finite_positive(value: Any, name: str) -> float:
    """Return a finite number above 0 as a float.

    Examples
    --------
    >>> from bpcore.arguments import finite_positive
    >>> finite_positive(-1, "learning_rate")
    Traceback (most recent call last):
        ...
    ValueError: learning_rate must be finite and > 0, got -1.0
    """
    number = _as_number(value, name)
    if 0 < number < np.inf:
        return number
    raise ValueError(f"{name} must be finite and > 0, got {number}")


def finite_non_negative(value: Any, name: str) -> float:
    """Return a finite number that is 0 or more as a float."""
    number = _as_number(value, name)
    if 0 <= number < np.inf:
        return number
    raise ValueError(f"{name} must be finite and >= 0, got {number}")


def finite(value: Any, name: str) -> float:
    """Return a finite number as a float."""
    number = _as_number(value, name)
    if -np.inf < number < np.inf:
        return number
    raise ValueError(f"{name} must be finite, got {number}")


def fraction(value: Any, name: str) -> float:
    """Return a number in [0, 1) as a float."""
    number = _as_number(value, name)
    if 0 <= number < 1:
        return number
    raise ValueError(f"{name} must be at least 0 and below 1, got {number}")


def inside_unit(value: Any, name: str) -> float:
    """Return a number in (0, 1) as a float."""
    number = _as_number(value, name)
    if 0 < number < 1:
        return number
    raise ValueError(f"{name} must be above 0 and below 1, got {number}")


def whole(value: Any, name: str, minimum: int = 0) -> int:
    """Return an integer of at least `minimum`; anything but an integer is a TypeError.

    Examples
    --------
    >>> from bpcore.arguments import whole
    >>> whole(0, "batch_size", 1)
    Traceback (most recent call last):
        ...
    ValueError: batch_size must be >= 1, got 0
    """
    if type(value) is not int and (isinstance(value, bool) or not isinstance(value, Integral)):
        raise TypeError(f"{name} must be an integer, got {_described(value)}")
    if value < minimum:
        raise ValueError(f"{name} must be >= {minimum}, got {value}")
    return int(value)


def units(value: Any, name: str) -> int:
    """Return a number of units; like `whole`, but a float is a wrong value, not a wrong type."""
    if isinstance(value, Real) and not isinstance(value, bool | Integral):
        raise ValueError(f"{name} must be a whole number >= 1, got {value}")
    return whole(value, name, 1)


def boolean(value: Any, name: str) -> bool:
    """Return True or False; anything else is a TypeError."""
    if isinstance(value, bool | np.bool_):
        return bool(value)
    raise TypeError(f"{name} must be True or False, got {_described(value)}")


def choose(name: Any, choices: Iterable[str], what: str) -> str:
    """Return `name` if it is one of `choices`.

    Examples
    --------
    >>> from bpcore.arguments import choose
    >>> choose("rleu", ["relu", "tanh"], "activation")
    Traceback (most recent call last):
        ...
    ValueError: unknown activation 'rleu'; did you mean 'relu'? The choices are relu, tanh
    """
    choices = list(choices)
    if not isinstance(name, str):
        raise TypeError(f"{what} must be one of {', '.join(choices)}, got {_described(name)}")
    if name in choices:
        return name
    from difflib import get_close_matches  # only ever needed for this message

    close = get_close_matches(name.lower(), choices, n=1, cutoff=0.5)
    meant = f"; did you mean {close[0]!r}?" if close else "."
    raise ValueError(f"unknown {what} {name!r}{meant} The choices are {', '.join(choices)}")


def as_dtype(dtype: "DTypeLike") -> np.dtype:
    """Return float32 or float64 as a native numpy.dtype.

    Examples
    --------
    >>> from bpcore.arguments import as_dtype
    >>> as_dtype("float32")
    dtype('float32')
    >>> as_dtype(int)
    Traceback (most recent call last):
        ...
    bpcore.errors.DTypeError: dtype must be float32 or float64, got int64
    """
    if dtype is not None:  # which NumPy takes for float64
        try:
            given = np.dtype(dtype)
        except TypeError:
            pass
        else:
            for known in (FLOAT32, FLOAT64):
                if given.newbyteorder("=") == known:
                    return known
            dtype = given
    raise DTypeError(f"dtype must be float32 or float64, got {dtype}")


def as_generator(rng: Any = None) -> "np.random.Generator":
    """Return `numpy.random.default_rng(rng)`: a generator passes through, a seed makes one."""
    return np.random.default_rng(rng)


def check_memory(n_bytes: int, what: str) -> None:
    """Raise MemoryError if `n_bytes` are more than this process can ever get.

    Systems hand out memory that they do not have and kill whoever touches it, so this is asked
    before anything is allocated.

    Examples
    --------
    >>> import bpcore
    >>> bpcore.Dense(10**9, 10**9)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    MemoryError: Dense(1000000000, 1000000000) needs 16,000,000,016,000,000,000 bytes, ...
    """
    if n_bytes > 2**26 and n_bytes > (limit := _memory_limit()):
        raise MemoryError(f"{what} needs {n_bytes:,} bytes, and there are {limit:,} at most")


def _as_number(value: Any, name: str) -> float:
    if type(value) is float:
        return value
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, got {_described(value)}")
    try:
        return float(value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")


def _described(value: Any) -> str:
    text = repr(value)
    if len(text) > 60:
        text = text[:57] + "..."
    return f"{text} ({type(value).__name__})"


def _memory_limit() -> int:
    """Bytes that this process could get at best: the machine's, its container's, or its own."""
    limits = [sys.maxsize]
    with suppress(AttributeError, OSError, ValueError):
        limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    with suppress(ImportError):
        import resource  # not there on Windows

        limits.append(resource.getrlimit(resource.RLIMIT_AS)[0])
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with suppress(OSError, ValueError), open(path) as file:  # no such group, or "max"
            limits.append(int(file.read()))
    return min(limit for limit in limits if limit > 0)  # -1 stands for "no limit"
