"""The right passes over a network once more, in float64 NumPy, with every intermediate value.

`Block` is a dense layer with the activations after it. Beside the gradients the backward pass gives
their magnitudes: the sums of the absolute values of all that was added up, by which the rounding
errors of any way to compute them are measured.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from bpcore import _core
from bpcore.layers import Dense, Dropout, Layer, Softmax
from bpcore.losses import FUSED

if TYPE_CHECKING:
    from bpcore.network import Network

_STEP = 1e-5
_CANCELLING = ("elu", "softplus", "gelu", "gelu_tanh", "silu")
"""Activations whose tail many write as a difference of numbers near 1."""
PER_ROW = ("cross_entropy", "cross_entropy_logits")  # one number a row: not averaged over outputs


class Elementwise:
    """An activation function and its derivative, by its kernel's name."""

    def __init__(self, kernel: str, parameter: float = 0.0) -> None:
        self.kernel, self.parameter = kernel, parameter

    def value(self, x: np.ndarray) -> np.ndarray:
        """Return f(x)."""
        x = np.ascontiguousarray(x, float)
        y = np.empty_like(x)
        _core.activation_forward(self.kernel, self.parameter, x, y)
        return y

    def slope(self, x: np.ndarray) -> np.ndarray:
        """Return f'(x)."""
        x = np.ascontiguousarray(x, float)
        result = np.empty_like(x)
        y = self.value(x)
        _core.activation_backward(self.kernel, self.parameter, np.ones_like(x), x, y, result)
        return result

    def curvature(self, x: np.ndarray) -> np.ndarray:
        """Return roughly abs(f''(x)), where there is no kink near."""
        return np.abs(self.slope(x + _STEP) - self.slope(x - _STEP)) / (2 * _STEP)


class SoftmaxFunction:
    """Softmax along rows."""

    kernel = "softmax"

    def value(self, x: np.ndarray) -> np.ndarray:
        """Return softmax(x)."""
        e = np.exp(x - x.max(axis=1, keepdims=True))
        return e / e.sum(axis=1, keepdims=True)


Function = Elementwise | SoftmaxFunction


def function_of(layer: Layer) -> Function:
    """The function that an activation layer computes."""
    if isinstance(layer, Softmax):
        return SoftmaxFunction()
    return Elementwise(layer.kernel, layer.parameter)


@dataclass
class Act:
    """An activation in its place: z is its input and a its output."""

    layer: int
    function: Function
    z: np.ndarray = None
    a: np.ndarray = None
    held: tuple[np.ndarray, np.ndarray] | None = None
    """z and a of another pass, which are used whatever comes in."""

    def back(self, d: np.ndarray) -> np.ndarray:
        """Return the gradient at z for that at a."""
        if self.function.kernel == "softmax":
            return self.a * (d - (d * self.a).sum(axis=1, keepdims=True))
        return d * self.function.slope(self.z)


@dataclass
class Block:
    """A dense layer, the activations after it, and the values of one batch."""

    layer: int
    weight: np.ndarray
    bias: np.ndarray | None
    acts: list[Act] = field(default_factory=list)
    x: np.ndarray = None
    z: np.ndarray = None

    @property
    def output(self) -> np.ndarray:
        """What comes out after the activations."""
        return self.acts[-1].a if self.acts else self.z

    @property
    def last_layer(self) -> int:
        """The position of the last layer of the block."""
        return self.acts[-1].layer if self.acts else self.layer

    def run(self, x: np.ndarray) -> np.ndarray:
        """Set all values for an input."""
        self.x = x
        self.z = x @ self.weight
        if self.bias is not None:
            self.z = self.z + self.bias
        value = self.z
        for act in self.acts:
            act.z, act.a = act.held or (value, act.function.value(value))
            value = act.a
        return value

    def back(self, d: np.ndarray) -> np.ndarray:
        """Return the gradient at the dense layer's output for that at the block's."""
        for act in reversed(self.acts):
            d = act.back(d)
        return d


