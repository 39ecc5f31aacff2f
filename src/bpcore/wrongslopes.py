"""Wrong derivatives of activations, in the forms in which they are written."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from bpcore.suspects import Step
from bpcore.truepass import Act, Block, Elementwise, Problem, SoftmaxFunction

_SIGMOID = Elementwise("sigmoid")
_TANH = Elementwise("tanh")
_OTHERS = {
    "sigmoid": ("sigmoid'(z)", _SIGMOID),
    "tanh": ("tanh'(z)", _TANH),
    "relu": ("relu'(z)", Elementwise("relu")),
    "leaky_relu": ("leaky_relu'(z)", Elementwise("leaky_relu", 0.01)),
    "elu": ("elu'(z)", Elementwise("elu", 1.0)),
    "softplus": ("softplus'(z) = sigmoid(z)", Elementwise("softplus")),
    "gelu": ("gelu'(z)", Elementwise("gelu")),
    "gelu_tanh": ("gelu'(z), approximated by tanh", Elementwise("gelu_tanh")),
    "silu": ("silu'(z)", Elementwise("silu")),
    "exp": ("exp(z)", Elementwise("exp")),
}
_OUTPUT_FORMULAS: dict[str, tuple[str, Callable[[np.ndarray, float], np.ndarray]]] = {
    "sigmoid": ("{0}(1 - {0})", lambda v, a: v * (1 - v)),
    "tanh": ("1 - {0}**2", lambda v, a: 1 - v * v),
    "softplus": ("1 - exp(-{0})", lambda v, a: 1 - np.exp(-v)),
    "elu": ("{0} + alpha where {0} <= 0", lambda v, a: np.where(v > 0, 1.0, v + a)),
    "exp": ("{0}", lambda v, a: v),
}


@dataclass
class Backed:
    """What came back to a dense layer's output, and by which mistakes."""

    delta: np.ndarray
    steps: tuple[Step, ...] = ()
    source: np.ndarray | None = None
    """The gradient before the activations' derivatives."""
    loose: bool = False
    """Whether the mistake leaves open by what constants the learner scaled the rest."""

    @property
    def cost(self) -> float:
        """The cost of the mistakes."""
        return sum(step.cost for step in self.steps)


def ways_back(
    problem: Problem, k: int, d: np.ndarray, scales: "tuple[float | np.ndarray, ...]"
) -> list[Backed]:
    """All ways back through the activations of block k: the right one first.

    `d` is the gradient at the block's output. `scales` are the constants by which the learner's
    own `d` may differ from it, which matters where a derivative is taken at `d` itself.
    """
    block = problem.blocks[k]
    found = [Backed(block.back(d), source=d)]
    if not block.acts:
        found += _without_activation(block, d)
    for i, act in enumerate(block.acts):
        after = d
        for later in reversed(block.acts[i + 1 :]):
            after = later.back(after)
        for delta, step in _wrong(problem, k, act, after, scales):
            for earlier in reversed(block.acts[:i]):
                delta = earlier.back(delta)
            if np.isfinite(delta).all():
                found.append(Backed(delta, (step,), d))
    return found


def _without_activation(block: Block, d: np.ndarray) -> Iterator[Backed]:
    for text, slope in _foreign_slopes("", block.z, block.z):
        yield Backed(d * slope, (Step("derivative_extra", block.layer, used=text),), d)


def _wrong(
    problem: Problem, k: int, act: Act, d: np.ndarray, scales: "tuple[float | np.ndarray, ...]"
) -> Iterator[tuple[np.ndarray, Step]]:
    """Every wrong gradient at an activation's input for the gradient d at its output."""
    if act.function.kernel == "softmax":
        yield from _wrong_softmax(act, d)
        return
    identity = act.function.kernel == "identity"
    for step, slope in _wrong_slopes(problem, k, act):
        if identity:
            step = step._replace(code="derivative_extra")
        yield d * slope, step
    if not identity:
        yield from _at_error(act, d, scales)


