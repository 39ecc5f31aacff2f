"""The `bpcore` command: its options, and what goes wrong in one line."""

import argparse
import csv
import math
import os
import platform
import sys
import warnings
from collections.abc import Callable
from importlib import metadata
from typing import Any, NoReturn

import numpy as np

import bpcore

from . import commands
from .errors import DivergenceError, ModelFileError
from .layers import ACTIVATIONS
from .optimizers import Optimizer
from .tables import InputError

__all__ = ["main"]

DEFAULT_RATE = 0.003

DESCRIPTION = "Train small neural networks on tables, and prove their gradients."
EPILOG = """\
examples:
  bpcore train                                the iris data shipped with bpcore
  bpcore train houses.csv --target price      a quantity, or classes: see --task
  bpcore predict bpcore-runs/houses-1 new.csv --out prices.csv
  bpcore check bpcore-runs/houses-1 houses.csv

`bpcore COMMAND --help` lists a command's options.
"""
TRAIN_EPILOG = """\
A table is a CSV file in UTF-8 whose first line names the columns. Every column
but the target is a feature: numbers are standardised, text becomes an input of
0 or 1 for each category. A part of the rows is held out, to measure the result.

examples:
  bpcore train                                   iris, shipped with bpcore
  bpcore train wine.csv --target quality --task regression
  bpcore train titanic.csv --target Survived --drop Name,Ticket,Cabin
  bpcore train digits.csv --target digit --hidden 64 --epochs 50
"""
PREDICT_EPILOG = """\
The answer is CSV with a line for each row of DATA: a column predicted_<target>
and, for classes, the probability of the one predicted. Where DATA has the
target too, the score goes to standard error.

examples:
  bpcore predict bpcore-runs/iris-1 iris
  bpcore predict bpcore-runs/houses-1/model.safetensors new.csv --out prices.csv
"""


def main(argv: list[str] | None = None) -> int:
    """Run the command.

    Parameters
    ----------
    argv : list of str, optional
        Arguments; those of the process if not given.

    Returns
    -------
    int
        0; 1 where gradients are not proven or training diverges; 2 for wrong input; 130 for
        Ctrl-C.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        # What overflows is refused as not finite where it matters.
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.showwarning = _show_warning
            arguments = _parser().parse_args(argv)
            code = arguments.run(arguments)
            sys.stdout.flush()
            return code
    except KeyboardInterrupt:
        return _fail("stopped by Ctrl-C; nothing was saved", 130)
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (InputError, ModelFileError) as error:
        return _fail(str(error), 2)
    except OSError as error:
        return _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error), 2)
    except DivergenceError as error:
        return _fail(str(error), 1)
    except MemoryError as error:
        return _fail(f"out of memory: {error}", 1)


def _info(options: argparse.Namespace) -> int:
    level, levels = bpcore.simd_level(), ", ".join(bpcore.simd_levels())
    print(f"bpcore        {bpcore.__version__}")
    print(f"python        {platform.python_version()} on {platform.system()} {platform.machine()}")
    print(f"numpy         {np.__version__}")
    print(f"SIMD          {level} in use; here are {levels}  (BPCORE_SIMD)")
    print(
        f"threads       {bpcore.get_num_threads()} of {os.cpu_count()} CPUs  (BPCORE_NUM_THREADS)"
    )
    for package in ("safetensors", "pandas", "tqdm", "matplotlib"):
        try:
            version = metadata.version(package)
        except metadata.PackageNotFoundError:
            version = "not installed: pip install 'bpcore[cli]'"
        print(f"{package:<14}{version}")
    return 0


class _Help(argparse.RawDescriptionHelpFormatter):
    """Keeps the examples as they are written; 80 columns whatever the terminal."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=26, width=80)


