"""Each activation as ONNX nodes: what export writes, and what load knows again.

A form is a function of a writer `op`, the input `x` and the activation's parameter `a`. The writer
is called as ``op("Add", x, 1.0)`` and returns the node's output; numbers are constants of the
network's dtype. One list of forms serves both directions: export writes the first, load compares a
graph with all (`bpcore.onnximport`).

Composed of basic operators is what ONNX computes with float32 constants only (LeakyRelu, Elu, Gelu
before opset 20), what onnxruntime lacks in float64 (Softplus, Elu, LeakyRelu, Erf), and what
loses digits there: Sigmoid has none left where it is below 1e-7, Tanh of float64 is off by 4.6 eps.
"""

import math
from collections.abc import Callable
from typing import Any

__all__ = ["COMPOSED", "FOREIGN", "PLAIN"]

Form = Callable[[Any, Any, Any], Any]

# The polynomial of csrc/kernels/math.h in float64: the upper tail of the standard normal is
# exp(-a*a/2) P((a - 4) / (a + 4)) / (1 + a) for a >= 0.
_TAIL_CENTRE = 4.0
_TAIL_FARTHEST = 39.0  # the tail is 0 from here on
_TAIL = (
    *(0.47205320650984466697, -0.096703477326525442705, 0.013999634724429944636),
    *(0.028600364053511817155, -0.032197837428335226371, 0.017936097480879655051),
    *(-0.0050023785855923948291, -0.0002856231147676792283, 0.00069489704241977921574),
    *(-0.000094430128302236035517, -0.00008785276441903661484, 0.00002124950449033180537),
    *(0.000013625085531076015651, -3.4308114307341639618e-6, -2.6079888702193948563e-6),
    *(4.0257840297623311787e-7, 5.4322928973347046e-7, 2.2481914592216838948e-9),
    *(-1.0123897371048720687e-7, -1.8517951237265232948e-8, 1.1479571738307538949e-8),
    *(4.2450684675330692367e-9, 1.4667101033791732539e-10),
)
_GELU_LINEAR, _GELU_CUBIC = 1.5957691216057308, 0.071354816272600250  # as in activations.h


def _one_plus_exp_minus(op: Any, x: Any) -> Any:
    return op("Add", op("Exp", op("Neg", x)), 1.0)  # infinite is right: it divides


def _sigmoid(op: Any, x: Any, a: Any) -> Any:
    return op("Div", 1.0, _one_plus_exp_minus(op, x))


def _silu(op: Any, x: Any, a: Any) -> Any:
    finite = op("Max", x, -op.largest)  # the limit at -inf is 0
    return op("Div", finite, _one_plus_exp_minus(op, x))


def _gelu_tanh(op: Any, x: Any, a: Any) -> Any:
    cubic = op("Mul", op("Mul", x, _GELU_CUBIC), x)
    u = op("Mul", x, op("Add", cubic, _GELU_LINEAR))
    return op("Div", op("Max", x, -op.largest), _one_plus_exp_minus(op, u))


def _gelu(op: Any, x: Any, a: Any) -> Any:
    # 1 + erf cancels on the left, where all of the value is what erf lacks to -1.
    size = op("Min", op("Abs", x), _TAIL_FARTHEST)
    r = op("Div", op("Sub", size, _TAIL_CENTRE), op("Add", size, _TAIL_CENTRE))
    polynomial = op("Add", op("Mul", r, _TAIL[-1]), _TAIL[-2])
    for coefficient in _TAIL[-3::-1]:
        polynomial = op("Add", op("Mul", polynomial, r), coefficient)
    density = op("Exp", op("Mul", op("Mul", size, -0.5), size))
    tail = op("Div", op("Mul", density, polynomial), op("Add", size, 1.0))
    cdf = op("Where", op("Less", x, 0.0), tail, op("Sub", 1.0, tail))
    return op("Mul", op("Max", x, -op.largest), cdf)


def _leaky_relu(op: Any, x: Any, a: Any) -> Any:
    return op("Where", op("Greater", x, 0.0), x, op("Mul", x, a))


def _elu(op: Any, x: Any, a: Any) -> Any:
    # exp(x) - 1 without cancellation: with u the rounded exp(x), (u - 1) x / log(u) (W. Kahan).
    near = op("Max", x, -50.0)  # exp(x) - 1 is -1 long before
    u = op("Exp", near)
    ratio = op("Div", op("Mul", op("Sub", u, 1.0), near), op("Log", u))
    left = op("Where", op("Less", u, 1.0), ratio, near)
    return op("Where", op("Greater", x, 0.0), x, op("Mul", left, a))


