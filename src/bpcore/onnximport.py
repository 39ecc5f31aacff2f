"""From an ONNX graph to a network: a walk along the one path from input to output."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from bpcore import losses
from bpcore.errors import ModelFileError
from bpcore.layers import ACTIVATIONS, GELU, Dense, Dropout, Identity, Layer, Softmax
from bpcore.network import Network
from bpcore.onnxforms import COMPOSED, FOREIGN, PLAIN
from bpcore.onnxgraph import Graph, Node
from bpcore.onnxmatch import Flow, Template, find

__all__ = ["network_of"]

_FLOATS = {1: "float32", 11: "float64"}  # TensorProto.DataType


class _Affine:
    """A dense layer still to be completed: ``x @ weight + bias``, bias None for none."""

    def __init__(self, weight: np.ndarray, bias: np.ndarray | None) -> None:
        self.weight, self.bias = weight, bias


class _Walk:
    """What has been met on the way from the input: layers, and a scaling that waits for one."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.flow = Flow(graph)
        self.dtype = _dtype(graph, self.flow)
        self.layers: list[tuple[str, Layer | _Affine]] = []
        self.width = _input_width(graph, self.flow.source)
        self.scaling: tuple[Node, np.ndarray, np.ndarray] | None = None
        self.is_own = graph.producer == "bpcore"
        self.templates = [
            (kernel, template)
            for kernel, form in (*COMPOSED.items(), *FOREIGN)
            if len(template := Template(form, self.dtype)) > 1
        ]

    def run(self) -> list[tuple[str, Layer]]:
        """Return the layers with their names."""
        x = self.flow.source
        while x != self.flow.target:
            x = self._activation_form(x) or self._class_pair(x) or self._one_node(x)
        if self.flow.unused:
            raise self._refusal(self.flow.unused[0], "it does not lie on the way to the output")
        if self.scaling is not None:
            raise self._refusal(self.scaling[0], "no Gemm or MatMul follows to fold it into")
        return [(name, self._complete(layer)) for name, layer in self.layers]

    # ---- several nodes at once -----------------------------------------------------------------

    def _activation_form(self, x: str) -> str | None:
        for kernel, template in self.templates:
            if (match := find(template, self.flow, x)) is not None:
                self._activation(match.last, kernel, self._decimal(match.parameter))
                return self.flow.take(match.nodes)
        return None

    def _class_pair(self, x: str) -> str | None:
        """1 - p and p side by side, as skl2onnx writes logistic outputs: the network gives p."""
        if not (self.layers and getattr(self.layers[-1][1], "name", None) == "sigmoid"):
            return None
        pair = Template(lambda op, x, a: op("Concat", op("Sub", 1.0, x), x), self.dtype)
        match = find(pair, self.flow, x)
        if match is None or match.last.attributes.get("axis") not in (1, -1):
            return None
        return self.flow.take(match.nodes)

    # ---- one node ------------------------------------------------------------------------------

    def _one_node(self, x: str) -> str:
        following = self.flow.consumers(x)
        if not following:
            raise ModelFileError(f"the way from the input ends at {x!a}")
        node = following[0]
        if len(following) > 1:
            raise self._refusal(node, f"{len(following)} nodes use {x!a}, so this is no chain")
        key = f"{node.domain}.{node.op}" if node.domain else node.op
        if key in PLAIN:
            kernel, attribute, default = PLAIN[key]
            parameter = node.attributes.get(attribute, default) if attribute else default
            self._activation(node, kernel, _shortest(parameter))
        elif key in _READERS:
            _READERS[key](self, node, x)
        else:
            raise self._refusal(node, f"the operator is unknown; supported are {SUPPORTED}")
        return self.flow.take([node])

    def _gemm(self, node: Node, x: str) -> None:
        if node.inputs[0] != x or node.attributes.get("transA", 0):
            raise self._refusal(node, "the network's values must be A, and transA 0")
        weight = self._constant(node, 1)
        weight = weight.T if node.attributes.get("transB", 0) else weight
        self._dense(node, _times(weight, node.attributes.get("alpha", 1.0)))
        if len(node.inputs) > 2 and node.inputs[2]:
            bias = _times(self._constant(node, 2), node.attributes.get("beta", 1.0))
            self._scale(node, None, bias)

    def _matmul(self, node: Node, x: str) -> None:
        if node.inputs[0] != x:
            raise self._refusal(node, "the network's values must be the first operand")
        self._dense(node, self._constant(node, 1))

    def _add(self, node: Node, x: str) -> None:
        self._scale(node, None, self._other(node, x))

    def _sub(self, node: Node, x: str) -> None:
        other = self._other(node, x)
        if node.inputs[0] == x:
            self._scale(node, None, -other)
        else:
            self._scale(node, np.full(1, -1.0), other)

    def _mul(self, node: Node, x: str) -> None:
        self._scale(node, self._other(node, x), None)

    def _div(self, node: Node, x: str) -> None:
        if node.inputs[0] != x:
            raise self._refusal(node, "the network's values must be the dividend")
        divisor = self._other(node, x).astype(np.float64)
        if not divisor.all():
            raise self._refusal(node, "it divides by 0")
        self._scale(node, 1 / divisor, None)

    def _scaler(self, node: Node, x: str) -> None:
        offset = np.array(node.attributes.get("offset", [0.0]), np.float64)
        scale = np.array(node.attributes.get("scale", [1.0]), np.float64)
        self._scale(node, None, -offset)
        self._scale(node, scale, None)

    def _gelu(self, node: Node, x: str) -> None:
        tanh = node.attributes.get("approximate", "none") == "tanh"
        self._activation(node, "gelu_tanh" if tanh else "gelu", 0.0)

    def _swish(self, node: Node, x: str) -> None:
        if node.attributes.get("alpha", 1.0) != 1.0:
            raise self._refusal(node, "alpha must be 1")
        self._activation(node, "silu", 0.0)

    def _softmax(self, node: Node, x: str) -> None:
        axis = node.attributes.get("axis", 1 if self.graph.opset < 13 else -1)
        if axis not in (1, -1):
            raise self._refusal(node, f"it must go along the last axis, not {axis}")
        self._layer(node, Softmax())

    def _dropout(self, node: Node, x: str) -> None:
        p = node.attributes.get("ratio", 0.5)
        if len(node.inputs) > 1 and node.inputs[1]:
            p = self._constant(node, 1).item()
        if len(node.inputs) > 2 and node.inputs[2] and self._constant(node, 2).any():
            raise self._refusal(node, "it is in training mode")
        self._layer(node, Dropout(_shortest(p)))

    def _identity(self, node: Node, x: str) -> None:
        if self.is_own:  # else it is left over from something
            self._layer(node, Identity())

    def _cast(self, node: Node, x: str) -> None:
        if node.attributes.get("to") not in _FLOATS:
            raise self._refusal(node, "only float32 and float64 are supported")

    def _flatten(self, node: Node, x: str) -> None:
        if node.attributes.get("axis", 1) != 1:
            raise self._refusal(node, "axis must be 1")

    def _reshape(self, node: Node, x: str) -> None:
        shape = self._constant(node, 1).ravel().tolist()
        width = self.width
        rows = shape[:1] in ([-1], [0]) and len(shape) == 2
        fits = rows and (width is None or shape[1] == width or (shape[1] == -1 and shape[0] == 0))
        if not (fits or (shape == [-1] and width == 1)):
            raise self._refusal(node, f"it must keep one sample a row, got shape {shape}")

    # ---- layers --------------------------------------------------------------------------------

    def _dense(self, node: Node, weight: np.ndarray) -> None:
        if weight.ndim != 2 or weight.dtype != self.dtype or 0 in weight.shape:
            raise self._refusal(
                node, f"expected a matrix of {self.dtype}, got {weight.dtype} {weight.shape}"
            )
        if self.width not in (None, weight.shape[0]):
            raise self._refusal(node, f"it takes {weight.shape[0]} inputs, but gets {self.width}")
        bias = None
        if self.scaling is not None:
            scaled_by, scale, shift = self.scaling
            n_in = weight.shape[0]
            if {scale.size, shift.size} - {1, n_in}:
                raise self._refusal(scaled_by, f"its constants don't match {n_in} inputs")
            wide = weight.astype(np.float64)
            bias = self._narrow(node, np.broadcast_to(shift, (n_in,)) @ wide)
            weight = self._narrow(node, np.broadcast_to(scale, (n_in,))[:, None] * wide)
            self.scaling = None
        self.layers.append((self._name(node), _Affine(weight, bias)))
        self.width = weight.shape[1]

    def _scale(self, node: Node, scale: np.ndarray | None, shift: np.ndarray | None) -> None:
        """Multiply by `scale`, then add `shift`: folded into the dense layer before or after."""
        sizes = [a.shape for a in (scale, shift) if a is not None]
        # one of more dimensions would give the rows more as well: (1, n, n_out)
        if any(len(s) > 2 or math.prod(s[:-1]) != 1 or 0 in s for s in sizes):
            raise self._refusal(node, f"its constant has shape {sizes[0]}, expected one row")
        scale, shift = (None if a is None else a.reshape(-1) for a in (scale, shift))
        last = self.layers[-1][1] if self.layers else None
        if isinstance(last, _Affine):
            self._fold(node, last, scale, shift)
            return
        before = (node, np.ones(1), np.zeros(1)) if self.scaling is None else self.scaling
        scale = np.ones(1) if scale is None else scale.astype(np.float64)
        shift = np.zeros(1) if shift is None else shift.astype(np.float64)
        widths = {a.size for a in (*before[1:], scale, shift)} - {1}
        if len(widths) > 1:
            raise self._refusal(node, f"constants of different widths meet: {sorted(widths)}")
        self.scaling = (node, before[1] * scale, before[2] * scale + shift)

    def _fold(
        self, node: Node, dense: _Affine, scale: np.ndarray | None, shift: np.ndarray | None
    ) -> None:
        n_out = dense.weight.shape[1]
        for a in (scale, shift):
            if a is not None and a.size not in (1, n_out):
                raise self._refusal(node, f"its constant has width {a.size}, expected {n_out}")
        if scale is not None:
            scale = scale.astype(np.float64)
            dense.weight = self._narrow(node, dense.weight * scale)
            dense.bias = None if dense.bias is None else self._narrow(node, dense.bias * scale)
        if shift is not None:
            shift = np.broadcast_to(shift, (n_out,))
            if dense.bias is not None:
                shift = dense.bias.astype(np.float64) + shift
            dense.bias = self._narrow(node, shift)

    def _narrow(self, node: Node, array: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            narrow = np.asarray(array).astype(self.dtype)
        if not np.isfinite(narrow).all():
            raise self._refusal(node, f"folded into a layer it is beyond the range of {self.dtype}")
        return narrow

    def _activation(self, node: Node, kernel: str, parameter: float) -> None:
        cls = GELU if kernel == "gelu_tanh" else ACTIVATIONS.get(kernel)
        if cls is None:
            raise self._refusal(node, f"there is no activation {kernel!a}")
        if cls is GELU:
            layer = GELU(approximate="tanh" if kernel == "gelu_tanh" else "none")
        else:
            try:
                layer = cls(**dict.fromkeys(cls._arguments(), parameter))
            except ValueError as error:
                raise self._refusal(node, str(error)) from error
        self._layer(node, layer)

    def _layer(self, node: Node, layer: Layer) -> None:
        if self.scaling is not None:
            raise self._refusal(self.scaling[0], "no Gemm or MatMul follows to fold it into")
        self.layers.append((self._name(node), layer))

    def _complete(self, layer: Layer | _Affine) -> Layer:
        if isinstance(layer, Layer):
            return layer
        has_bias = layer.bias is not None
        return Dense(
            *layer.weight.shape,
            weight_init=layer.weight,
            bias_init=layer.bias if has_bias else "zeros",
            bias=has_bias,
            dtype=self.dtype,
        )

    # ---- helpers -------------------------------------------------------------------------------

    def _name(self, node: Node) -> str:
        """The layer's name, where bpcore has written it; "" for its position."""
        return node.name if self.is_own and not node.name.isdigit() else ""

    def _decimal(self, parameter: float | None) -> float:
        if parameter is None:
            return 0.0
        return _shortest(parameter) if self.dtype == np.float32 else parameter

    def _constant(self, node: Node, index: int) -> np.ndarray:
        name = node.inputs[index] if index < len(node.inputs) else ""
        array = self.flow.constants.get(name)
        if array is None or array.dtype.kind not in "fiub":
            raise self._refusal(node, f"input {index} ({name!a}) must be a constant of numbers")
        return array

    def _other(self, node: Node, x: str) -> np.ndarray:
        if len(node.inputs) != 2 or node.inputs.count(x) != 1:
            raise self._refusal(node, "one of its two inputs must be a constant")
        other = self._constant(node, 1 - node.inputs.index(x))
        if other.dtype.kind != "f":
            raise self._refusal(node, f"its constant must be of {self.dtype}, not {other.dtype}")
        return other

    def _refusal(self, node: Node, why: str) -> ModelFileError:
        return ModelFileError(f"{node} cannot be loaded: {why}")


_READERS: dict[str, Callable[[_Walk, Node, str], None]] = {
    "Gemm": _Walk._gemm,
    "MatMul": _Walk._matmul,
    "Add": _Walk._add,
    "Sub": _Walk._sub,
    "Mul": _Walk._mul,
    "Div": _Walk._div,
    "Gelu": _Walk._gelu,
    "Swish": _Walk._swish,
    "Softmax": _Walk._softmax,
    "Identity": _Walk._identity,
    "Dropout": _Walk._dropout,
    "Flatten": _Walk._flatten,
    "Reshape": _Walk._reshape,
    "Cast": _Walk._cast,
    "ai.onnx.ml.Scaler": _Walk._scaler,
}
SUPPORTED = (
    f"{', '.join((*_READERS, *PLAIN))}, what bpcore and PyTorch compose activations of, and at the "
    "end of a classifier Concat, ArgMax and ai.onnx.ml.ZipMap"
)


def network_of(graph: Graph, loss: Any) -> Network:
    """Return the network; for `loss` see `bpcore.onnx.load`."""
    walk = _Walk(graph)
    named = walk.run()
    if not any(isinstance(layer, Dense) for _, layer in named):
        raise ModelFileError(f"there is no dense layer (Gemm or MatMul); supported are {SUPPORTED}")
    for place, (_, layer) in enumerate(named):
        for name, array in layer.parameters().items():
            if not np.isfinite(array).all():
                raise ModelFileError(f"non-finite weights: {name} of layer {place}")
    if loss is None:
        loss = _default_loss(graph, named[-1][1])
    names = [name for name, _ in named if name]
    keep = len(set(names)) == len(names)
    return Network(
        [(name, layer) if name and keep else layer for name, layer in named],
        loss=loss,
        dtype=walk.dtype,
    )


def _default_loss(graph: Graph, last: Layer) -> str:
    said = graph.metadata.get("loss") if graph.producer == "bpcore" else None
    if said in losses.LOSSES:
        return said
    activation = getattr(last, "name", None)
    return next((loss for name, loss in losses.FUSED if name == activation), "mse")


def _dtype(graph: Graph, flow: Flow) -> np.dtype:
    """The dtype of the first product's weight."""
    for node in reversed(flow.unused):
        if node.op in ("Gemm", "MatMul") and not node.domain:
            for name in node.inputs:
                if name in flow.constants:
                    dtype = flow.constants[name].dtype
                    if dtype.name not in _FLOATS.values():
                        raise ModelFileError(
                            f"{node} has weights of {dtype}; float32 and float64 are supported"
                        )
                    return dtype
    raise ModelFileError(
        f"there is no dense layer (Gemm or MatMul with constant weights); supported are {SUPPORTED}"
    )


def _input_width(graph: Graph, source: str) -> int | None:
    """How many numbers a sample has, if the file says so; more dimensions are flattened."""
    shape = next(value.shape for value in graph.inputs if value.name == source)
    known = [n for n in (shape or ())[1:] if isinstance(n, int)]
    return math.prod(known) if known and len(known) + 1 == len(shape or ()) else None


def _shortest(value: float) -> float:
    """The shortest decimal of a float32: what was meant by 0.20000000298."""
    return float(str(np.float32(value)))


def _times(array: np.ndarray, factor: float) -> np.ndarray:
    if factor == 1.0:
        return array
    return (array.astype(np.float64) * factor).astype(array.dtype)
