"""CSV tables for the command: read them strictly, name the line and column of what is wrong.

Only this module reads tables, and it imports pandas when it does. What becomes of the columns
(classes, categories, standardisation) is in `bpcore.encoding`.
"""

import csv
import io
import os
import stat
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import resources
from typing import Any

import numpy as np

__all__ = ["InputError", "Table", "iris_path", "read_table"]

SEPARATORS = ",;\t"
MISSING_WORDS = frozenset(
    {"", "?", ".", "-", "na", "n/a", "#n/a", "<na>", "nan", "-nan", "null", "none", "nil"}
)
NOT_TEXT = (  # the first bytes of files that people hand over as CSV
    (b"PK\x03\x04", "an Excel or zip file"),
    (b"\xd0\xcf\x11\xe0", "an old Excel file"),
    (b"\x1f\x8b", "a gzip file"),
    (b"PAR1", "a Parquet file"),
    (b"\xff\xfe\x00\x00", "UTF-32 text"),
    (b"\x00\x00\xfe\xff", "UTF-32 text"),
    (b"\xff\xfe", "UTF-16 text"),
    (b"\xfe\xff", "UTF-16 text"),
)


class InputError(ValueError):
    """What is wrong with a file or an option, in one line for the person at the terminal."""


@dataclass
class Table:
    """A table as read: text stays text, columns of numbers are numbers.

    Attributes
    ----------
    name : str
        The file, as the person named it; errors start with it.
    frame : pandas.DataFrame
        The named columns. A text column holds its fields stripped of blanks, and "" where a field
        is empty.
    lines : ndarray of int64, shape (n_rows,)
        The line of the file on which each row starts (from 1).
    notes : list of str
        What the person should know about how the file was read.
    """

    name: str
    frame: Any
    lines: np.ndarray
    notes: list[str]

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.lines)

    @property
    def columns(self) -> list[str]:
        """Names of the columns, in the file's order."""
        return list(self.frame.columns)

    def require(self, columns: list[str]) -> None:
        """Raise unless every one of `columns` is there."""
        for column in columns:
            if column not in self.frame.columns:
                raise InputError(f"{self.name}, line 1: {missing_column(column, self.columns)}")

    def error(self, row: int, column: str, found: str) -> InputError:
        """Return an `InputError` that says where (row from 0) and what was found there."""
        return InputError(f"{self.name}, line {self.lines[row]}, column {column!r}: {found}")

    def text(self, column: str) -> np.ndarray:
        """Return the column's fields as str objects; an empty field is an error."""
        series = self.frame[column]
        values = series.to_numpy(dtype=object)
        if is_number_column(series):
            values = np.array(["" if v != v else str(v) for v in values], dtype=object)
        empty = values == ""
        if empty.any():
            row = int(np.flatnonzero(empty)[0])
            raise self.error(row, column, _empty(int(empty.sum())))
        return values

    def numbers(self, column: str) -> np.ndarray:
        """Return the column as float64; text, a missing value or an infinity is an error."""
        values = self.possible_numbers(column)
        unfit = ~np.isfinite(values)
        if unfit.any():
            row = int(np.flatnonzero(unfit)[0])
            found = str(self.frame[column].iloc[row])
            if is_missing(found):
                n_missing = sum(is_missing(str(v)) for v in self.frame[column][unfit])
                raise self.error(row, column, _empty(n_missing, found))
            text = f"found {shorten(found)}, expected a number"
            if "," in found and possible_number(found.replace(",", ".")):
                text += " (write decimals with a point)"
            raise self.error(row, column, text)
        return values

    def possible_numbers(self, column: str) -> np.ndarray:
        """Return the column as float64, with nan for every field that is not a number."""
        series = self.frame[column]
        if not is_number_column(series):
            series = import_pandas().to_numeric(series.astype(str), errors="coerce")
        return series.to_numpy(dtype=np.float64)

    def is_text(self, column: str) -> bool:
        """Say whether some field of the column is neither a number nor missing."""
        series = self.frame[column]
        if is_number_column(series):
            return False
        other = series[np.isnan(self.possible_numbers(column))]
        return not all(is_missing(str(value)) for value in other.unique())


