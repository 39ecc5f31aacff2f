"""The oracle: every formula of bpcore once more in plain float64 NumPy, slow and easy to check.

Nothing here imports bpcore. ``test_reference.py`` proves the derivatives by finite differences and
holds the values to numbers computed with PyTorch.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

EPS = float(np.finfo(float).eps)
INF = math.inf
_erfc = np.vectorize(math.erfc, otypes=[float])


# ---------------------------------------------------------------- functions


def sigmoid(x):
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, small) / (1 + small)


def softplus(x):
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


FUNCTIONS = {
    "exp": np.exp,
    "log1p": np.log1p,
    "tanh": np.tanh,
    "sigmoid": sigmoid,
    "softplus": softplus,
}

# ---------------------------------------------------------------- activations


class Activation(NamedTuple):
    """An elementwise activation.

    `terms` is the condition of the derivative: the sum of the absolute values of what its formula
    in x and y adds up, so that a rounding of any of them is a rounding of `terms`. `limits` are
    (value, derivative) at -inf and at inf. `curvature` is the largest second derivative up to x, in
    absolute value and away from the kink, `jump` the derivative's step at the kink, which is at 0.
    All of them are functions of the parameter `a`, whose default is `parameter`. `rectifier` says
    whether the initialiser "auto" is He's before this activation.
    """

    value: Callable
    derivative: Callable
    terms: Callable
    limits: Callable
    curvature: Callable = lambda x, a: 0.0
    jump: Callable = lambda a: 0.0
    parameter: float = 0.0
    rectifier: bool = False


def _normal_density(x):
    return np.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)


def _normal_cumulative(x):
    return 0.5 * _erfc(-np.asarray(x, float) / math.sqrt(2))


def _gelu_tanh_inner(x):
    """Twice the argument of tanh, and its derivative: (1 + tanh(u)) / 2 = sigmoid(2 u)."""
    root = math.sqrt(2 / math.pi)
    return 2 * root * (x + 0.044715 * x**3), 2 * root * (1 + 3 * 0.044715 * x**2)


def _gelu_tanh(x, a):
    return x * sigmoid(_gelu_tanh_inner(x)[0])


def _gelu_tanh_derivative(x, a):
    inner, slope = _gelu_tanh_inner(x)
    return sigmoid(inner) + x * sigmoid(inner) * sigmoid(-inner) * slope


def _gelu_tanh_terms(x, a):
    inner, slope = _gelu_tanh_inner(x)
    tail = sigmoid(inner) * sigmoid(-inner)
    # 1 - tanh(u)**2 rounds at 1 as long as tanh(u) is not exactly 1.
    cancelled = np.abs(x * slope) * (np.abs(inner) < 40) / 2
    return sigmoid(inner) + tail * np.abs(x * slope) * (1 + np.abs(inner)) + cancelled


def _silu_derivative(x, a):
    return sigmoid(x) + x * sigmoid(x) * sigmoid(-x)


ACTIVATIONS = {
    "identity": Activation(
        lambda x, a: x,
        lambda x, a: np.ones_like(x),
        lambda x, a: np.ones_like(x),
        limits=lambda a: ((-INF, 1.0), (INF, 1.0)),
    ),
    "sigmoid": Activation(
        lambda x, a: sigmoid(x),
        lambda x, a: sigmoid(x) * sigmoid(-x),
        lambda x, a: sigmoid(x) + sigmoid(x) ** 2 + np.abs(x) * sigmoid(x) * sigmoid(-x),
        limits=lambda a: ((0.0, 0.0), (1.0, 0.0)),
        curvature=lambda x, a: 1 / (6 * math.sqrt(3)),
    ),
    "relu": Activation(
        lambda x, a: np.maximum(x, 0),
        lambda x, a: np.where(x > 0, 1.0, 0.0),
        lambda x, a: np.where(x > 0, 1.0, 0.0),
        limits=lambda a: ((0.0, 0.0), (INF, 1.0)),
        jump=lambda a: 1.0,
        rectifier=True,
    ),
    "tanh": Activation(
        lambda x, a: np.tanh(x),
        lambda x, a: 4 * sigmoid(2 * x) * sigmoid(-2 * x),
        lambda x, a: 1 + np.tanh(x) ** 2,
        limits=lambda a: ((-1.0, 0.0), (1.0, 0.0)),
        curvature=lambda x, a: 4 / (3 * math.sqrt(3)),
    ),
    "leaky_relu": Activation(
        lambda x, a: np.where(x > 0, x, a * x),
        lambda x, a: np.where(x > 0, 1.0, a),
        lambda x, a: np.where(x > 0, 1.0, abs(a)),
        limits=lambda a: ((-INF, a), (INF, 1.0)),
        jump=lambda a: abs(1 - a),
        parameter=0.01,
        rectifier=True,
    ),
    "elu": Activation(
        lambda x, a: np.where(x > 0, x, a * np.expm1(np.minimum(x, 0))),
        lambda x, a: np.where(x > 0, 1.0, a * np.exp(np.minimum(x, 0))),
        lambda x, a: np.where(x > 0, 1.0, abs(a) * (1 - np.expm1(np.minimum(x, 0)))),
        limits=lambda a: ((-a, 0.0), (INF, 1.0)),
        curvature=lambda x, a: abs(a),
        jump=lambda a: abs(1 - a),
        parameter=1.0,
        rectifier=True,
    ),
    "softplus": Activation(
        lambda x, a: softplus(x),
        lambda x, a: sigmoid(x),
        lambda x, a: sigmoid(x) * (1 + np.abs(x) * sigmoid(-x)),
        limits=lambda a: ((0.0, 0.0), (INF, 1.0)),
        curvature=lambda x, a: 0.25,
        rectifier=True,
    ),
    "gelu": Activation(
        lambda x, a: x * _normal_cumulative(x),
        lambda x, a: _normal_cumulative(x) + x * _normal_density(x),
        lambda x, a: _normal_cumulative(x) + np.abs(x) * _normal_density(x) * (1 + x * x),
        limits=lambda a: ((0.0, 0.0), (INF, 1.0)),
        curvature=lambda x, a: 2 / math.sqrt(2 * math.pi),
        rectifier=True,
    ),
    "gelu_tanh": Activation(
        _gelu_tanh,
        _gelu_tanh_derivative,
        _gelu_tanh_terms,
        limits=lambda a: ((0.0, 0.0), (INF, 1.0)),
        curvature=lambda x, a: 0.799,
        rectifier=True,
    ),
    "silu": Activation(
        lambda x, a: x * sigmoid(x),
        _silu_derivative,
        # 1 - sigmoid(x) rounds at 1 as long as sigmoid(x) is not exactly 1.
        lambda x, a: (
            sigmoid(x) * (1 + np.abs(x) * (np.abs(x) < 40))
            + np.abs(x) * sigmoid(x) * sigmoid(-x) * (1 + np.abs(x))
        ),
        limits=lambda a: ((0.0, 0.0), (INF, 1.0)),
        curvature=lambda x, a: 0.5,
        rectifier=True,
    ),
    "exp": Activation(
        lambda x, a: np.exp(x),
        lambda x, a: np.exp(x),
        lambda x, a: np.exp(x),
        limits=lambda a: ((0.0, 0.0), (INF, INF)),
        curvature=lambda x, a: np.exp(x),
    ),
}
RECTIFIERS = {name for name, row in ACTIVATIONS.items() if row.rectifier}


def softmax(z):
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def softmax_backward(dy, y):
    return y * (dy - (dy * y).sum(axis=-1, keepdims=True))


# ---------------------------------------------------------------- losses


class Loss(NamedTuple):
    name: str
    parameter: float = 1.0
    reduction: str = "mean"


def _mse(p, t, a, eps):
    return (p - t) ** 2, 2 * (p - t)


def _mae(p, t, a, eps):
    return np.abs(p - t), np.sign(p - t)


def _huber(p, t, a, eps):
    d = p - t
    return np.where(np.abs(d) <= a, d * d / 2, a * (np.abs(d) - a / 2)), np.clip(d, -a, a)


def _bce(p, t, a, eps):
    inside = (p >= eps) & (p <= 1 - eps)
    p = np.clip(p, eps, 1 - eps)
    value = -(t * np.log(p) + (1 - t) * np.log1p(-p))
    return value, np.where(inside, (p - t) / (p * (1 - p)), 0.0)


def _bce_logits(z, t, a, eps):
    return np.maximum(z, 0) - z * t + np.log1p(np.exp(-np.abs(z))), sigmoid(z) - t


def _cross_entropy(p, t, a, eps):
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.where(t == 0, 0.0, t * np.log(p))
        slopes = np.where(t == 0, 0.0, -t / p)
    return -logs.sum(axis=1, keepdims=True), slopes


def _cross_entropy_logits(z, t, a, eps):
    top = z.max(axis=1, keepdims=True)
    log_sum = np.log(np.exp(z - top).sum(axis=1, keepdims=True))
    value = (t * (log_sum - (z - top))).sum(axis=1, keepdims=True)
    return value, softmax(z) * t.sum(axis=1, keepdims=True) - t


def _quantile(p, t, a, eps):
    d = t - p
    return np.maximum(a * d, (a - 1) * d), np.where(d > 0, -a, np.where(d < 0, 1 - a, 0.0))


def _poisson(p, t, a, eps):
    inside = p >= eps
    p = np.maximum(p, eps)
    return p - t * np.log(p), np.where(inside, 1 - t / p, 0.0)


def _poisson_log(z, t, a, eps):
    return np.exp(z) - t * z, np.exp(z) - t


# Elements (n, k), or (n, 1) where the loss is one number a row, and their slopes (n, k).
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
FUSED = {
    ("sigmoid", "bce"): "bce_logits",
    ("softmax", "cross_entropy"): "cross_entropy_logits",
    ("exp", "poisson"): "poisson_log",
}
REDUCTIONS = ("mean", "sum", "sample_mean")
TAKES_LABELS = ("cross_entropy", "cross_entropy_logits")


def as_target(loss, target, shape):
    target = np.asarray(target)
    if loss.name in TAKES_LABELS and target.size == shape[0] != shape[0] * shape[1]:
        return np.eye(shape[1])[target.reshape(-1).astype(int)]
    return target.astype(float).reshape(shape)


def row_scales(loss, n, k, sample_weight=None):
    """What each row's elements are multiplied with before everything is added up: (n, 1)."""
    w = np.ones(n) if sample_weight is None else np.asarray(sample_weight, float)
    if loss.reduction != "sum":
        w = w / w.sum()
    if loss.reduction == "mean" and loss.name not in TAKES_LABELS:
        w = w / k
    return w[:, None]


