"""The `bpcore` command: its help, and what goes wrong in one line."""

import argparse
import os
import sys
import warnings
from typing import Any

import numpy as np

import bpcore
from bpcore.commands import bench, check, explain, export, info, predict, train
from bpcore.commands.options import Help, Parser
from bpcore.commands.report import remark
from bpcore.errors import DivergenceError, ModelFileError
from bpcore.tables import InputError

__all__ = ["main"]

COMMANDS = {
    "train": train,
    "predict": predict,
    "check": check,
    "explain": explain,
    "export": export,
    "info": info,
    "bench": bench,
}
DESCRIPTION = "Train small neural networks on tables, and prove their gradients."
EPILOG = """\
examples:
  bpcore train                             # the iris data shipped with bpcore
  bpcore predict bpcore-runs/iris-1 iris
  bpcore check bpcore-runs/iris-1 iris
  bpcore train iris --target petal_width   # a quantity, or classes: see --task

Results go to standard output, remarks to standard error; with --json a result
is one JSON object. Tables are CSV, TSV, Parquet, .npy or .npz; - is standard
input. `bpcore COMMAND --help` lists a command's options.

exit codes: 0 done; 1 gradients are not proven or not right, or training
diverged; 2 wrong input; 130 Ctrl-C
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
        0; 1 where gradients are not proven, or not right, or training diverges; 2 for wrong input;
        130 for Ctrl-C.
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
        return _fail("stopped by Ctrl-C", 130)
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


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="bpcore", description=DESCRIPTION, epilog=EPILOG, formatter_class=Help)
    parser.add_argument("--version", action="version", version=f"bpcore {bpcore.__version__}")
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, module in COMMANDS.items():
        command = subparsers.add_parser(
            name,
            help=module.HELP,
            description=f"{module.HELP[0].upper()}{module.HELP[1:]}.",
            epilog=module.EPILOG,
            formatter_class=Help,
            allow_abbrev=False,
        )
        module.add_options(command)
        command.set_defaults(run=module.run, defaults=command.get_default)
    return parser


def _show_warning(message: Warning | str, *ignored: Any, **also_ignored: Any) -> None:
    remark(f"warning: {message}")


def _fail(message: str, code: int) -> int:
    remark(message)
    return code