def _wrong_slopes(problem: Problem, k: int, act: Act) -> Iterator[tuple[Step, np.ndarray]]:
    f, z, a, layer = act.function, act.z, act.a, act.layer
    if f.kernel != "identity":
        slope = f.slope(z)
        yield Step("derivative_missing", layer), np.ones_like(z)
        yield Step("derivative_twice", layer), slope * slope
        yield Step("derivative_at_output", layer), f.slope(a)
        if f.kernel != "exp":  # of which it is the derivative
            yield Step("activation_for_derivative", layer, cost=1.02), a
        yield from _own_formula(act)
    for text, foreign in _foreign_slopes(f.kernel, z, a):
        yield Step("other_derivative", layer, used=text, cost=1.05), foreign
    for text, partial in _partial_slopes(f, z, a):
        yield Step("derivative_incomplete", layer, used=text, cost=1.05), partial
    for j, other in enumerate(problem.blocks):
        if j != k and other.z.shape == z.shape and f.kernel != "identity":
            used = f"f'(z) of layer {other.layer}"
            yield Step("derivative_other_layer", layer, used=used), f.slope(other.z)
            if other.acts:
                used = f"f' at the output of layer {other.last_layer}"
                step = Step("derivative_other_layer", layer, used=used, cost=1.1)
                yield step, f.slope(other.output)
                formula = _OUTPUT_FORMULAS.get(f.kernel)
                if formula is not None:
                    yield step, formula[1](other.output, f.parameter)
    for other in (problem.X,):
        if other.shape == z.shape and f.kernel != "identity":
            used = "f'(X)"
            yield Step("derivative_other_layer", layer, used=used, cost=1.1), f.slope(other)
    if problem.previous is not None and f.kernel != "identity":
        old = problem.previous[k].acts[problem.blocks[k].acts.index(act)].z
        if old.shape == z.shape:
            yield Step("derivative_stale", layer), f.slope(old)


def _own_formula(act: Act) -> Iterator[tuple[Step, np.ndarray]]:
    """Formulas that belong to this very function."""
    f, z = act.function, act.z
    formula = _OUTPUT_FORMULAS.get(f.kernel)
    if formula is not None:
        text = formula[0].format("z")
        yield Step("output_formula_at_input", act.layer, used=text), formula[1](z, f.parameter)
        double = formula[1](f.value(act.a), f.parameter)
        yield Step("derivative_at_output", act.layer, cost=1.05), double
    if f.kernel in ("relu", "leaky_relu", "elu") and (z == 0).any():
        yield Step("kink_included", act.layer), np.where(z == 0, 1.0, f.slope(z))


