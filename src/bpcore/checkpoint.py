"""Save a network to a safetensors file, and load it again.

The file holds each parameter array under its name in ``net.parameter_arrays()``, each array of
optimizer state as ``optimizer.<slot>``, and one metadata entry, ``bpcore``, whose text is JSON:

- ``format``: version of this description, an integer;
- ``bpcore``: version of the package that wrote the file;
- ``network``: layers, loss (of a `CustomLoss` only name and reduction), dtype, penalties,
  optimizer, generator state and ``net.metadata``;
- ``optimizer_step``, ``optimizer_epoch``: numbers of steps that the optimizer has taken, and of
  epochs that it has done in fits (0 in older files);
- ``fit``: only where a fit was interrupted, what finishes it (`bpcore.unfinished.Unfinished`):
  settings, position, the state of callbacks, and dtype and shape of its arrays, which are the
  tensors ``fit.<name>.array``.

Nothing in a file is trusted. A size is compared with what the file really holds before memory is
asked for, and no code is stored or run (no pickle).
"""

import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np

from bpcore import losses, optimizers
from bpcore.arguments import as_dtype, units, whole
from bpcore.customloss import CustomLoss
from bpcore.errors import ModelFileError
from bpcore.files import open_regular, replace_file
from bpcore.losses import Loss
from bpcore.network import Network
from bpcore.tensorfile import (
    Kinds,
    Shapes,
    encode_tensors,
    format_object,
    parse_object,
    read_header,
    read_tensors,
)
from bpcore.unfinished import DTYPES, Unfinished

__all__ = ["load", "save"]

_FORMAT = 1
_KEYS = {"format", "bpcore", "network", "optimizer_step"}
_MORE_KEYS = {"optimizer_epoch", "fit"}
_STEP_LIMIT = 2**53

# Exclusive upper bounds of the numbers in each bit generator's state. NumPy itself takes any
# position on trust and would then read beyond the generator's buffer.
_PCG64 = {"state": {"state": 2**128, "inc": 2**128}, "has_uint32": 2, "uinteger": 2**32}
_PHILOX = {"state": {"counter": [2**64] * 4, "key": [2**64] * 2}, "buffer": [2**64] * 4}
_GENERATORS = {
    "PCG64": _PCG64,
    "PCG64DXSM": _PCG64,
    "MT19937": {"state": {"key": [2**32] * 624, "pos": 625}},
    "Philox": {**_PHILOX, "buffer_pos": 5, "has_uint32": 2, "uinteger": 2**32},
    "SFC64": {"state": {"state": [2**64] * 4}, "has_uint32": 2, "uinteger": 2**32},
}


def save(net: Network, path: str | os.PathLike[str]) -> None:
    """Save a network, the state of its optimizer and its generator to one file.

    The file is written under a temporary name beside `path`, synced and renamed: after an error
    an older file at `path` is as it was.

    Parameters
    ----------
    net : Network
        The network. Its weights must be finite.
    path : str or os.PathLike
        File to write, by custom with the ending ``.safetensors``. An existing file keeps its
        permissions; of a symbolic link, the file that it points to is replaced.

    Raises
    ------
    OSError
        If the file cannot be written, or `path` is a directory, a device or a FIFO.
    ValueError
        If a weight is not finite, or something of the network cannot be written as JSON: a
        learning rate that is a function of the user's own, or an entry of ``net.metadata``.
    RuntimeError
        If another thread is training the network; a callback of the training may save it.

    Notes
    -----
    ``net.metadata`` is stored as JSON: NumPy scalars and arrays become numbers and lists, tuples
    become lists, and keys become strings.

    Examples
    --------
    >>> import os, tempfile
    >>> import bpcore
    >>> net = bpcore.mlp([4, 5, 3], rng=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "model.safetensors")
    ...     net.save(path)
    ...     same = bpcore.load(path)
    >>> bool((same.parameters == net.parameters).all())
    True
    """
    with net._exclusive:
        data = _encode(net)
    replace_file(path, data)


