"""How far rounding alone may move a result: a running error analysis beside the oracle.

Every quantity travels with a bound of its error. An operation adds its own roundings, ``u`` (half
an eps) times the number of operations times the sum of the absolute values that it adds up, and
passes on the errors of its inputs through its derivatives, to first order. So no tolerance is
chosen by hand: what lies outside a bound was computed by another formula, or in less precision.

The one constant is `ROUNDINGS`, the operations in one elementwise formula of `reference.py`: an
elementary function, worth at most 2 ulp, and up to four roundings around it.
"""

import numpy as np
import reference
import reference_training as training
from reference import ACTIVATIONS, Dense, Elementwise, Mask, Softmax

FUNCTION_ULPS = 1  # tests/accuracy measures it
ROUNDINGS = 2 * 2 + 4


def unit(dtype):
    return float(np.finfo(dtype).eps) / 2


def assert_within(got, expected, error, dtype, what=""):
    """`error` is the bound for `dtype`; the oracle's own error, by the same bound, is added.

    What `expected` rounds to is right whatever the bound, so infinity where it is out of range.
    """
    got, expected = np.asarray(got, float), np.asarray(expected, float)
    assert got.shape == expected.shape, f"{what}: shape {got.shape}, expected {expected.shape}"
    if got.size == 0:
        return
    # Products that underflow lose up to the smallest number; none here is scaled up by 1e4 or more.
    floor = 1e4 * float(np.finfo(dtype).smallest_subnormal)
    error = np.broadcast_to(error, got.shape) * (1 + unit(np.float64) / unit(dtype)) + floor
    with np.errstate(over="ignore", invalid="ignore"):
        wrong = ~((np.abs(got - expected) <= error) | (got == expected.astype(dtype)))
    if wrong.any():
        with np.errstate(all="ignore"):
            ratio = np.where(wrong, np.abs(got - expected) / error, 0)
        worst = np.unravel_index(np.argmax(np.where(np.isnan(ratio), np.inf, ratio)), got.shape)
        raise AssertionError(
            f"{what}: {wrong.sum()} of {got.size} wrong; worst at {tuple(map(int, worst))}: got "
            f"{got[worst]!r}, expected {expected[worst]!r}, allowed error {error[worst]:.3g}"
        )


# ---------------------------------------------------------------- layers


def activation(name, parameter, x, e, u):
    """Errors of the value and of the derivative at x, known to within e."""
    row = ACTIVATIONS[name]
    slope = np.abs(row.derivative(x, parameter))
    curve, jump = (
        row.curvature(x + e, parameter),
        row.jump(parameter) * ((np.abs(x) <= e) & (e > 0)),
    )
    value = ROUNDINGS * u * (np.abs(row.value(x, parameter)) + np.abs(x) * slope)
    value += (slope + jump) * e + curve * e**2
    return value, ROUNDINGS * u * row.terms(x, parameter) + curve * e + jump


def softmax(z, e, u):
    y = reference.softmax(z)
    distance = np.abs(z - z.max(axis=-1, keepdims=True))
    own = (ROUNDINGS + z.shape[-1]) * u + u * distance
    own = own + (y * u * distance).sum(axis=-1, keepdims=True)
    return y * (own + e + (y * e).sum(axis=-1, keepdims=True))


def softmax_backward(dy, e_dy, y, e_y, u):
    k = y.shape[-1]
    total = (dy * y).sum(axis=-1, keepdims=True)
    size = np.abs(dy) * y
    e_total = (np.abs(dy) * e_y + e_dy * y + (k + 1) * u * size).sum(axis=-1, keepdims=True)
    return e_y * np.abs(dy - total) + y * (e_dy + e_total + 3 * u * (np.abs(dy) + np.abs(total)))


def layer_forward(layer, x, y, e, u):
    match layer:
        case Dense(weight, bias):
            size = np.abs(x) @ np.abs(weight) + (0 if bias is None else np.abs(bias))
            return (len(weight) + 1) * u * size + e @ np.abs(weight)
        case Elementwise(name, parameter):
            return activation(name, parameter, x, e, u)[0]
        case Softmax():
            return softmax(x, e, u)
        case Mask(factors):
            return (e + u * np.abs(x)) * factors


