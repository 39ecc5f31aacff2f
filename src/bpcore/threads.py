"""How many threads bpcore may use."""

import re

from bpcore import _core
from bpcore.arguments import whole

_MOST = 2**31 - 1


def set_num_threads(n: int) -> None:
    """Set the largest number of threads that bpcore may use, 1 or more.

    Work that is too small to gain from it is computed on the calling thread whatever the number is.
    Results do not depend on it. It may be set at any time, and exceed the number of processors.
    ``BPCORE_NUM_THREADS`` says it at import.

    Parameters
    ----------
    n : int
        The calling thread is one of them.

    Raises
    ------
    TypeError, ValueError
        `n` is not a whole number, or out of range.

    Examples
    --------
    >>> import bpcore
    >>> bpcore.set_num_threads(0)
    Traceback (most recent call last):
        ...
    ValueError: n must be >= 1, got 0
    """
    n = whole(n, "n", 1)
    if n > _MOST:
        raise ValueError(f"n must be <= {_MOST}, got {n}")
    _core.set_num_threads(n)


def get_num_threads() -> int:
    """Return the largest number of threads that bpcore may use.

    Unless it was set, that is the number of processors that this process may use: by its affinity
    and, on Linux, by the quota of its control group.

    Examples
    --------
    >>> import bpcore
    >>> bpcore.get_num_threads() >= 1
    True
    """
    return _core.get_num_threads()


def from_environment(text: str) -> None:
    """Set the number from the value of ``BPCORE_NUM_THREADS``."""
    if not (re.fullmatch("0*[1-9][0-9]{0,9}", text) and int(text) <= _MOST):
        raise ValueError(
            f"BPCORE_NUM_THREADS must be a whole number >= 1 and <= {_MOST}, got {text!r}"
        )
    set_num_threads(int(text))
