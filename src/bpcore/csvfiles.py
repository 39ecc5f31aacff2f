"""CSV and TSV tables: read strictly, with line and column of what is wrong."""

import csv
import io
from typing import Any

import numpy as np

from bpcore.tables import InputError, Table, import_pandas, is_number_column, shorten

__all__ = ["read_csv"]

SEPARATORS = ",;\t"
NOT_TEXT = (  # the first bytes of files that people hand over as CSV
    (b"PK\x03\x04", "an Excel or zip file (--format npz reads an npz file)"),
    (b"\xd0\xcf\x11\xe0", "an old Excel file"),
    (b"\x1f\x8b", "a gzip file (its name must end in .gz)"),
    (b"PAR1", "a Parquet file (--format parquet reads it)"),
    (b"\x93NUMPY", "an npy file (--format npy reads it)"),
    (b"\xff\xfe\x00\x00", "UTF-32 text"),
    (b"\x00\x00\xfe\xff", "UTF-32 text"),
    (b"\xff\xfe", "UTF-16 text"),
    (b"\xfe\xff", "UTF-16 text"),
)


def read_csv(
    name: str, data: bytes, text_columns: tuple[str, ...] = (), separator: str = ""
) -> Table:
    """Read a table whose first line names the columns.

    The text is UTF-8, with or without a byte order mark.

    Parameters
    ----------
    name : str
        The file as errors name it.
    data : bytes
        Its content.
    text_columns : tuple of str, optional
        Columns that are kept as text even where every field is a number.
    separator : str, optional
        If not given: the comma, or the semicolon or tab where the header has more of those.

    Returns
    -------
    Table
        The rows in the file's order.

    Raises
    ------
    InputError
        Where the file is empty or not UTF-8 text, or has rows of different lengths or two columns
        of one name. The message gives file, line, column and what was found.
    """
    pandas = import_pandas()
    data = _as_text(name, data, separator)
    separator = separator or _separator(data)
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


def _as_text(name: str, data: bytes, separator: str) -> bytes:
    """Return the file's content as UTF-8 without byte order mark, NUL and carriage returns."""
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
        raise InputError(f"{_place(name, data[: error.start], separator)}: {found}") from None
    if nul >= 0:
        place = _place(name, data[:nul], separator)
        raise InputError(f"{place}: found a NUL byte, expected CSV as UTF-8 text")
    if b"\r" in data:  # pandas loses an empty field at the start of a line that follows a lone \r
        data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    return data


def _place(name: str, before: bytes, separator: str) -> str:
    """Return file, line and column of what follows the bytes `before`."""
    text = before.decode("utf-8", "replace") + "x"  # stands for the byte found
    separator = separator or _separator(before)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True)
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
