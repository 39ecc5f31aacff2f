"""Tables from files and into files, whatever their format; "-" is standard input or output."""

import gzip
import io
import os
import stat
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from typing import Any

from bpcore.arrayfiles import read_array_table
from bpcore.csvfiles import read_csv
from bpcore.files import replace_file
from bpcore.tables import InputError, Table, import_pandas, table_of

__all__ = [
    "FORMATS",
    "format_of",
    "frame_bytes",
    "iris_path",
    "read_bytes",
    "read_table",
    "write_bytes",
]

FORMATS = {
    "csv": (".csv", ".csv.gz"),
    "tsv": (".tsv", ".tsv.gz", ".tab"),
    "parquet": (".parquet", ".pq"),
    "npy": (".npy",),
    "npz": (".npz",),
}
BINARY = ("parquet", "npy", "npz")
STANDARD_INPUT = "standard input"


def format_of(path: str, default: str = "csv") -> str:
    """Return the format that a file's name says."""
    for name, endings in FORMATS.items():
        if path.lower().endswith(endings):
            return name
    return default


def read_table(
    path: str | os.PathLike[str], text_columns: tuple[str, ...] = (), format: str | None = None
) -> Table:
    """Read a table.

    Parameters
    ----------
    path : str or path-like
        The file; a pipe will do, and "-" is standard input.
    text_columns : tuple of str, optional
        Columns that are kept as text even where every field is a number.
    format : str, optional
        One of `FORMATS`; if not given, what the file's name says, and CSV if it says nothing.

    Returns
    -------
    Table
        The rows in the file's order.

    Raises
    ------
    InputError
        Where the file cannot be opened, is not of its format, or holds no table. The message is one
        line; it gives the file, what was found and where.
    """
    path = os.fspath(path)
    format = format or format_of(path)
    name, data = read_bytes(path)
    if path.lower().endswith(".gz"):
        data = _unzipped(name, data)
    if format == "parquet":
        return _read_parquet(name, data, text_columns)
    if format in ("npy", "npz"):
        return read_array_table(name, data, text_columns, archive=format == "npz")
    return read_csv(name, data, text_columns, "\t" if format == "tsv" else "")


def read_bytes(path: str) -> tuple[str, bytes]:
    """Return a file's name for messages, and its content; "-" is standard input."""
    if path == "-":
        return STANDARD_INPUT, sys.stdin.buffer.read()
    try:
        with open(path, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode)):
                raise InputError(f"{path}: not a file")
            return path, file.read()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from None


def write_bytes(path: str, data: bytes, format: str) -> None:
    """Write a file whole or not at all; "-" is standard output."""
    if path != "-":
        return replace_file(path, gzip.compress(data, mtime=0) if path.endswith(".gz") else data)
    if format in BINARY and sys.stdout.isatty():
        raise InputError(f"{format} is not for a terminal: send it to a file or a pipe")
    sys.stdout.flush()
    sys.stdout.buffer.write(data)
    return None


def frame_bytes(frame: Any, format: str) -> bytes:
    """Return a frame as the content of a CSV, TSV or Parquet file."""
    if format == "parquet":
        file = io.BytesIO()
        with _needing_pyarrow():
            frame.to_parquet(file, engine="pyarrow", index=False)
        return file.getvalue()
    separator = "\t" if format == "tsv" else ","
    return frame.to_csv(index=False, sep=separator, lineterminator="\n").encode()


def iris_path() -> str:
    """Return the path of the table that is shipped with bpcore."""
    return str(resources.files("bpcore").joinpath("data", "iris.csv"))


def _unzipped(name: str, data: bytes) -> bytes:
    try:
        return gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{name}: is not a whole gzip file ({error})") from None


def _read_parquet(name: str, data: bytes, text_columns: tuple[str, ...]) -> Table:
    pandas = import_pandas()
    if not data.startswith(b"PAR1"):
        raise InputError(f"{name}: is not a Parquet file: it does not start with PAR1")
    with _needing_pyarrow():
        try:
            frame = pandas.read_parquet(io.BytesIO(data), engine="pyarrow")
        except (ImportError, MemoryError):
            raise
        except Exception as error:  # of many classes; whatever pyarrow dislikes is the file's fault
            reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
            raise InputError(f"{name}: is not a whole Parquet file ({reason})") from None
    if None not in frame.index.names:  # columns that pandas had as the rows' names
        frame = frame.reset_index(allow_duplicates=True)
    return table_of(name, frame, text_columns)


@contextmanager
def _needing_pyarrow() -> Iterator[None]:
    try:
        yield
    except ImportError:
        raise InputError("Parquet files need pyarrow: pip install 'bpcore[parquet]'") from None
