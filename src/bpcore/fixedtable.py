"""Activations of integers: tables, their interpolation, and the largest error that it makes."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

LARGEST = {8: 127, 16: 32767}
INTERVALS = {8: 64, 16: 512}  # of a table
Z_BITS = 16  # a table's domain is so many integers wide
ROOM = 2.0**30  # in 32 bits, with what rounding adds
SLACK = 1 + 1e-9  # for the roundings of these computations themselves


class Kind(NamedTuple):
    """What tables of an activation need to know about it."""

    slope: float
    """The largest |f'|, where no parameter and no range decides it."""
    lowest: float = np.inf
    """The least value, where the function turns; else it is monotone."""
    rectified: bool = False
    """The table holds f(z) - max(z, 0)."""
    domain: float = 16.0
    """Beyond it the table's ends stand for all."""


KINDS = {
    "sigmoid": Kind(0.25),
    "tanh": Kind(1.0, domain=8.0),
    "elu": Kind(1.0, rectified=True),
    "exp": Kind(1.0),
    "softplus": Kind(1.0, rectified=True),
    "gelu": Kind(1.1290, -0.1701, True),
    "gelu_tanh": Kind(1.1291, -0.1701, True),
    "silu": Kind(1.0999, -0.2785, True),
}
Function = Callable[[np.ndarray], np.ndarray]


class Table(NamedTuple):
    """An activation by linear interpolation between entries 2**fraction_bits integers apart."""

    low: int
    fraction_bits: int
    entries: np.ndarray
    shift: int
    """From an interpolated sum of 2**fraction_bits entries to the result."""
    rectified: bool
    entry_shift: int = 0
    """If rectified: from an interpolated entry to the unit of z, to the left."""


def away(x: np.ndarray) -> np.ndarray:
    """Round to the nearest whole number, halves away from zero."""
    return np.sign(x) * np.floor(np.abs(x) + 0.5)


def rescale(x: np.ndarray, shift: "np.ndarray | int") -> np.ndarray:
    """Return integers times 2**-shift, rounded as `away` does."""
    right, left = np.maximum(shift, 0), np.maximum(np.negative(shift), 0)
    half = np.where(right > 0, np.left_shift(1, np.maximum(right - 1, 0)), 0)
    return np.sign(x) * ((np.abs(x) + half) >> right) * np.left_shift(1, left)


def exponent_for(x: np.ndarray, largest: float) -> np.ndarray:
    """The least exponents for which x / 2**exponent is at most `largest`; x may be 0."""
    with np.errstate(divide="ignore"):
        exponent = np.ceil(np.log2(x / largest))
    exponent = np.where(x > np.exp2(exponent) * largest, exponent + 1, exponent)  # log2 rounds
    return np.maximum(exponent, -100.0)


class Tabulated:
    """A table for z from low to high, and the largest error that it makes there."""

    def __init__(self, f: Function, kind: Kind, low: float, high: float, bits: int) -> None:
        self.f, self.kind, self.low, self.high, self.bits = f, kind, low, high, bits
        self.n = INTERVALS[bits]
        self.fraction_bits = Z_BITS - self.n.bit_length() + 1
        start, stop = np.clip([low, high], -kind.domain, kind.domain)
        self.step = max(float(exponent_for(stop - start, self.n - 1.0)), -20.0)
        largest = max(abs(low), abs(high), abs(float(f(np.array(-kind.domain)))), 2.0)
        self.step = max(
            self.step, float(exponent_for(np.array(largest), ROOM / 4)) + self.fraction_bits
        )
        self.first = float(np.floor(start / 2.0**self.step))
        self.z_exponent = self.step - self.fraction_bits
        nodes = (self.first + np.minimum(np.arange(self.n + 2), self.n)) * 2.0**self.step
        self.values = self._target(np.minimum(nodes, kind.domain))  # exp has no more than that
        reach = np.abs(self.values if not kind.rectified else f(np.array([low, high, 0.0])))
        self.exponent = float(exponent_for(reach.max(), LARGEST[bits] - 2.0))
        self.table = self._make()
        while np.abs(interpolate(self.table, self._integers(True))).max() > LARGEST[bits] - 1:
            self.exponent += 1
            self.table = self._make()
        self.error = self._error()

    def _target(self, z: np.ndarray) -> np.ndarray:
        return self.f(z) - (np.maximum(z, 0) if self.kind.rectified else 0)

    def _make(self) -> Table:
        if self.kind.rectified:
            least = float(exponent_for(np.abs(self.values).max(), 32767.0))
            entry = max(self.z_exponent, least)
            self.exponent = max(self.exponent, self.z_exponent)
            shift = int(self.exponent - self.z_exponent)
        else:
            entry = self.exponent - (16 - self.bits)
            shift = self.fraction_bits + 16 - self.bits
        return Table(
            int(self.first) << self.fraction_bits,
            self.fraction_bits,
            away(self.values / 2.0**entry).astype(np.int16),
            shift,
            self.kind.rectified,
            int(entry - self.z_exponent) if self.kind.rectified else 0,
        )

    def _integers(self, ends: bool) -> np.ndarray:
        """All z that can come in and lie in the table's domain; with `ends` also the outermost."""
        low = int(np.floor(self.low / 2.0**self.z_exponent)) - 1
        high = int(np.ceil(self.high / 2.0**self.z_exponent)) + 1
        first = self.table.low
        last = first + (self.n << self.fraction_bits)
        within = np.arange(min(max(low, first), last), max(min(high, last), first) + 1)
        return np.append(within, [low, high]) if ends else within

    def _error(self) -> float:
        z = self._integers(False)
        results = interpolate(self.table, z) * 2.0**self.exponent
        worst = worst_inside = float(np.abs(results - self.f(z * 2.0**self.z_exponent)).max())
        # Beyond the table its last entry stands for the rest of the function, monotone there.
        rounding = 2.0**self.exponent if self.kind.rectified else 0.0
        for end, beyond in ((z[0], min(self.low, 0.0)), (z[-1], max(self.high, 0.0))):
            there = end * 2.0**self.z_exponent
            if abs(beyond) > abs(there):
                rest = np.ptp(self._target(np.array([there, beyond])))
                worst = max(worst, worst_inside + rounding + float(rest))
        return worst * SLACK


def interpolate(table: Table, z: np.ndarray) -> np.ndarray:
    """Return an activation's results for integers z."""
    n, size = len(table.entries) - 2, 1 << table.fraction_bits
    at = np.clip(z - table.low, 0, n * size)
    place, fraction = at >> table.fraction_bits, at & (size - 1)
    entries = table.entries.astype(np.int64)
    total = entries[place] * (size - fraction) + entries[place + 1] * fraction
    if not table.rectified:
        return rescale(total, table.shift)
    corrected = np.maximum(z, 0) + (rescale(total, table.fraction_bits) << table.entry_shift)
    return rescale(corrected, table.shift)
