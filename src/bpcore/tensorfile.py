"""Read and write safetensors files, believing nothing that a file says of itself.

The package `safetensors` writes and decodes the tensors. What it leaves open is checked here: keys
that appear twice, and whether the file really has the size that its header announces, before
memory is asked for. Imports that would slow ``import bpcore`` wait until they are needed.
"""

import math
import os
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np

from bpcore.errors import ModelFileError

__all__ = [
    "Kinds",
    "Shapes",
    "encode_tensors",
    "format_object",
    "kinds_of",
    "parse_object",
    "read_all",
    "read_header",
    "read_tensors",
]

Shapes = dict[str, tuple[int, ...]]
Kinds = dict[str, tuple[np.dtype, tuple[int, ...]]]
"""Dtype and shape of each array."""

_HEADER_LIMIT = 16 * 2**20  # JSON takes some thirty times its length when it is parsed
_TYPES = {"float32": "F32", "float64": "F64", "int64": "I64", "float16": "F16"}


def encode_tensors(arrays: Mapping[str, np.ndarray], metadata: dict[str, str]) -> bytes:
    """Return the content of a safetensors file with arrays of float32, float64 or int64."""
    from safetensors.numpy import save

    data = save(dict(arrays), metadata)
    if (length := int.from_bytes(data[:8], "little")) > _HEADER_LIMIT:
        raise ValueError(f"a header of {length} bytes is too long, {_HEADER_LIMIT} are the limit")
    return data


def read_header(file: BinaryIO) -> tuple[bytes, dict]:
    """Read the length and the JSON that open a safetensors file: as bytes, and parsed."""
    size = os.fstat(file.fileno()).st_size
    start = file.read(9)
    length = int.from_bytes(start[:8], "little")
    if start[8:] != b"{":
        raise ModelFileError("not a safetensors file: no JSON header at byte 8")
    if length > _HEADER_LIMIT:
        raise ModelFileError(
            f"not a safetensors file, or an oversized header: {length} bytes are announced, at "
            f"most {_HEADER_LIMIT} are read"
        )
    if length > size - 8:
        raise ModelFileError(f"truncated: a header of {length} bytes in a file of {size}")
    head = start + file.read(length - 1)
    header = parse_object(head[8:], "not a safetensors file: the header")
    if not all(isinstance(entry, dict) for entry in header.values()):
        raise ModelFileError("not a safetensors file: an entry of the header is not an object")
    return head, header


def kinds_of(header: dict) -> Kinds:
    """Return dtype and shape of each tensor as the header says, which `read_tensors` verifies."""
    dtypes = {code: np.dtype(name) for name, code in _TYPES.items()}
    kinds = {}
    for name, entry in header.items():
        if (code := entry.get("dtype")) not in dtypes:
            known = ", ".join(dtypes)
            raise ModelFileError(f"tensor {name!a}: dtype {code!a} is none of {known}")
        shape = entry.get("shape")
        if not isinstance(shape, list) or not all(type(n) is int and n >= 0 for n in shape):
            raise ModelFileError(f"tensor {name!a}: {shape!a} is no shape")
        kinds[name] = (dtypes[code], tuple(shape))
    return kinds


def read_tensors(file: BinaryIO, head: bytes, header: dict, kinds: Kinds) -> dict[str, np.ndarray]:
    """Read the tensors, which must be those that are expected and fill the file."""
    from safetensors import SafetensorError, deserialize

    for problem, names in [("missing", kinds.keys() - header), ("extra", header.keys() - kinds)]:
        if names:
            raise ModelFileError(f"{problem} tensors: {', '.join(map(ascii, sorted(names)))}")
    for name, (dtype, shape) in kinds.items():
        if (found := header[name].get("shape")) != list(shape):
            raise ModelFileError(f"tensor {name!a}: expected shape {shape}, found {found!a}")
        if (found := header[name].get("dtype")) != _TYPES[dtype.name]:
            raise ModelFileError(f"tensor {name!a}: expected dtype {dtype}, found {found!a}")
    size = os.fstat(file.fileno()).st_size
    expected = len(head)
    expected += sum(dtype.itemsize * math.prod(shape) for dtype, shape in kinds.values())
    if size != expected:
        problem = "truncated" if size < expected else "trailing bytes"
        raise ModelFileError(f"{problem}: expected {expected} bytes, the file has {size}")
    # Not a memory map: a file cut short meanwhile would kill the process.
    file.seek(0)
    data = file.read(size)
    if len(data) != size or not data.startswith(head):
        raise ModelFileError("changed while it was being read")
    try:
        tensors = dict(deserialize(data))
    except SafetensorError as error:
        raise ModelFileError(f"not a valid safetensors file: {error}") from error
    return {
        name: np.frombuffer(tensors[name]["data"], dtype.newbyteorder("<"))
        .reshape(shape)
        .astype(dtype)
        for name, (dtype, shape) in kinds.items()
    }


def read_all(file: BinaryIO) -> dict[str, np.ndarray]:
    """Read every tensor that a safetensors file has, its metadata left out."""
    head, header = read_header(file)
    header.pop("__metadata__", None)
    return read_tensors(file, head, header, kinds_of(header))


def format_object(value: dict) -> str:
    """Return a dict as JSON; NumPy scalars and arrays become numbers and lists."""
    import json

    def plain(value: object) -> object:
        if isinstance(value, np.generic | np.ndarray):
            return value.tolist()
        raise TypeError(f"JSON knows no {type(value).__name__}")

    return json.dumps(value, allow_nan=False, default=plain)


def parse_object(text: bytes | str, what: str) -> dict:
    """Parse a JSON object in which no key appears twice and every number is finite."""
    import json

    try:
        text = text.decode() if isinstance(text, bytes) else text
        hooks = {"parse_float": _finite_float, "parse_constant": _finite_float}
        value = json.loads(text, object_pairs_hook=_unique, **hooks)
    except (ValueError, RecursionError) as error:
        raise ModelFileError(f"{what} is not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise ModelFileError(f"{what} is not a JSON object")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict:
    result: dict = {}
    for key, value in pairs:
        if key in result:
            raise ValueError(f"duplicate key {key!a}")
        result[key] = value
    return result


def _finite_float(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(f"{text} is not finite")
    return value
