"""Is a network healthy? What its figures on some rows say is wrong, with a remedy.

The figures are those of `bpcore.healthfigures`, and `bpcore.healthreport` shows them.
"""

import itertools
from typing import TYPE_CHECKING

import numpy as np

from bpcore.errors import (
    DeadUnitsWarning,
    SaturationWarning,
    StalledWarning,
    UnscaledInputWarning,
)
from bpcore.healthfigures import (
    NAN,
    Rows,
    as_numbers,
    dead,
    gradients_of,
    is_fused,
    loss_ratio,
    saturated,
    update_ratios,
    values_of,
)
from bpcore.healthreport import NAMED, Finding, HealthReport, InputHealth, LayerHealth
from bpcore.layers import Dense, Dropout, Layer

if TYPE_CHECKING:
    from bpcore.network import Network

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

_OF_DISTANCES = ("mse", "mae", "huber", "quantile")
"""Losses that grow with the scale of the target."""
_LOWER_END = {"sigmoid": 0.0, "tanh": -1.0, "softmax": 0.0}


def report(net: "Network", rows: Rows) -> HealthReport:
    """Measure everything and judge it."""
    values = values_of(net, rows.X)
    at_outputs: list[np.ndarray | None] = [None] * len(net.layers)
    ratios: dict[str, float] = {}
    with np.errstate(all="ignore"):
        if rows.y is not None:
            at_outputs, gradient = gradients_of(net, values, rows)
            ratios = update_ratios(net, gradient)
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
                NAN if slope is None else float(slope.std(dtype=float)),
                ratios.get(name, NAN),
            )
    inputs = InputHealth(rows.X)
    ratio = NAN if rows.y is None else loss_ratio(net, values, rows)
    findings = [*judge_inputs(inputs), *judge_finite(net, values)]
    findings += judge_units(net, values, rows, inputs)
    findings = findings or judge_likeness(net, values, rows, inputs)
    return HealthReport(layers, inputs, len(rows.X), ratio, findings)


def _share(mask: np.ndarray | None) -> float:
    return NAN if mask is None else float(mask.mean())


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


def judge_finite(net: "Network", values: list[np.ndarray]) -> list[Finding]:
    """Say which layer is the first to give nan or infinities."""
    for name, layer, y in zip(net.names, net.layers, values[1:], strict=True):
        if n := int((~np.isfinite(y).all(axis=1)).sum()):
            text = (
                f"layer {name} ({type(layer).__name__}) gives nan or infinities for {n} of "
                f"{len(y)} row{'s' * (len(y) != 1)}, so nothing can be learnt from them. Start "
                "again with a new network, a smaller learning_rate and standardised inputs"
            )
            return [Finding(StalledWarning, text)]
    return []


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


def judge_likeness(
    net: "Network", values: list[np.ndarray], rows: Rows, inputs: InputHealth
) -> list[Finding]:
    """Say which layers' units are all the same, as after a start from zeros, and so stay the same.

    It takes equal weights on both sides: else their gradients differ, and they soon do. So they do
    where dropout lies between, which drops some of them and not others.
    """
    if not inputs.vary:
        return []
    dense = [i for i, layer in enumerate(net.layers) if isinstance(layer, Dense)]
    alike = [
        f"100% of the units of layer {net.names[i]} (Dense)"
        for i, above in itertools.pairwise(dense)
        if _are_alike(net.layers[i], net.layers[above])
        and not _will_differ(net.layers[i:above], net.layers[above], values[above])
    ]
    if not alike or not (rows.y is None or loss_ratio(net, values, rows) > LEARNT_WITH_ALIKE):
        return []
    text = (
        f"{_list(alike)} are alike: they have equal weights and equal gradients, so they learn "
        "the same and never differ. Start again with a new network and random weights, "
        "weight_init='auto'"
    )
    return [Finding(StalledWarning, text)]


def _are_alike(layer: Dense, above: Dense) -> bool:
    """Whether the units of a layer have equal weights, before them and behind."""
    return (
        layer.n_out > 1
        and _equal(layer.weight.T)
        and (not layer.has_bias or _equal(layer.bias))
        and _equal(above.weight)
    )


def _will_differ(below: list[Layer], above: Dense, x: np.ndarray) -> bool:
    """Whether dropout between two layers tells units that are alike apart.

    It cannot where it drops zeros that meet zeros: no gradient reaches the weights on either side.
    """
    drops = any(isinstance(layer, Dropout) and layer.p > 0 for layer in below)
    return drops and bool(x.any() or above.weight.any())


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
    if rows.y is not None and net.loss.kernel in _OF_DISTANCES and _is_far(rows.y):
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
    shown = "; ".join(layers[:NAMED])
    return shown + (f"; and {len(layers) - NAMED} more layers" if len(layers) > NAMED else "")
