"""Is this gradient right? Every entry beside a central difference that knows its own error.

The differences and the rules by which they judge are in `bpcore.differences`; where to take them is
decided in `bpcore.gradlines`, and what they found is told by `bpcore.gradreport`.
"""

from bisect import bisect_right
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from bpcore import differences
from bpcore.checks import (
    FLOAT64,
    as_array,
    as_generator,
    as_matrix,
    as_sample_weight,
    choose,
    whole,
)
from bpcore.customloss import NonFiniteLossError
from bpcore.errors import DTypeError, ShapeError
from bpcore.gradhints import explain_difference
from bpcore.gradlines import Block, Lines, choose_lines
from bpcore.gradreport import ArrayCheck, GradientReport
from bpcore.noise import Noise, measure_noise

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from bpcore.network import Network

__all__ = ["ArrayCheck", "GradientReport", "check_gradients", "check_network_gradients"]

_REPEATABLE = 1e-9
_ENOUGH = 20  # wrong entries that were looked at again
_FEW = 3  # of them that were looked at closely
_PANELS, _GAUSS = 8, 0.5 / 3**0.5  # of each half of a step, two points in each


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
        which are fast for large arrays and see an error in any entry, if it is above about 1e-4 of
        the norm of the whole gradient.
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
    too small to judge beside the rounding of `f`, or have kinks closer than that lets one look, are
    counted and left out. A `gradient` that is callable is also asked around `x`, which finds kinks
    that hide one another.

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
    problems, turned = [], False
    if given.size == point.size == 1:
        given = given.reshape(point.shape)
    if given.shape != point.shape:
        if given.ndim != 2 or given.shape != point.shape[::-1]:
            raise ShapeError(f"gradient has shape {given.shape}, but x has shape {point.shape}")
        problems.append(
            f"the gradient has shape {given.shape}, but x has {point.shape}; it is compared "
            "transposed"
        )
        given, turned = given.T, True

    def value() -> float:
        return _as_number(f(point.copy()))

    def gradients() -> list[np.ndarray]:
        again = as_array(gradient(point.copy()), "gradient").reshape(shape)
        return [again.T if turned else again]

    shape = given.shape[::-1] if turned else given.shape
    again = gradients if callable(gradient) else None
    report = _check(value, again, [Block("x", point, given)], parameters, rng, problems, {})
    if turned and not report.n_wrong:
        report.hint = "transposition: it is the transposed gradient"
    return report


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
        directions in each array: fast for large networks, and see an error in any entry, if it is
        above about 1e-4 of the norm of its array's gradient.
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
    if not isinstance(y, np.ndarray):  # it would be converted at every evaluation
        y = as_array(y, "y", FLOAT64)
    sample_weight = as_sample_weight(sample_weight, len(X), FLOAT64)

    def value() -> float:
        try:
            return float(copy.loss_value(X, y, sample_weight=sample_weight))
        except NonFiniteLossError:  # of a loss in Python; others return what is not finite
            return np.nan

    arrays = copy.parameter_arrays()
    ends = np.cumsum([array.size for array in arrays.values()])
    losses = []

    def gradients() -> list[np.ndarray]:
        loss, flat, own = copy.loss_and_gradient(
            X, y, sample_weight=sample_weight, input_gradient=True
        )
        losses.append(loss)
        parts = zip(arrays.values(), ends, strict=True)
        return [*(flat[end - a.size : end].reshape(a.shape) for a, end in parts), own]

    *own, input_gradient = gradients()
    blocks = [Block(name, array, g) for (name, array), g in zip(arrays.items(), own, strict=True)]
    blocks.append(Block("input", X, input_gradient, sampled=True))
    problems = []
    if abs(value() - losses[0]) > _REPEATABLE * abs(losses[0]):
        problems.append(
            f"loss_and_gradient returned the loss {losses[0]!r}, loss_value {value()!r}"
        )
    meanings = {
        "the number of rows": len(X),
        "the number of outputs": copy.n_out,
        "rows times outputs": len(X) * copy.n_out,
    }
    return _check(value, gradients, blocks, parameters, rng, problems, meanings)


