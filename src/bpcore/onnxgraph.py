"""ONNX files as plain nodes and arrays, and back: the one place that imports the onnx package.

Nothing in a file is trusted: a tensor is made only of bytes that are there, and other files are
read only where they lie beside the model.
"""

import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bpcore.errors import ModelFileError
from bpcore.files import open_regular

__all__ = ["Graph", "Node", "Value", "decode", "encode", "package"]

OPSET = 9
"""The oldest with Where, and with Greater and Less of float64."""
IR_VERSION = 4
"""That of opset 9, and the first in which weights need not be inputs as well."""
SIZE_LIMIT = 2**31 - 1
"""Of one protobuf message, in bytes."""
_NUMERIC = "float32 float64 float16 int8 int16 int32 int64 uint8 uint16 uint32 uint64 bool".split()


@dataclass(eq=False)
class Node:
    """One operator: `domain` is "" for ONNX's own, `inputs` and `outputs` are names of tensors."""

    op: str
    inputs: list[str]
    outputs: list[str]
    name: str = ""
    domain: str = ""
    attributes: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        op = f"{self.domain}.{self.op}" if self.domain else self.op
        return f"node {self.name or ', '.join(self.outputs)!a} ({op})"


@dataclass
class Value:
    """An input or output: `dtype` is a NumPy name or "" if it is no tensor, `shape` may be None."""

    name: str
    dtype: str
    shape: tuple[int | str, ...] | None


@dataclass
class Graph:
    """A model. `opset` is the version of ONNX's own operators."""

    nodes: list[Node]
    constants: dict[str, np.ndarray]
    inputs: list[Value]
    outputs: list[Value]
    opset: int = OPSET
    producer: str = "bpcore"
    metadata: dict[str, str] = field(default_factory=dict)


def package() -> Any:
    """Return the onnx package; ImportError with the way to install it."""
    try:
        import onnx
        import onnx.checker
        import onnx.helper
        import onnx.numpy_helper
    except ImportError as error:
        raise ImportError(
            "bpcore.onnx needs the package onnx: pip install 'bpcore[onnx]'"
        ) from error
    return onnx


def encode(graph: Graph, version: str) -> bytes:
    """Return the content of an ONNX file."""
    helper, numpy_helper = package().helper, package().numpy_helper

    def described(values: Iterable[Value]) -> list[Any]:
        return [
            helper.make_tensor_value_info(
                v.name, helper.np_dtype_to_tensor_dtype(np.dtype(v.dtype)), v.shape
            )
            for v in values
        ]

    if (size := sum(array.nbytes for array in graph.constants.values())) > SIZE_LIMIT - 2**20:
        raise ValueError(f"{size} bytes of weights are more than one ONNX file can hold (2 GB)")
    model = helper.make_model(
        helper.make_graph(
            [
                helper.make_node(n.op, n.inputs, n.outputs, name=n.name, **n.attributes)
                for n in graph.nodes
            ],
            graph.producer,
            described(graph.inputs),
            described(graph.outputs),
            [
                numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name)
                for name, array in graph.constants.items()
            ],
        ),
        producer_name=graph.producer,
        producer_version=version,
        opset_imports=[helper.make_opsetid("", graph.opset)],
        ir_version=IR_VERSION,
    )
    helper.set_model_props(model, graph.metadata)
    return model.SerializeToString()


def decode(data: bytes, folder: str) -> Graph:
    """Parse the content of an ONNX file whose external data lie in `folder`.

    Raises
    ------
    ModelFileError
        It is damaged, or has something that no feed-forward network needs.
    OSError
        External data cannot be read.
    """
    onnx = package()
    try:
        model = onnx.ModelProto.FromString(data)
    except Exception as error:  # protobuf's DecodeError, which is not onnx's to give
        raise ModelFileError(f"not an ONNX file, or truncated: {error}") from error
    if not model.HasField("graph") or not model.graph.node:
        raise ModelFileError("not an ONNX file, or truncated: it has no nodes")
    if model.functions:
        raise ModelFileError(
            "functions in a model are not supported; inline them with onnx.inliner"
        )
    if model.graph.sparse_initializer:
        raise ModelFileError("sparse weights are not supported")
    opsets = {o.domain or "": o.version for o in model.opset_import}
    constants: dict[str, np.ndarray] = {}
    for tensor in model.graph.initializer:
        if tensor.name in constants:
            raise ModelFileError(f"two initializers are named {tensor.name!a}")
        constants[tensor.name] = _array(tensor, folder)
    return Graph(
        [_node(node, folder) for node in model.graph.node],
        constants,
        [v for v in map(_value, model.graph.input) if v.name not in constants],
        [_value(v) for v in model.graph.output],
        opsets.get("", opsets.get("ai.onnx", 0)),
        model.producer_name,
        {entry.key: entry.value for entry in model.metadata_props},
    )


