"""How many threads bpcore may use.

This version computes on the thread that calls it; the number is kept for the versions that share
work out, and results will not depend on it.
"""

from bpcore.checks import whole

_n_threads = 1


def set_num_threads(n: int) -> None:
    """Set the largest number of threads that bpcore may use, 1 or more.

    ``BPCORE_NUM_THREADS`` says it at import. This version computes on one thread whatever it is.

    Examples
    --------
    >>> import bpcore
    >>> bpcore.set_num_threads(0)
    Traceback (most recent call last):
        ...
    ValueError: n must be >= 1, got 0
    """
    global _n_threads
    _n_threads = whole(n, "n", 1)


def get_num_threads() -> int:
    """Return the largest number of threads that bpcore may use.

    Examples
    --------
    >>> import bpcore
    >>> bpcore.get_num_threads()
    1
    """
    return _n_threads


def from_environment(text: str) -> None:
    """Set the number from the value of ``BPCORE_NUM_THREADS``."""
    if not (text.isascii() and text.isdigit() and int(text) >= 1):
        raise ValueError(f"BPCORE_NUM_THREADS must be a whole number >= 1, got {text!r}")
    set_num_threads(int(text))