def loss_and_slope(loss, prediction, target, sample_weight=None, eps=EPS):
    """The loss, and its derivative by each entry of `prediction` (n, k)."""
    prediction = np.asarray(prediction, float)
    target = as_target(loss, target, prediction.shape)
    elements, slopes = LOSSES[loss.name](prediction, target, loss.parameter, eps)
    scales = row_scales(loss, *prediction.shape, sample_weight)
    return float((scales * elements).sum()), scales * slopes


# ---------------------------------------------------------------- networks


class Dense(NamedTuple):
    weight: np.ndarray
    bias: np.ndarray | None = None


class Elementwise(NamedTuple):
    name: str
    parameter: float = 0.0


class Softmax(NamedTuple):
    pass


class Mask(NamedTuple):
    """Dropout with its factors, 0 or 1/(1-p), given."""

    factors: np.ndarray


def layer_forward(layer, x):
    match layer:
        case Dense(weight, None):
            return x @ weight
        case Dense(weight, bias):
            return x @ weight + bias
        case Elementwise(name, parameter):
            return ACTIVATIONS[name].value(x, parameter)
        case Softmax():
            return softmax(x)
        case Mask(factors):
            return x * factors


def layer_backward(layer, x, y, dy):
    """The gradient at the layer's input, and the list of those of its parameters."""
    match layer:
        case Dense(weight, bias):
            return dy @ weight.T, [x.T @ dy] + ([] if bias is None else [dy.sum(axis=0)])
        case Elementwise(name, parameter):
            return dy * ACTIVATIONS[name].derivative(x, parameter), []
        case Softmax():
            return softmax_backward(dy, y), []
        case Mask(factors):
            return dy * factors, []


