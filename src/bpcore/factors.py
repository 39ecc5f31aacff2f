"""What a constant factor may be: which numbers of the batch and the step it is made of."""

import math
from bisect import bisect_left
from functools import cached_property
from typing import NamedTuple

from bpcore.truepass import Problem

_EXTRA = 0.5  # the cost of each further part of a factor
_RATES = (0.3, 0.2, 0.1, 0.05, 0.03, 0.02, 0.01, 5e-3, 3e-3, 2e-3, 1e-3, 1e-4, 1e-5, 1e-6)
_LEAST = 1e-9  # of a factor without a name
UNNAMED = 2.6
"""The cost of a factor that is just a number."""
RATES = ("rate_applied", "update_given")


class Reading(NamedTuple):
    """One way to read a factor."""

    code: str
    value: float
    meaning: str
    cost: float


class Factors:
    """All factors that have a name, for a batch of N rows, K outputs and perhaps a rate."""

    def __init__(self, problem: Problem, rate: float | None, tolerance: float) -> None:
        self._problem, self._rate, self._tolerance = problem, rate, max(tolerance, 1e-9)
        self._known: dict[float, list[Reading]] = {}

    @cached_property
    def _table(self) -> list[tuple[float, dict[str, int]]]:
        """Positive values in order, each with the powers of its parts."""
        n, k = self._problem.n_rows, self._problem.n_out
        parts = {"2": (2.0, (-2, -1, 0, 1, 2))}
        if n > 1:
            parts["N"] = (float(n), (-2, -1, 0, 1, 2))
        if k > 1:
            parts["K"] = (float(k), (-2, -1, 0, 1, 2))
        weight = self._problem.sample_weight
        if weight is not None and not math.isclose(weight.sum(), n):
            parts["S"] = (float(weight.sum()), (-1, 0, 1))
        if self._rate is not None and self._rate != 1:
            parts["rate"] = (self._rate, (0, 1))
        rows: list[tuple[float, dict[str, int]]] = [(1.0, {})]
        for name, (value, powers) in parts.items():
            rows = [
                (old * value**power, made | ({name: power} if power else {}))
                for old, made in rows
                for power in powers
            ]
        return sorted(rows, key=lambda row: row[0])

    @cached_property
    def _values(self) -> list[float]:
        return [value for value, _ in self._table]

    def same(self, a: float, b: float) -> bool:
        """Whether two factors agree to the tolerance."""
        return abs(a - b) <= self._tolerance * max(abs(a), abs(b))

    def readings(self, factor: float, evidence: int) -> list[Reading]:
        """All ways to read a factor other than 1, cheapest first; none if it means nothing.

        `evidence` is the number of entries that share it: a number without a name is believed only
        if several do.
        """
        key = float(f"{factor:.7g}")
        if key not in self._known:
            self._known[key] = self._read(factor)
        found = self._known[key]
        if found or evidence < 4 or not _LEAST < abs(factor) < 1 / _LEAST:
            return found
        if self._rate is None and any(self.same(abs(factor), rate) for rate in _RATES):
            code = "rate_applied" if factor > 0 else "update_given"
            meaning = f"{factor:.6g}, as a learning rate may be"
            return [
                Reading(code, factor, meaning, 1.5),
                Reading("factor", factor, f"{factor:.6g}", 1.5),
            ]
        return [Reading("factor", factor, f"{factor:.6g}", UNNAMED)]

    def _read(self, factor: float) -> list[Reading]:
        readings = []
        first = bisect_left(self._values, abs(factor) * (1 - self._tolerance))
        for value, made in self._table[first:]:
            if not self.same(abs(factor), value):
                break
            for code, cost, rest in self._codes(made, factor < 0):
                exact = math.copysign(value, factor)
                readings.append(Reading(code, exact, _describe(exact, made), cost + rest))
        if not readings:
            return []
        readings.sort(key=lambda r: r.cost)
        best = readings[0].cost
        unique = {}
        for reading in readings:
            if reading.cost <= best + 0.3:
                unique.setdefault(reading.code + reading.meaning, reading)
        return list(unique.values())

    def _codes(self, made: dict[str, int], negative: bool) -> list[tuple[str, float, float]]:
        """(code, cost, cost of what is left) for the parts of a factor."""
        parts = {name: power for name, power in made.items() if power}
        if "rate" in parts:
            rest = {name: power for name, power in parts.items() if name != "rate"}
            return [("update_given" if negative else "rate_applied", 0.9, _size(rest) * _EXTRA)]
        sign = _EXTRA if negative and parts else 0.0
        if not parts:
            return [("sign", 1.0, 0.0)]
        reduction, per_row = self._problem.reduction, self._problem.averages == self._problem.n_rows
        both = {"N": 1} if per_row or self._problem.n_out == 1 else {"N": 1, "K": 1}
        if reduction == "sample_mean":
            both = {"N": 1}
        scaled = {"S": 1} if "S" in parts and "N" not in parts else None
        mean = {name: -power for name, power in both.items()}
        if reduction == "sum":
            if parts in (mean, {"N": -1}):
                return [("mean_for_sum", 1.0, sign)]
        else:
            if parts in (both, scaled):
                return [("sum_for_mean", 1.0, sign)]
            if parts in (mean, {"N": -1}):
                return [("mean_twice", 1.0, sign)]
        if set(parts) == {"K"}:
            return [("outputs_factor", 1.0 + _EXTRA * (abs(parts["K"]) - 1), sign)]
        return [("factor", 1.0 + _EXTRA * (_size(parts) - 1), sign)]


def _size(parts: dict[str, int]) -> float:
    """How many parts a factor has; a product of rows and outputs counts as one."""
    size = sum(abs(power) for power in parts.values())
    if parts.get("N", 0) * parts.get("K", 0) > 0:
        size -= min(abs(parts["N"]), abs(parts["K"]))
    return float(size)


_NAMES = {"N": "rows", "K": "outputs", "S": "sum of weights", "rate": "learning rate", "2": "2"}


def _describe(factor: float, made: dict[str, int]) -> str:
    """Write a factor as a product of its parts."""
    above = [name for name, power in made.items() for _ in range(max(power, 0))]
    below = [name for name, power in made.items() for _ in range(max(-power, 0))]
    words = [_NAMES[name] for name in above] or ["1"]
    text = " x ".join(words)
    if below:
        under = " x ".join(_NAMES[name] for name in below)
        text += f" / ({under})" if len(below) > 1 else f" / {under}"
    sign = "-" if factor < 0 else ""
    number = f"{factor:.6g}"
    if above == below == []:
        return number
    plain = text == number.lstrip("-")
    return number if plain else f"{number} = {sign}{text}"
