"""The health of a network: what its layers answer, and what reaches them on the way back.

Everything here is computed beside the network, from its parameters and some rows, by the kernels
that layers use alone. Nothing of the network changes: neither gradients nor generator nor what the
last `forward` kept.
"""

import itertools
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bpcore import _core
from bpcore.errors import (
    DeadUnitsWarning,
    SaturationWarning,
    StalledWarning,
    UnscaledInputWarning,
)
from bpcore.frames import to_frame
from bpcore.layers import Dense, Dropout, LeakyReLU, Softmax
from bpcore.optimizers import SGD

if TYPE_CHECKING:
    import pandas

    from bpcore.layers import Layer
    from bpcore.network import Network

FLAT = 0.01
"""A sigmoid, tanh or softmax is saturated where its slope is below this share of the steepest."""
DEAD_SLOPE = 1e-3
"""A rectifier, or its smooth kin, is dead where no row's slope is above this."""
LARGE_SCALE = 20.0
"""An input is unscaled where its root mean square is above this, ..."""
SMALL_SCALE = 0.01
"""... or all its values are below this in size, and half of them not 0, ..."""
LARGE_OFFSET = 20.0
"""... or its mean is more than this many standard deviations from 0, and values are above 2."""
MOST_DEAD = MOST_SATURATED = 0.5
"""From this share of a layer's units, or of its outputs, on there is a warning, ..."""
MOST_STUCK = 0.75
"""... or from this share of the network's outputs, ..."""
MOST_AT_FIRST = 0.9
"""... or of any layer's as long as training has hardly begun."""
PULL = 0.25
"""Outputs are stuck at an end if their targets lie this share of the range further in, on average:
otherwise that end is where the loss wants them."""
LEARNT_WITH_DEAD, LEARNT_WITH_SATURATED, LEARNT_WITH_ALIKE = 0.5, 0.75, 0.5
"""No warning of units if the loss is below this share of what the best constant answer has."""

_STEEPEST = {"sigmoid": 0.25, "tanh": 1.0, "softmax": 0.25}
_LOWER_END = {"sigmoid": 0.0, "tanh": -1.0, "softmax": 0.0}
_FUSED = {("sigmoid", "bce"), ("softmax", "cross_entropy")}
_NAN = float("nan")
_NAMED = 4  # columns or layers in one message


class LayerHealth(NamedTuple):
    """What some rows made of one layer; nan where a figure makes no sense or was not asked for."""

    name: str
    kind: str
    units: int
    dead: float
    """The share of units that no row gets through, so that their weights cannot learn."""
    saturated: float
    """The share of outputs on the flat ends of a sigmoid, tanh or softmax."""
    mean: float
    std: float
    """Of the layer's outputs."""
    gradient_std: float
    """The spread of the loss's gradient at the layer's outputs."""
    update_ratio: float
    """The size of the optimiser's next step beside that of the weights."""


_COLUMNS = ("layer", *LayerHealth._fields[1:])


class Finding(NamedTuple):
    """Something that is wrong, in a sentence with its remedy."""

    category: type[Warning]
    text: str


class Rows(NamedTuple):
    """A sample of what a network is trained on; `y` and `weight` may be None."""

    X: np.ndarray
    y: np.ndarray | None = None
    weight: np.ndarray | None = None