def _foreign_slopes(kernel: str, z: np.ndarray, a: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    for name, (text, function) in _OTHERS.items():
        if name != kernel and (name, kernel) != ("exp", "elu"):  # that is among its own
            yield text, function.slope(z)
    if kernel != "sigmoid":
        yield "a(1 - a)", a * (1 - a)
        if kernel:
            yield "z(1 - z)", z * (1 - z)
    if kernel != "tanh":
        yield "1 - a**2", 1 - a * a
        if kernel:
            yield "1 - z**2", 1 - z * z
    if kernel:
        yield "sigmoid'(a)", _SIGMOID.slope(a)
        yield "tanh'(a)", _TANH.slope(a)


def _partial_slopes(
    f: Elementwise, z: np.ndarray, a: np.ndarray
) -> Iterator[tuple[str, np.ndarray]]:
    """The derivative with a part of its formula lost."""
    sigma = _SIGMOID.value(z)
    match f.kernel:
        case "sigmoid":
            yield "1 - a", 1 - a
            with np.errstate(over="ignore"):
                s = 1 + np.exp(-z)
                yield "s(1 - s) with s = 1/1 + exp(-z), brackets missing", s * (1 - s)
                yield "a(1 + a)", a * (1 + a)
                yield "exp(-z)", np.exp(-z)
        case "tanh":
            yield "1 - a", 1 - a
            yield "1 + a**2", 1 + a * a
            yield "a**2", a * a
            yield "1 - tanh(z)", 1 - a
        case "relu":
            yield "z", z
            yield "z < 0", (z < 0).astype(float)
            yield "sign(z)", np.sign(z)
        case "leaky_relu":
            yield "1, or 0 where z <= 0", (z > 0).astype(float)
            yield "the slopes of the two sides exchanged", np.where(z > 0, f.parameter, 1.0)
            for slope in (0.01, 0.05, 0.1, 0.2, 0.3):
                if slope != f.parameter:
                    yield f"slope {slope}", np.where(z > 0, 1.0, slope)
            yield "slope -1", np.where(z > 0, 1.0, -f.parameter)
        case "elu":
            yield "a where z <= 0: alpha is missing", np.where(z > 0, 1.0, a)
            yield "exp(z) without alpha", np.where(z > 0, 1.0, np.exp(np.minimum(z, 0)))
            yield "exp(z) everywhere", np.exp(z) * f.parameter
            yield "alpha where z <= 0", np.where(z > 0, 1.0, f.parameter)
        case "softplus":
            yield "1 - sigmoid(z)", 1 - sigma
            yield "1 / (1 + exp(z))", _SIGMOID.value(-z)
        case "silu":
            yield "sigmoid(z)", sigma
            yield "z sigmoid'(z)", z * sigma * (1 - sigma)
            yield "a(1 - sigmoid(z))", a * (1 - sigma)
            yield "sigmoid(z) + sigmoid'(z), without z", sigma + sigma * (1 - sigma)
            yield "sigmoid(z)(1 + z)", sigma * (1 + z)
        case "exp":
            yield "z exp(z - 1), as of a power", z * np.exp(z - 1)
            yield "z exp(z)", z * a
            yield "exp(-z)", np.exp(-z)
        case "gelu" | "gelu_tanh":
            density = np.exp(-z * z / 2) / np.sqrt(2 * np.pi)
            cumulative = Elementwise("gelu").slope(z) - z * density
            yield "P(z)", cumulative
            yield "z P'(z)", z * density
            yield "P(z) + P'(z), without z", cumulative + density
            yield "sigmoid(1.702 z)", _SIGMOID.value(1.702 * z)
            s = _SIGMOID.value(1.702 * z)
            yield "that of z sigmoid(1.702 z)", s + 1.702 * z * s * (1 - s)


def _at_error(
    act: Act, d: np.ndarray, scales: "tuple[float | np.ndarray, ...]"
) -> Iterator[tuple[np.ndarray, Step]]:
    """The derivative taken at the gradient that comes back."""
    f = act.function
    formula = _OUTPUT_FORMULAS.get(f.kernel)
    step = Step("derivative_at_error", act.layer)
    for i, scale in enumerate(scales):  # the size matters, save for rectifiers
        own = step._replace(cost=1.0 + 0.02 * i)
        yield d * f.slope(scale * d), own
        if formula is not None:
            used = formula[0].format("error")
            yield d * formula[1](scale * d, f.parameter), own._replace(used=used)
        if f.kernel in ("relu", "leaky_relu"):  # the size does not matter, the sign might
            yield d * f.slope(-d), own._replace(cost=1.1, used="f'(-error)")
            yield np.where(d > 0, d, 0.0), own._replace(cost=1.05, used="error > 0")
            return


def _wrong_softmax(act: Act, d: np.ndarray) -> Iterator[tuple[np.ndarray, Step]]:
    a, z, layer = act.a, act.z, act.layer
    yield d, Step("derivative_missing", layer)
    yield d * a * (1 - a), Step("softmax_elementwise", layer)
    yield d * a, Step("derivative_incomplete", layer, used="p_i d_i, without the sum", cost=1.05)
    yield act.back(act.back(d)), Step("derivative_twice", layer)
    again = SoftmaxFunction().value(a)
    yield (
        again * (d - (d * again).sum(axis=1, keepdims=True)),
        Step("derivative_at_output", layer),
    )
    yield d * again * (1 - again), Step("derivative_at_output", layer, cost=1.1)
    yield d * z * (1 - z), Step("output_formula_at_input", layer, used="z(1 - z)")
    yield (
        z * (d - (d * z).sum(axis=1, keepdims=True)),
        Step("output_formula_at_input", layer, used="z_i (d_i - sum_j d_j z_j)"),
    )
    for name, (text, function) in _OTHERS.items():
        if name in ("sigmoid", "tanh", "relu"):
            yield d * function.slope(z), Step("other_derivative", layer, used=text, cost=1.05)
    yield d * (1 - a * a), Step("other_derivative", layer, used="1 - a**2", cost=1.05)
    yield d * a, Step("activation_for_derivative", layer, cost=1.1)
