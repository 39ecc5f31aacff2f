"""`bpcore explain`: which of somebody's gradients are right, and which mistake made the others."""

import argparse
from typing import Any

import numpy as np

import bpcore
from bpcore.arrayfiles import read_array, read_arrays
from bpcore.commands.batches import read_batch
from bpcore.commands.options import add_data, add_json, add_model, number, whole
from bpcore.commands.report import Report
from bpcore.errors import ModelFileError
from bpcore.files import open_regular
from bpcore.tablefiles import STANDARD_INPUT, read_bytes
from bpcore.tables import InputError, shorten
from bpcore.tensorfile import read_all

__all__ = ["EPILOG", "add_options", "run"]

EPILOG = """\
GRADIENTS is what your backward pass gives for the weights of MODEL on the rows
of DATA:
  .npz, .safetensors  arrays dW1, db1, dW2, db2, ... or 0.weight, 0.bias, ...
  .npy                all in one flat array: dW1 row by row, db1, dW2, ...
  - or anything else  the same as text, with spaces, commas or line breaks

Compute on a batch that `bpcore check --save-batch` wrote: then X, y and the
weights are the same. For a table they are its first rows, in order, encoded as
the model does; the loss has the penalty l2/2 times the sum of squared weights.
Every code is explained in docs/mistakes.md.

examples:
  bpcore check bpcore-runs/iris-1 iris --rows 8 --save-batch batch.npz
  python mine.py                      # reads batch.npz, writes mine.npz
  bpcore explain bpcore-runs/iris-1 batch.npz mine.npz
  python mine.py --print | bpcore explain bpcore-runs/iris-1 batch.npz - --json

mine.py may begin with
  batch = numpy.load("batch.npz")
  X, y, W1, b1 = (batch[name] for name in ["X", "y", "W1", "b1"])
and end with
  numpy.savez("mine.npz", dW1=dW1, db1=db1, dW2=dW2, db2=db2, dW3=dW3, db3=db3)

exit codes: 0 all right; 1 something is wrong; 2 wrong input; 130 Ctrl-C
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add all options of `bpcore explain`."""
    add_model(parser)
    add_data(parser)
    parser.add_argument("gradients", metavar="GRADIENTS", help="a file of gradients, or -")
    parser.add_argument(
        "--rows", metavar="N", type=whole(1), help="the first N rows of DATA (default: all)"
    )
    parser.add_argument(
        "--learning-rate",
        metavar="X",
        type=number(0, above=True),
        help="that may be in the gradients already",
    )
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    """Judge gradients; 0 if all are right."""
    if [options.model, options.data, options.gradients].count("-") > 1:
        raise InputError("only one of MODEL, DATA and GRADIENTS can be standard input")
    batch = read_batch(options.model, options.data, options.format)
    gradients = _read_gradients(options.gradients)
    rows = slice(options.rows)
    try:
        found = bpcore.explain_gradients(
            batch.net,
            batch.x[rows],
            batch.y[rows],
            gradients,
            learning_rate=options.learning_rate,
        )
    except (ValueError, TypeError) as error:
        name = STANDARD_INPUT if options.gradients == "-" else options.gradients
        raise InputError(f"{name}: {error}") from None
    report = Report(options.json)
    report.text(str(found))
    report.put(
        ok=found.ok,
        rows=len(batch.x[rows]),
        mistakes=[_described(mistake) for mistake in found.mistakes],
        alternatives=[[_described(mistake) for mistake in other] for other in found.alternatives],
        unexplained=found.unexplained,
        suggestion=found.suggestion,
        arrays={
            name: {
                "verdict": verdict.verdict,
                "error": verdict.error,
                "ratio": verdict.ratio,
                "correlation": verdict.correlation,
                "note": verdict.note,
            }
            for name, verdict in found.arrays.items()
        },
    )
    report.end()
    return 0 if found.ok else 1


def _described(mistake: bpcore.Mistake) -> dict[str, Any]:
    fields = ("code", "layer", "parameter", "factor", "text", "meant", "used")
    return {name: getattr(mistake, name) for name in fields}


def _read_gradients(path: str) -> Any:
    """Return what `explain_gradients` takes."""
    if path.endswith(".safetensors"):
        with open_regular(path) as file:
            try:
                return read_all(file)
            except ModelFileError as error:
                raise InputError(f"{path}: {error}") from None
    name, data = read_bytes(path)
    if path.endswith(".npz"):
        arrays = read_arrays(name, data)
        in_order = [f"arr_{i}" for i in range(len(arrays))]  # of savez without names
        return [arrays[key] for key in in_order] if arrays.keys() == set(in_order) else arrays
    if path.endswith(".npy"):
        return read_array(name, data)
    try:
        words = data.decode().replace(",", " ").split()
    except UnicodeDecodeError:
        raise InputError(f"{name}: expected numbers as text, found other bytes") from None
    numbers = np.empty(len(words))
    for i, word in enumerate(words):
        try:
            numbers[i] = float(word)
        except ValueError:
            raise InputError(
                f"{name}: number {i + 1} is {shorten(word)}, expected numbers alone"
            ) from None
    return numbers
