"""The `bpcore` command: its help, and what goes wrong in one line."""

import argparse
import os
import sys
import warnings
from importlib import import_module
from typing import Any

import numpy as np

import bpcore
from bpcore.commands.options import Help, Parser
from bpcore.commands.report import Report, remark
from bpcore.errors import DivergenceError, ModelFileError
from bpcore.tables import InputError

__all__ = ["main"]

COMMANDS = {
    "train": "train a network on a table",
    "predict": "predict with a trained model",
    "check": "check the gradients of a trained model on a table with its target",
    "explain": "say which mistake is in gradients of your own",
    "export": "write a trained model as ONNX or as C",
    "info": "print versions, SIMD levels and threads, or what a model holds",
    "bench": "measure this machine, beside plain NumPy",
}
"""What each module of `bpcore.commands` that is a command does."""

DESCRIPTION = "Train small neural networks on tables, and prove their gradients."
EPILOG = """\
examples:
  bpcore train                             # the iris data shipped with bpcore
  bpcore predict bpcore-runs/iris-1 iris
  bpcore check bpcore-runs/iris-1 iris
  bpcore train iris --target petal_width   # a quantity, or classes: see --task

Results go to standard output, remarks to standard error; with --json a result
is one JSON object, and so is an error. Tables are CSV, TSV, Parquet, .npy or
.npz; - is standard input. `bpcore COMMAND --help` lists a command's options.

exit codes: 0 done; 1 gradients are not proven or not right, training diverged,
or out of memory; 2 wrong input; 130 Ctrl-C; 141 the reader of a pipe has gone
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
        0; 1 where gradients are not proven, or not right, where training diverges or memory runs
        out; 2 for wrong input; 130 for Ctrl-C; 141 for a pipe that nobody reads any more.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    words = sys.argv[1:] if argv is None else argv
    try:
        code = _run(words)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def _run(words: list[str]) -> int:
    """Run the command that is asked for; say what goes wrong."""
    report = Report("--json" in words)
    try:
        # What overflows is refused as not finite where it matters.
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.showwarning = _show_warning
            arguments = _arguments(words)
            return arguments.run(arguments)
    except KeyboardInterrupt:
        return report.fail("stopped by Ctrl-C", 130)
    except BrokenPipeError:
        raise
    except (InputError, ModelFileError) as error:
        return report.fail(str(error), 2)
    except OSError as error:
        text = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        return report.fail(text, 2)
    except DivergenceError as error:
        return report.fail(str(error), 1)
    except MemoryError as error:
        return report.fail(f"out of memory: {error}", 1)


def _arguments(words: list[str]) -> argparse.Namespace:
    """Parse the command line; only the command that it asks for is imported."""
    asked = next((word for word in words if not word.startswith("-")), None)
    parser = Parser(prog="bpcore", description=DESCRIPTION, epilog=EPILOG, formatter_class=Help)
    parser.add_argument("--version", action="version", version=f"bpcore {bpcore.__version__}")
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, what in COMMANDS.items():
        command = subparsers.add_parser(
            name,
            help=what,
            description=f"{what[0].upper()}{what[1:]}.",
            formatter_class=Help,
            allow_abbrev=False,
        )
        if name == asked:
            module = import_module(f"bpcore.commands.{name}")
            command.epilog = module.EPILOG
            module.add_options(command)
            command.set_defaults(run=module.run, refuse=command.error)
    arguments, unknown = parser.parse_known_args(words)
    if unknown:
        arguments.refuse(f"unrecognized arguments: {' '.join(unknown)}")
    return arguments


def _show_warning(message: Warning | str, *ignored: Any, **also_ignored: Any) -> None:
    remark(f"warning: {message}")
