"""The model and the table that a command is given."""

import os
import tempfile
from typing import Any

import bpcore
from bpcore.encoding import TableEncoder
from bpcore.errors import ModelFileError
from bpcore.tablefiles import STANDARD_INPUT, iris_path, read_bytes, read_table
from bpcore.tables import InputError, Table

__all__ = ["MODEL_FILE", "load", "load_with_encoder", "model_path", "read"]

MODEL_FILE = "model.safetensors"


def model_path(model: str) -> str:
    """Return the model's file: itself, or the one in a folder of a training."""
    return os.path.join(model, MODEL_FILE) if os.path.isdir(model) else model


def load(model: str) -> Any:
    """Return the network of a file, of the folder of a training, or of standard input ("-")."""
    if model != "-":
        return bpcore.load(model_path(model))
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, MODEL_FILE)
        with open(path, "wb") as file:
            file.write(read_bytes("-")[1])
        try:
            return bpcore.load(path)
        except ModelFileError as error:
            raise ModelFileError(str(error).replace(path, STANDARD_INPUT)) from None


def load_with_encoder(model: str, data: str = "") -> tuple[Any, TableEncoder]:
    """Return the network of a training, and how it takes a table."""
    if model == data == "-":
        raise InputError("MODEL and DATA cannot both be standard input")
    net, path = load(model), STANDARD_INPUT if model == "-" else model_path(model)
    if "table" not in net.metadata:
        raise InputError(f"{path}: was not written by `bpcore train`: it names no columns")
    try:
        encoder = TableEncoder.from_dict(net.metadata["table"])
    except ValueError as error:
        raise InputError(f"{path}: {error}") from None
    if (encoder.n_features, len(encoder.classes or [0])) != (net.n_in, net.n_out):
        raise InputError(f"{path}: the description of the table does not fit the network")
    return net, encoder


def read(data: str | None, text_columns: tuple[str, ...], format: str | None) -> Table:
    """Read the table; "iris" is the shipped one unless there is such a file."""
    if data is not None and (data != "iris" or os.path.isfile(data)):
        return read_table(data, text_columns, format)
    table = read_table(iris_path(), text_columns)
    table.name = "iris"
    return table
