"""Backward passes as learners write them, with mistakes that can be switched on.

Written from the textbook and not from `bpcore.diagnose`, which has to find the mistakes: plain
loops over layers, and formulas from `reference`. A mistake is a name and the dense layer it is at.
"""

from typing import NamedTuple

import numpy as np
import reference


class Net(NamedTuple):
    """Dense layers with one activation each ("identity": none), and a loss."""

    weights: list
    biases: list  # None: no bias
    activations: list
    loss: str
    reduction: str = "mean"
    l2: float = 0.0
    l1: float = 0.0


class Mistake(NamedTuple):
    name: str
    layer: int  # among the dense ones
    value: object = None


def f(name, z):
    if name == "softmax":
        return reference.softmax(z)
    return reference.ACTIVATIONS[name].value(z, reference.ACTIVATIONS[name].parameter)


def df(name, z):
    return reference.ACTIVATIONS[name].derivative(z, reference.ACTIVATIONS[name].parameter)


def forward(net, X, stale=None, mistakes=()):
    """Pre-activations and activations; `stale`: (layer, output) that is left over."""
    zs, outputs = [], [X]
    for k, (W, b, name) in enumerate(zip(net.weights, net.biases, net.activations, strict=True)):
        z = outputs[-1] @ W + (0 if b is None or ("bias_left_out", k) in mistakes else b)
        zs.append(z)
        if ("other_forward", k) in mistakes:
            name = mistakes["other_forward", k].value
        outputs.append(stale[1] if stale and stale[0] == k else f(name, z))
    return zs, outputs


def cancels(net):
    """Whether the loss and the last activation make p - y at the pre-activation."""
    return (net.activations[-1], net.loss) in reference.FUSED


def loss_of(net):
    """The loss with its default parameter."""
    return reference.Loss(net.loss, 0.5 if net.loss == "quantile" else 1.0, net.reduction)


def slope(net, p, t):
    return reference.LOSSES[net.loss](p, t, loss_of(net).parameter, reference.EPS)[1]


def scales(net, n, k, w):
    return reference.row_scales(loss_of(net), n, k, w)


def derivative(net, k, z, a, d, mistakes):
    """What a learner multiplies the gradient d at the activation's output with."""
    name = net.activations[k]
    other = mistakes.get(("other_derivative", k))
    if other:
        return df(other.value, z)
    if ("derivative_formula", k) in mistakes:
        return mistakes["derivative_formula", k].value(z, a)
    if ("derivative_missing", k) in mistakes:
        return np.ones_like(z)
    if ("derivative_twice", k) in mistakes:
        return df(name, z) ** 2
    if ("derivative_at_output", k) in mistakes:
        return df(name, a)
    if ("formula_at_input", k) in mistakes:
        return z * (1 - z) if name == "sigmoid" else 1 - z**2
    if ("activation_for_derivative", k) in mistakes:
        return a
    if ("derivative_at_error", k) in mistakes:
        return df(name, d)
    if ("kink_included", k) in mistakes:
        return np.where(z >= 0, 1.0, df(name, z))
    return df(name, z)


