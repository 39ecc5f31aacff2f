"""The axis of a drawing: where numbers go, and ticks whose labels tell them apart."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from bpcore.htmltext import number, scientific

_LETTER = 8.4  # pixels, of a digit in most fonts
_MOST_FIXED, _MOST_LETTERS = 9, 10  # of a label; where it takes more, an offset is left off
_MOST_OF_OFFSET = 15
_SAME = 1e-11  # a range of so much of its numbers is rounding


class Ticks(NamedTuple):
    """Round numbers along an axis, and what stands beside them."""

    values: list[float]
    labels: list[str]
    offset: str
    """What to add to the axis' name, such as " - 1,000,000": labels are without it."""

    @property
    def width(self) -> float:
        """Of the widest label, in pixels."""
        return _LETTER * max(map(len, self.labels), default=0)


class Scale:
    """From numbers to places along an axis.

    Parameters
    ----------
    low, high : float
        The ends of what is shown.
    start, end : float
        Their places.
    log : bool
        Whether the scale is logarithmic.
    whole : bool
        Whether there are whole numbers only, such as epochs.
    """

    def __init__(
        self,
        low: float,
        high: float,
        start: float,
        end: float,
        log: bool = False,
        *,
        whole: bool = False,
    ) -> None:
        if not high - low > _SAME * max(abs(low), abs(high)):
            pad = abs(low) / 2 or 0.5
            low, high = (low / 2, low * 2) if log else (low - pad, high + pad)
        self.low, self.high, self.start, self.end, self.log = low, high, start, end, log
        self.whole = whole

    def __call__(self, values: "np.ndarray | float") -> "np.ndarray | float":
        """Return the places of values."""
        low, high = self.low, self.high
        if self.log:
            values, low, high = np.log(values), np.log(low), np.log(high)
        # halved, so that ends of either sign near the largest float do not overflow
        share = (np.asarray(values) / 2 - low / 2) / (high / 2 - low / 2)
        return self.start + share * (self.end - self.start)

    def ticks(self, most: int = 6) -> Ticks:
        """Return round numbers, at most about so many."""
        if self.log:
            values = self._powers()
            return Ticks(values, [tick_text(value) for value in values], "")
        values = round_numbers(self.low, self.high, most)
        if self.whole:
            values = [value for value in values if value == int(value)]
        return Ticks(values, *tick_texts(values))

    def fitting_ticks(self) -> Ticks:
        """Return ticks of an axis that goes across: as many as have room for their labels."""
        for most in (6, 5, 4, 3):
            ticks = self.ticks(most)
            apart = np.abs(np.diff(self(np.array(ticks.values))))
            if (apart >= ticks.width + _LETTER).all():
                break
        return ticks

    def _powers(self) -> list[float]:
        powers = range(int(np.floor(np.log10(self.low))), int(np.ceil(np.log10(self.high))) + 1)
        step = max(1, len(powers) // 6)
        factors = (1, 2, 5) if len(powers) <= 3 else (1,)
        ticks = [factor * 10.0**power for power in powers[::step] for factor in factors]
        return [tick for tick in ticks if self.low * 0.999 <= tick <= self.high * 1.001]


def round_numbers(low: float, high: float, most: int = 6) -> list[float]:
    """Return multiples of 1, 2 or 5 times a power of ten from low to high.

    Examples
    --------
    >>> from bpcore.axis import round_numbers
    >>> round_numbers(0.0, 199.0)
    [0.0, 50.0, 100.0, 150.0]
    """
    rough = high / most - low / most
    power = 10.0 ** np.floor(np.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10, 20) if m * power >= rough)
    first, last = np.ceil(low / step - 1e-3), np.floor(high / step + 1e-3)
    return [float(k * step) + 0.0 for k in np.arange(first, last + 1)]


def tick_text(value: float) -> str:
    """Return the label of a power of ten, or of one of few digits."""
    text = number(value, 6) if value else "0"
    return text if len(text) <= 7 else scientific(value, 3)


def tick_texts(values: Sequence[float]) -> tuple[list[str], str]:
    """Return labels with the digits that their step takes, and what was left off as an offset.

    Examples
    --------
    >>> from bpcore.axis import tick_texts
    >>> tick_texts([999990.0, 999995.0, 1000000.0])
    (['999,990', '999,995', '1,000,000'], '')
    >>> tick_texts([2e9 + 1, 2e9 + 2])
    (['0', '1'], ' - 2,000,000,001')
    """
    if len(values) < 2:
        return [tick_text(value) for value in values], ""
    step = values[1] / 2 - values[0] / 2  # halved as it may be beyond all floats
    last = int(np.floor(np.log10(step) + np.log10(2) + 1e-6))  # the place of the step's digit
    labels = _same_form(values, last)
    if max(map(len, labels)) <= _MOST_LETTERS:
        return labels, ""
    first = _same_form(values[:1], last, _MOST_OF_OFFSET)[0]
    sign, size = (" + ", first[1:]) if first.startswith("-") else (" - ", first)
    return _same_form([2 * step * k for k in range(len(values))], last), sign + size


def _same_form(values: Sequence[float], last: int, most_fixed: int = _MOST_FIXED) -> list[str]:
    """Write numbers down to the place of 10**last, in the form that suits them all."""
    largest = max(map(abs, values))
    first = int(np.floor(np.log10(largest))) if largest else last
    powers = [scientific(v, max(1, first - last + 1)) if v else "0" for v in values]
    if not -3 <= first < 15 or last < -15:
        return powers
    fixed = [f"{v + 0.0:,.{max(0, -last)}f}" if v else "0" for v in values]
    most = [max(map(len, texts)) for texts in (fixed, powers)]
    return fixed if most[0] <= max(most_fixed, most[1]) else powers
