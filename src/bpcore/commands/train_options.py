"""The options of `bpcore train`."""

import argparse
import os
from typing import Any

from bpcore.commands.options import (
    add_format,
    add_json,
    add_seed,
    fraction,
    names,
    number,
    one_of,
    whole,
)
from bpcore.layers import ACTIVATIONS
from bpcore.optimizers import Optimizer

__all__ = ["EPILOG", "SETTINGS", "add_options", "file_to_write"]

SETTINGS: dict[str, Any] = {
    "target": None,
    "task": "auto",
    "drop": [],
    "categorical": [],
    "test_fraction": 0.2,
    "hidden": [16, 16],
    "activation": "tanh",
    "dropout": 0.0,
    "loss": None,
    "l2": None,
    "dtype": "float64",
    "epochs": 200,
    "batch_size": 32,
    "optimizer": "adam",
    "learning_rate": 0.003,
    "patience": None,
    "seed": 0,
}
"""The options that decide what comes out, with their defaults.

The parser leaves out those that are not given: a training that is resumed has the settings that it
began with, and must know what was asked of it.
"""

EPILOG = """\
The first line of a CSV or TSV file names the columns (UTF-8; .gz will do). A
2-D .npy array has the columns x0, x1, ...; an .npz file has arrays X, of the
columns x0, x1, ..., and y, the target. Every column but the target is a
feature: numbers are standardised, text becomes an input of 0 or 1 for each
category. A part of the rows is held out, to measure the result.

The folder gets model.safetensors, history.csv and loss.png; an earlier model
there is replaced, and what was exported of it goes. Ctrl-C saves the model as
it is then; --resume goes on from there, to the same bits as if nothing had
happened.

examples (flowers.csv stands for a table of yours):
  bpcore train                             # iris, shipped with bpcore
  bpcore train iris --target petal_width   # a quantity
  bpcore train iris --target species --drop sepal_width --hidden 8 --epochs 50
  bpcore train flowers.csv --target species --patience 20 --out flowers
  cat flowers.csv | bpcore train - --target species --json
  bpcore train --resume flowers            # after Ctrl-C

exit codes: 0 trained; 1 the gradients are not proven, training diverged, or out
of memory; 2 wrong input; 130 Ctrl-C
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add all options of `bpcore train`."""
    parser.add_argument(
        "data",
        nargs="?",
        metavar="DATA",
        help="CSV, TSV, Parquet, .npy or .npz, or - for standard input "
        "(default: iris, shipped with bpcore)",
    )
    suppress = argparse.SUPPRESS
    _add_table(parser.add_argument_group("table", argument_default=suppress))
    _add_network(parser.add_argument_group("network", argument_default=suppress))
    _add_fit(parser.add_argument_group("training", argument_default=suppress))
    output = parser.add_argument_group("output")
    output.add_argument(
        "--out",
        metavar="FOLDER",
        type=_folder_to_write,
        help="(default: a new folder bpcore-runs/<data>-<number>)",
    )
    output.add_argument(
        "--report",
        metavar="FILE.html",
        type=file_to_write,
        help="write a page on the result, to look at in a browser",
    )
    output.add_argument("--quiet", action="store_true", help="no progress bar")
    add_json(output)


def _add_table(group: Any) -> None:
    add = group.add_argument
    add(
        "--target",
        metavar="COLUMN",
        help="the column to predict (default: species for iris, y for .npz)",
    )
    add(
        "--task",
        choices=["auto", "classification", "regression"],
        help="auto takes as classes: text, two different whole numbers, or at most 20 different "
        "whole numbers that occur five times each on average; anything else is a quantity",
    )
    add(
        "--drop",
        metavar="A,B",
        type=names,
        action="extend",
        help="columns to leave out",
    )
    add(
        "--categorical",
        metavar="A,B",
        type=names,
        action="extend",
        help="columns of numbers that are names, such as postal codes",
    )
    add(
        "--test-fraction",
        metavar="P",
        type=fraction,
        help="share of rows to hold out (default: 0.2)",
    )
    add_format(group)


def _add_network(group: Any) -> None:
    add = group.add_argument
    add(
        "--hidden",
        metavar="16,16",
        type=_widths,
        help="units of each hidden layer, or none",
    )
    add(
        "--activation",
        choices=list(ACTIVATIONS),
        metavar="NAME",
        help=one_of(ACTIVATIONS, "tanh"),
    )
    add(
        "--dropout",
        metavar="P",
        type=fraction,
        help="after each hidden layer (default: 0)",
    )
    losses = ("mse", "mae", "huber")
    add(
        "--loss",
        choices=losses,
        metavar="NAME",
        help=f"for a quantity: {one_of(losses, 'mse')}",
    )
    add(
        "--l2",
        metavar="X",
        type=number(0),
        help="penalty: X/2 times the sum of squared weights (default: 1 / training rows)",
    )
    add("--dtype", choices=["float32", "float64"], help="(default: float64)")


def _add_fit(group: Any) -> None:
    add = group.add_argument
    add(
        "--epochs",
        metavar="N",
        type=whole(1),
        help="passes through the rows (default: 200)",
    )
    add(
        "--batch-size",
        metavar="N",
        type=_batch_size,
        help="rows an update, or all (default: 32)",
    )
    optimizers = Optimizer.names
    add(
        "--optimizer",
        choices=list(optimizers),
        metavar="NAME",
        help=one_of(optimizers, "adam"),
    )
    add(
        "--learning-rate",
        "--lr",
        metavar="X",
        type=number(0, above=True),
        help=f"at first; falls to 0 along half a cosine (default: {SETTINGS['learning_rate']})",
    )
    add(
        "--patience",
        metavar="N",
        type=whole(1),
        help="stop when a tenth of the training rows, set aside, has not improved for N epochs",
    )
    add_seed(group, "of held-out rows, weights, batches", default=argparse.SUPPRESS)
    add(
        "--resume",
        metavar="FOLDER",
        default=None,
        help="finish the training there that Ctrl-C stopped, with its settings; DATA, if given, "
        "must be the same table; from standard input it must be given again",
    )


def file_to_write(text: str) -> str:
    """Refuse before training what could not be written after it."""
    folder = os.path.dirname(text) or "."
    if not text or os.path.isdir(text):
        raise argparse.ArgumentTypeError(f"expected a file, found {text!r}")
    if not os.path.isdir(folder):
        raise argparse.ArgumentTypeError(f"there is no folder {folder!r}")
    return text


def _folder_to_write(text: str) -> str:
    """Refuse a file before training."""
    if not text or (os.path.lexists(text) and not os.path.isdir(text)):
        raise argparse.ArgumentTypeError(f"expected a folder, found {text!r}")
    return text


def _batch_size(text: str) -> int | None:
    return None if text == "all" else whole(1)(text)


def _widths(text: str) -> list[int]:
    return [] if text == "none" else [whole(1)(part.strip()) for part in text.split(",")]