def output_delta(net, zs, outputs, y, w, mistakes):
    """The gradient at the last pre-activation, and that at the prediction."""
    k, last = y.shape[1], len(zs) - 1
    p = prediction = outputs[-1]
    z, n = zs[-1], len(y)
    scale = scales(net, n, k, None if ("weights_ignored", last) in mistakes else w)
    if ("weights_twice", last) in mistakes:
        scale = scale * w[:, None]
    t, name = y, net.activations[-1]
    if ("swapped", last) in mistakes:
        p, t = t, p
    error = slope(net, p, t)
    simple = cancels(net)
    if simple:
        error = p - t
    if ("before_activation", last) in mistakes:
        error = z - t
    if ("broadcast", last) in mistakes:  # (n, n), then summed to have a shape that fits
        error = (error_of(net, simple, p, t.T)).mean(axis=1, keepdims=True)
    if ("error_averaged", last) in mistakes:
        error = np.full_like(p, error.mean())
    if ("last_prediction", last) in mistakes:
        error = error_of(net, simple, np.repeat(p[-1:], n, axis=0), t)
    if ("error_part", last) in mistakes:
        error = mistakes["error_part", last].value(p, t)
    if ("last_row", last) in mistakes:
        scale = scale * (np.arange(n) == n - 1)[:, None]
    if ("loss_value", last) in mistakes:
        error = np.full_like(p, reference.loss_and_slope(loss_of(net), p, t, w)[0])
        scale = 1.0
    if ("loss_elements", last) in mistakes:
        elements = reference.LOSSES[net.loss](p, t, loss_of(net).parameter, reference.EPS)[0]
        error = elements * np.ones_like(p)
    if ("error_missing", last) in mistakes:
        error = np.ones_like(p)
    if ("other_loss", last) in mistakes:
        error = mistakes["other_loss", last].value(p, t)
    d = scale * error
    if ("times_loss", last) in mistakes:
        d = d * reference.loss_and_slope(loss_of(net), p, t, w)[0]
    if ("error_size", last) in mistakes:
        d = np.abs(d)
    if simple and ("not_cancelled", last) in mistakes:  # dL/dp, and no derivative after it
        return scale * slope(net, p, t), scale * error
    if ("derivative_extra", last) in mistakes:
        own = name in ("softmax", "sigmoid")
        return d * (prediction * (1 - prediction) if own else df("sigmoid", z)), d
    if ("derivative_of_error", last) in mistakes:  # P2: (p - y) sigmoid'(p - y)
        return d * df("sigmoid", error), d
    if simple and not any(("derivative" in m or "formula" in m) for m, _ in mistakes):
        return d, d
    if simple:
        d = scale * slope(net, p, t)
    if name == "softmax":
        if ("softmax_elementwise", last) in mistakes:
            return d * prediction * (1 - prediction), d
        return reference.softmax_backward(d, prediction), d
    return d * derivative(net, last, z, outputs[-1], d, mistakes), d


def error_of(net, simple, p, t):
    return p - t if simple else slope(net, np.broadcast_to(p, np.broadcast(p, t).shape), t)


def backward(net, X, y, w=None, mistakes=(), rate=None, previous_X=None):
    """The gradients [W1, b1, W2, ...] with the mistakes; None for a bias that is left out."""
    mistakes = {(m.name, m.layer): m for m in mistakes}
    stale = next((m for m in mistakes.values() if m.name == "stale_forward"), None)
    old = None if previous_X is None else forward(net, previous_X)[1]
    zs, outputs = forward(net, X, stale and (stale.layer, old[stale.layer + 1]), mistakes)
    for k in range(len(zs)):
        if ("other_forward", k) in mistakes:  # and its derivative too
            activations = list(net.activations)
            activations[k] = mistakes["other_forward", k].value
            net = net._replace(activations=activations)
    delta, error = output_delta(net, zs, outputs, y, w, mistakes)
    deltas = {len(zs) - 1: delta}
    gradients = [None] * (2 * len(zs))
    for k in reversed(range(len(zs))):
        if ("delta_factor", k) in mistakes:
            delta = delta * mistakes["delta_factor", k].value
        gradients[2 * k] = weight_gradient(net, k, zs, outputs, delta, old, mistakes)
        gradients[2 * k + 1] = bias_gradient(net, k, delta, error, mistakes)
        if k:
            if ("delta_of_next", k) in mistakes:
                delta = deltas[k + 1]
            delta, error = step_back(net, k, zs, outputs, delta, error, gradients, rate, mistakes)
            deltas[k - 1] = delta
        if k and ("derivative_stale", k - 1) in mistakes:
            old_z = forward(net, previous_X)[0][k - 1]
            delta = deltas[k - 1] = error * df(net.activations[k - 1], old_z)
    everything = mistakes.get(("everything", 0))
    if everything:
        gradients = [None if g is None else everything.value * g for g in gradients]
    return [g for g, b in zip(gradients, interleave(net), strict=True) if b is not None]


