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
    last = net.layers[-1]
    return hasattr(last, "kernel") and (last.name, net.loss.kernel) in FUSED


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
            return NAN
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
    if optimizer.takes_all_rows:  # a few rows tell nothing of its step
        return np.full_like(after, np.nan)
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
