"""What a list of layers amounts to: names, widths, the description for C, and text for people."""

from collections.abc import Iterable, Sequence
from typing import Any

from bpcore import _core
from bpcore.dense import Dense
from bpcore.errors import ShapeError
from bpcore.layers import Activation, Dropout, Layer, Softmax


def named_layers(
    layers: Iterable[Layer | tuple[str, Layer]],
) -> tuple[tuple[str, ...], tuple[Layer, ...]]:
    """Return the names and the layers, checked; nameless layers are called by position."""
    found: dict[str, Layer] = {}
    seen: set[int] = set()
    for position, entry in enumerate(layers):
        name, layer = (
            entry if isinstance(entry, tuple) and len(entry) == 2 else (str(position), entry)
        )
        if not isinstance(layer, Layer):
            raise TypeError(
                f"layer {position} must be a layer or a (name, layer) pair, got {entry!r}"
            )
        if not isinstance(name, str) or not name or (name.isdigit() and name != str(position)):
            raise ValueError(f"a layer's name must be text and not a number, got {name!r}")
        if name in found:
            raise ValueError(f"two layers are named {name!r}")
        if id(layer) in seen:
            raise ValueError(f"{layer!r} is in the network twice; use a copy.deepcopy of it")
        found[name] = layer
        seen.add(id(layer))
    if not found:
        raise ValueError("a network needs at least one layer")
    return tuple(found), tuple(found.values())


def widths(names: Sequence[str], layers: Sequence[Layer]) -> tuple[int, int]:
    """The widths of input and output, with the layers checked against each other."""
    n_in, before = None, None
    for name, layer in zip(names, layers, strict=True):
        if not isinstance(layer, Dense):
            continue
        here = f"layer {name} ({layer!r})"
        if before is None:
            n_in = layer.n_in
        elif layer.n_in != before[1]:
            raise ShapeError(
                f"{before[0]} gives {before[1]} outputs, but {here} takes {layer.n_in}"
            )
        before = (here, layer.n_out)
    if n_in is None:
        raise ValueError("a network needs at least one Dense layer, which says how wide it is")
    return n_in, before[1]


def spec(layer: Layer) -> tuple[Any, ...]:
    """The layer as `_core.Plan` wants it."""
    if isinstance(layer, Dense):
        return ("dense", layer.n_in, layer.n_out, layer.has_bias)
    if isinstance(layer, Dropout):
        return ("dropout", layer.p)
    if isinstance(layer, Softmax):
        return ("softmax",)
    kernel = getattr(layer, "kernel", None)
    if kernel not in _core.activation_names():
        raise TypeError(f"{layer!r} has no kernel in C, so it cannot be part of a network")
    return ("activation", kernel, layer.parameter)


def next_activations(layers: Sequence[Layer]) -> list[str | None]:
    """For each layer the name of the activation that comes before the next dense layer, if any."""
    following: list[str | None] = []
    name: str | None = None
    for layer in reversed(layers):
        following.append(name)
        if isinstance(layer, Activation):
            name = layer.name
        elif isinstance(layer, Dense):
            name = None
    return following[::-1]


def table(names: Sequence[str], layers: Sequence[Layer], width: int) -> str:
    """Return a table of the layers of a network with `width` inputs."""
    rows = [("name", "layer", "output", "parameters", "arrays")]
    for name, layer in zip(names, layers, strict=True):
        width = layer.n_out if isinstance(layer, Dense) else width
        count, arrays = 0, ""
        if isinstance(layer, Dense):
            count = layer.n_parameters
            arrays = f"{name}.weight {(layer.n_in, layer.n_out)}"
            arrays += f", {name}.bias {(layer.n_out,)}" if layer.has_bias else ""
        rows.append((name, repr(layer), str(width), f"{count:,}", arrays))
    first, second, third, fourth, _ = (max(len(row[i]) for row in rows) for i in range(5))
    return "\n".join(
        f"{a:<{first}}  {b:<{second}}  {c:<{third}}  {d:>{fourth}}  {e}".rstrip()
        for a, b, c, d, e in rows
    )


class Text(str):
    """Text that a prompt shows as it prints."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)