def layer_backward(layer, x, e_x, y, e_y, dy, e_dy, u):
    """Errors of the gradient at the input and of those of the parameters."""
    size = np.abs(dy)
    match layer:
        case Dense(weight, bias):
            n, n_out = dy.shape
            a = np.abs(weight).T
            dw = np.abs(x).T @ (n * u * size + e_dy) + e_x.T @ size
            db = (n * u * size + e_dy).sum(axis=0)
            return (n_out * u * size + e_dy) @ a, [dw] + ([] if bias is None else [db])
        case Elementwise(name, parameter):
            slope = np.abs(ACTIVATIONS[name].derivative(x, parameter))
            e_slope = activation(name, parameter, x, e_x, u)[1]
            return slope * (e_dy + u * size) + (size + e_dy) * e_slope, []
        case Softmax():
            return softmax_backward(dy, e_dy, y, e_y, u), []
        case Mask(factors):
            return (e_dy + u * size) * factors, []


def forward(layers, values, u, e=None):
    errors = [np.zeros_like(values[0]) if e is None else e]
    for layer, x, y in zip(layers, values, values[1:], strict=False):
        errors.append(layer_forward(layer, x, y, errors[-1], u))
    return errors


def backward(layers, values, errors, dy, e_dy, u):
    """Errors of the gradient at the input and of the flat gradient."""
    pieces = []
    for i in reversed(range(len(layers))):
        upper, lower = (values[i + 1], errors[i + 1]), (values[i], errors[i])
        e_dx, more = layer_backward(layers[i], *lower, *upper, dy, e_dy, u)
        dy, _ = reference.layer_backward(layers[i], values[i], values[i + 1], dy)
        e_dy, pieces = e_dx, more + pieces
    return e_dy, reference.flat(pieces)


# ---------------------------------------------------------------- losses


def _mse(p, t, e, a, u):
    d = np.abs(p - t)
    e = e + u * d
    return e * (2 * d + e), 2 * e


def _mae(p, t, e, a, u):
    d = np.abs(p - t)
    return e + u * d, 2.0 * ((d <= e) & (e > 0))


def _huber(p, t, e, a, u):
    d = np.abs(p - t)
    e = e + u * d
    return np.minimum(d, a) * e + e**2 + 4 * u * (a * d + a * a / 2), e


def _bce(p, t, e, a, u):
    one, other = np.abs(t), np.abs(1 - t)
    value = one * np.abs(np.log(p)) + other * np.abs(np.log1p(-p))
    e_other = e + u * (1 - p)
    slope = np.abs(p - t) / (p * (1 - p))
    steep = one / p**2 + other / (1 - p) ** 2
    return (
        ROUNDINGS * u * value + one / p * e + other / (1 - p) * e_other,
        ROUNDINGS * u * slope + steep * e,
    )


def _bce_logits(z, t, e, a, u):
    s = reference.sigmoid(z)
    size = np.maximum(z, 0) + np.abs(z * t) + np.log1p(np.exp(-np.abs(z)))
    # exp(-|z|) loses |z| roundings where its argument was rounded; here it is exact.
    return ROUNDINGS * u * size + np.abs(s - t) * e + e**2 / 8, (
        ROUNDINGS * u * (s + np.abs(t)) + e / 4
    )


def _cross_entropy(p, t, e, a, u):
    with np.errstate(divide="ignore", invalid="ignore"):
        value = np.where(t == 0, 0.0, ROUNDINGS * u * np.abs(t * np.log(p)) + t / p * e)
        slope = np.where(t == 0, 0.0, ROUNDINGS * u * t / p + t / p**2 * e)
    return value.sum(axis=1, keepdims=True), slope


def _cross_entropy_logits(z, t, e, a, u):
    k = z.shape[1]
    y = reference.softmax(z)
    e_y = softmax(z, e, u)
    top = z.max(axis=1, keepdims=True)
    size = np.abs(t) * (np.abs(z - top) + np.abs(np.log(np.exp(z - top).sum(1, keepdims=True))))
    value = (ROUNDINGS + k) * u * (size + np.abs(t)).sum(axis=1, keepdims=True)
    value += (np.abs(t) * np.abs(top)).sum(axis=1, keepdims=True) * u
    value += (np.abs(t) * e).sum(axis=1, keepdims=True) + (y * e).sum(axis=1, keepdims=True)
    total = np.abs(t).sum(axis=1, keepdims=True)
    return value, e_y * total + (ROUNDINGS + k) * u * (y * total + np.abs(t))


def _quantile(p, t, e, a, u):
    d = np.abs(p - t)
    side = max(a, 1 - a)
    return side * (e + 4 * u * d), u + 1.0 * ((d <= e) & (e > 0))


def _poisson(p, t, e, a, u):
    value = p + np.abs(t * np.log(p))
    bend = t / p**2
    slope = np.abs(1 - t / p)
    return (
        ROUNDINGS * u * value + slope * e + bend * e**2,
        ROUNDINGS * u * (1 + t / p) + bend * e,
    )