def read_table(path: str | os.PathLike[str], text_columns: tuple[str, ...] = ()) -> Table:
    """Read a CSV file with a header line.

    The separator is the comma, or the semicolon or tab where the header has more of those. The
    text is UTF-8, with or without a byte order mark.

    Parameters
    ----------
    path : str or path-like
        The file; a pipe will do.
    text_columns : tuple of str, optional
        Columns that are kept as text even where every field is a number.

    Returns
    -------
    Table
        The rows in the file's order.

    Raises
    ------
    InputError
        Where the file cannot be opened, is empty or not UTF-8 text, or has rows of different
        lengths or two columns of one name. The message gives file, line, column and what was found.
    """
    name = os.fspath(path)
    pandas = import_pandas()
    data = _read_text(name)
    separator = _separator(data)
    header, lines = _scan(name, data, separator)
    names = [column or f"\0{i}" for i, column in enumerate(header)]
    try:
        frame = pandas.read_csv(
            io.BytesIO(data),
            sep=separator,
            names=names,
            header=0,
            index_col=False,
            encoding="utf-8",
            dtype={column: str for column in text_columns if column in names},
            keep_default_na=False,
            na_values=[""],
            skipinitialspace=True,
            low_memory=False,
        )
    except pandas.errors.ParserError as error:
        raise InputError(f"{name}: {shorten(str(error), 200)}") from None
    if len(frame) != len(lines):  # e.g. a table of one column with quoted empty fields
        raise InputError(
            f"{name}: the rows cannot be told apart ({len(lines)} or {len(frame)} of them)"
        )
    notes = []
    for i, column in enumerate(header):
        if not column:
            notes.append(f"column {i + 1} of {name} has no name and is left out")
            frame = frame.drop(columns=names[i])
    for column in frame.columns:
        if not is_number_column(frame[column]):
            series = frame[column].astype(object)
            frame[column] = series.where(series.notna(), "").astype(str).str.strip().astype(object)
    return Table(name, frame, lines, notes)


def iris_path() -> str:
    """Return the path of the table that is shipped with bpcore."""
    return str(resources.files("bpcore").joinpath("data", "iris.csv"))


def import_pandas() -> Any:
    """Return pandas, or raise an `InputError` that says how to install it."""
    try:
        import pandas
    except ImportError as error:
        if error.name and error.name.partition(".")[0] != "pandas":
            raise
        raise InputError("reading tables needs pandas: pip install 'bpcore[cli]'") from None
    return pandas


def is_number_column(series: Any) -> bool:
    """Say whether pandas holds the column as numbers (or as true and false)."""
    return series.dtype.kind in "iufb"


def is_missing(text: str) -> bool:
    """Say whether a field that should be a number is one of the usual signs for no value."""
    return text.strip().lower() in MISSING_WORDS


