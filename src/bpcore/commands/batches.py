"""Rows as the network takes them: from a table, or from a file that holds them with the weights."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from bpcore.arrayfiles import arrays_bytes, read_arrays
from bpcore.commands.inputs import load, load_with_encoder, read
from bpcore.files import replace_file
from bpcore.tablefiles import format_of, read_bytes
from bpcore.tables import InputError

__all__ = ["Batch", "read_batch"]

MARK = "encoded"
"""The array that tells a batch from a table in an npz file."""


@dataclass
class Batch:
    """A network, and rows of input and target for it."""

    net: Any
    x: np.ndarray
    y: np.ndarray

    def save(self, path: str) -> None:
        """Write an npz file with the rows, the weights and the right gradients."""
        net = self.net
        loss, _ = net.loss_and_gradient(self.x, self.y)
        arrays = {"X": self.x.astype(net.dtype), "y": self.y, MARK: np.array(True)}
        arrays |= {"loss": np.array(loss), "l2": np.array(net.l2)}
        arrays |= short_names(net.parameter_arrays())
        arrays |= {f"d{name}": array for name, array in short_names(net.gradient_arrays()).items()}
        replace_file(path, arrays_bytes(arrays))


def read_batch(model: str, data: str, format: str | None) -> Batch:
    """Return the network and all rows of a table, or of a batch that was saved."""
    if data != "-" and (format or format_of(data)) == "npz":
        arrays = read_arrays(*read_bytes(data))
        if MARK in arrays:
            return _saved(load(model), data, arrays)
    net, encoder = load_with_encoder(model, data)
    table = read(data, encoder.text_columns, format)
    if len(table) == 0:
        raise InputError(f"{table.name}: there are no rows")
    x = encoder.encode_features(table, net.dtype)
    return Batch(net, x, encoder.encode_target(table, net.dtype))


def short_names(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return parameters under the names W1, b1, W2, ..."""
    found, count = {}, 0
    for name, array in arrays.items():
        is_weight = name.endswith(".weight")
        count += is_weight
        found[("W" if is_weight else "b") + str(count)] = array
    return found


def _saved(net: Any, path: str, arrays: dict[str, np.ndarray]) -> Batch:
    """Return a batch that was saved with these weights; with others its gradients are others."""
    for name, array in short_names(net.parameter_arrays()).items():
        if not np.array_equal(arrays.get(name, np.empty(0)), array):
            raise InputError(f"{path}: array {name!r} is not that of the model; save a batch anew")
    if not {"X", "y"} <= arrays.keys():
        raise InputError(f"{path}: has no arrays 'X' and 'y'")
    return Batch(net, arrays["X"], arrays["y"])
