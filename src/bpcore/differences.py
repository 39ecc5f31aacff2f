"""Central differences that know how far to trust themselves.

A difference quotient has two errors: truncation, which grows with the step, and rounding, which
grows as the step shrinks. Every slope here is measured at two step sizes, h and h/2, so that
both can be estimated, and the step is moved until the estimate is good enough to judge by. Nothing
is ever concluded from a one-sided difference; both sides are only compared to find kinks.

References
----------
.. [1] C. J. F. Ridders, "Accurate computation of F'(x) and F'(x) F''(x)", Advances in Engineering
   Software 4 (1982), 75-76.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from bpcore.noise import Noise, floor

UNKNOWN, RIGHT, WRONG, KINK, UNDECIDED = range(5)
VERDICTS = ("not judged", "right", "wrong", "kink", "too small to judge")

# An entry is judged only where the slope is known to KNOWN of its size, and is right only within
# AGREE plus twice that: so whatever counts as checked would have failed if it were off by 1e-4.
KNOWN = 3e-5
AGREE = 1e-5
_FINE = 1e-6  # what is tried for first
_ROUGHLY = 10.0  # errors away is wrong too, though the slope is not known that well

_FIRST_STEP = 2.0**-11  # of the scale of a parameter; balances both errors for smooth functions
_LONGEST = 2.0  # of the scale: far away a function may be flat where it is not at the point
_RATIO = 8.0  # between the steps of two rounds
_ROUNDS = 24
_NOISE = 6.0  # rounding in a slope, in units of noise / h: three standard deviations
_SEEN = 5.0  # a gap between both sides of more than this much rounding is real
_TOLD_APART = 8.0  # a step tells two slopes apart if its rounding is their distance over this
_SHORTEST = 2.0**-36  # of the scale: as close as a function without noise is looked at
_PILOT = 40  # lines
_CHUNK = 4096  # lines searched together, which bounds the memory

Move = Callable[[int, float], tuple[float, float]]


class Slopes(NamedTuple):
    """Measured slopes: value, estimated error, verdict and step of every entry."""

    numeric: np.ndarray
    error: np.ndarray
    verdict: np.ndarray
    step: np.ndarray


def measure_slopes(
    move: Move,
    analytic: np.ndarray,
    scale: np.ndarray,
    spacing: np.ndarray,
    center: float,
    noise: Noise,
    uncertainty: "np.ndarray | float" = 0.0,
    harmless_gap: float = 1e-4,
) -> Slopes:
    """Measure the slope of a function along many lines and compare each with an analytic one.

    Parameters
    ----------
    move : callable
        `move(i, t)` returns the function's value after a move by t along line i, and the move
        that was really made, which differs from t by rounding.
    analytic : ndarray of shape (m,)
        The slopes to judge; finite.
    scale : ndarray of shape (m,)
        What counts as a large move along each line; > 0.
    spacing : ndarray of shape (m,)
        Distance of the floating-point numbers around the point, along each line.
    center : float
        The function's value without a move.
    noise : Noise
        Its rounding, from `bpcore.noise.measure_noise`.
    uncertainty : float or ndarray of shape (m,)
        How far off a right analytic slope may be because of the precision it was computed in.
    harmless_gap : float
        How large a gap between both sides may be, as a share of the difference from the analytic
        slope, without being taken for what several kinks at the point leave to be seen.

    Returns
    -------
    Slopes
        Numeric slopes, error estimates, verdicts and the steps of the best differences, each of
        shape (m,).

    Examples
    --------
    The first line is judged right, the second has a kink at the point, the third is off by 0.1 %:

    >>> import numpy as np
    >>> from bpcore.differences import VERDICTS, measure_slopes
    >>> from bpcore.noise import Noise
    >>> functions = [np.sin, np.abs, np.exp]
    >>> def move(i, t):
    ...     return float(functions[i](t)), t
    >>> values = []
    >>> for i, slope in enumerate([1.0, 1.0, 1.001]):
    ...     one = measure_slopes(lambda _, t: move(i, t), np.array([slope]), np.ones(1),
    ...                          np.full(1, 1e-16), move(i, 0.0)[0], Noise(1e-16, 1.0))
    ...     values.append(VERDICTS[one.verdict[0]])
    >>> values
    ['right', 'kink', 'wrong']
    """
    m = analytic.size
    columns = np.broadcast_arrays(analytic, scale, spacing, uncertainty)
    start = _FIRST_STEP * (noise.level / floor(noise.size)) ** 0.2
    ratio = min(start, 2.0**-4)
    order = np.arange(m)
    parts = [order]
    n_pilot = min(m // 7, _PILOT)
    if n_pilot > 2:
        # Where kinks lie close together a few lines tell what step the others should begin with.
        pilot = order[:: m // n_pilot]
        rest = np.setdiff1d(order, pilot)
        parts = [pilot, *np.array_split(rest, -(-rest.size // _CHUNK))]
    found = Slopes(np.empty(m), np.empty(m), np.empty(m, dtype=np.int8), np.empty(m))
    for part in parts:
        search = _Search(
            move, part, *(column[part] for column in columns), center, noise, harmless_gap
        )
        search.run(ratio)
        own = (search.numeric, search.error, search.verdict, search.best_step())
        for whole, values in zip(found, own, strict=True):
            whole[part] = values
        if n_pilot > 2 and part is pilot:
            ratio = min(ratio, search.usual_ratio())
    return found


class _Search:
    """The rounds of steps tried for each line; arrays are (round, line)."""

    def __init__(
        self,
        move: Move,
        names: np.ndarray,
        analytic: np.ndarray,
        scale: np.ndarray,
        spacing: np.ndarray,
        uncertainty: np.ndarray,
        center: float,
        noise: Noise,
        harmless_gap: float,
    ) -> None:
        m = analytic.size
        self.move, self.names, self.center, self.noise = move, names, center, noise
        self.analytic, self.uncertainty, self.harmless_gap = analytic, uncertainty, harmless_gap
        self.scale, self.spacing, self.longest = scale, spacing, _LONGEST * scale
        self.verdict = np.full(m, UNKNOWN, dtype=np.int8)
        self.acceptable = np.zeros(m, dtype=bool)  # right, if nothing better can be had
        self.suspect = np.zeros(m, dtype=bool)  # wrong, likewise
        self.numeric = np.full(m, np.nan)
        self.error = np.full(m, np.inf)
        self.step, self.slope, self.gap, self.rounding, self.bound = np.full(
            (5, _ROUNDS, m), np.nan
        )
        self.bound[:] = np.inf
        self.too_short = np.zeros(m)  # the longest step that rounding spoiled
        self.too_long = np.full(m, np.inf)  # the shortest that curvature or a kink spoiled

    def usual_ratio(self) -> float:
        """The usual ratio of step to scale of the lines that could be judged; inf if few could."""
        done = np.isin(self.verdict, (RIGHT, WRONG))
        if done.sum() <= done.size // 2:
            return np.inf
        return float(np.median(self.best_step()[done] / self.scale[done]))

    def best_step(self) -> np.ndarray:
        """The step of each line's best difference."""
        best = self.bound.argmin(axis=0)[None]
        return np.take_along_axis(self.step, best, axis=0)[0]

    def run(self, ratio: float) -> None:
        """Settle the verdict of all lines, beginning with steps of `ratio` times their scales."""
        lines = np.arange(self.analytic.size)
        step = np.maximum(_power_of_two(ratio * self.scale), 4 * self.spacing)
        for r in range(_ROUNDS):
            if not lines.size:
                return
            self._measure(r, lines, step)
            with np.errstate(all="ignore"):
                self._judge(r, lines)
                step = self._next_step(r, lines)
            open_ = self.verdict[lines] == UNKNOWN
            ended = open_ & (np.isnan(step) | (r == _ROUNDS - 1))
            self._give_up(lines[ended])
            lines, step = lines[open_ & ~ended], step[open_ & ~ended]

    def _measure(self, r: int, lines: np.ndarray, step: np.ndarray) -> None:
        """Take central differences at h and h/2 with their error estimate."""
        move = self.move
        values = np.empty((4, lines.size))
        widths = np.empty((2, lines.size))
        for j, (i, h) in enumerate(zip(self.names[lines].tolist(), step.tolist(), strict=True)):
            up, a = move(i, h)
            down, b = move(i, -h)
            half_up, c = move(i, 0.5 * h)
            half_down, d = move(i, -0.5 * h)
            values[:, j] = up, down, half_up, half_down
            widths[:, j] = a - b, c - d
        with np.errstate(all="ignore"):
            up, down, half_up, half_down = values
            whole, half = (up - down) / widths[0], (half_up - half_down) / widths[1]
            slope = half + (half - whole) / 3  # Richardson: the error is of order h^4
            # What the gap between right and left slope tends to as h goes to 0; 0 without a kink.
            sides = 4 * (half_up + half_down - 2 * self.center) - (up + down - 2 * self.center)
            gap = np.abs(sides) / step
            top = np.maximum(np.abs(values).max(axis=0), abs(self.center))
            size = np.maximum(np.abs(slope), np.abs(self.analytic[lines]))
            rounding = (_NOISE * self.noise.at(top) + 2 * size * self.spacing[lines]) / step
            bound = np.abs(whole - half) + 0.5 * gap + rounding
            bad = ~np.isfinite(bound)
        slope[bad], gap[bad], rounding[bad], bound[bad] = np.nan, np.nan, np.nan, np.inf
        self.step[r, lines], self.slope[r, lines] = step, slope
        self.gap[r, lines], self.rounding[r, lines], self.bound[r, lines] = gap, rounding, bound
        spoiled_by_rounding = (np.abs(whole - half) <= rounding) & (gap <= _SEEN * rounding)
        shorter, longer = lines[spoiled_by_rounding], lines[~spoiled_by_rounding]
        self.too_short[shorter] = np.maximum(self.too_short[shorter], step[spoiled_by_rounding])
        self.too_long[longer] = np.minimum(self.too_long[longer], step[~spoiled_by_rounding])
        for q in range(r):
            self._compare_rounds(q, r, lines)

    def _compare_rounds(self, q: int, r: int, lines: np.ndarray) -> None:
        """Bound the error of the longer step of two by its distance from the shorter one."""
        first_longer = self.step[q, lines] > self.step[r, lines]
        long, short = np.where(first_longer, q, r), np.where(first_longer, r, q)
        bound = (
            2 * np.abs(self.slope[long, lines] - self.slope[short, lines])
            + 0.5 * self.gap[long, lines]
            + self.rounding[long, lines]
            + self.rounding[short, lines] / 4
        )
        # A nan of a point outside the function's domain compares as false.
        better = (bound < self.bound[long, lines]) & (
            self.step[long, lines] >= 4 * self.step[short, lines]
        )
        self.bound[long[better], lines[better]] = bound[better]

    def _judge(self, r: int, lines: np.ndarray) -> None:
        """Set the verdict of the lines whose slope is known well enough."""
        best = self.bound[:, lines].argmin(axis=0)
        slope, bound = self.slope[best, lines], self.bound[best, lines]
        self.numeric[lines], self.error[lines] = slope, bound
        analytic = self.analytic[lines]
        size = np.maximum(np.abs(slope), np.abs(analytic))
        distance = np.abs(analytic - slope)
        allowed = bound + self.uncertainty[lines]
        known = allowed <= KNOWN * size
        right = known & (distance <= AGREE * size + 2 * allowed)
        zero = self._exactly_zero(r, lines) & (size == 0)
        right |= zero
        far = distance > AGREE * size + np.where(known, 2, _ROUGHLY) * allowed
        wrong = far & ~right & self._confirmed(r, lines, best, distance)
        self.acceptable[lines] = right
        self.verdict[lines[zero | (right & (allowed <= _FINE * size))]] = RIGHT
        # What is known only roughly may look otherwise at the next step.
        self.verdict[lines[wrong & known]] = WRONG
        self.suspect[lines] = wrong

    def _confirmed(
        self, r: int, lines: np.ndarray, best: np.ndarray, distance: np.ndarray
    ) -> np.ndarray:
        """Whether shorter steps bear out that a gradient is wrong by this distance.

        One must say so too, and one as short as can tell both slopes apart: further away there may
        be kinks, or whole waves, between. None may say that the slope goes on changing. And there
        must be no gap between the sides that stays: units at their kinks may nearly hide one
        another.
        """
        step, gap = self.step[: r + 1, lines], self.gap[: r + 1, lines]
        rounding, bound = self.rounding[: r + 1, lines], self.bound[: r + 1, lines]
        shorter = step < self.step[best, lines]
        change = np.abs(self.slope[: r + 1, lines] - self.slope[best, lines])
        like = change <= 0.5 * distance
        confirmed = (like & shorter & (bound <= distance)).any(axis=0)
        confirmed &= (like & (step <= 2 * self._telling_step(lines))).any(axis=0)
        confirmed &= ~(shorter & (change - rounding > 0.25 * distance)).any(axis=0)
        gap_here = self.gap[best, lines]
        little = np.where(gap_here < 0.01 * distance, 50, _SEEN)  # too little to watch it fade
        smooth = gap_here <= np.maximum(
            little * self.rounding[best, lines], self.harmless_gap * distance
        )
        smooth |= (shorter & (gap + _SEEN * rounding <= 0.3 * gap_here)).any(axis=0)
        return confirmed & smooth

    def _telling_step(self, lines: np.ndarray) -> np.ndarray:
        """The shortest step at which rounding still leaves numeric and analytic slope apart."""
        best = self.bound[:, lines].argmin(axis=0)
        noise = self.rounding[best, lines] * self.step[best, lines]
        distance = np.abs(self.analytic[lines] - self.numeric[lines])
        least = np.maximum(4 * self.spacing[lines], _SHORTEST * self.scale[lines])
        return _power_of_two(2**0.5 * np.maximum(_TOLD_APART * noise / distance, least))

    def _exactly_zero(self, r: int, lines: np.ndarray) -> np.ndarray:
        """Whether a slope of exactly 0 is flat or even around the point, without a kink."""
        gap, seen = self.gap[r, lines], _SEEN * self.rounding[: r + 1, lines]
        flat = ~(self.gap[: r + 1, lines] > seen).any(axis=0)
        if r:
            flat |= gap + seen[r] <= 0.1 * self.gap[r - 1, lines]
        return flat & (self.bound[r, lines] <= 0.5 * gap + self.rounding[r, lines])

    def _next_step(self, r: int, lines: np.ndarray) -> np.ndarray:
        """The next step of each line, or nan where another cannot help."""
        short, long = self.too_short[lines], self.too_long[lines]
        size = np.maximum(np.abs(self.analytic[lines]), np.abs(self.numeric[lines]))
        distance = np.abs(self.analytic[lines] - self.numeric[lines])
        error = self.error[lines]
        # Rounding: the step that would bring it down to what is needed, if that is within reach.
        real = np.maximum(np.abs(self.analytic[lines]), np.abs(self.numeric[lines]) - error)
        noise = self.rounding[r, lines] * self.step[r, lines]
        hopeless = (noise > KNOWN * real * self.longest[lines]) & (distance <= 4 * error)
        up = np.minimum(short * _RATIO, self.longest[lines])
        up = np.where(hopeless | (up < 2 * short), np.nan, up)
        # Curvature or a kink: shorter; at once to the shortest that still shows a kink that stays.
        down = long / _RATIO
        if r:
            gap, before = self.gap[r, lines], self.gap[r - 1, lines]
            stays = (gap > _SEEN * self.rounding[r, lines]) & (gap > 0.8 * before)
            stays &= gap < 1.25 * before
            least = 16 * noise / gap
            down = np.where(stays, np.where(long > 2 * least, least, np.nan), down)
        down = np.where(down < 4 * self.spacing[lines], np.nan, down)
        between = np.where(long / short > 4, np.sqrt(long * short), np.nan)
        step = np.where(short == 0, down, np.where(np.isinf(long), up, between))
        # What looks wrong gets a second look close by.
        best = self.bound[:, lines].argmin(axis=0)
        at = self.step[best, lines]
        suspect = (distance > AGREE * size + 2 * error) & (error <= KNOWN * size)
        for aside in (2.0**-6, 2.0**-4, 0.5, 0.25):
            tried = (self.step[: r + 1, lines] == aside * at).any(axis=0)
            step = np.where(suspect & ~tried, aside * at, step)
        telling = self._telling_step(lines)
        tried = (self.step[: r + 1, lines] <= 2 * telling).any(axis=0)
        doubtful = suspect | (np.isnan(step) & (distance > AGREE * size + _ROUGHLY * error))
        step = np.where(doubtful & ~tried, telling, step)
        return _power_of_two(step)

    def _give_up(self, lines: np.ndarray) -> None:
        """Tell a kink at the point from a slope that is too small to judge."""
        gap, rounding, step = self.gap[:, lines], self.rounding[:, lines], self.step[:, lines]
        seen = gap > _SEEN * rounding
        column = np.arange(lines.size)
        shortest = np.where(seen, step, np.inf).argmin(axis=0)
        last = gap[shortest, column]
        # It neither fades with the step, as curvature does, nor grows as it shrinks, like noise...
        kink = (seen & (gap > 0.4 * last) & (gap < 2.5 * last)).sum(axis=0) > 2
        # ... and no shorter step is free of it.
        gone = (step < step[shortest, column]) & (gap + _SEEN * rounding < 0.5 * last)
        kink &= ~gone.any(axis=0)
        self.verdict[lines] = np.select([kink, self.suspect[lines]], [KINK, WRONG], UNDECIDED)
        self.verdict[lines[self.acceptable[lines]]] = RIGHT


def _power_of_two(step: np.ndarray) -> np.ndarray:
    """Round to a power of two, so that a point plus a step is mostly exact; nan stays."""
    with np.errstate(all="ignore"):
        return np.exp2(np.round(np.log2(step)))