def possible_number(text: str) -> bool:
    """Say whether the text reads as a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def shorten(text: str, length: int = 40) -> str:
    """Return the text as one quoted line, cut where it is long."""
    return repr(text if len(text) <= length else text[: length - 3] + "...")


def list_names(names: list[str], limit: int = 12) -> str:
    """Return names in a line, cut where there are many."""
    names = [" ".join(name.split()) for name in names]
    if len(names) <= limit:
        return ", ".join(names)
    return ", ".join(names[:limit]) + f", ... ({len(names)} in all)"


def missing_column(column: str, columns: list[str]) -> str:
    """Say that there is no such column, which is closest, and which there are."""
    lower = {name.lower(): name for name in columns}
    close = get_close_matches(column.lower(), lower, n=1)
    hint = f"; the closest is {lower[close[0]]!r}" if close else ""
    if sum(map(possible_number, columns)) * 2 > len(columns):
        hint += "; the first line must name the columns"
    return f"no column {column!r}{hint}; columns: {list_names(columns)}"


def _empty(count: int, found: str = "") -> str:
    what = f"no value ({found!r})" if found and found.lower() != "nan" else "no value"
    return what if count == 1 else f"{what}; {count} rows have none in this column"


def _read_text(name: str) -> bytes:
    """Read the file as UTF-8 without byte order mark, NUL and carriage returns."""
    try:
        with open(name, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode)):
                raise InputError(f"{name}: not a file")
            data = file.read()
    except OSError as error:
        raise InputError(f"{name}: {error.strerror or error}") from None
    for magic, what in NOT_TEXT:
        if data.startswith(magic):
            raise InputError(f"{name}, line 1: found {what}, expected CSV as UTF-8 text")
    data = data.removeprefix(b"\xef\xbb\xbf")
    if not data.strip():
        raise InputError(f"{name}, line 1: the file is empty")
    nul = data.find(b"\0")
    try:
        data[: nul if nul >= 0 else None].decode("utf-8")
    except UnicodeDecodeError as error:
        byte, remedy = f"0x{data[error.start]:02x}", "(Latin-1 or Windows-1252?); save it as UTF-8"
        found = f"found byte {byte}, which is not UTF-8 {remedy}"
        raise InputError(f"{_place(name, data[: error.start])}: {found}") from None
    if nul >= 0:
        raise InputError(
            f"{_place(name, data[:nul])}: found a NUL byte, expected CSV as UTF-8 text"
        )
    if b"\r" in data:  # pandas loses an empty field at the start of a line that follows a lone \r
        data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    return data


def _place(name: str, before: bytes) -> str:
    """Return file, line and column of what follows the bytes `before`."""
    text = before.decode("utf-8", "replace") + "x"  # stands for the byte found
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=_separator(before), skipinitialspace=True
    )
    try:
        rows = [row for row in reader if row]
    except csv.Error:  # not much of a table
        return name
    column = len(rows[-1])
    known = len(rows) > 1 and column <= len(rows[0])
    where = repr(rows[0][column - 1].strip()) if known else column
    return f"{name}, line {reader.line_num}, column {where}"


def _separator(data: bytes) -> str:
    header = data.lstrip().splitlines()[0].decode("utf-8", "replace") if data.strip() else ""
    unquoted = "".join(header.split('"')[::2])
    return max(SEPARATORS, key=unquoted.count)


def _scan(name: str, data: bytes, separator: str) -> tuple[list[str], np.ndarray]:
    """Check that all rows are as long as the header; return it and the line of each row."""
    if b'"' not in data:  # a record is a line: no need to look at every field unless a line differs
        numbered = [(i, line) for i, line in enumerate(data.splitlines(), 1) if line.strip(b" ")]
        mark = separator.encode()
        if len({line.count(mark) for _, line in numbered}) == 1 and len(numbered) > 1:
            header = [field.strip() for field in numbered[0][1].decode().split(separator)]
            _check_names(name, header, numbered[0][0])
            return header, np.array([i for i, _ in numbered[1:]], dtype=np.int64)
    header, lines = [], []
    for line, fields in _records(name, data, separator):
        if not header:
            header = [field.strip() for field in fields]
            _check_names(name, header, line)
            continue
        if len(fields) < len(header):
            column, found = (
                header[len(fields)],
                f"the row ends after {len(fields)} of {len(header)} columns",
            )
            raise InputError(f"{name}, line {line}, column {column!r}: {found}")
        if len(fields) > len(header):
            found = (
                f"found {shorten(fields[len(header)])}, but the header has {len(header)} columns"
            )
            raise InputError(f"{name}, line {line}, column {len(header) + 1}: {found}")
        lines.append(line)
    return header, np.array(lines, dtype=np.int64)


def _records(name: str, data: bytes, separator: str) -> Any:
    """Yield each record's first line and its fields; blank lines are passed over."""
    text = io.TextIOWrapper(io.BytesIO(data), encoding="utf-8", newline="")
    reader = csv.reader(text, delimiter=separator, skipinitialspace=True, strict=True)
    line = 1
    try:
        for fields in reader:
            if len(fields) > 1 or (fields and fields[0].strip(" \t")):
                yield line, fields
            line = reader.line_num + 1
    except csv.Error as error:
        reason = str(error)
        if "unexpected end" in reason:
            reason = "a quote that opens in this row is never closed"
        elif "field limit" in reason:
            limit = csv.field_size_limit()
            reason = f"found a field of more than {limit} characters; is a quote never closed?"
        elif "expected after" in reason:
            reason = "found text after a closing quote"
        raise InputError(f"{name}, line {line}: {reason}") from None


def _check_names(name: str, header: list[str], line: int) -> None:
    first: dict[str, int] = {}
    for i, column in enumerate(header, 1):
        if column and column in first:
            found = f"{column!r} is the name of column {first[column]} too"
            raise InputError(f"{name}, line {line}, column {i}: {found}")
        first[column] = i
    if not any(header):
        raise InputError(f"{name}, line {line}: no column has a name")