def load(path: str | os.PathLike[str], *, loss: "str | Loss | None" = None) -> Network:
    """Load a network that ``net.save`` has written.

    The network predicts, and trains on, to the same bits as the one that was saved.

    Parameters
    ----------
    path : str or os.PathLike
        File to read.
    loss : str or Loss, optional
        The network's loss instead of the one in the file. It must be given where that was a
        `CustomLoss`, whose functions no file holds; any loss will do to predict.

    Returns
    -------
    Network
        With its weights, optimizer and optimizer state, generator and metadata.

    Raises
    ------
    OSError
        If the file cannot be read, or `path` is a directory, a device or a FIFO.
    ModelFileError
        If the file is not a safetensors file, is damaged, or does not hold a bpcore network. The
        message names the file and what is wrong with it.
    ValueError
        If the file's loss was a `CustomLoss`, and `loss` is not given.

    Examples
    --------
    >>> import os, tempfile
    >>> import bpcore
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "model.safetensors")
    ...     bpcore.mlp([4, 5, 3], rng=0).save(path)
    ...     net = bpcore.load(path)
    >>> net.n_in, net.n_out
    (4, 3)
    """
    with open_regular(path) as file:
        try:
            return _decode(file, os.fsdecode(path), None if loss is None else losses.get(loss))
        except ModelFileError as error:
            # A message may quote the file, which may hold megabytes where a name should be.
            message = f"{os.fsdecode(path)}: {str(error)[:500]}"
            raise ModelFileError(message) from error.__cause__


def _encode(net: Network) -> bytes:
    """All bytes of the file; nothing is encoded that could not be loaded again."""
    from bpcore import __version__

    parameters = net.parameter_arrays()
    if (found := _non_finite(parameters)) is not None:
        raise ValueError(f"cannot save non-finite weights: {found}")
    document = {
        "format": _FORMAT,
        "bpcore": __version__,
        "network": net._config(),
        "optimizer_step": net._optimizer_step,
        "optimizer_epoch": net._optimizer_epoch,
    }
    arrays = {**parameters, **net._optimizer_tensors()}
    if (unfinished := net._unfinished) is not None:
        document["fit"], more = unfinished.encoded()
        arrays |= {f"fit.{name}.array": np.array(a, order="C") for name, a in more.items()}
    try:
        text = format_object(document)
        _check_generator(_read_description({"__metadata__": {"bpcore": text}})["network"]["rng"])
        return encode_tensors(arrays, {"bpcore": text})
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"cannot save the network, its generator or metadata: {error}") from error


def _decode(file: BinaryIO, path: str, loss: Loss | None) -> Network:
    """Read, check and build a network; what is the file's fault doesn't name it yet."""
    head, header = read_header(file)
    document = _read_description(header)
    network, fit = document["network"], document.get("fit")
    if loss is None:
        _check_loss(network.get("loss"), path)
    with _blaming_file():
        dtype = as_dtype(network["dtype"])
        parameters = _parameter_shapes(network)
        slots = _slot_shapes(network, parameters)
        _check_generator(network["rng"])
        kinds = {name: (dtype, shape) for name, shape in {**parameters, **slots}.items()}
        more = {} if fit is None else _fit_kinds(fit["arrays"])
    arrays = read_tensors(file, head, header, kinds | more)
    if (found := _non_finite({name: arrays[name] for name in parameters})) is not None:
        raise ModelFileError(f"non-finite weights: {found}")
    with _blaming_file():
        net = Network._from_config(network, loss)
        for name, array in net.parameter_arrays().items():
            array[...] = arrays[name]
        if net.optimizer is not None:
            state = (document["optimizer_step"], document.get("optimizer_epoch", 0))
            net._set_optimizer_state(tuple(arrays[name] for name in slots), *state)
        if fit is not None:
            rest = {name[len("fit.") : -len(".array")]: arrays[name] for name in more}
            net._interrupted = Unfinished.decoded(fit, rest, net.parameters)
        built = parse_object(format_object(net._config() | {"metadata": None}), "network")
    for key, said in network.items():  # what a constructor has overlooked or changed
        if key == "loss" and loss is not None:
            continue
        if key != "metadata" and not (key in built and _contains(built[key], said)):
            raise ModelFileError(f"malformed description of the network: {key!a} is not as written")
    return net


def _read_description(header: dict) -> dict:
    """Take bpcore's own text out of the header, and check all but the network and the fit."""
    text = header.pop("__metadata__", {}).get("bpcore")
    if not isinstance(text, str):
        raise ModelFileError("not a model of bpcore: its metadata has no text named 'bpcore'")
    document = parse_object(text, "the description of the network")
    version = document.get("format")
    if type(version) is not int or version != _FORMAT:
        raise ModelFileError(f"unknown format version {version!a}, expected {_FORMAT}")
    if document.keys() - _MORE_KEYS != _KEYS or not isinstance(document["bpcore"], str):
        raise ModelFileError(f"expected the keys {sorted(_KEYS)}, found {sorted(document)!a}")
    network = document["network"]
    if not isinstance(network, dict) or not isinstance(network.get("metadata"), dict):
        raise ModelFileError("the network and its metadata must be JSON objects")
    for name in ("optimizer_step", "optimizer_epoch"):
        number = document.get(name, 0)
        if type(number) is not int or not 0 <= number < _STEP_LIMIT:
            raise ModelFileError(f"{name} must be a whole number, found {number!a}")
    return document


