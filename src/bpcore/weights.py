"""Weights from other libraries, and for them: PyTorch's dicts, Keras' lists, safetensors files.

A weight of shape (n_in, n_out), as here and in Keras, is in layout "in_out"; PyTorch keeps its
transpose, "out_in".
"""

import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from bpcore.checks import as_array, choose
from bpcore.errors import ModelFileError, ShapeError
from bpcore.files import open_regular
from bpcore.tensorfile import Kinds, kinds_of, read_header, read_tensors

if TYPE_CHECKING:
    from bpcore.network import Network

LAYOUTS = ("in_out", "out_in")


def load_weights(net: "Network", weights: Any, layout: str) -> None:
    """Set all parameters of a network, or none; see `Network.load_weights`."""
    choose(layout, ("auto", *LAYOUTS), "layout")
    if isinstance(weights, str | os.PathLike):
        weights, layout = _read(net, weights, layout)
    matched = _matched(net, weights)
    arrays = {name: _plain(net, value, label) for name, (label, value) in matched.items()}
    labels = {name: label for name, (label, _) in matched.items()}
    layout = _layout(net, arrays, labels, layout)
    parts = []
    for name in net.parameter_arrays():
        array = arrays[name]
        parts.append((array.T if layout == "out_in" else array).ravel())
    net.parameters = np.concatenate(parts)


def get_weights(net: "Network", layout: str) -> dict[str, np.ndarray]:
    """Return copies of the parameters; see `Network.get_weights`."""
    choose(layout, LAYOUTS, "layout")
    return {
        name: np.array(array.T if layout == "out_in" else array, order="C")
        for name, array in net.parameter_arrays().items()
    }


def _read(
    net: "Network", path: "str | os.PathLike[str]", layout: str
) -> tuple[Mapping[str, np.ndarray], str]:
    """Return the arrays of a safetensors file, and their layout where the file is bpcore's own."""
    from bpcore.checkpoint import load

    with open_regular(path) as file:
        try:
            head, header = read_header(file)
            if "bpcore" not in header.pop("__metadata__", {}):
                return read_tensors(file, head, header, _kinds(net, header)), layout
        except ModelFileError as error:
            raise ModelFileError(f"{os.fsdecode(path)}: {str(error)[:500]}") from error.__cause__
    return load(path).parameter_arrays(), "in_out" if layout == "auto" else layout


def _kinds(net: "Network", header: dict) -> Kinds:
    """Return what a file must hold; its arrays are in no order, so only names count."""
    own = net.parameter_arrays()
    if header.keys() != own.keys():
        raise ModelFileError(
            f"the arrays are named {', '.join(map(ascii, header))}, and not as the network's, "
            f"{', '.join(own)}; give a dict of them in order"
        )
    return kinds_of(header)


def _matched(net: "Network", weights: Any) -> dict[str, tuple[str, Any]]:
    """Return for each parameter array of the network what it is called there, and its value."""
    own = list(net.parameter_arrays())
    if isinstance(weights, Mapping):
        given = {name: (f"weights[{name!r}]", value) for name, value in weights.items()}
    elif isinstance(weights, list | tuple):
        given = {i: (f"weights[{i}]", value) for i, value in enumerate(weights)}
    else:
        raise TypeError(
            "weights must be a dict of arrays, a list of arrays or the path of a safetensors file, "
            f"got {type(weights).__name__}"
        )
    if given.keys() == set(own):
        return {name: given[name] for name in own}
    if len(given) != len(own):
        names = f" ({', '.join(map(str, given))})" if isinstance(weights, Mapping) else ""
        raise ValueError(
            f"weights holds {len(given)} arrays{names}, but the network has {len(own)}: "
            f"{', '.join(own)}"
        )
    _check_names(own, list(given))
    return dict(zip(own, given.values(), strict=True))


def _check_names(own: list[str], given: list[Any]) -> None:
    """Refuse names of which some are the network's, unless each of these stands where it belongs.

    In a Sequential of PyTorch that has more layers all numbers may be larger, so the network's too
    stand elsewhere; but they ascend.
    """
    if all(name not in own or name == own[i] for i, name in enumerate(given)):
        return
    matches = [match for name in given if (match := _NUMBERED.fullmatch(str(name)))]
    numbers = [int(match[1]) for match in matches]
    if len(numbers) == len(given) and numbers == sorted(numbers):
        return
    unknown = ", ".join(ascii(name) for name in given if name not in own)
    missing = ", ".join(name for name in own if name not in given)
    raise ValueError(
        f"weights holds names of the network, not in its order, and others: {unknown}. Call these "
        f"as the network does, {missing}, or give a list of arrays in order"
    )


_NUMBERED = re.compile(r"(\d{1,9})\.(weight|bias)")  # as in a Sequential


def _plain(net: "Network", value: Any, label: str) -> np.ndarray:
    """Return a finite array of the network's dtype; a tensor may be one that requires grad."""
    if callable(detach := getattr(value, "detach", None)):
        value = detach()
    array = as_array(value, label, net.dtype)
    finite = np.isfinite(array)
    if not finite.all():
        place = tuple(map(int, np.argwhere(~finite)[0]))
        raise ValueError(f"{label} holds {array[place]} at {place}; weights must be finite")
    return array


def _layout(
    net: "Network", arrays: Mapping[str, np.ndarray], labels: Mapping[str, str], layout: str
) -> str:
    """Return the one layout in which all weights fit; shapes that tell decide for the others."""
    wanted = LAYOUTS if layout == "auto" else (layout,)
    said: dict[str, str] = {}  # layout -> a weight that has it and not the other
    undecided = ""
    for name, view in net.parameter_arrays().items():
        found, label = arrays[name].shape, labels[name]
        shapes = {"in_out": view.shape, "out_in": view.shape[::-1]}
        fits = [each for each in wanted if found == shapes[each]]
        if not fits:
            expected = " or ".join(dict.fromkeys(str(shapes[each]) for each in wanted))
            raise ShapeError(f"{label} has shape {found}, but {name} of the network is {expected}")
        if view.ndim == 2 and len(fits) == 1:
            said[fits[0]] = label
        elif view.ndim == 2 and view.size > 1:
            undecided = label
    if layout != "auto":
        return layout
    if len(said) == 2:
        raise ShapeError(
            f"{said['in_out']} has the shape (n_in, n_out) and {said['out_in']} (n_out, n_in); "
            "layout='auto' takes one or the other for all"
        )
    if undecided and not said:
        raise ValueError(
            f"{undecided} is square, so its shape does not say which side the inputs are on; give "
            "layout='out_in' for weights of PyTorch, 'in_out' for those of Keras and bpcore"
        )
    return next(iter(said), "in_out")
