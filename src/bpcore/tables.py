"""A table of named columns, and how it says what is wrong in it.

`bpcore.tablefiles` reads tables from files and writes them; `bpcore.encoding` has what becomes of
the columns: classes, categories, standardisation.
"""

import re
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

import numpy as np

__all__ = ["InputError", "Table", "table_of"]

MISSING_WORDS = frozenset(
    {"", "?", ".", "-", "na", "n/a", "#n/a", "<na>", "nan", "-nan", "null", "none", "nil"}
)


POSSIBLE_NAMES = frozenset({".", "-", "none", "nil"})
"""Of these, what is a class often enough: strands + and -, none beside mild and severe."""


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
    lines : ndarray of int64, shape (n_rows,), or None
        The line of the file on which each row starts (from 1); None where a file has no lines.
    notes : list of str
        What the person should know about how the file was read.
    """

    name: str
    frame: Any
    lines: np.ndarray | None = None
    notes: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.frame)

    @property
    def columns(self) -> list[str]:
        """Names of the columns, in the file's order."""
        return list(self.frame.columns)

    def require(self, columns: list[str]) -> None:
        """Raise unless every one of `columns` is there."""
        for column in columns:
            if column not in self.frame.columns:
                raise InputError(f"{self.header}: {missing_column(column, self.columns)}")

    @property
    def header(self) -> str:
        """The place that names the columns."""
        return self.name if self.lines is None else f"{self.name}, line 1"

    def error(self, row: int, column: str, found: str) -> InputError:
        """Return an `InputError` that says where (row from 0) and what was found there."""
        where = f"row index {row}" if self.lines is None else f"line {self.lines[row]}"
        return InputError(f"{self.name}, {where}, column {column!r}: {found}")

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


def table_of(name: str, frame: Any, text_columns: tuple[str, ...] = ()) -> Table:
    """Return a table of what a file held as typed columns.

    Parameters
    ----------
    name : str
        The file as errors name it.
    frame : pandas.DataFrame
        Its columns.
    text_columns : tuple of str, optional
        Columns of names, to be text even where they are numbers.

    Raises
    ------
    InputError
        Two columns of one name, or one without.
    """
    frame = frame.copy(deep=False)
    frame.columns = [str(column) for column in frame.columns]
    seen: set[str] = set()
    for column in frame.columns:
        if not column or column in seen:
            raise InputError(
                f"{name}: "
                + (f"two columns are named {column!r}" if column else "a column has no name")
            )
        seen.add(column)
    columns = {}
    for column in frame.columns:
        series = frame[column]
        if column in text_columns or not is_number_column(series):
            columns[column] = _as_text(series)
        elif series.isna().any():
            columns[column] = series.to_numpy(dtype=np.float64, na_value=np.nan)
        else:
            columns[column] = series.to_numpy(dtype=series.dtype.name.lower())
    return Table(name, import_pandas().DataFrame(columns, index=frame.index))


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


def same_name(text: str) -> str:
    """Return the one spelling of a whole number that is a name: "1" for "1.0", as pandas writes it.

    Zeros in front stay, as in a postal code, and so does every other text.

    Examples
    --------
    >>> [same_name(text) for text in ("1.0", "-0.", "007", "1.5", "1e3", "a.0")]
    ['1', '0', '007', '1.5', '1e3', 'a.0']
    """
    whole = re.fullmatch(r"(-?\d+)\.0*", text, re.ASCII)
    text = whole[1] if whole else text
    return "0" if text == "-0" else text


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


def _as_text(series: Any) -> np.ndarray:
    """Return a column as text: "" for no value, and whole numbers without a point."""
    values = [
        None if gone else value for value, gone in zip(series.tolist(), series.isna(), strict=True)
    ]
    if all(value is None or (isinstance(value, float) and value.is_integer()) for value in values):
        values = [value if value is None else int(value) for value in values]
    texts = np.empty(len(values), dtype=object)
    texts[:] = ["" if value is None else str(value).strip() for value in values]
    return texts


def _empty(count: int, found: str = "") -> str:
    what = f"no value ({found!r})" if found and found.lower() != "nan" else "no value"
    return what if count == 1 else f"{what}; {count} rows have none in this column"
