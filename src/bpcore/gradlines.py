"""Along which lines a gradient check looks: single entries, a sample of them, or directions."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from bpcore.checks import FLOAT64

_ALL_INPUTS = 512  # an input with more entries is sampled
_SAMPLED_INPUTS = 256
_DIRECTIONS = 3  # in each array


class Block(NamedTuple):
    """An array that the function depends on; writing into it moves the point.

    `array` is C-contiguous float64, `gradient` has its shape, and `sampled` says whether it is data
    rather than a parameter: not all of it is looked at where it is large.
    """

    name: str
    array: np.ndarray
    gradient: np.ndarray
    sampled: bool = False


class Lines:
    """Lines through the point within one block.

    Parameters
    ----------
    block : Block
    entries : ndarray of int, shape (m,), optional
        Flat positions of single entries.
    directions : ndarray of shape (m, block.array.size), optional
        Or directions.

    Attributes
    ----------
    analytic, scale, spacing : ndarray of shape (m,)
        The derivative that was given, the size of a large move, and the distance of neighbouring
        floating-point numbers, along each line.
    uncertainty : float
        How far off a right derivative may be because it was computed in float32.
    """

    def __init__(
        self,
        block: Block,
        entries: np.ndarray | None = None,
        directions: np.ndarray | None = None,
    ) -> None:
        self.block, self.entries, self.directions = block, entries, directions
        self.flat = block.array.reshape(-1)  # a view
        magnitude = np.abs(self.flat)
        some = magnitude[magnitude > 0]
        usual = float(np.median(some)) if some.size else 1.0
        if entries is not None:
            least = 0.1 * usual if some.size else usual
            self.scale = np.maximum(magnitude[entries], least)
            self.spacing = np.spacing(magnitude[entries])
        else:
            self.point = self.flat.copy()
            self.scale = np.full(len(directions), usual)
            self.spacing = np.full(len(directions), np.spacing(magnitude.max()))
        gradient = np.asarray(block.gradient, dtype=FLOAT64).reshape(-1)
        self.analytic = gradient[entries] if directions is None else directions @ gradient
        self.uncertainty = _uncertainty(block.gradient)

    def slope(self, gradient: np.ndarray, i: int) -> float:
        """The derivative along line i that a gradient of the block means."""
        flat = np.asarray(gradient, dtype=FLOAT64).reshape(-1)
        return float(
            flat[self.entries[i]] if self.directions is None else self.directions[i] @ flat
        )

    def move(self, value: Callable[[], Any], i: int, t: float) -> tuple[Any, float]:
        """Evaluate something a step t along line i; also return the step as rounded."""
        flat = self.flat
        if self.directions is not None:
            np.multiply(self.directions[i], t, out=flat)
            flat += self.point
            result = value()
            flat[:] = self.point
            return result, t
        at = self.entries[i]
        before = flat[at]
        flat[at] = before + t
        moved = flat[at] - before
        result = value()
        flat[at] = before
        return result, moved

    def index(self) -> "list[tuple[int, ...] | str]":
        """What the lines are called in reports."""
        if self.directions is not None:
            return [f"direction {i}" for i in range(len(self.directions))]
        if not self.block.array.ndim:
            return [()]
        places = np.unravel_index(self.entries, self.block.array.shape)
        return list(zip(*(place.tolist() for place in places), strict=True))


def choose_lines(
    blocks: list[Block], parameters: str | int, rng: "np.random.Generator"
) -> list[Lines]:
    """Draw the entries or directions to look at in each block.

    Parameters
    ----------
    blocks : list of Block
    parameters : {"all", "projections"} or int
        How many entries of the blocks that hold parameters; those that hold data have their own.
    rng : Generator
    """
    if parameters == "projections":
        return [
            Lines(block, directions=rng.standard_normal((_DIRECTIONS, block.array.size)))
            for block in blocks
        ]
    sizes = [block.array.size for block in blocks if not block.sampled]
    counts = iter(sizes if parameters == "all" else _share(sizes, parameters))
    lines = []
    for block in blocks:
        size = block.array.size
        if not block.sampled:
            count = next(counts)
        elif parameters == "all":
            count = size if size <= _ALL_INPUTS else _SAMPLED_INPUTS
        else:
            count = min(size, parameters)
        if count:
            entries = np.arange(size)
            if count < size:
                entries = np.sort(rng.choice(size, count, replace=False))
            lines.append(Lines(block, entries))
    return lines


def _share(sizes: list[int], total: int) -> list[int]:
    """Divide a sample among arrays by their sizes, one from each first where there are enough."""
    total = min(total, sum(sizes))
    counts = [int(k < total) for k in range(len(sizes))]
    exact = np.array(sizes) * (total / max(sum(sizes), 1))
    while sum(counts) < total:
        lacking = [
            want - have if have < size else -np.inf
            for want, have, size in zip(exact, counts, sizes, strict=True)
        ]
        k = int(np.argmax(lacking))
        counts[k] += max(1, min(int(lacking[k]), total - sum(counts), sizes[k] - counts[k]))
    return counts


def _uncertainty(gradient: np.ndarray) -> float:
    """How far off an entry may be because the gradient was computed in float32, if it was."""
    finite = gradient[np.isfinite(gradient)]
    with np.errstate(over="ignore"):
        if gradient.dtype == FLOAT64 and not np.array_equal(finite.astype(np.float32), finite):
            return 0.0
    mantissa = np.frexp(finite)[0] * 2.0**11
    if np.array_equal(mantissa, np.round(mantissa)):  # small integers and the like are exact
        return 0.0
    return 16 * 2.0**-24 * float(np.abs(finite).max())