def _check(
    value: Callable[[], float],
    gradients: Callable[[], list[np.ndarray]] | None,
    blocks: list[Block],
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
        level, size = _measure_noise(value, blocks, center, rng)
        noise = Noise(max(level, abs(again - center)), size)
        lines = choose_lines(blocks, parameters, rng)
        # Where the gradient can be had around the point too, kinks that hide there come to light.
        harmless_gap = 1e-4 if gradients is None else 0.7
        slopes = _measure_slopes(value, lines, center, noise, harmless_gap)
        if gradients is not None:
            _forgive_kinks(value, gradients, blocks, lines, slopes)
    arrays, start = {}, 0
    for part in lines:
        own = slice(start, start + part.analytic.size)
        start = own.stop
        numeric, error, verdict, _ = (field[own] for field in slopes)
        arrays[part.block.name] = ArrayCheck(
            part.block.name,
            part.block.array.shape,
            part.index(),
            part.analytic,
            numeric,
            error,
            np.array(differences.VERDICTS)[verdict],
        )
    given = {part.block.name: (part.block.gradient, part.entries) for part in lines}
    hint = explain_difference(arrays, given, meanings)
    return GradientReport(arrays, problems, hint, noise.level / noise.size if noise.size else 0.0)


def _measure_noise(
    value: Callable[[], float], blocks: list[Block], center: float, rng: "np.random.Generator"
) -> Noise:
    """Measure the rounding noise of the function, all blocks moving together."""
    parts = [Lines(block, np.arange(block.array.size)) for block in blocks]
    before = [part.flat.copy() for part in parts]
    velocity = [
        part.scale * rng.uniform(0.5, 1.5, part.flat.size) * rng.choice([-1, 1], part.flat.size)
        for part in parts
    ]

    def shifted(t: float) -> float:
        for part, origin, direction in zip(parts, before, velocity, strict=True):
            part.flat[:] = origin + t * direction
        return value()

    noise = measure_noise(shifted, center)
    for part, origin in zip(parts, before, strict=True):
        part.flat[:] = origin
    return noise


def _measure_slopes(
    value: Callable[[], float],
    lines: list[Lines],
    center: float,
    noise: Noise,
    harmless_gap: float,
) -> differences.Slopes:
    """Measure along the lines of all blocks together."""
    owner = _owners(lines)

    def move(k: int, t: float) -> tuple[float, float]:
        part, i = owner(k)
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
        harmless_gap,
    )


def _forgive_kinks(
    value: Callable[[], float],
    gradients: Callable[[], list[np.ndarray]],
    blocks: list[Block],
    lines: list[Lines],
    slopes: differences.Slopes,
) -> None:
    """Take back "wrong" where the gradient is wrong at the point and nowhere around it.

    Units that are at their kinks together can hide one another: relu(x) - relu(-x) is x, yet by
    the usual convention its gradient at 0 is 0. That is a kink. And where kinks lie so close to the
    point that any shorter step drowns in rounding, the difference is right about the gradients
    along its step, if not about that at the point: such an entry is too small to judge.
    """
    owner = _owners(lines)
    really_wrong = 0
    for k in np.flatnonzero(slopes.verdict == differences.WRONG):
        part, i = owner(k)
        number = next(n for n, block in enumerate(blocks) if block is part.block)

        def slope(part: Lines = part, i: int = i, number: int = number) -> float:
            return part.slope(gradients()[number], i)

        numeric = slopes.numeric[k]
        little = 0.3 * abs(part.analytic[i] - numeric)
        near = max(2.0**-30 * part.scale[i], 8 * part.spacing[i])
        around = 0.5 * (part.move(slope, i, near)[0] + part.move(slope, i, -near)[0])
        if abs(around - numeric) <= little:
            slopes.verdict[k] = differences.KINK
        elif really_wrong < _FEW and _mean_explains(value, slope, part, i, slopes.step[k], little):
            slopes.verdict[k] = differences.UNDECIDED
        elif (really_wrong := really_wrong + 1) == _ENOUGH:
            return


def _mean_explains(
    value: Callable[[], float],
    slope: Callable[[], float],
    part: Lines,
    i: int,
    step: float,
    little: float,
) -> bool:
    """Whether a difference over +-step is the mean of the gradients there."""
    (up, right), (down, left) = part.move(value, i, step), part.move(value, i, -step)
    panels = np.arange(0.5, _PANELS) / _PANELS
    points = np.concatenate([panels - _GAUSS / _PANELS, panels + _GAUSS / _PANELS])
    mean = np.mean([part.move(slope, i, t * step)[0] for t in [*points, *-points]])
    return bool(abs(mean - (up - down) / (right - left)) <= little)


def _owners(lines: list[Lines]) -> Callable[[int], tuple[Lines, int]]:
    """From a line's position among all lines to its part and its position there."""
    starts = [0, *np.cumsum([part.analytic.size for part in lines]).tolist()]

    def owner(k: int) -> tuple[Lines, int]:
        n = bisect_right(starts, k) - 1
        return lines[n], k - starts[n]

    return owner


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
