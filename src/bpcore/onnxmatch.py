"""Find a form, such as the nodes that make up a SiLU, in an ONNX graph."""

import math
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np

from bpcore.errors import ModelFileError
from bpcore.onnxforms import Form
from bpcore.onnxgraph import Graph, Node

__all__ = ["Flow", "Match", "Template", "find"]

_COMMUTATIVE = {"Add", "Mul", "Max", "Min"}
_CONSTANT_TOLERANCE = 1e-6  # PyTorch rounds sqrt(2) to float32
_INPUT, _PARAMETER = "input", "parameter"


class Flow:
    """The nodes between the input and the output that is wanted, and the constants.

    Attributes
    ----------
    source, target : str
        The tensors to go from and to: of several outputs the one of real numbers, and what goes
        into ZipMap, which would make it a list of dictionaries.
    constants : dict of str to ndarray
    unused : list of Node
        Those that nobody has taken yet.
    """

    def __init__(self, graph: Graph) -> None:
        self.constants = dict(graph.constants)
        self.producers: dict[str, Node] = {}
        for node in graph.nodes:
            for name in filter(None, node.outputs):
                if name in self.producers or name in self.constants:
                    raise ModelFileError(f"{node} makes {name!a}, which is there already")
                self.producers[name] = node
        for node in graph.nodes:
            if (value := self._evaluated(node)) is not None:
                self.constants[node.outputs[0]] = value
        self.target = self._target(graph)
        self.unused = self._needed()
        inputs = {value.name for value in graph.inputs}
        used = {name for node in self.unused for name in node.inputs if name in inputs}
        if len(used) != 1:
            raise ModelFileError(f"expected one input, found {sorted(used)!a}")
        (self.source,) = used
        self._consumers: dict[str, list[Node]] = defaultdict(list)
        for node in self.unused:
            for name in dict.fromkeys(node.inputs):
                self._consumers[name].append(node)

    def consumers(self, name: str) -> list[Node]:
        """The nodes that take a tensor and lead to the output."""
        return self._consumers.get(name, [])

    def take(self, nodes: list[Node]) -> str:
        """Mark nodes as understood, and return the output of the last."""
        taken = {id(node) for node in nodes}
        self.unused = [node for node in self.unused if id(node) not in taken]
        return nodes[-1].outputs[0]

    def _evaluated(self, node: Node) -> np.ndarray | None:
        """The value of a node without inputs, or of one that only moves a constant."""
        if node.domain or not node.outputs:
            return None
        if node.op == "Constant":
            for key in ("value", "value_float", "value_floats", "value_int", "value_ints"):
                if key in node.attributes:
                    value = node.attributes[key]
                    kind = np.float32 if "float" in key else np.int64
                    return value if key == "value" else np.array(value, kind)
            raise ModelFileError(f"{node} has no value of numbers")
        constant = self.constants.get(node.inputs[0]) if node.inputs else None
        if constant is None:
            return None
        if node.op == "Transpose" and constant.ndim == 2:
            return constant.T if node.attributes.get("perm", [1, 0]) == [1, 0] else constant
        if node.op == "Identity":
            return constant
        if node.op == "Cast" and node.attributes.get("to") in (1, 11):
            return constant.astype(np.float32 if node.attributes["to"] == 1 else np.float64)
        return None

    def _target(self, graph: Graph) -> str:
        real = [v.name for v in graph.outputs if v.dtype in ("float32", "float64")]
        if not real:
            makers = [self.producers.get(v.name) for v in graph.outputs]
            real = [n.inputs[0] for n in makers if n is not None and n.op == "ZipMap" and n.inputs]
        if len(real) != 1:
            outputs = [v.name for v in graph.outputs]
            raise ModelFileError(f"expected one output of real numbers among {outputs!a}")
        return real[0]

    def _needed(self) -> list[Node]:
        """The nodes that the target depends on, constants aside, in no particular order."""
        needed: dict[int, Node] = {}
        waiting = [self.target]
        while waiting:
            name = waiting.pop()
            node = self.producers.get(name)
            if node is not None and name not in self.constants and id(node) not in needed:
                needed[id(node)] = node
                waiting.extend(node.inputs)
        return list(needed.values())[::-1]


class Template:
    """A form written down: operators, and where each one's inputs come from."""

    def __init__(self, form: Form, dtype: np.dtype) -> None:
        self.largest = float(np.finfo(dtype).max)
        self.nodes: list[tuple[str, tuple[Any, ...]]] = []
        form(self, _INPUT, _PARAMETER)

    def __call__(self, op: str, *inputs: Any) -> int:
        self.nodes.append((op, inputs))
        return len(self.nodes) - 1

    def __len__(self) -> int:
        return len(self.nodes)


@dataclass
class Match:
    """The nodes that are a form, the last of them, and the form's parameter if it has one."""

    nodes: list[Node]
    parameter: float | None

    @property
    def last(self) -> Node:
        """The node that gives the form's value."""
        return self.nodes[-1]


def find(template: Template, flow: Flow, x: str) -> Match | None:
    """Return the nodes of the form that begins at `x`, if all uses of `x` belong to it."""
    match = _extend(template, flow, {_INPUT: x}, [])
    if match is None:
        return None
    inside = {id(node) for node in match.nodes}
    for name in (x, *(node.outputs[0] for node in match.nodes[:-1])):
        if name == flow.target or any(id(n) not in inside for n in flow.consumers(name)):
            return None
    return match


def _extend(template: Template, flow: Flow, known: dict[Any, Any], taken: list[Node]):
    """Find a node for the template's next one, and so on; go back where that fails."""
    if len(taken) == len(template):
        return Match(taken, known.get(_PARAMETER))
    op, inputs = template.nodes[len(taken)]
    tensors = [known[i] for i in inputs if i in known and i != _PARAMETER and _is_tensor(i)]
    for node in flow.consumers(tensors[0]):
        if node.op != op or node.domain or len(node.inputs) != len(inputs) or node in taken:
            continue
        orders = [node.inputs]
        if op in _COMMUTATIVE:
            orders.append(node.inputs[::-1])
        for order in orders:
            more = _unify(flow, inputs, order, known)
            if more is not None:
                more[len(taken)] = node.outputs[0]
                if (match := _extend(template, flow, more, [*taken, node])) is not None:
                    return match
    return None


def _is_tensor(i: Any) -> bool:
    return i == _INPUT or type(i) is int


def _unify(flow: Flow, wanted: Any, found: list[str], known: dict[Any, Any]):
    """Return what is known if the inputs found are those wanted, else None."""
    known = dict(known)
    for want, name in zip(wanted, found, strict=True):
        if _is_tensor(want):
            if known[want] != name:
                return None
            continue
        array = flow.constants.get(name)
        if array is None or array.size != 1 or array.dtype.kind != "f":
            return None
        value = float(array.reshape(()))
        if want == _PARAMETER:
            want = known.setdefault(_PARAMETER, value)
        if not math.isclose(value, want, rel_tol=_CONSTANT_TOLERANCE):
            return None
    return known
