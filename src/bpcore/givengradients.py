"""Gradients as learners hand them in: flat, in a list, by name, or computed when asked for."""

import inspect
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from bpcore.checks import as_array
from bpcore.errors import ShapeError
from bpcore.layers import Dense
from bpcore.matching import Given
from bpcore.truepass import Right

if TYPE_CHECKING:
    from bpcore.network import Network

_NOISE = {4: 2e-6, 8: 1e-14}
"""By the size of a number: less of what was added up is rounding."""

_SHORT = re.compile(r"d?([Wwb])_?(\d+)")
"""Names such as W1 and db_2."""


class GivenArrays:
    """The arrays that were given, by the names of `net.parameter_arrays`; None where missing.

    Attributes
    ----------
    arrays : dict of str to ndarray or None
        As they were given, in float64.
    fitted : dict of str to ndarray or None
        In the shapes of the parameters.
    transposed, broadcast, columns : set of str
        Those whose shape is the transposed one, those that had to be broadcast, and among them
        those with a column for each target.
    itemsize : int
        Of the least precise array.
    """

    def __init__(self, net: "Network", gradients: Any, X: Any, y: Any) -> None:
        if callable(gradients):
            gradients = _call(gradients, net, X, y)
        parameters = net.parameter_arrays()
        self.itemsize = 8
        self.transposed: set[str] = set()
        self.broadcast: set[str] = set()
        self.columns: set[str] = set()
        self.arrays: dict[str, np.ndarray | None] = {}
        self.fitted: dict[str, np.ndarray | None] = {}
        self._n_rows = len(X)
        self._last = list(parameters)[-2:]
        for name, value in _by_name(gradients, parameters).items():
            array = None if value is None else self._read(value, name)
            self.arrays[name] = array
            self.fitted[name] = None if array is None else self._fit(array, name, parameters[name])

    def _read(self, value: Any, name: str) -> np.ndarray:
        dtype = getattr(value, "dtype", None)
        if isinstance(dtype, np.dtype) and dtype.kind == "f":
            self.itemsize = min(self.itemsize, dtype.itemsize)
        return as_array(value, f"the gradient of {name}").astype(float)

    def _fit(self, array: np.ndarray, name: str, parameter: np.ndarray) -> np.ndarray:
        """Return an array in its parameter's shape, or raise ShapeError."""
        shape = parameter.shape
        if array.shape == shape:
            return array
        if len(shape) == 2 and array.shape == shape[::-1]:
            self.transposed.add(name)
            return array.T
        if array.size == parameter.size and _squeezed(array.shape) == _squeezed(shape):
            return array.reshape(shape)
        if name in self._last and array.shape == (*shape[:-1], self._n_rows) and shape[-1] == 1:
            self.broadcast.add(name)  # one column for each target, and each with its penalty
            self.columns.add(name)
            return array.mean(axis=-1, keepdims=True)
        try:
            fitted = np.broadcast_to(array, shape)
        except ValueError:
            self._refuse(array, name, shape)
        self.broadcast.add(name)
        return np.array(fitted)

    def _refuse(self, array: np.ndarray, name: str, shape: tuple[int, ...]) -> None:
        hint = ""
        if len(shape) == 1 and array.shape == (self._n_rows, *shape):
            hint = ": is it still to be summed over the rows?"
        elif array.shape == (*shape[:-1], self._n_rows) and shape[-1] == 1:
            hint = (
                ", one column for each row: were targets of shape (n,) broadcast against "
                "predictions of shape (n, 1)?"
            )
        elif len(shape) == 2 and array.shape == (self._n_rows, *shape):
            hint = ": is it still to be summed over the rows?"
        raise ShapeError(f"the gradient of {name} has shape {array.shape}, expected {shape}{hint}")

    def by_layer(self, net: "Network", right: list[Right]) -> list[Given]:
        """What was given for each dense layer; what is but rounding is 0."""
        found: list[Given] = []
        itemsize = min(self.itemsize, net.dtype.itemsize)
        for name, layer in zip(net.names, net.layers, strict=True):
            if isinstance(layer, Dense):
                key = f"{name}.weight"
                bias = self.fitted.get(f"{name}.bias")
                moved = key in self.transposed
                size = right[len(found)]
                weight = _heard(_finite(self.fitted[key]), size.weight_size, itemsize)
                bias = _heard(_finite(bias), size.bias_size, itemsize)
                found.append(Given(weight, bias, layer.has_bias, moved))
        return found

    def refuse_broadcast(self, explained: set[str], parameters: dict[str, np.ndarray]) -> None:
        """Raise ShapeError for arrays of another shape, unless a mistake explains the shape."""
        for name in self.broadcast - explained:
            self._refuse(self.arrays[name], name, parameters[name].shape)


def _finite(array: np.ndarray | None) -> np.ndarray | None:
    """What can be matched: an array with nan or infinities matches nothing."""
    if array is None or np.isfinite(array).all():
        return array
    return np.full(array.shape, np.nan)