def forward(layers, x):
    """The input and every layer's output."""
    values = [np.asarray(x, float)]
    for layer in layers:
        values.append(layer_forward(layer, values[-1]))
    return values


def backward(layers, values, dy):
    """The gradient at the input, and the flat gradient of all parameters."""
    pieces = []
    for i in reversed(range(len(layers))):
        dy, gradients = layer_backward(layers[i], values[i], values[i + 1], dy)
        pieces = gradients + pieces
    return dy, flat(pieces)


def flat(arrays):
    return np.concatenate([np.ravel(a) for a in arrays]) if arrays else np.empty(0)


def parameters(layers):
    return [a for d in layers if isinstance(d, Dense) for a in d if a is not None]


def with_parameters(layers, vector):
    """The same layers with the parameters taken from a flat vector."""
    out, start = [], 0
    for layer in layers:
        if isinstance(layer, Dense):
            pieces = []
            for a in layer:
                pieces.append(
                    None if a is None else vector[start : start + a.size].reshape(a.shape)
                )
                start += 0 if a is None else a.size
            layer = Dense(*pieces)
        out.append(layer)
    return out


def fuse(layers, loss):
    """A last activation and the loss that belongs to it as one function: no clipping."""
    last = layers[-1]
    name = last.name if isinstance(last, Elementwise) else type(last).__name__.lower()
    if (name, loss.name) in FUSED:
        return layers[:-1], loss._replace(name=FUSED[name, loss.name])
    return layers, loss