def blocks_of(net: "Network") -> tuple[list[Act], list[Block]]:
    """The activations before the first dense layer, and the blocks, without any values."""
    before: list[Act] = []
    blocks: list[Block] = []
    for i, layer in enumerate(net.layers):
        if isinstance(layer, Dense):
            bias = None if layer.bias is None else np.array(layer.bias, float)
            blocks.append(Block(i, np.array(layer.weight, float), bias))
        elif not isinstance(layer, Dropout):
            acts = blocks[-1].acts if blocks else before
            acts.append(Act(i, function_of(layer)))
    return before, blocks


def run(before: list[Act], blocks: list[Block], X: np.ndarray) -> np.ndarray:
    """Run a batch through all blocks and return the prediction."""
    value = X
    for act in before:
        act.z, act.a = value, act.function.value(value)
        value = act.a
    for block in blocks:
        value = block.run(value)
    return value


@dataclass
class Problem:
    """One batch through one network: all that a backward pass starts from."""

    blocks: list[Block]
    X: np.ndarray
    target: np.ndarray
    sample_weight: np.ndarray | None
    loss: str
    parameter: float
    reduction: str
    l2: float = 0.0
    l1: float = 0.0
    previous: list[Block] | None = None
    """The blocks with the values of the batch before."""
    rtol: float = 1e-7
    """By what share of the magnitudes results may differ."""
    rounding: float = 1e-14
    """The same for a few roundings of numbers near 1, such as a**2 in 1 - a**2."""
    tiny: float = float(np.finfo(float).tiny)
    """Smaller numbers may have become 0."""

    @property
    def n_rows(self) -> int:
        """The number of rows."""
        return len(self.X)

    @property
    def n_out(self) -> int:
        """The number of outputs."""
        return self.blocks[-1].weight.shape[1]

    @property
    def prediction(self) -> np.ndarray:
        """What the network answers."""
        return self.blocks[-1].output

    @property
    def fused(self) -> bool:
        """Whether the loss is computed from the logits before the last activation."""
        acts = self.blocks[-1].acts
        return bool(acts) and (acts[-1].function.kernel, self.loss) in FUSED

    @property
    def averages(self) -> int:
        """The number of elements that "mean" divides by."""
        return self.n_rows * (1 if self.loss in PER_ROW else self.n_out)

    def row_scale(self, weighted: int = 1) -> np.ndarray:
        """What each row's derivatives are multiplied with, (n, 1); with weights to some power."""
        w = np.ones(self.n_rows)
        if self.sample_weight is not None:
            w = self.sample_weight**weighted
        if self.reduction != "sum":
            w = w / w.sum()
        if self.reduction == "mean" and self.loss not in PER_ROW:
            w = w / self.n_out
        return w[:, None]


def slope_of(loss: str, parameter: float, p: np.ndarray, t: np.ndarray) -> np.ndarray:
    """The derivative of the elements of a loss by the predictions."""
    match loss:
        case "mse":
            return 2 * (p - t)
        case "mae":
            return np.sign(p - t)
        case "huber":
            return np.clip(p - t, -parameter, parameter)
        case "bce":
            eps = np.finfo(float).eps
            inside = (p >= eps) & (p <= 1 - eps)
            q = np.clip(p, eps, 1 - eps)
            return np.where(inside, (p - t) / (q * (1 - q)), 0.0)
        case "cross_entropy":
            return np.where(t == 0, 0.0, -t / p)
        case "quantile":
            return np.where(p < t, -parameter, np.where(p > t, 1 - parameter, 0.0))
        case "poisson":
            return np.where(p < np.finfo(float).eps, 0.0, (p - t) / p)
        case "poisson_log":
            return Elementwise("exp").value(p) - t
        case "bce_logits":
            return Elementwise("sigmoid").value(p) - t
        case "cross_entropy_logits":
            return SoftmaxFunction().value(p) * t.sum(axis=1, keepdims=True) - t
    raise ValueError(f"no derivative of {loss} is known here")