def _heard(array: np.ndarray | None, size: np.ndarray, itemsize: int) -> np.ndarray | None:
    """An array, or zeros if it is less than the rounding of what was added up."""
    if array is not None and np.abs(array).max() <= _NOISE[max(itemsize, 4)] * size.max():
        return np.zeros_like(array)
    return array


def _call(gradients: Any, net: "Network", X: Any, y: Any) -> Any:
    """Call with nothing, or with (X, y) or (net, X, y) if it asks for two or three arguments."""
    try:
        signature = inspect.signature(gradients)
    except (TypeError, ValueError):
        return gradients()
    required = [
        p
        for p in signature.parameters.values()
        if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    return gradients(*{2: (X, y), 3: (net, X, y)}.get(len(required), ()))


def _by_name(gradients: Any, parameters: dict[str, np.ndarray]) -> dict[str, Any]:
    """Sort what was given to the parameters' names."""
    names = list(parameters)
    if isinstance(gradients, Mapping):
        return _from_mapping(gradients, names)
    if isinstance(gradients, np.ndarray) and gradients.dtype != object:
        return _from_flat(gradients, parameters)
    try:
        pieces = list(gradients)
    except TypeError:
        raise TypeError(
            "gradients must be a flat array, a list of arrays, a dict of names or a callable that "
            f"returns one, got {type(gradients).__name__}"
        ) from None
    in_pairs = len(pieces) * 2 == len(names) > 2
    if in_pairs and all(isinstance(pair, tuple | list) and len(pair) == 2 for pair in pieces):
        pieces = [array for pair in pieces for array in pair]
    numbers = len(pieces) == sum(array.size for array in parameters.values())
    if numbers and all(isinstance(piece, float | int) for piece in pieces):
        return _from_flat(np.asarray(pieces), parameters)
    if len(pieces) != len(names):
        raise ShapeError(
            f"gradients has {len(pieces)} arrays, expected {len(names)}: {', '.join(names)} "
            "(None stands for one that is missing)"
        )
    _refuse_reversed(pieces, parameters)
    return dict(zip(names, pieces, strict=True))


def _refuse_reversed(pieces: list[Any], parameters: dict[str, np.ndarray]) -> None:
    """Raise ShapeError if the arrays fit in the order from the output back only."""
    shapes = [_squeezed(getattr(piece, "shape", ())) for piece in pieces]
    wanted = [_squeezed(array.shape) for array in parameters.values()]
    layers = dict.fromkeys(name.rpartition(".")[0] for name in parameters)
    by_layer = [
        _squeezed(parameters[name].shape)
        for layer in reversed(layers)
        for name in parameters
        if name.rpartition(".")[0] == layer
    ]
    # Transposed, one by one, they fit too if there are no biases.
    fit = all(shape in (own, own[::-1]) for shape, own in zip(shapes, wanted, strict=True))
    if not fit and shapes in (wanted[::-1], by_layer):
        raise ShapeError(
            "gradients go from the output back, as their shapes show; expected them from the input "
            f"on: {', '.join(parameters)}"
        )


def _squeezed(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(size for size in shape if size != 1)


def _from_mapping(gradients: Mapping[str, Any], names: list[str]) -> dict[str, Any]:
    plain: dict[str, str] = {}
    count = 0
    for name in names:
        count += name.endswith(".weight")
        plain[("W" if name.endswith(".weight") else "b") + str(count)] = name
    found: dict[str, list[str]] = {}
    for key in gradients:
        short = _SHORT.fullmatch(str(key))
        name = plain.get(short[1].replace("w", "W") + short[2], key) if short else key
        found.setdefault(key if key in names else name, []).append(key)
    renamed = {name: gradients[_gradient_key(name, keys)] for name, keys in found.items()}
    unknown = [key for key in renamed if key not in names]
    if unknown:
        raise ValueError(
            f"gradients has {unknown[0]!r}, but the network's arrays are {', '.join(names)} "
            f"(or {', '.join(plain)})"
        )
    missing = [name for name in names if name not in renamed]
    if missing:
        raise ValueError(
            f"gradients lacks {', '.join(missing)}; give None for a gradient that is missing"
        )
    return {name: renamed[name] for name in names}


def _gradient_key(name: str, keys: list[str]) -> str:
    """Of the keys for one array that of its gradient: beside W1, which may be the weight, dW1."""
    if len(keys) == 1:
        return keys[0]
    # A layer of the network may be named "dense", which is no derivative.
    derivatives = [key for key in keys if key != name and str(key).startswith("d")]
    if len(derivatives) != 1:
        first, second = (derivatives or keys)[:2]
        raise ValueError(f"gradients has {first!r} and {second!r}, both for {name}")
    return derivatives[0]


def _from_flat(flat: np.ndarray, parameters: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    total = sum(array.size for array in parameters.values())
    if len(parameters) == 1 and flat.ndim == 2:
        return {next(iter(parameters)): flat}
    if flat.shape != (total,):
        raise ShapeError(
            f"gradients has shape {flat.shape}, expected ({total},), or a list of arrays"
        )
    found, start = {}, 0
    for name, array in parameters.items():
        found[name] = flat[start : start + array.size].reshape(array.shape)
        start += array.size
    return found
