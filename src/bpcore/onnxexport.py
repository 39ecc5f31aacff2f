"""From a network to an ONNX graph."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bpcore.checks import as_array
from bpcore.errors import ShapeError
from bpcore.layers import Dense, Dropout, Layer, Softmax, check_built_in
from bpcore.network import Network
from bpcore.onnxforms import COMPOSED
from bpcore.onnxgraph import Graph, Node, Value

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["graph_of"]

_CLASSIFIERS = {"bce": "sigmoid", "cross_entropy": "softmax"}
"""Losses of probabilities, and the activation that makes them."""


class _Writer:
    """Appends nodes; called with an operator and its inputs it returns the name of the output."""

    def __init__(self, dtype: np.dtype) -> None:
        self.dtype = dtype
        self.largest = float(np.finfo(dtype).max)
        self.nodes: list[Node] = []
        self.constants: dict[str, np.ndarray] = {}
        self._layer, self._count = "", 0

    def begin(self, layer: str) -> None:
        """Name the nodes that follow after this layer."""
        self._layer, self._count = layer, 0

    def end(self) -> None:
        """Give the layer's name to its last node."""
        self.nodes[-1].name = self._layer

    def __call__(self, op: str, *inputs: str | float, **attributes: Any) -> str:
        """Append a node."""
        self._count += 1
        output = f"{self._layer}.{op}_{self._count}"
        names = [self._constant(i) if isinstance(i, float) else i for i in inputs]
        self.nodes.append(
            Node(op, names, [output], f"{self._layer}/{op}_{self._count}", "", attributes)
        )
        return output

    def array(self, name: str, value: np.ndarray) -> str:
        """Make an initializer of the network's dtype."""
        self.constants[name] = np.array(value, self.dtype)
        return name

    def _constant(self, value: float) -> str:
        return self.array(f"constant_{value!r}", np.asarray(value))


def graph_of(
    net: Network,
    standardization: "tuple[ArrayLike, ArrayLike] | None",
    target_standardization: "tuple[ArrayLike, ArrayLike] | None",
    probabilities: bool,
) -> Graph:
    """Return the graph of a network; for the arguments see `bpcore.onnx.export`."""
    check_built_in(net.names, net.layers)
    classifier = net.loss.name in _CLASSIFIERS
    if probabilities and not (classifier and net.loss.from_logits):
        raise ValueError(
            f"probabilities=True is for networks trained on logits, whose loss is bce_logits or "
            f"cross_entropy_logits, got {net.loss.kernel}"
        )
    if target_standardization is not None and classifier:
        raise ValueError(
            f"target_standardization is for regression, but the loss is {net.loss.kernel}"
        )
    op, x = _Writer(net.dtype), "input"
    if standardization is not None:
        mean, scale = _checked(standardization, "standardization", net.n_in, net.dtype)
        op.begin("standardization")
        x = op("Sub", x, op.array("standardization.mean", mean))
        x = op("Div", x, op.array("standardization.scale", scale))
    for name, layer in zip(net.names, net.layers, strict=True):
        op.begin(name)
        x = _write(op, x, name, layer)
        op.end()
    loss = net.loss.kernel
    if probabilities:
        op.begin("probabilities")
        x = _probabilities(op, x, _CLASSIFIERS[net.loss.name])
        op.end()
        loss = net.loss.name
    if target_standardization is not None:
        mean, scale = _checked(
            target_standardization, "target_standardization", net.n_out, net.dtype
        )
        op.begin("target_standardization")
        x = op("Mul", x, op.array("target_standardization.scale", scale))
        x = op("Add", x, op.array("target_standardization.mean", mean))
    op.nodes[-1].outputs = ["output"]
    dtype = net.dtype.name
    return Graph(
        op.nodes,
        op.constants,
        [Value("input", dtype, ("batch", net.n_in))],
        [Value("output", dtype, ("batch", net.n_out))],
        metadata={"loss": loss, "task": "classification" if classifier else "regression"},
    )


def _write(op: _Writer, x: str, name: str, layer: Layer) -> str:
    """Write one layer."""
    if isinstance(layer, Dense):
        weight = op.array(f"{name}.weight", layer.weight)
        if layer.bias is None:
            return op("MatMul", x, weight)
        return op("Gemm", x, weight, op.array(f"{name}.bias", layer.bias))
    if isinstance(layer, Dropout):
        return op("Dropout", x, ratio=layer.p)
    if isinstance(layer, Softmax):
        return op("Softmax", x, axis=1)
    return COMPOSED[layer.kernel](op, x, float(layer.parameter))


def _probabilities(op: _Writer, x: str, activation: str) -> str:
    if activation == "softmax":
        return op("Softmax", x, axis=1)
    return COMPOSED[activation](op, x, 0.0)


def _checked(
    pair: Sequence[Any], argument: str, width: int, dtype: np.dtype
) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and scale as arrays of shape (width,)."""
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        raise TypeError(f"{argument} must be a pair (mean, scale), got {type(pair).__name__}")
    arrays = []
    for value, part in zip(pair, ("mean", "scale"), strict=True):
        array = as_array(value, f"{argument}: {part}", dtype)
        if array.shape not in ((), (width,)):
            raise ShapeError(f"{argument}: {part} has shape {array.shape}, expected ({width},)")
        array = np.broadcast_to(array, (width,))
        unfit = ~(np.isfinite(array) & ((array > 0) | (part == "mean")))
        if unfit.any():
            wanted = "finite" if part == "mean" else "finite and > 0"
            place = int(unfit.argmax())
            raise ValueError(f"{argument}: {part}[{place}] must be {wanted}, got {array[place]}")
        arrays.append(array)
    return arrays[0], arrays[1]