class _Parser(argparse.ArgumentParser):
    """Says what is wrong with the arguments in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"bpcore: {message} (see {self.prog} --help)\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="bpcore", description=DESCRIPTION, epilog=EPILOG, formatter_class=_Help)
    parser.add_argument("--version", action="version", version=f"bpcore {bpcore.__version__}")
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)

    def command(
        name: str, run: Callable, help_text: str, epilog: str = ""
    ) -> argparse.ArgumentParser:
        made = subparsers.add_parser(
            name,
            help=help_text,
            description=f"{help_text[0].upper()}{help_text[1:]}.",
            epilog=epilog,
            formatter_class=_Help,
            allow_abbrev=False,
        )
        made.set_defaults(run=run)
        return made

    train = command("train", commands.train, "train a network on a table", TRAIN_EPILOG)
    train.add_argument(
        "data", nargs="?", metavar="DATA.csv", help="a table (default: iris, shipped with bpcore)"
    )
    _add_train_options(train)

    predict = command("predict", commands.predict, "predict with a trained model", PREDICT_EPILOG)
    _add_model_and_data(predict)
    predict.add_argument("--out", metavar="FILE", help="write the CSV here, not to the terminal")

    check = command(
        "check", commands.check, "check the gradients of a trained model on a table with its target"
    )
    _add_model_and_data(check)
    check.add_argument(
        "--rows", type=_whole(1), default=32, help="rows drawn for the check (default: 32)"
    )
    check.add_argument(
        "--parameters",
        type=_whole(1),
        metavar="N",
        help="parameters drawn for the check (default: at most 2000)",
    )
    check.add_argument("--seed", type=_whole(0), default=0, help="of the draw (default: 0)")

    command("info", _info, "print versions, SIMD levels and threads")
    return parser


def _add_model_and_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model", metavar="MODEL", help="a model file, or the folder that `bpcore train` wrote"
    )
    parser.add_argument(
        "data", metavar="DATA.csv", help="a table with the columns of the training table, or: iris"
    )


def _add_train_options(parser: argparse.ArgumentParser) -> None:
    table = parser.add_argument_group("table")
    add = table.add_argument
    add("--target", metavar="COLUMN", help="the column to predict (for iris: species)")
    add(
        "--task",
        choices=["auto", "classification", "regression"],
        default="auto",
        help="auto takes as classes: text, two different whole numbers, or at most 20 different "
        "whole numbers that occur five times each on average; anything else is a quantity",
    )
    add(
        "--drop",
        metavar="A,B",
        type=_names,
        action="extend",
        default=[],
        help="columns to leave out",
    )
    add(
        "--categorical",
        metavar="A,B",
        type=_names,
        action="extend",
        default=[],
        help="columns of numbers that are names, such as postal codes",
    )
    add(
        "--test-fraction",
        metavar="P",
        type=_fraction,
        default=0.2,
        help="share of rows to hold out (default: 0.2)",
    )

    network = parser.add_argument_group("network")
    add = network.add_argument
    add(
        "--hidden",
        metavar="16,16",
        type=_widths,
        default=[16, 16],
        help="units of each hidden layer, or none",
    )
    add(
        "--activation",
        choices=list(ACTIVATIONS),
        default="tanh",
        metavar="NAME",
        help=_one_of(ACTIVATIONS, "tanh"),
    )
    add(
        "--dropout",
        metavar="P",
        type=_fraction,
        default=0.0,
        help="after each hidden layer (default: 0)",
    )
    losses = ("mse", "mae", "huber")
    add(
        "--loss",
        choices=losses,
        metavar="NAME",
        help=f"for a quantity: {_one_of(losses, 'mse')}",
    )
    add(
        "--l2",
        metavar="X",
        type=_number(0),
        help="penalty: X/2 times the sum of squared weights (default: 1 / training rows)",
    )
    add("--dtype", choices=["float32", "float64"], default="float64", help="(default: float64)")

    fit = parser.add_argument_group("training")
    add = fit.add_argument
    add(
        "--epochs",
        metavar="N",
        type=_whole(1),
        default=200,
        help="passes through the rows (default: 200)",
    )
    add(
        "--batch-size",
        metavar="N",
        type=_batch_size,
        default=32,
        help="rows an update, or all (default: 32)",
    )
    names = Optimizer.names
    add(
        "--optimizer",
        choices=list(names),
        default="adam",
        metavar="NAME",
        help=_one_of(names, "adam"),
    )
    add(
        "--learning-rate",
        "--lr",
        metavar="X",
        type=_number(0, above=True),
        default=DEFAULT_RATE,
        help=f"at first; falls to 0 along half a cosine (default: {DEFAULT_RATE})",
    )
    add(
        "--patience",
        metavar="N",
        type=_whole(1),
        help="stop when a tenth of the training rows, set aside, has not improved for N epochs",
    )
    add(
        "--seed",
        metavar="N",
        type=_whole(0),
        default=0,
        help="of held-out rows, weights, batches (default: 0)",
    )

    output = parser.add_argument_group("output")
    output.add_argument(
        "--out", metavar="FOLDER", help="(default: a new folder bpcore-runs/<data>-<number>)"
    )
    output.add_argument(
        "--report",
        metavar="FILE.html",
        type=_file_to_write,
        help="write a page on the result, to look at in a browser",
    )
    output.add_argument("--quiet", action="store_true", help="no progress bar")


def _one_of(names: Any, default: str) -> str:
    return f"{', '.join(names)} (default: {default})"


def _whole(minimum: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not text.isdecimal() or int(text) < minimum:
            raise argparse.ArgumentTypeError(
                f"expected a whole number >= {minimum}, found {text!r}"
            )
        return int(text)

    return parse


def _number(minimum: float, above: bool = False) -> Callable[[str], float]:
    def parse(text: str) -> float:
        value = _float(text)
        if not (value > minimum if above else value >= minimum) or math.isinf(value):
            least = f"{'>' if above else '>='} {minimum}"
            raise argparse.ArgumentTypeError(f"expected a number {least}, found {text!r}")
        return value

    return parse


def _fraction(text: str) -> float:
    value = _float(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(
            f"expected a number from 0 up to, not including, 1, found {text!r}"
        )
    return value


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _batch_size(text: str) -> int | None:
    return None if text == "all" else _whole(1)(text)


def _widths(text: str) -> list[int]:
    return [] if text == "none" else [_whole(1)(part.strip()) for part in text.split(",")]


def _names(text: str) -> list[str]:
    return [name.strip() for name in next(csv.reader([text], skipinitialspace=True), [])]


def _file_to_write(text: str) -> str:
    """Refuse before training what could not be written after it."""
    folder = os.path.dirname(text) or "."
    if not text or os.path.isdir(text):
        raise argparse.ArgumentTypeError(f"expected a file, found {text!r}")
    if not os.path.isdir(folder):
        raise argparse.ArgumentTypeError(f"there is no folder {folder!r}")
    return text


def _show_warning(message: Warning | str, *ignored: Any, **also_ignored: Any) -> None:
    print(f"bpcore: warning: {_one_line(message)}", file=sys.stderr)


def _fail(message: str, code: int) -> int:
    print(f"bpcore: {_one_line(message)}", file=sys.stderr)
    return code


def _one_line(message: object) -> str:
    return " ".join(str(message).split())