def _poisson_log(z, t, e, a, u):
    rate = np.exp(z)
    bend = np.exp(z + e)
    value = ROUNDINGS * u * (rate + np.abs(t * z)) + np.abs(rate - t) * e + bend * e**2
    return value, ROUNDINGS * u * (rate + t) + bend * e


LOSSES = {
    "mse": _mse,
    "mae": _mae,
    "huber": _huber,
    "bce": _bce,
    "bce_logits": _bce_logits,
    "cross_entropy": _cross_entropy,
    "cross_entropy_logits": _cross_entropy_logits,
    "quantile": _quantile,
    "poisson": _poisson,
    "poisson_log": _poisson_log,
}


def loss_and_slope(loss, prediction, target, sample_weight, e, u):
    """Errors of the loss and of its gradient, for a prediction known to within e."""
    n, k = prediction.shape
    target = reference.as_target(loss, target, prediction.shape)
    elements, slopes = reference.LOSSES[loss.name](prediction, target, loss.parameter, 2 * u)
    e_elements, e_slopes = LOSSES[loss.name](prediction, target, e, loss.parameter, u)
    scales = reference.row_scales(loss, n, k, sample_weight)
    # A scale is a sum over the rows and two quotients; the loss is a sum over all elements.
    e_scales = (n + 3) * u * scales
    value = scales * (e_elements + elements.size * u * np.abs(elements))
    value = value + e_scales * np.abs(elements)
    return value.sum(), scales * e_slopes + (e_scales + u * scales) * np.abs(slopes)


# ---------------------------------------------------------------- networks


def loss_and_gradient(layers, loss, x, target, sample_weight, u, l2=0.0, l1=0.0):
    """Errors of the loss, of the flat gradient and of the gradient at the input."""
    layers, loss = reference.fuse(layers, loss)
    values = reference.forward(layers, x)
    errors = forward(layers, values, u)
    value, e_dy = loss_and_slope(loss, values[-1], target, sample_weight, errors[-1], u)
    _, dy = reference.loss_and_slope(loss, values[-1], target, sample_weight, 2 * u)
    dx, gradient = backward(layers, values, errors, dy, e_dy, u)
    more, more_gradient = reference.penalty(layers, l2, l1)
    plain = reference.backward(layers, values, dy)[1]
    n = sum(d.weight.size for d in layers if isinstance(d, Dense))
    value += (n + 3) * u * more + u * abs(more)
    return value, gradient + 3 * u * (np.abs(more_gradient) + np.abs(plain)), dx


# ---------------------------------------------------------------- optimisers


def optimizer_step(name, p, g, slots, rate, step, u, **hyper):
    """Errors of the parameters and of each slot after one step from exactly known ones."""
    before, after = dict(slots), dict(slots)
    moved = training.OPTIMIZERS[name](p, g, after, rate, step, **hyper)
    few = 4 * u
    if name == "sgd":
        momentum = hyper.get("momentum", 0.0)
        if momentum == 0:
            return few * (np.abs(p) + rate * np.abs(g)), {}
        e = few * (momentum * np.abs(before["velocity"]) + np.abs(g))
        ahead = np.abs(g) + np.abs(after["velocity"])
        return few * (np.abs(p) + rate * ahead) + rate * e, {"velocity": e}
    if name == "rprop":
        size = after["step_size"]
        return few * (np.abs(p) + size), {"step_size": few * size, "previous_gradient": 0 * g}
    if name == "rmsprop":  # the square average is a sum of positive terms
        update = np.abs(p - moved)
        return few * np.abs(p) + 4 * few * update, {"square_average": few * after["square_average"]}
    decayed = p * (1 - rate * hyper.get("weight_decay", 0.01)) if name == "adamw" else p
    hyper = {key: value for key, value in hyper.items() if key != "weight_decay"}
    beta_1 = hyper.get("beta_1", 0.9)
    e = few * (beta_1 * np.abs(before["first_moment"]) + (1 - beta_1) * np.abs(g))
    unit_slots = {"first_moment": np.zeros_like(g), "second_moment": before["second_moment"]}
    # The denominator's reciprocal: the step of a first moment of 1.
    slope = -training.adam(0 * p, g, unit_slots, rate, step, **hyper)
    slope = slope / np.where(g == 0, 1, (1 - beta_1) * g)
    e_p = few * (np.abs(p) + np.abs(decayed)) + 4 * few * np.abs(moved - decayed)
    second = few * after["second_moment"]
    return e_p + np.abs(slope) * e, {"first_moment": e, "second_moment": second}