def _check_loss(described: Any, path: str) -> None:
    """Refuse a loss that only its user can bring back; there is nothing wrong with the file."""
    if isinstance(described, dict) and described.get("type") == CustomLoss.__name__:
        name = str(described.get("name"))[:100]
        raise ValueError(
            f"{path}: the network's loss is a CustomLoss, {name!a}, whose functions no file holds; "
            "give it as bpcore.load(path, loss=...), or any other loss to predict only"
        )


def _fit_kinds(described: dict) -> Kinds:
    """Dtypes and shapes of the arrays that belong to an interrupted fit."""
    return {
        f"fit.{name}.array": (DTYPES[dtype], tuple(whole(n, name) for n in shape))
        for name, (dtype, shape) in described.items()
    }


def _parameter_shapes(network: dict) -> Shapes:
    """Names and shapes of the arrays that the described layers have."""
    shapes: Shapes = {}
    for index, layer in enumerate(network["layers"]):
        if layer["type"] == "Dense":
            prefix = index if layer["name"] is None else layer["name"]
            shape = units(layer["n_in"], "n_in"), units(layer["n_out"], "n_out")
            shapes[f"{prefix}.weight"] = shape
            if layer["bias"]:
                shapes[f"{prefix}.bias"] = shape[1:]
    return shapes


def _slot_shapes(network: dict, parameters: Shapes) -> Shapes:
    """Names and shapes of the optimizer's state: flat arrays, one entry a parameter."""
    if network["optimizer"] is None:
        return {}
    size = sum(math.prod(shape) for shape in parameters.values())
    names = optimizers.from_config(network["optimizer"]).slot_names
    return {f"optimizer.{name}": (size,) for name in names}


def _check_generator(state: dict) -> None:
    """Check a generator's state, without which NumPy may crash or repeat one number for ever."""
    name = state["bit_generator"]
    if name not in _GENERATORS:
        raise ValueError(f"unknown generator {name!a}, expected one of {', '.join(_GENERATORS)}")
    numbers = {key: value for key, value in state.items() if key != "bit_generator"}
    _check_limits(numbers, _GENERATORS[name], f"state of {name}")
    if name == "MT19937" and not any(state["state"]["key"]):
        raise ValueError("the key of MT19937 is all zeros")
    if name.startswith("PCG64") and state["state"]["inc"] % 2 == 0:
        raise ValueError(f"the increment of {name} is even")


def _check_limits(value: Any, limit: Any, where: str) -> None:
    if isinstance(limit, list) and isinstance(value, list):
        value, limit = dict(enumerate(value)), dict(enumerate(limit))
    if isinstance(limit, dict):
        if not isinstance(value, dict) or value.keys() != limit.keys():
            raise ValueError(f"{where} must have the entries {', '.join(map(str, limit))}")
        for key in limit:
            _check_limits(value[key], limit[key], f"{where}, {key}")
    elif type(value) is not int or not 0 <= value < limit:
        raise ValueError(f"{where} must be a whole number below {limit}, found {value!a}")


def _non_finite(arrays: Mapping[str, np.ndarray]) -> str | None:
    """Say where the first value is that is not finite, if there is one."""
    for name, array in arrays.items():
        if not (finite := np.isfinite(array)).all():
            index = tuple(map(int, np.argwhere(~finite)[0]))
            return f"tensor {name!a} has {array[index]} at {index}"
    return None


def _contains(built: Any, said: Any) -> bool:
    """Whether two JSON values agree; the first may have keys that an older file doesn't know."""
    if isinstance(said, dict) and isinstance(built, dict):
        return all(key in built and _contains(built[key], said[key]) for key in said)
    if isinstance(said, list) and isinstance(built, list):
        return len(built) == len(said) and all(map(_contains, built, said))
    return built == said


@contextmanager
def _blaming_file() -> Iterator[None]:
    """Whatever a constructor dislikes in a description read from a file is the file's fault."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        kind = type(error).__name__
        raise ModelFileError(f"malformed description of the network: {kind}: {error}") from error