def interleave(net):
    return [a for pair in zip(net.weights, net.biases, strict=True) for a in pair]


def weight_gradient(net, k, zs, outputs, delta, old, mistakes):
    x = outputs[k]
    if ("input_before_activation", k) in mistakes:
        x = zs[k - 1]
    if ("own_output", k) in mistakes:
        x = outputs[k + 1]
    if ("network_input", k) in mistakes:
        x = outputs[0]
    if ("stale_input", k) in mistakes:
        x = old[k]
    dW = x.T @ delta
    if ("input_reshaped", k) in mistakes:
        dW = x.reshape(x.shape[1], len(x)) @ delta
    if ("rows_not_summed", k) in mistakes:
        dW = outputs[k + 1] * delta
    if dW.shape != net.weights[k].shape:  # numpy would broadcast it when it is subtracted
        dW = np.broadcast_to(dW, net.weights[k].shape)
    W = net.weights[k]
    l2 = net.l2
    if ("l2_factor", k) in mistakes:
        l2 = 2 * l2
    if ("l2_missing", k) in mistakes:
        l2 = 0.0
    if ("weight_reordered", k) in mistakes:
        dW = dW.T.reshape(dW.shape)
    l1 = 0.0 if ("l1_missing", k) in mistakes else net.l1
    if ("l1_factor", k) in mistakes:
        l1 = 2 * l1
    dW = dW + l2 * W + l1 * np.sign(W)
    if ("weight_factor", k) in mistakes:
        dW = dW * mistakes["weight_factor", k].value
    if ("weight_zero", k) in mistakes:
        dW = np.zeros_like(dW)
    return dW.T if ("weight_transposed", k) in mistakes else dW


def bias_gradient(net, k, delta, error, mistakes):
    db = delta.sum(axis=0)
    if ("bias_row", k) in mistakes:
        db = delta[mistakes["bias_row", k].value]
    if ("bias_mean", k) in mistakes:
        db = delta.mean(axis=0)
    if ("bias_of_error", k) in mistakes:
        db = error.sum(axis=0)
    if ("bias_all_summed", k) in mistakes:
        db = np.full_like(db, delta.sum())
    if ("bias_wrong_axis", k) in mistakes:
        db = delta.sum(axis=1)
    if ("bias_factor", k) in mistakes:
        db = db * mistakes["bias_factor", k].value
    if ("bias_zero", k) in mistakes:
        db = np.zeros_like(db)
    if ("l2_on_bias", k) in mistakes:
        db = db + net.l2 * net.biases[k]
    if ("l1_on_bias", k) in mistakes:
        db = db + net.l1 * np.sign(net.biases[k])
    return None if ("bias_none", k) in mistakes else db


def step_back(net, k, zs, outputs, delta, error, gradients, rate, mistakes):
    """From dense layer k to the one before it."""
    W = net.weights[k]
    if ("weights_updated", k) in mistakes:
        W = W - rate * gradients[2 * k]
    if ("weights_other", k) in mistakes:
        W = net.weights[mistakes["weights_other", k].value]
    if ("weights_size", k) in mistakes:
        W = np.abs(W)
    if ("weights_missing", k) in mistakes:
        W = np.eye(len(W))
    back = error if ("error_passed_back", k) in mistakes else delta
    d = back @ (W if ("weights_transposed", k) in mistakes else W.T)
    j = k - 1
    if net.activations[j] == "softmax":
        a = outputs[k]
        if ("derivative_missing", j) in mistakes:
            return d, d
        if ("softmax_elementwise", j) in mistakes:
            return d * a * (1 - a), d
        return reference.softmax_backward(d, a), d
    z = zs[j]
    if ("mask_other_layer", j) in mistakes:
        z = zs[mistakes["mask_other_layer", j].value]
    return d * derivative(net, j, z, outputs[k], d, mistakes), d