def elements_of(loss: str, parameter: float, p: np.ndarray, t: np.ndarray) -> np.ndarray:
    """The elements of a loss; one column where it is one number a row."""
    d = p - t
    tiny = np.finfo(float).tiny
    match loss:
        case "mse":
            return d * d
        case "mae":
            return np.abs(d)
        case "huber":
            size = np.abs(d)
            return np.where(size <= parameter, d * d / 2, parameter * (size - parameter / 2))
        case "bce":
            eps = np.finfo(float).eps
            q = np.clip(p, eps, 1 - eps)
            return -(t * np.log(q) + (1 - t) * np.log1p(-q))
        case "cross_entropy":
            logs = np.where(t == 0, 0.0, t * np.log(np.maximum(p, tiny)))
            return -logs.sum(axis=1, keepdims=True)
        case "quantile":
            return np.maximum(-parameter * d, (1 - parameter) * d)
        case "poisson":
            q = np.maximum(p, np.finfo(float).eps)
            return q - t * np.log(q)
        case "poisson_log":
            return Elementwise("exp").value(p) - t * p
        case "bce_logits":
            return np.maximum(p, 0) - p * t + np.log1p(np.exp(-np.abs(p)))
        case "cross_entropy_logits":
            top = p.max(axis=1, keepdims=True)
            log_sum = np.log(np.exp(p - top).sum(axis=1, keepdims=True)) + top
            return (t * (log_sum - p)).sum(axis=1, keepdims=True)
    raise ValueError(f"no value of {loss} is known here")


def output_delta(problem: Problem) -> np.ndarray:
    """The gradient at the last dense layer's output."""
    last, scale = problem.blocks[-1], problem.row_scale()
    if problem.fused:
        t = problem.target
        p = problem.prediction
        total = t.sum(axis=1, keepdims=True) if problem.loss == "cross_entropy" else 1.0
        d = scale * (p * total - t)
        acts = last.acts[:-1]
    else:
        d = scale * slope_of(problem.loss, problem.parameter, problem.prediction, problem.target)
        acts = last.acts
    for act in reversed(acts):
        d = act.back(d)
    return d


@dataclass
class Right:
    """The right gradients of a block, and their magnitudes."""

    delta: np.ndarray
    weight: np.ndarray
    bias: np.ndarray | None
    weight_size: np.ndarray
    bias_size: np.ndarray
    condition: float
    """How much larger the magnitudes are than the sums of absolute products."""

    def errors(self, problem: Problem) -> tuple[np.ndarray, np.ndarray]:
        """By how much right gradients of the weight and the bias may differ from these."""
        rtol, tiny = problem.rtol, problem.tiny
        return rtol * self.weight_size + tiny, rtol * self.bias_size + tiny


def right_gradients(problem: Problem) -> list[Right]:
    """The right gradients of all blocks."""
    found: list[Right] = []
    delta = size = None
    for k in reversed(range(len(problem.blocks))):
        block = problem.blocks[k]
        z_size = _sum_size(problem, k)
        if delta is None:
            delta = output_delta(problem)
            size = _output_size(problem, delta, z_size)
        else:
            above = problem.blocks[k + 1].weight
            d, d_size = delta @ above.T, size @ np.abs(above).T
            delta, size = _back_with_size(problem, block, d, d_size, z_size)
        penalty = problem.l2 * block.weight + problem.l1 * np.sign(block.weight)
        plain = np.abs(block.x).T @ np.abs(delta)
        weight_size = np.abs(block.x).T @ size
        ratio = weight_size[plain > 0] / plain[plain > 0]
        found.append(
            Right(
                delta,
                block.x.T @ delta + penalty,
                None if block.bias is None else delta.sum(axis=0),
                weight_size + _rounding_of_input(problem, k).T @ size + np.abs(penalty),
                size.sum(axis=0),
                float(np.clip(np.median(ratio), 1, 1e3)) if ratio.size else 1.0,
            )
        )
    return found[::-1]


