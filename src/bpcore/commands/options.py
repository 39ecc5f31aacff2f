"""Options that commands share: their types, and how help and errors look."""

import argparse
import csv
import math
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

from bpcore.tablefiles import FORMATS
from bpcore.tables import InputError

__all__ = [
    "Help",
    "Parser",
    "add_data",
    "add_format",
    "add_json",
    "add_model",
    "add_seed",
    "fraction",
    "names",
    "number",
    "one_of",
    "whole",
]


class Help(argparse.RawDescriptionHelpFormatter):
    """Keeps the examples as they are written; 80 columns whatever the terminal."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=26, width=80)


class Parser(argparse.ArgumentParser):
    """Says what is wrong with the arguments in one line."""

    def error(self, message: str) -> NoReturn:
        """Raise an `InputError` that names the page to see."""
        raise InputError(f"{message} (see {self.prog} --help)")


def add_model(parser: argparse.ArgumentParser, **more: Any) -> None:
    """Add the argument MODEL."""
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="a folder that `bpcore train` wrote, a model file, or -",
        **more,
    )


def add_data(parser: argparse.ArgumentParser) -> None:
    """Add the argument DATA, and its format."""
    parser.add_argument(
        "data", metavar="DATA", help="a table with the columns of the training, iris, or -"
    )
    add_format(parser)


def add_format(parser: Any) -> None:
    """Add the option that says what DATA is."""
    parser.add_argument(
        "--format",
        choices=list(FORMATS),
        metavar="NAME",
        default=None,
        help=f"of DATA: {', '.join(FORMATS)} (default: what its name says, else csv)",
    )


def add_json(parser: Any) -> None:
    """Add the option for machines."""
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object, for other programs"
    )


def add_seed(parser: Any, of: str, default: Any = 0) -> None:
    """Add the seed of what is drawn."""
    parser.add_argument(
        "--seed", metavar="N", type=whole(0), default=default, help=f"{of} (default: 0)"
    )


def one_of(choices: Iterable[str], default: str) -> str:
    """Return the help of an option with choices."""
    return f"{', '.join(choices)} (default: {default})"


def whole(minimum: int) -> Callable[[str], int]:
    """Return the type of whole numbers from a minimum on."""

    def parse(text: str) -> int:
        if not text.isdecimal() or int(text) < minimum:
            raise argparse.ArgumentTypeError(
                f"expected a whole number >= {minimum}, found {text!r}"
            )
        return int(text)

    return parse


def number(minimum: float, above: bool = False) -> Callable[[str], float]:
    """Return the type of finite numbers from a minimum on, or above it."""

    def parse(text: str) -> float:
        value = _float(text)
        if not (value > minimum if above else value >= minimum) or math.isinf(value):
            least = f"{'>' if above else '>='} {minimum}"
            raise argparse.ArgumentTypeError(f"expected a number {least}, found {text!r}")
        return value

    return parse


def fraction(text: str) -> float:
    """Return a number from 0 up to, not including, 1."""
    value = _float(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(
            f"expected a number from 0 up to, not including, 1, found {text!r}"
        )
    return value


def names(text: str) -> list[str]:
    """Return the names of a list with commas, quoted as CSV is."""
    return [name.strip() for name in next(csv.reader([text], skipinitialspace=True), [])]


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