def _softplus(op: Any, x: Any, a: Any) -> Any:
    # max(x, 0) + log(1 + t), and log(1 + t) likewise: with u the rounded 1 + t, log(u) t / (u - 1).
    t = op("Exp", op("Neg", op("Abs", x)))
    u = op("Add", t, 1.0)
    ratio = op("Mul", op("Log", u), op("Div", t, op("Sub", u, 1.0)))
    return op("Add", op("Relu", x), op("Where", op("Greater", u, 1.0), ratio, t))


def _tanh(op: Any, x: Any, a: Any) -> Any:
    if op.largest < 1e39:
        return op("Tanh", x)
    e = op("Exp", op("Mul", op("Max", x, -20.0), -2.0))  # it is -1 from there on
    far = op("Div", op("Sub", 1.0, e), op("Add", e, 1.0))
    return op("Where", op("Less", op("Abs", x), 1.0), op("Tanh", x), far)


COMPOSED: dict[str, Form] = {
    "identity": lambda op, x, a: op("Identity", x),
    "sigmoid": _sigmoid,
    "relu": lambda op, x, a: op("Relu", x),
    "tanh": _tanh,
    "leaky_relu": _leaky_relu,
    "elu": _elu,
    "softplus": _softplus,
    "gelu": _gelu,
    "gelu_tanh": _gelu_tanh,
    "silu": _silu,
    "exp": lambda op, x, a: op("Exp", x),
}
"""By kernel, what export writes; softmax, which is not elementwise, is a node of its own."""


# ---------------------------------------------------------------- written by others


def _half_of(op: Any, x: Any, factor: Any) -> Any:
    return op("Mul", op("Mul", x, op("Add", factor, 1.0)), 0.5)


def _of_half(op: Any, x: Any, factor: Any) -> Any:
    return op("Mul", op("Mul", x, 0.5), op("Add", factor, 1.0))


def _by_half(op: Any, x: Any, factor: Any) -> Any:
    return op("Mul", x, op("Mul", op("Add", factor, 1.0), 0.5))


def _erf_forms() -> list[Form]:
    scaled: list[Callable[[Any, Any], Any]] = [
        lambda op, x: op("Div", x, math.sqrt(2)),
        lambda op, x: op("Mul", x, math.sqrt(0.5)),
    ]
    return [
        lambda op, x, a, product=product, scale=scale: product(op, x, op("Erf", scale(op, x)))
        for product in (_half_of, _of_half, _by_half)
        for scale in scaled
    ]


def _tanh_forms() -> list[Form]:
    cubes: list[Callable[[Any, Any], Any]] = [
        lambda op, x: op("Mul", op("Pow", x, 3.0), 0.044715),
        lambda op, x: op("Mul", op("Mul", op("Mul", x, x), x), 0.044715),
        lambda op, x: op("Mul", x, op("Mul", op("Mul", x, x), 0.044715)),
    ]

    def form(op: Any, x: Any, a: Any, product: Any, cube: Any) -> Any:
        inner = op("Mul", op("Add", x, cube(op, x)), math.sqrt(2 / math.pi))
        return product(op, x, op("Tanh", inner))

    return [
        lambda op, x, a, product=product, cube=cube: form(op, x, a, product, cube)
        for product in (_half_of, _of_half, _by_half)
        for cube in cubes
    ]


def _thresholded_softplus(op: Any, x: Any, a: Any) -> Any:
    return op("Where", op("Greater", x, 20.0), x, op("Softplus", x))


FOREIGN: list[tuple[str, Form]] = [
    *(("gelu", form) for form in _erf_forms()),
    *(("gelu_tanh", form) for form in _tanh_forms()),
    ("silu", lambda op, x, a: op("Mul", x, op("Sigmoid", x))),
    ("softplus", _thresholded_softplus),
]
"""What PyTorch writes for want of an operator."""

PLAIN: dict[str, tuple[str, str, float]] = {
    "Relu": ("relu", "", 0.0),
    "Sigmoid": ("sigmoid", "", 0.0),
    "Tanh": ("tanh", "", 0.0),
    "LeakyRelu": ("leaky_relu", "alpha", 0.01),
    "Elu": ("elu", "alpha", 1.0),
    "Softplus": ("softplus", "", 0.0),
    "Exp": ("exp", "", 0.0),
}
"""One operator: its activation, the attribute that is its parameter, and that one's default."""