def _sum_size(problem: Problem, k: int) -> np.ndarray:
    """The magnitude of a dense layer's output, and of what its input came from."""
    block = problem.blocks[k]
    size = np.abs(block.x) @ np.abs(block.weight)
    if k and problem.blocks[k - 1].acts:  # what a tail leaves behind may cross a kink
        act = problem.blocks[k - 1].acts[-1]
        if act.function.kernel in _CANCELLING:
            size = size + (1 + np.abs(act.z)) @ np.abs(block.weight)
    return size if block.bias is None else size + np.abs(block.bias)


def _rounding_of_input(problem: Problem, k: int) -> np.ndarray:
    """How much more than a share of its own size the input of block k may be off.

    What cancels in a sum, or in the tail of an activation, leaves its roundings behind.
    """
    if k == 0:
        return np.zeros_like(problem.X)
    size = _sum_size(problem, k - 1)
    for act in problem.blocks[k - 1].acts:
        if act.function.kernel == "softmax":
            size = act.a * size
        else:
            slope, beyond = (
                act.function.slope(z) for z in (act.z, act.z + problem.rounding * size)
            )
            size = np.maximum(np.abs(slope), np.abs(beyond)) * size
        if act.function.kernel in _CANCELLING:
            size = size + 1 + np.abs(act.z)
    return problem.rounding / problem.rtol * size


def _output_size(problem: Problem, delta: np.ndarray, z_size: np.ndarray) -> np.ndarray:
    """The magnitude of the gradient at the last dense layer's output."""
    p, t = np.abs(problem.prediction), np.abs(problem.target)
    scale, acts = problem.row_scale(), problem.blocks[-1].acts
    spread = p + t + (0.0 if acts else z_size)
    size = np.abs(scale) * 2 * spread
    if problem.loss in ("mae", "quantile"):  # the sign may go either way where p and t nearly agree
        near = np.abs(problem.prediction - problem.target) <= problem.rounding * spread
        size = np.abs(scale) * np.where(near, 1 / problem.rtol, 1.0)
    if not problem.fused:
        slope = slope_of(problem.loss, problem.parameter, problem.prediction, problem.target)
        size = np.maximum(size, np.abs(scale * slope))
        size = _back_with_size(problem, problem.blocks[-1], scale * slope, size, z_size)[1]
    return np.maximum(size, np.abs(delta))


def _back_with_size(
    problem: Problem, block: Block, d: np.ndarray, size: np.ndarray, z_size: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    rough = problem.rounding / problem.rtol
    for act in reversed(block.acts):
        if act.function.kernel == "softmax":
            size = act.a * (size + (size * act.a).sum(axis=1, keepdims=True)) * (1 + z_size.max())
        else:
            slope = np.abs(act.function.slope(act.z))
            bend = np.minimum(act.function.curvature(act.z), np.maximum(slope, 10.0))
            size = size * slope + np.abs(d) * (bend * z_size + slope + rough)
            if act.function.kernel in ("relu", "leaky_relu", "elu"):
                near = (act.z != 0) & (np.abs(act.z) <= problem.rounding * z_size)
                size = size + np.where(near, np.abs(d) / problem.rtol, 0.0)
        d = act.back(d)
    return d, size


def loss_values(problem: Problem) -> dict[str, float]:
    """The loss as one number, by what was done to it."""
    elements = elements_of(problem.loss, problem.parameter, problem.prediction, problem.target)
    w = np.ones(problem.n_rows) if problem.sample_weight is None else problem.sample_weight
    scale = problem.row_scale()
    values = {"the loss": float((scale * elements).sum())}
    weights: list[Any] = [block.weight for block in problem.blocks]
    penalty = sum(
        problem.l2 / 2 * (weight**2).sum() + problem.l1 * np.abs(weight).sum() for weight in weights
    )
    if penalty:
        values["the loss with its penalty"] = values["the loss"] + float(penalty)
    if problem.n_out == 1 and problem.n_rows > 1:
        pairs = elements_of(
            problem.loss,
            problem.parameter,
            np.repeat(problem.prediction, problem.n_rows, axis=0),
            np.tile(problem.target, (problem.n_rows, 1)),
        )
        scale = 1 / w.size if problem.reduction != "sum" else 1.0
        values["the loss of broadcast targets"] = float(pairs.mean()) * w.size * scale
    return values
