"""What a network makes of some rows: the outputs of its layers, their slopes, losses and gradients.

Everything here is computed beside the network, from its parameters and the rows, by the kernels
that layers use alone. Nothing of the network changes: neither gradients nor generator nor what the
last `forward` kept.
"""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bpcore import _core
from bpcore.layers import Dense, Dropout, LeakyReLU, Softmax
from bpcore.losses import FUSED
from bpcore.optimizers import SGD

if TYPE_CHECKING:
    from bpcore.layers import Layer
    from bpcore.network import Network

FLAT = 0.01
"""A sigmoid, tanh or softmax is saturated where its slope is below this share of the steepest."""
DEAD_SLOPE = 1e-3
"""A rectifier, or its smooth kin, is dead where no row's slope is above this."""

_STEEPEST = {"sigmoid": 0.25, "tanh": 1.0, "softmax": 0.25}
_LEAST_AT_TARGET = ("bce", "cross_entropy", "poisson")
"""Losses that need not be 0 where the prediction is the target, as that has an entropy."""
NAN = float("nan")


class Rows(NamedTuple):
    """A sample of what a network is trained on; `y` and `weight` may be None."""

    X: np.ndarray
    y: np.ndarray | None = None
    weight: np.ndarray | None = None


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
    return _fused_kernel(net) is not None


def _fused_kernel(net: "Network") -> str | None:
    """Return the kernel that absorbs the last layer, if one does."""
    last = net.layers[-1]
    return FUSED.get((last.name, net.loss.kernel)) if hasattr(last, "kernel") else None


def loss_of(net: "Network", values: list[np.ndarray], rows: Rows) -> float:
    """Return the mean loss over the sample, without penalty, whatever the network's reduction."""
    kernel = _fused_kernel(net)
    prediction = values[-1 if kernel is None else -2]
    return net.loss.evaluate(prediction, rows.y, rows.weight, kernel=kernel, reduction="mean")


def as_numbers(net: "Network", rows: Rows) -> np.ndarray:
    """Return the target with a column for each output."""
    if rows.y.dtype.kind == "f":
        return rows.y
    one_hot = np.zeros((len(rows.y), net.n_out), net.dtype)
    one_hot[np.arange(len(rows.y)), rows.y] = 1
    return one_hot


def least_loss(net: "Network", rows: Rows) -> float:
    """Return the loss where the prediction is the target, which no network can undercut."""
    kernel = net.loss.plain_kernel
    if kernel not in _LEAST_AT_TARGET:
        return 0.0
    target = as_numbers(net, rows)
    return net.loss.evaluate(target, target, rows.weight, kernel=kernel, reduction="mean")


def loss_ratio(net: "Network", values: list[np.ndarray], rows: Rows) -> float:
    """Return the loss beside that of the best constant answer to every row.

    It is nan where that answer is perfect, and where only the user knows it.
    """
    kernel = net.loss.plain_kernel
    if kernel is None:
        return NAN
    target = as_numbers(net, rows)
    with np.errstate(all="ignore"):
        answer = np.average(target, axis=0, weights=rows.weight)
        if kernel == "quantile":
            answer = np.quantile(target, net.loss.parameter, axis=0)
        constant = np.ascontiguousarray(np.broadcast_to(answer, target.shape), dtype=net.dtype)
        best = net.loss.evaluate(constant, target, rows.weight, kernel=kernel, reduction="mean")
        least = least_loss(net, rows)
        spread = np.ptp(target, axis=0).max() > 1e-9 * np.abs(target).max()
        if not (spread and best > least):
            return NAN
        return (loss_of(net, values, rows) - least) / (best - least)


def gradients_of(
    net: "Network", values: list[np.ndarray], rows: Rows
) -> tuple[list[np.ndarray | None], np.ndarray]:
    """Return the loss's gradients at the layers' outputs, and that of the flat parameters."""
    at_outputs: list[np.ndarray | None] = [None] * len(net.layers)
    parts: list[np.ndarray] = []
    top = len(net.layers) - is_fused(net)
    dy = np.empty_like(values[top])
    net.loss.evaluate(values[top], rows.y, rows.weight, dy, kernel=_fused_kernel(net))
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


def update_ratios(net: "Network", gradient: np.ndarray) -> dict[str, float]:
    """Return, by layer, the size of the optimiser's next step beside that of the weights."""
    step, start, ratios = _next_step(net, gradient), 0, {}
    for name, layer in zip(net.names, net.layers, strict=True):
        if isinstance(layer, Dense):
            weight = layer.weight.ravel()
            size = np.linalg.norm(weight.astype(float))
            change = np.linalg.norm(step[start : start + weight.size].astype(float))
            ratios[name] = float(change / size) if size else NAN
            start += layer.n_parameters
    return ratios
