"""A fit's look at its network's health: when, on how many rows, and what to warn of."""

import time
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from bpcore import health, healthfigures
from bpcore.errors import StalledWarning
from bpcore.healthfigures import Rows
from bpcore.healthreport import Finding, InputHealth
from bpcore.layers import Dense

if TYPE_CHECKING:
    from bpcore.network import Network

LEAST_ROWS, MOST_ROWS, MOST_ROWS_TO_BE_SURE = 32, 256, 4096
FEWEST_ROWS, CHEAP, MOST_NUMBERS = 4, 2**21, 2**22
"""Least rows of any network; multiply-adds that are always affordable; numbers a layer at most."""
ROWS_TRAINED_FOR_EACH_LOOKED_AT = 64
FIRST_EPOCHS, FIRST_STEPS = 10, 1000
"""Before both of these training has hardly begun."""
PAY_BACK = 50
"""How many times as long as a look took must be trained before the next."""
STALLED_EPOCHS, STALLED_RANGE = 10, 1e-4
STALLED_RATIO = {"short": 0.5, "vanished": 0.9}
WORTHWHILE = 0.9
VANISHED = 1e-4
_FRAMES = 6  # _warn, begin or end, Run.train_on, Run.train, fit, and the caller


class Watch:
    """What `fit` asks about its network's health.

    Parameters
    ----------
    net : Network
    data : (X, y, weight or None, rows or None)
        What the fit reads.
    epochs : int
        How many it is meant to run, those before a resume aside.
    """

    def __init__(self, net: "Network", data: tuple[Any, ...], epochs: int) -> None:
        self.net, self.data = net, data
        self.n = data[0].shape[0] if data[3] is None else data[3].size
        self.n_rows = self._affordable(epochs)
        self.rows: Rows | None = None
        self.inputs: InputHealth | None = None
        self.spent = 0.0

    def _affordable(self, epochs: int) -> int:
        """Return how many rows to look at: the fewer, the larger the network beside the fit."""
        work, widest = self.net.parameters.size, self._widest()
        least = min(LEAST_ROWS, max(FEWEST_ROWS, CHEAP // max(1, work)))
        worth = epochs * self.n // ROWS_TRAINED_FOR_EACH_LOOKED_AT
        return min(self.n, max(least, min(worth, MOST_ROWS, MOST_NUMBERS // widest)))

    def _widest(self) -> int:
        widths = [layer.n_out for layer in self.net.layers if isinstance(layer, Dense)]
        return max(self.net.n_in, *widths, 1)

    def begin(self) -> None:
        """Look at the inputs."""
        start = time.perf_counter()
        findings = health.judge_inputs(self.look_at_inputs())
        self.spent += time.perf_counter() - start
        self._warn(findings)

    def end(self, losses: np.ndarray, rate: float, n_steps: int) -> None:
        """Look at the units, and at whether the loss still moves."""
        start = time.perf_counter()
        begun = len(losses) >= FIRST_EPOCHS or n_steps >= FIRST_STEPS
        least = 0.0 if begun else health.MOST_AT_FIRST
        values = healthfigures.values_of(self.net, self.rows.X)
        findings = self._surely(values, least)
        if begun and not findings:
            findings = health.judge_likeness(self.net, values, self.rows, self.inputs)
        if self.inputs.vary and not findings and not len(self.inputs.unscaled):
            findings = _judge_progress(self.net, values, self.rows, losses, rate)
        self.spent += time.perf_counter() - start
        self.net._unwatched = PAY_BACK * self.spent
        self._warn(findings)

    def look_at_inputs(self) -> InputHealth:
        """Draw the rows and measure their columns."""
        self.rows = self._sample(self.n_rows)
        self.inputs = InputHealth(self.rows.X)
        return self.inputs

    def _sample(self, count: int) -> Rows:
        """Return so many rows, evenly spread, in the form that kernels take."""
        X, y, weight, rows = self.data
        if count < self.n or rows is not None:
            chosen = np.arange(count) * self.n // count
            chosen = chosen if rows is None else rows[chosen]
            X, y = X[chosen], y[chosen]
            weight = None if weight is None else weight[chosen]
        if y.dtype.kind == "f":
            y = np.require(y.reshape(len(y), -1), self.net.dtype, ["C", "A"])
        else:
            y = np.clip(y, 0, self.net.n_out - 1).ravel()  # another thread may have changed them
        if weight is not None:
            weight = np.require(weight, self.net.dtype, ["C", "A"]) if weight.any() else None
        return Rows(np.require(X, self.net.dtype, ["C", "A"]), y, weight)

    def _surely(self, values: list[np.ndarray], least: float) -> list[Finding]:
        """Judge units, and again by more rows: one that is silent on a few need not be dead."""
        findings = health.judge_units(self.net, values, self.rows, self.inputs, least)
        count = min(self.n, MOST_ROWS_TO_BE_SURE, MOST_NUMBERS // self._widest())
        if not findings or self.n_rows >= count:
            return findings
        rows = self._sample(count)
        values = healthfigures.values_of(self.net, rows.X)
        return health.judge_units(self.net, values, rows, self.inputs, least)

    def _warn(self, findings: list[Finding]) -> None:
        for finding in findings:
            warnings.warn(finding.text, finding.category, stacklevel=_FRAMES)


def _judge_progress(
    net: "Network", values: list[np.ndarray], rows: Rows, losses: np.ndarray, rate: float
) -> list[Finding]:
    """Say whether the loss stands still although much is left to learn, and why."""
    late = losses[len(losses) // 2 :]
    with np.errstate(all="ignore"):
        if len(losses) < STALLED_EPOCHS or np.ptp(late) > STALLED_RANGE * np.abs(late).min():
            return []
        ratio = healthfigures.loss_ratio(net, values, rows)
        if not ratio > STALLED_RATIO["short"]:
            return []
        _, gradient = healthfigures.gradients_of(net, values, rows)
        text = _longer_step(net, rows, gradient, rate)
        if text is None and ratio > STALLED_RATIO["vanished"]:
            text = _vanished(net, gradient)
    if text is None:
        return []
    found = f"the loss no longer moves, at {ratio:.2g} times that of the best constant answer: "
    return [Finding(StalledWarning, found + text)]


def _longer_step(net: "Network", rows: Rows, gradient: np.ndarray, rate: float) -> str | None:
    """Try much longer steps against the gradient; say so if one of them pays at once."""
    least = healthfigures.least_loss(net, rows)
    before = healthfigures.loss_of(net, healthfigures.values_of(net, rows.X), rows) - least
    for factor in 10 ** np.arange(1, 9):
        further = net.parameters - net.dtype.type(rate * factor) * gradient
        values = healthfigures.values_of(net, rows.X, further)
        after = healthfigures.loss_of(net, values, rows) - least
        if after < WORTHWHILE * before:
            return (
                f"the steps are too short. One of {factor:,} times the length would lower it by "
                f"{1 - after / before:.0%}. Use a larger learning_rate than {rate:g}, or "
                "optimizer='adam'"
            )
    return None


def _vanished(net: "Network", gradient: np.ndarray) -> str | None:
    """Say so if hardly any gradient reaches the first weights, beside those that get the most."""
    sizes, start = {}, 0
    for name, layer in zip(net.names, net.layers, strict=True):
        if isinstance(layer, Dense):
            part = gradient[start : start + layer.weight.size]
            sizes[name] = float(np.abs(part).max(initial=0.0))
            start += layer.n_parameters
    if not sizes:
        return None
    least, most = next(iter(sizes)), max(sizes, key=sizes.get)
    if not sizes[least] < VANISHED * sizes[most]:
        return None
    return (
        f"the gradient vanishes on its way back: at the weights of layer {least} it is at most "
        f"{sizes[least] / sizes[most]:.0e} of that at layer {most}. Use fewer layers, or 'relu' "
        "with weight_init='he_normal' instead of sigmoids"
    )