def _value(info: Any) -> Value:
    """One input or output of the graph."""
    if not info.type.HasField("tensor_type"):
        return Value(info.name, "", None)
    tensor = info.type.tensor_type
    dtype = _dtype_name(tensor.elem_type)
    if not tensor.HasField("shape"):
        return Value(info.name, dtype, None)
    shape = tuple(d.dim_value if d.dim_value > 0 else d.dim_param for d in tensor.shape.dim)
    return Value(info.name, dtype, shape)


def _dtype_name(code: int) -> str:
    """Name of a dtype, "" for those that NumPy does not have."""
    try:
        name = np.dtype(package().helper.tensor_dtype_to_np_dtype(code)).name
    except (KeyError, TypeError, ValueError):
        return ""
    return name if name in _NUMERIC else ""


def _node(proto: Any, folder: str) -> Node:
    helper = package().helper
    domain = "" if proto.domain == "ai.onnx" else proto.domain
    node = Node(proto.op_type, list(proto.input), list(proto.output), proto.name, domain)
    for attribute in proto.attribute:
        if attribute.type in (attribute.GRAPH, attribute.GRAPHS) or attribute.ref_attr_name:
            raise ModelFileError(f"{node} holds a graph of its own, which is not supported")
        if attribute.type == attribute.TENSOR:
            node.attributes[attribute.name] = _array(attribute.t, folder)
            continue
        value = helper.get_attribute_value(attribute)
        node.attributes[attribute.name] = (
            value.decode("utf-8", "replace") if isinstance(value, bytes) else value
        )
    return node


def _array(tensor: Any, folder: str) -> np.ndarray:
    """Make the array of a tensor, which must have as many bytes as its shape says."""
    onnx = package()
    name, shape = tensor.name, tuple(tensor.dims)
    dtype = _dtype_name(tensor.data_type)
    if not dtype or min(shape, default=0) < 0:
        kinds = {number: kind for kind, number in onnx.TensorProto.DataType.items()}
        kind = kinds.get(tensor.data_type, tensor.data_type)
        raise ModelFileError(f"tensor {name!a} of {kind} and shape {shape} is not supported")
    if tensor.HasField("segment"):
        raise ModelFileError(f"tensor {name!a} comes in segments, which is not supported")
    size = math.prod(shape)
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        entries = {entry.key: entry.value for entry in tensor.external_data}
        raw = _external(name, entries, size * np.dtype(dtype).itemsize, folder)
    elif tensor.HasField("raw_data"):
        raw = tensor.raw_data
    else:
        held = sum(
            len(getattr(tensor, key))
            for key in ("float_data", "double_data", "int32_data", "int64_data", "uint64_data")
        )
        if held != size:
            raise ModelFileError(f"tensor {name!a} of shape {shape} holds {held} numbers")
        try:
            return onnx.numpy_helper.to_array(tensor)
        except (TypeError, ValueError) as error:
            raise ModelFileError(f"tensor {name!a}: {error}") from error
    if len(raw) != size * np.dtype(dtype).itemsize:
        raise ModelFileError(f"tensor {name!a} of {dtype} {shape} holds {len(raw)} bytes")
    return np.frombuffer(raw, np.dtype(dtype).newbyteorder("<")).reshape(shape).astype(dtype)


def _external(name: str, entries: Mapping[str, str], size: int, folder: str) -> bytes:
    """Read a tensor's bytes from a file beside the model."""
    location = entries.get("location", "")
    if not location or os.path.basename(location) != location or location in (".", ".."):
        raise ModelFileError(
            f"tensor {name!a} is in the file {location!a}, which does not lie beside the model"
        )
    try:
        offset, length = int(entries.get("offset", 0)), int(entries.get("length", size))
    except ValueError as error:
        raise ModelFileError(f"tensor {name!a}: malformed place of its data: {error}") from error
    path = os.path.join(folder, location)
    if os.path.islink(path):
        raise ModelFileError(f"tensor {name!a} is in {location!a}, which is a symbolic link")
    with open_regular(path) as file:
        held = os.fstat(file.fileno()).st_size
        if length != size or offset < 0 or offset + length > held:
            raise ModelFileError(
                f"tensor {name!a}: expected {size} bytes at {offset} of {location!a}, which has "
                f"{held} bytes, but {length} are announced"
            )
        file.seek(offset)
        return file.read(length)