def penalty(layers, l2=0.0, l1=0.0):
    """The penalty on the weights, not on the biases, and its flat gradient."""
    value, pieces = 0.0, []
    for layer in (d for d in layers if isinstance(d, Dense)):
        w = layer.weight
        value += l2 / 2 * (w**2).sum() + l1 * np.abs(w).sum()
        pieces.append(l2 * w + l1 * np.sign(w))
        if layer.bias is not None:
            pieces.append(np.zeros_like(layer.bias))
    return value, flat(pieces)


def loss_and_gradient(layers, loss, x, target, sample_weight=None, l2=0.0, l1=0.0, eps=EPS):
    """The loss with its penalty, the flat gradient, and the gradient at the input."""
    layers, loss = fuse(layers, loss)
    values = forward(layers, x)
    value, dy = loss_and_slope(loss, values[-1], target, sample_weight, eps)
    dx, gradient = backward(layers, values, dy)
    more, more_gradient = penalty(layers, l2, l1)
    return value + more, gradient + more_gradient, dx


def layers_of(net):
    """A bpcore network as the layers above, without its dropout; a copy in float64."""
    layers = []
    for layer in net.layers:
        kind = type(layer).__name__
        if kind == "Dense":
            bias = None if layer.bias is None else np.array(layer.bias, float)
            layers.append(Dense(np.array(layer.weight, float), bias))
        elif kind == "Softmax":
            layers.append(Softmax())
        elif kind != "Dropout":
            layers.append(Elementwise(layer.kernel, float(layer.parameter)))
    return layers


def loss_of(net):
    return Loss(net.loss.kernel, float(net.loss.parameter), net.loss.reduction)