class InputHealth:
    """The scale and offset of each input.

    Attributes
    ----------
    mean, std, peak : ndarray of shape (n_in,)
        Of each column; `peak` is the largest absolute value.
    unscaled : ndarray of int
        The columns whose scale or offset is far from unit. Constant ones are left out.
    vary : bool
        Whether any column does.
    """

    def __init__(self, X: np.ndarray) -> None:
        with np.errstate(all="ignore"):
            top, bottom = X.max(axis=0), X.min(axis=0)
            self.peak = np.maximum(np.abs(top), np.abs(bottom))
            self.mean = X.mean(axis=0, dtype=float)
            # a sum of squares by columns, without a copy of X
            square = np.einsum("ij,ij->j", X, X, dtype=float) / len(X)
            self.std = np.sqrt(np.maximum(square - self.mean**2, 0.0))
            varies = (top > bottom) & (len(X) > 1)
            large = square > LARGE_SCALE**2
            small = varies & (self.peak < SMALL_SCALE)
            if small.any():  # and not merely seldom anything else than 0, as pixels at an edge
                small[small] = (X[:, small] != 0).mean(axis=0) >= 0.5
            far = (np.abs(self.mean) > LARGE_OFFSET * self.std) & (self.peak > 2)
        self.unscaled = np.flatnonzero(varies & (large | small | far))
        self.vary = bool(varies.any())

    def describe(self) -> str:
        """Name the worst of the unscaled columns."""
        columns = self.unscaled[np.argsort(-self.peak[self.unscaled], kind="stable")]
        shown = ", ".join(
            f"column {c} (mean {self.mean[c]:.3g}, standard deviation {self.std[c]:.3g})"
            for c in sorted(columns[:_NAMED])
        )
        return shown + (f", and {len(columns) - _NAMED} more" if len(columns) > _NAMED else "")


class HealthReport:
    """What `Network.health` found; `print` it to read it.

    Attributes
    ----------
    layers : dict of str to LayerHealth
        By the layers' names.
    inputs : InputHealth
    n_rows : int
    loss_ratio : float
        The loss beside that of the best constant answer: at 1 nothing is learnt. Without penalty;
        nan without `y`, and where the target is constant.
    findings : list of Finding
        What is wrong: `category`, the class of warning, and `text`, with a remedy.

    Examples
    --------
    >>> import numpy as np
    >>> import bpcore
    >>> net = bpcore.mlp([3, 4, 1], hidden="sigmoid", output="sigmoid", rng=1)
    >>> X = np.array([[4, 500, 6], [4, 550, 5.5], [2, 200, 3.5], [2, 250, 4]])
    >>> report = net.health(X)
    >>> report.ok, report.layers["1"].saturated, report.inputs.unscaled.tolist()
    (False, 1.0, [1])
    >>> net.health((X - X.mean(axis=0)) / X.std(axis=0)).ok
    True
    """

    def __init__(
        self,
        layers: dict[str, LayerHealth],
        inputs: InputHealth,
        n_rows: int,
        loss_ratio: float,
        findings: list[Finding],
    ) -> None:
        self.layers, self.inputs, self.n_rows = layers, inputs, n_rows
        self.loss_ratio, self.findings = loss_ratio, findings

    @property
    def ok(self) -> bool:
        """Whether nothing was found wrong."""
        return not self.findings

    def to_frame(self) -> "pandas.DataFrame":
        """Return a pandas DataFrame with a row for each layer.

        Returns
        -------
        pandas.DataFrame
            With columns layer, kind, units, dead, saturated, mean, std, gradient_std, update_ratio.

        Raises
        ------
        ImportError
            pandas is not installed.
        """
        layers = self.layers.values()
        return to_frame(
            {
                column: [getattr(layer, name) for layer in layers]
                for column, name in zip(_COLUMNS, LayerHealth._fields, strict=True)
            }
        )

    def __repr__(self) -> str:
        kinds = ", ".join(finding.category.__name__ for finding in self.findings)
        return f"<HealthReport ok={self.ok}: {self.n_rows} rows{', ' if kinds else ''}{kinds}>"

    def __str__(self) -> str:
        import textwrap  # as it is rarely needed

        verdict = "healthy" if self.ok else f"{len(self.findings)} found wrong"
        lines = [f"Health on {self.n_rows} row{'s' * (self.n_rows != 1)}: {verdict}."]
        for finding in self.findings:
            lines += textwrap.wrap(finding.text, 80, break_long_words=False)
        if self.loss_ratio == self.loss_ratio:
            lines.append(f"The loss is {self.loss_ratio:.3g} times that of the best constant.")
        unscaled, n_in = len(self.inputs.unscaled), len(self.inputs.mean)
        lines += [f"{unscaled} of {n_in} inputs unscaled.", "", *self._table()]
        return "\n".join(lines)

    def _table(self) -> list[str]:
        titles = ("layer", "kind", "units", "dead", "flat", "mean", "std", "gradient", "update")
        rows = [titles]
        for layer in self.layers.values():
            shares = map(_percent, (layer.dead, layer.saturated))
            figures = map(_short, layer[5:])
            rows.append((layer.name[:10], layer.kind[:10], str(layer.units), *shares, *figures))
        widths = (11, 10, 6, 7, 7, 9, 9, 9, 9)
        aligned = ("<", "<", *">" * 7)
        return [
            "".join(
                f"{cell:{side}{width}}"
                for cell, side, width in zip(row, aligned, widths, strict=True)
            ).rstrip()
            for row in rows
        ]


