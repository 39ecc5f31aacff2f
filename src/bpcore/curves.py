"""What plots and pictures in HTML have in common: which figures, and how many of them."""

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from bpcore.history import History

LOSSES = ("loss", "validation_loss")
LOG_RANGE = 10.0
"""Values that span more than this factor are drawn on a logarithmic scale."""

# Okabe and Ito's (2008), which the colour-blind tell apart; their yellow is too pale on white
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#666666")


def recorded(history: "History", names: "tuple[str, ...] | list[str]") -> dict[str, np.ndarray]:
    """Return those columns of the history, as float64."""
    return {name: np.asarray(history[name], np.float64) for name in names if name in history}


def is_wide(curves: "dict[str, np.ndarray]") -> bool:
    """Whether values need a logarithmic scale, and can have one."""
    finite = [values[np.isfinite(values)] for values in curves.values()]
    values = np.concatenate([*finite, []])
    return bool(len(values) and values.min() > 0 and values.max() > LOG_RANGE * values.min())


def thin(values: np.ndarray, most: int) -> np.ndarray:
    """Return positions of at most `most` values that look the same when drawn.

    Of each stretch of a long curve its lowest and its highest value stay, so that peaks do.
    """
    n = len(values)
    if n <= most:
        return np.arange(n)
    edges = np.linspace(0, n, max(1, most // 2 - 1) + 1).astype(np.int64)
    kept = {0, n - 1}
    for start, end in itertools.pairwise(edges):
        stretch = values[start:end]
        if np.isfinite(stretch).any():
            kept |= {start + int(np.nanargmin(stretch)), start + int(np.nanargmax(stretch))}
    return np.array(sorted(kept))


def alone(values: np.ndarray) -> np.ndarray:
    """Return which values are finite between others that are not: a line would not show them."""
    finite = np.r_[False, np.isfinite(values), False]
    return finite[1:-1] & ~finite[:-2] & ~finite[2:]


def spread(n: int, most: int) -> Any:
    """Return an index of at most `most` of n rows, evenly spread."""
    return slice(None) if n <= most else np.arange(most) * n // most
