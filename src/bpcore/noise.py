"""How precisely a function is computed: its rounding, estimated from its own values."""

from collections.abc import Callable
from math import comb
from typing import NamedTuple

import numpy as np

EPS = float(np.finfo(np.float64).eps)
# A function that takes only multiples of something looks smooth where a step happens to move it by
# a whole number of them; hence several steps, of ratios that are far from small fractions.
_RATIOS = (1.0, 0.7548776662466927, 0.5698402909980532)


class Noise(NamedTuple):
    """The rounding of a function: the standard deviation `level` where its value is `size`."""

    level: float
    size: float

    def at(self, top: np.ndarray) -> np.ndarray:
        """The noise where the value is `top`, for numbers that are larger than `size` too.

        A squared error of rounding q in a residual r is 2 r q, so noise grows with the root.
        """
        growth = np.sqrt(np.maximum(top / self.size, 1.0)) if self.size else 1.0
        return np.maximum(EPS * top, self.level * growth)


def measure_noise(value: Callable[[float], float], center: float) -> Noise:
    """Estimate the rounding noise of a function from high differences along one line.

    Parameters
    ----------
    value : callable
        The function at a distance t from the point, along a line in which every coordinate moves by
        about t times its scale.
    center : float
        `value(0.0)`.

    Returns
    -------
    Noise

    References
    ----------
    .. [1] J. J. More and S. M. Wild, "Estimating computational noise", SIAM Journal on Scientific
       Computing 33 (2011), 1292-1314.

    Examples
    --------
    >>> import math
    >>> from bpcore.noise import measure_noise
    >>> measure_noise(lambda t: math.exp(1 + t), math.e).level < 1e-15
    True
    >>> 1e-8 < measure_noise(lambda t: float(np.float32(math.exp(1 + t))), math.e).level < 1e-6
    True
    """
    points = {0.0: center}

    def look(step: float) -> np.ndarray:
        # One side only, and not from 0: a kink at the point itself is not noise.
        values = np.array([value((k + 1) * step) for k in range(8)])
        points.update(zip(step * np.arange(1, 9), values.tolist(), strict=True))
        return values

    measured = []
    far = look(3e-5)
    if np.isfinite(far).all():
        measured.append(_roughness(far))
    for scale in (3e-11, 3e-8):
        near = [look(ratio * scale) for ratio in _RATIOS]
        if np.isfinite(near).all() and min(np.unique(values).size for values in near) >= 5:
            measured.append(max(_roughness(values) for values in near))
            break  # else it is too close for a function of low resolution
    level, size = min(measured, default=(0.0, abs(center)))
    level = max(level, floor(center), 0.3 * _resolution(value, points))
    seen = np.array(list(points.values()))
    seen = seen[np.isfinite(seen)]
    if np.any(seen) and np.array_equal(seen.astype(np.float32), seen):  # float32 in disguise
        level = max(level, 2.0**-25 * np.abs(seen).max())
    return Noise(float(level), max(float(size), abs(center)))


def _roughness(values: np.ndarray) -> tuple[float, float]:
    """Noise of equidistant values, and their size, from their fourth and fifth differences.

    Curvature and kinks within the points fade as they move together, noise does not.
    """
    size = np.abs(values).max() or 1.0
    rough = max(np.sqrt(np.mean(np.diff(values / size, k) ** 2) / comb(2 * k, k)) for k in (4, 5))
    return rough * size, size


def floor(value: float) -> float:
    """The rounding that any result of this size has, denormal ones included."""
    return max(EPS * abs(value), 5e-324)


def _resolution(value: Callable[[float], float], points: dict[float, float]) -> float:
    """Find the least change that a function can make, if it stays the same over short moves.

    A saturated unit is an example: 1 - p takes only multiples of 1e-16, however small it is.
    """
    center = points[0.0]
    changed = min((t for t in points if points[t] != center), default=np.inf)
    flat = max(t for t in points if t < changed)
    far = max(points)
    while np.isinf(changed) and far < 100:
        far *= 8
        if value(far) != center:
            changed = far
    if flat == 0.0 or np.isinf(changed):
        return 0.0
    for _ in range(40):
        middle = 0.5 * (flat + changed)
        if value(middle) == center:
            flat = middle
        else:
            changed = middle
    jump = abs(value(changed) - center)
    return jump if np.isfinite(jump) else 0.0