def _percent(share: float) -> str:
    return "" if share != share else f"{100 * share:.0f} %"


def _short(figure: float) -> str:
    return "" if figure != figure else f"{figure:.2g}"


# ---- measuring ---------------------------------------------------------------------------------


def values_of(
    net: "Network", X: np.ndarray, parameters: np.ndarray | None = None
) -> list[np.ndarray]:
    """Return X and the outputs of every layer for it; `Dropout` does not act."""
    flat = net.parameters if parameters is None else parameters
    values, start = [X], 0
    for layer in net.layers:
        x = values[-1]
        if isinstance(layer, Dropout):
            values.append(x)
            continue
        if isinstance(layer, Dense):
            y = np.empty((len(x), layer.n_out), net.dtype)
            middle, end = start + layer.n_in * layer.n_out, start + layer.n_parameters
            weight = flat[start:middle].reshape(layer.n_in, layer.n_out)
            _core.dense_forward(x, weight, flat[middle:end] if layer.has_bias else None, y)
            start = end
        else:
            y = np.empty(x.shape, net.dtype)
            layer._evaluate(x, y)
        values.append(y)
    return values


def _slopes(layer: "Layer", x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the derivative of an activation at every element."""
    if isinstance(layer, Softmax):
        return y * (1 - y)
    slopes = np.empty(x.shape, x.dtype)
    layer._differentiate(np.ones(x.shape, x.dtype), x, y, slopes)
    return slopes


def saturated(layer: "Layer", x: np.ndarray, y: np.ndarray) -> np.ndarray | None:
    """Return which outputs are on a flat end, or None for activations without two."""
    steepest = _STEEPEST.get(layer.name) if hasattr(layer, "kernel") else None
    return None if steepest is None else _slopes(layer, x, y) < FLAT * steepest


def dead(layer: "Layer", x: np.ndarray, y: np.ndarray) -> np.ndarray | None:
    """Return which units no row gets through, or None for layers whose units cannot die."""
    if isinstance(layer, Dense | Dropout) or layer.name in _STEEPEST:
        return None
    if isinstance(layer, LeakyReLU) and layer.parameter:
        return None
    if layer.name == "relu":
        return ~(y > 0).any(axis=0)
    return ~(np.abs(_slopes(layer, x, y)) > DEAD_SLOPE).any(axis=0)


def is_fused(net: "Network") -> bool:
    """Whether the loss is computed from what goes into the last layer."""
    last = net.layers[-1]
    return hasattr(last, "kernel") and (last.name, net.loss.kernel) in _FUSED


def loss_of(net: "Network", values: list[np.ndarray], rows: Rows) -> float:
    """Return the mean loss over the sample, without penalty, whatever the network's reduction."""
    fused = is_fused(net)
    kernel = net.loss.kernel + "_logits" * fused
    prediction = values[-2] if fused else values[-1]
    parameter = net.loss.parameter
    return _core.loss_evaluate(kernel, parameter, "mean", prediction, rows.y, rows.weight, None)


def as_numbers(net: "Network", rows: Rows) -> np.ndarray:
    """Return the target with a column for each output."""
    if rows.y.dtype.kind == "f":
        return rows.y
    one_hot = np.zeros((len(rows.y), net.n_out), net.dtype)
    one_hot[np.arange(len(rows.y)), rows.y] = 1
    return one_hot


def loss_ratio(net: "Network", values: list[np.ndarray], rows: Rows) -> float:
    """Return the loss beside that of the mean as answer to every row; nan where that is perfect."""
    target = as_numbers(net, rows)
    with np.errstate(all="ignore"):
        mean = np.average(target, axis=0, weights=rows.weight)
        constant = np.ascontiguousarray(np.broadcast_to(mean, target.shape), dtype=net.dtype)
        kernel = net.loss.kernel.removesuffix("_logits")
        best = _core.loss_evaluate(
            kernel, net.loss.parameter, "mean", constant, target, rows.weight, None
        )
        floor = 0.0
        if kernel in ("bce", "cross_entropy"):  # targets that are not 0 or 1 have an entropy
            floor = _core.loss_evaluate(kernel, 0.0, "mean", target, target, rows.weight, None)
        spread = np.ptp(target, axis=0).max() > 1e-9 * np.abs(target).max()
        if not (spread and best > floor):
            return _NAN
        return (loss_of(net, values, rows) - floor) / (best - floor)


def gradients_of(
    net: "Network", values: list[np.ndarray], rows: Rows
) -> tuple[list[np.ndarray | None], np.ndarray]:
    """Return the loss's gradients at the layers' outputs, and that of the flat parameters."""
    at_outputs: list[np.ndarray | None] = [None] * len(net.layers)
    parts: list[np.ndarray] = []
    top = len(net.layers) - is_fused(net)
    kernel = net.loss.kernel + "_logits" * is_fused(net)
    dy = np.empty_like(values[top])
    loss = (kernel, net.loss.parameter, net.loss.reduction)
    _core.loss_evaluate(*loss, values[top], rows.y, rows.weight, dy)
    for i in reversed(range(top)):
        layer, x = net.layers[i], values[i]
        at_outputs[i], dx = dy, np.empty_like(x)
        if isinstance(layer, Dense):
            weight, bias = np.empty_like(layer.weight), None
            if layer.has_bias:
                bias = np.empty_like(layer.bias)
                parts.append(bias)
            _core.dense_backward(dy, x, layer.weight, weight, bias, dx)
            weight += net.l2 * layer.weight + net.l1 * np.sign(layer.weight)
            parts.append(weight.ravel())
        elif isinstance(layer, Dropout):
            dx = dy
        else:
            layer._differentiate(dy, x, values[i + 1], dx)
        dy = dx
    return at_outputs, np.concatenate(parts[::-1] or [net.gradients])


def _next_step(net: "Network", gradient: np.ndarray) -> np.ndarray:
    """Return by how much the optimiser would change the parameters."""
    optimizer = SGD() if net.optimizer is None else net.optimizer
    rates = net.history["learning_rate"] if net.history is not None else []
    rate = rates[-1] if rates else optimizer.rate()
    state = optimizer._states.get(net)
    after = net.parameters.copy()
    if state is None:
        slots, step = optimizer.initial_slots(after.size, after.dtype, rate), 0
    else:
        slots, step = tuple(slot.copy() for slot in state.slots), state.step
    try:
        _core.optimizer_step(
            optimizer.kernel, after, gradient, slots, optimizer.hyper, rate, step + 1
        )
    except ArithmeticError:
        return np.full_like(after, np.inf)
    return after - net.parameters


def _update_ratios(net: "Network", gradient: np.ndarray) -> dict[str, float]:
    step, start, ratios = _next_step(net, gradient), 0, {}
    for name, layer in zip(net.names, net.layers, strict=True):
        if isinstance(layer, Dense):
            weight = layer.weight.ravel()
            size = np.linalg.norm(weight.astype(float))
            change = np.linalg.norm(step[start : start + weight.size].astype(float))
            ratios[name] = float(change / size) if size else _NAN
            start += layer.n_parameters
    return ratios


def report(net: "Network", rows: Rows) -> HealthReport:
    """Measure everything and judge it."""
    values = values_of(net, rows.X)
    at_outputs: list[np.ndarray | None] = [None] * len(net.layers)
    ratios: dict[str, float] = {}
    with np.errstate(all="ignore"):
        if rows.y is not None:
            at_outputs, gradient = gradients_of(net, values, rows)
            ratios = _update_ratios(net, gradient)
        layers = {}
        for i, (name, layer) in enumerate(zip(net.names, net.layers, strict=True)):
            x, y, slope = values[i], values[i + 1], at_outputs[i]
            layers[name] = LayerHealth(
                name,
                type(layer).__name__,
                y.shape[1],
                _share(dead(layer, x, y)),
                _share(saturated(layer, x, y)),
                float(y.mean(dtype=float)),
                float(y.std(dtype=float)),
                _NAN if slope is None else float(slope.std(dtype=float)),
                ratios.get(name, _NAN),
            )
    inputs = InputHealth(rows.X)
    ratio = _NAN if rows.y is None else loss_ratio(net, values, rows)
    findings = [*judge_inputs(inputs), *judge_units(net, values, rows, inputs)]
    findings = findings or judge_likeness(net, values, rows)
    return HealthReport(layers, inputs, len(rows.X), ratio, findings)


def _share(mask: np.ndarray | None) -> float:
    return _NAN if mask is None else float(mask.mean())


# ---- judging -----------------------------------------------------------------------------------


def judge_inputs(inputs: InputHealth) -> list[Finding]:
    """Say which inputs are unscaled."""
    count, n_in = len(inputs.unscaled), len(inputs.mean)
    if not count:
        return []
    text = (
        f"{count} of {n_in} inputs {'is' if count == 1 else 'are'} far from mean 0 and standard "
        f"deviation 1: {inputs.describe()}. Standardise each column of X: subtract its mean and "
        "divide by its standard deviation, those of the training rows"
    )
    return [Finding(UnscaledInputWarning, text)]


def judge_units(
    net: "Network", values: list[np.ndarray], rows: Rows, inputs: InputHealth, least: float = 0.0
) -> list[Finding]:
    """Say which layers have dead or saturated units, unless the network has learnt nevertheless.

    `least` is the smallest share to speak of.
    """
    if not inputs.vary:
        return []
    dying, flat = [], []
    for i, layer in enumerate(net.layers):
        if isinstance(layer, Dense | Dropout):
            continue
        x, y, place = values[i], values[i + 1], f"layer {net.names[i]} ({type(layer).__name__})"
        silent, ends = dead(layer, x, y), saturated(layer, x, y)
        most = MOST_SATURATED
        if i == len(net.layers) - 1:
            silent, ends = _stuck_outputs(net, y, silent, ends, rows)
            most = MOST_STUCK
        if (share := _share(silent)) >= max(MOST_DEAD, least):
            dying.append(f"{share:.0%} of the units of {place}")
        if (share := _share(ends)) >= max(most, least):
            flat.append(f"{share:.0%} of the outputs of {place}")
    if not (dying or flat):
        return []
    ratio = 1.0 if rows.y is None else loss_ratio(net, values, rows)  # nan is not above anything
    findings = []
    if dying and ratio > LEARNT_WITH_DEAD:
        findings.append(Finding(DeadUnitsWarning, _dead_text(net, dying, rows, inputs)))
    if flat and ratio > LEARNT_WITH_SATURATED:
        findings.append(Finding(SaturationWarning, _saturation_text(flat, inputs)))
    return findings


def judge_likeness(net: "Network", values: list[np.ndarray], rows: Rows) -> list[Finding]:
    """Say which layers' units are all the same, as after a start from zeros, and so stay the same.

    It takes equal weights on both sides: else their gradients differ, and they soon do.
    """
    dense = [(name, layer) for name, layer in zip(net.names, net.layers, strict=True)
             if isinstance(layer, Dense)]  # fmt: skip
    alike = [
        f"100% of the units of layer {name} (Dense)"
        for (name, layer), (_, above) in itertools.pairwise(dense)
        if layer.n_out > 1
        and _equal(layer.weight.T)
        and (not layer.has_bias or _equal(layer.bias))
        and _equal(above.weight)
    ]
    if not alike or not (rows.y is None or loss_ratio(net, values, rows) > LEARNT_WITH_ALIKE):
        return []
    text = (
        f"{_list(alike)} are alike: they have equal weights and equal gradients, so they learn "
        "the same and never differ. Start again with a new network and random weights, "
        "weight_init='auto'"
    )
    return [Finding(StalledWarning, text)]


def _equal(units: np.ndarray) -> bool:
    """Whether the rows, or numbers, are all the same; cheap where the first two are not."""
    return bool((units[1] == units[0]).all() and (units == units[0]).all())


def _stuck_outputs(
    net: "Network",
    y: np.ndarray,
    silent: np.ndarray | None,
    ends: np.ndarray | None,
    rows: Rows,
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Leave of a last layer's dead and saturated outputs those that the targets pull back."""
    if is_fused(net):
        return None, None
    if rows.y is None:
        return silent, None
    target = as_numbers(net, rows)
    if silent is not None:
        silent = silent & ((target - y).mean(axis=0) > PULL * target.std(axis=0))
    if ends is not None:
        lower = _LOWER_END[net.layers[-1].name]
        high = y > (1 + lower) / 2
        for end, inwards in ((ends & high, -1), (ends & ~high, 1)):
            pull = inwards * ((target - y) * end).sum(axis=0)
            ends = ends & ~(end & (pull <= PULL * (1 - lower) * end.sum(axis=0)))
    return silent, ends


def _dead_text(net: "Network", layers: list[str], rows: Rows, inputs: InputHealth) -> str:
    remedies = ["weight_init='he_normal' with zero biases", "a smaller learning_rate"]
    if len(inputs.unscaled):
        remedies.append("standardised inputs")
    if rows.y is not None and net.loss.kernel in ("mse", "mae", "huber") and _is_far(rows.y):
        remedies.append("a standardised target")
    return (
        f"{_list(layers)} are dead: they are flat on every row looked at, so their weights no "
        f"longer learn. Start again with a new network, "
        f"{', '.join(remedies[:-1])} and {remedies[-1]}"
    )


def _is_far(target: np.ndarray) -> bool:
    """Whether a target's mean is far from 0, or its spread from 1."""
    mean, std = np.abs(target.mean(axis=0)), target.std(axis=0)
    return bool(((mean > 3 * std) | (std > 3)).any())


def _saturation_text(layers: list[str], inputs: InputHealth) -> str:
    remedy = "Use smaller weights at the start (weight_init='glorot_uniform')"
    if len(inputs.unscaled):
        remedy = "Standardise the inputs"
    return (
        f"{_list(layers)} are saturated: where a unit sits on the flat end of its activation "
        f"hardly any gradient comes through. {remedy}, then start again with a new network, or "
        "use a smaller learning_rate"
    )


def _list(layers: list[str]) -> str:
    shown = "; ".join(layers[:_NAMED])
    return shown + (f"; and {len(layers) - _NAMED} more layers" if len(layers) > _NAMED else "")
