"""Is this gradient right? Every entry beside a central difference that knows its own error.

The differences and the rules by which they judge are in `bpcore.differences`; what they found is
told by `bpcore.gradreport`.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bpcore import differences
from bpcore.checks import FLOAT64, as_array, as_generator, as_matrix, choose, whole
from bpcore.errors import DTypeError, ShapeError
from bpcore.gradreport import ArrayCheck, GradientReport, explain_difference

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from bpcore.network import Network

__all__ = ["ArrayCheck", "GradientReport", "check_gradients", "check_network_gradients"]

_ALL_INPUTS = 512  # an input with more entries is sampled
_SAMPLED_INPUTS = 256
_DIRECTIONS = 3  # per array
_LONGEST = 64.0  # step, in scales of a parameter
_LONGEST_FROM_ZERO = 2.0**30  # where all of an array is 0 nothing tells its scale
_REPEATABLE = 1e-9


def check_gradients(
    f: "Callable[[np.ndarray], float]",
    gradient: "ArrayLike | Callable[[np.ndarray], ArrayLike]",
    x: "ArrayLike",
    *,
    parameters: str | int = "all",
    rng: "int | np.random.Generator | None" = 0,
) -> GradientReport:
    """Check a gradient of any function of an array against central differences.

    Parameters
    ----------
    f : callable
        Takes an array like `x` and returns one number. It must return the same number for the same
        array; a function with random parts needs its random numbers held.
    gradient : array_like of the shape of x, or callable
        The derivative of `f` at `x`, or a function that returns it for an array.
    x : array_like
        Where to check, of any shape; used as float64.
    parameters : {"all", "projections"} or int
        Every entry, a number of entries drawn at random, or derivatives along random directions,
        which are fast for large arrays and see errors in any entry.
    rng : int, Generator or None
        Seed of what is random: which entries, which directions.

    Returns
    -------
    GradientReport
        `print` it, or look at its `ok`, `worst_location` and `hint`.

    Raises
    ------
    ShapeError
        The gradient has another shape than `x` (unless it is the transposed one: that is reported),
        or `f` returns more than one number.
    DTypeError
        Anything but real numbers.

    Notes
    -----
    An entry counts as checked only where the difference is precise enough that a relative error of
    1e-4 would be noticed. Kinks at `x` itself (such as that of ``abs`` at 0) and entries that are
    too small to judge beside the rounding of `f` are counted and left out.

    Examples
    --------
    >>> import numpy as np
    >>> import bpcore
    >>> def f(x):
    ...     return np.sum(x**2)
    >>> x = np.array([1.0, -2.0, 3.0])
    >>> bpcore.check_gradients(f, lambda x: 2 * x, x).ok
    True
    >>> report = bpcore.check_gradients(f, lambda x: x, x)
    >>> report.ok
    False
    >>> report.hint
    'factor 1/2: what was given is 1/2 times the right gradient'
    """
    if not callable(f):
        raise TypeError(f"f must be callable, got {type(f).__name__}")
    parameters = _as_choice(parameters)
    point = np.array(as_array(x, "x", FLOAT64))
    if not point.size:
        raise ShapeError(f"x has shape {point.shape}: there is nothing to differentiate by")
    if not np.isfinite(point).all():
        raise ValueError("x must be finite")
    given = as_array(gradient(point.copy()) if callable(gradient) else gradient, "gradient")
    problems = []
    if given.shape != point.shape:
        if given.ndim != 2 or given.shape != point.shape[::-1]:
            raise ShapeError(f"gradient has shape {given.shape}, but x has shape {point.shape}")
        problems.append(
            f"the gradient has shape {given.shape}, but x has {point.shape}; it is compared "
            "transposed"
        )
        given = given.T

    def value() -> float:
        return _as_number(f(point.copy()))

    return _check(value, [_Block("x", point, given)], parameters, rng, problems, {})


def check_network_gradients(
    net: "Network",
    X: "ArrayLike",
    y: "ArrayLike",
    sample_weight: "ArrayLike | None" = None,
    parameters: str | int = "all",
    rng: "int | np.random.Generator | None" = 0,
) -> GradientReport:
    """Check every gradient of a network, and that of its input, on one batch.

    What is differentiated is the number that `net.loss_value` returns, penalties included. All is
    done on a float64 copy: the network, its gradients, generator and optimizer stay as they are.

    Parameters
    ----------
    net : Network
        Of either dtype.
    X : array_like of shape (n, n_in)
        The batch. Its gradient appears in the report as "input": all entries where there are
        at most 512, else a random sample.
    y : array_like of shape (n, n_out), or (n,)
        Targets as `net.loss_value` takes them.
    sample_weight : array_like of shape (n,), optional
        Weights of the rows.
    parameters : {"all", "projections"} or int
        Every parameter, a number of parameters drawn at random (from each array some), or random
        directions in each array: fast for large networks.
    rng : int, Generator or None
        Seed of what is random.

    Returns
    -------
    GradientReport
        With an entry in `arrays` for each parameter array and for "input".

    Raises
    ------
    ShapeError, DTypeError, ValueError
        As `net.loss_value`.

    Examples
    --------
    >>> import numpy as np
    >>> import bpcore
    >>> rng = np.random.default_rng(1)
    >>> X, y = rng.normal(size=(8, 4)), rng.normal(size=(8, 3))
    >>> net = bpcore.mlp([4, 5, 3], hidden="sigmoid", rng=1)
    >>> report = net.check_gradients(X, y)
    >>> report.ok, report.n_checked
    (True, 75)
    >>> list(report.arrays)
    ['0.weight', '0.bias', '2.weight', '2.bias', 'input']
    """
    parameters = _as_choice(parameters)
    copy = net.astype("float64")
    X = np.array(as_matrix(X, "X", copy.n_in), dtype=FLOAT64, order="C")
    y = np.array(y)  # a list would be converted at every evaluation
    if sample_weight is not None:
        sample_weight = np.array(as_array(sample_weight, "sample_weight", FLOAT64))

    def value() -> float:
        return float(copy.loss_value(X, y, sample_weight=sample_weight))

    loss, gradient, input_gradient = copy.loss_and_gradient(
        X, y, sample_weight=sample_weight, input_gradient=True
    )
    blocks, start = [], 0
    for name, array in copy.parameter_arrays().items():
        own = gradient[start : start + array.size].reshape(array.shape)
        blocks.append(_Block(name, array, own))
        start += array.size
    blocks.append(_Block("input", X, input_gradient))
    problems = []
    if abs(value() - loss) > _REPEATABLE * abs(loss):
        problems.append(f"loss_and_gradient returned the loss {loss!r}, loss_value {value()!r}")
    meanings = {"the number of rows": len(X), "the number of outputs": copy.n_out}
    meanings["rows times outputs"] = len(X) * copy.n_out
    return _check(value, blocks, parameters, rng, problems, meanings)


class _Block(NamedTuple):
    """An array that the function depends on; writing into it moves the point."""

    name: str
    array: np.ndarray
    gradient: np.ndarray


class _Lines:
    """Lines through the point within one block: single entries or random directions."""

    def __init__(
        self, block: _Block, entries: np.ndarray | None, directions: np.ndarray | None
    ) -> None:
        self.block, self.entries, self.directions = block, entries, directions
        self.flat = block.array.reshape(-1)  # a view: blocks are C-contiguous
        magnitude = np.abs(self.flat)
        gradient = np.asarray(block.gradient, dtype=FLOAT64).reshape(-1)
        some = magnitude[magnitude > 0]
        usual = float(np.median(some)) if some.size else 1.0
        self.longest = _LONGEST if some.size else _LONGEST_FROM_ZERO
        if entries is not None:
            self.analytic = gradient[entries]
            self.scale = np.maximum(magnitude[entries], 0.1 * usual if some.size else usual)
            self.spacing = np.spacing(magnitude[entries])
        else:
            self.point = self.flat.copy()
            self.analytic = directions @ gradient
            self.scale = np.full(len(directions), usual)
            self.spacing = np.full(len(directions), np.spacing(magnitude.max()))
        self.uncertainty = _precision(block.gradient)

    def move(self, value: Callable[[], float], i: int, t: float) -> tuple[float, float]:
        """Evaluate the function a step t along line i; also return the step as rounded."""
        flat = self.flat
        if self.entries is None:
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
        """What each line is called in reports."""
        if self.entries is None:
            return [f"direction {i}" for i in range(len(self.directions))]
        if not self.block.array.ndim:
            return [()]
        places = np.unravel_index(self.entries, self.block.array.shape)
        return list(zip(*(place.tolist() for place in places), strict=True))


def _check(
    value: Callable[[], float],
    blocks: list[_Block],
    parameters: str | int,
    rng: "int | np.random.Generator | None",
    problems: list[str],
    meanings: dict[str, float],
) -> GradientReport:
    """Compare the gradients of the blocks with differences of `value`."""
    rng = as_generator(rng)
    with np.errstate(all="ignore"):  # a step may well leave the domain of a function
        center, again = value(), value()
        if not np.isfinite(center):
            return GradientReport({}, [*problems, f"the value at this point is {center}"])
        if abs(again - center) > _REPEATABLE * abs(center):
            text = f"the same point gave {center!r}, then {again!r}; hold its random numbers fixed"
            return GradientReport({}, [*problems, text])
        noise = max(_measure_noise(value, blocks, center, rng), abs(again - center))
        lines = _choose_lines(blocks, parameters, rng)
        slopes = _measure_slopes(value, lines, center, noise)
    arrays, start = {}, 0
    for part in lines:
        own = slice(start, start + part.analytic.size)
        start = own.stop
        numeric, error, verdict = (field[own] for field in slopes)
        arrays[part.block.name] = ArrayCheck(
            part.block.name,
            part.block.array.shape,
            part.index(),
            part.analytic,
            numeric,
            error,
            np.array(differences.VERDICTS)[verdict],
        )
    gradients = {part.block.name: (part.block.gradient, part.entries) for part in lines}
    hint = explain_difference(arrays, gradients, meanings)
    return GradientReport(arrays, problems, hint)


def _choose_lines(
    blocks: list[_Block], parameters: str | int, rng: np.random.Generator
) -> list[_Lines]:
    """Draw the entries or directions to check in each block."""
    if parameters == "projections":
        return [
            _Lines(block, None, rng.standard_normal((_DIRECTIONS, block.array.size)))
            for block in blocks
            if block.array.size
        ]
    counts = [block.array.size for block in blocks]
    is_input = [block.name == "input" and len(blocks) > 1 for block in blocks]
    if parameters != "all":
        counts = _share(counts, is_input, parameters)
    lines = []
    for block, count, sampled in zip(blocks, counts, is_input, strict=True):
        size = block.array.size
        if sampled and size > _ALL_INPUTS:
            count = min(count, _SAMPLED_INPUTS)
        if count:
            chosen = np.sort(rng.choice(size, count, replace=False)) if count < size else None
            lines.append(_Lines(block, np.arange(size) if chosen is None else chosen, None))
    return lines


def _share(sizes: list[int], is_input: list[bool], total: int) -> list[int]:
    """Divide a sample among the blocks by their sizes, some from each; the input gets its own."""
    own = sum(size for size, apart in zip(sizes, is_input, strict=True) if not apart)
    counts = [
        min(size, total if apart else max(1, round(total * size / max(own, 1))))
        for size, apart in zip(sizes, is_input, strict=True)
    ]
    surplus = sum(c for c, apart in zip(counts, is_input, strict=True) if not apart)
    surplus -= min(total, own)
    order = sorted((k for k, apart in enumerate(is_input) if not apart), key=lambda k: -counts[k])
    while surplus:  # rounding: the largest share gives, or takes what is missing
        for k in order:
            change = 1 if surplus > 0 else -1
            if surplus and 0 <= counts[k] - change <= sizes[k]:
                counts[k] -= change
                surplus -= change
                break
    return counts


def _measure_noise(
    value: Callable[[], float], blocks: list[_Block], center: float, rng: np.random.Generator
) -> float:
    """Measure the rounding noise of the function, all blocks moving together."""
    parts = [_Lines(block, np.arange(block.array.size), None) for block in blocks]
    before = [part.flat.copy() for part in parts]
    velocity = [
        part.scale * rng.uniform(0.5, 1.5, part.flat.size) * rng.choice([-1, 1], part.flat.size)
        for part in parts
    ]

    def shifted(t: float) -> float:
        for part, origin, direction in zip(parts, before, velocity, strict=True):
            part.flat[:] = origin + t * direction
        return value()

    noise = differences.noise_level(shifted, center)
    for part, origin in zip(parts, before, strict=True):
        part.flat[:] = origin
    return noise


def _measure_slopes(
    value: Callable[[], float], lines: list[_Lines], center: float, noise: float
) -> differences.Slopes:
    """Measure along the lines of all blocks together."""
    owner = [(part, i) for part in lines for i in range(part.analytic.size)]

    def move(k: int, t: float) -> tuple[float, float]:
        part, i = owner[k]
        return part.move(value, i, t)

    def joined(name: str) -> np.ndarray:
        return np.concatenate(
            [np.broadcast_to(getattr(part, name), part.analytic.size) for part in lines]
        )

    return differences.measure_slopes(
        move,
        np.nan_to_num(joined("analytic"), nan=0.0, posinf=0.0, neginf=0.0),
        joined("scale"),
        joined("spacing"),
        center,
        noise,
        joined("uncertainty"),
        joined("longest"),
    )


def _precision(gradient: np.ndarray) -> float:
    """How far off an entry may be because the gradient was computed in float32, if it was."""
    finite = gradient[np.isfinite(gradient)]
    largest = float(np.abs(finite).max(initial=0.0))
    if gradient.dtype == FLOAT64 and not np.array_equal(finite.astype(np.float32), finite):
        return 0.0
    mantissa = np.frexp(finite)[0] * 2.0**11
    if np.array_equal(mantissa, np.round(mantissa)):  # small integers and the like are exact
        return 0.0
    return 16 * 2.0**-24 * largest


def _as_choice(parameters: Any) -> str | int:
    if isinstance(parameters, str):
        return choose(parameters, ("all", "projections"), "parameters")
    return whole(parameters, "parameters", 1)


def _as_number(value: Any) -> float:
    """Return what f returned as a float."""
    if type(value) is float:
        return value
    array = np.asarray(value)
    if array.dtype.kind not in "biuf":
        raise DTypeError(f"f must return a real number, got {array.dtype}")
    if array.size != 1:
        raise ShapeError(f"f must return one number, got an array of shape {array.shape}")
    return float(array.reshape(())[()])
