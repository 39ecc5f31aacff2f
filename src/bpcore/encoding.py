"""From a table's columns to a network's arrays and back: classes, standardisation, splits."""

import shlex
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bpcore.tables import (
    POSSIBLE_NAMES,
    InputError,
    Table,
    is_missing,
    list_names,
    possible_number,
    same_name,
    shorten,
)

__all__ = ["TableEncoder", "split_rows"]

MAX_CATEGORIES = 100  # of a text column nobody has named in --categorical
MAX_NUMBERED_CLASSES = 20  # different whole numbers of a target that are taken for classes


@dataclass
class TableEncoder:
    """How a table becomes arrays: fitted to the training table, kept in the model file.

    Attributes
    ----------
    features : list of dict
        One for each column used: ``{"column", "mean", "scale"}`` for numbers, which become
        ``(x - mean) / scale``, or ``{"column", "categories"}`` for text, which becomes one input
        of 0 or 1 for each category.
    target : dict
        ``{"column", "classes"}`` or, for regression, ``{"column", "mean", "scale"}``.
    """

    features: list[dict[str, Any]] = field(default_factory=list)
    target: dict[str, Any] = field(default_factory=dict)

    @property
    def classes(self) -> list[str] | None:
        """The classes in the order of the network's outputs, or None for regression."""
        return self.target.get("classes")

    @property
    def n_features(self) -> int:
        """The number of the network's inputs."""
        return sum(len(feature.get("categories", "1")) for feature in self.features)

    @property
    def text_columns(self) -> tuple[str, ...]:
        """The columns to read as text."""
        texts = [feature["column"] for feature in self.features if "categories" in feature]
        return (*texts, self.target["column"])

    @classmethod
    def plan(
        cls,
        table: Table,
        target: str,
        task: str = "auto",
        drop: tuple[str, ...] = (),
        categorical: tuple[str, ...] = (),
    ) -> "TableEncoder":
        """Decide what each column is.

        Parameters
        ----------
        table : Table
            All rows, read with `target` and `categorical` as text columns.
        target : str
            The column to predict.
        task : {"auto", "classification", "regression"}, optional
            Whether the target's values are classes or quantities. "auto": text means classes, and
            so do whole numbers when there are two different ones, or at most 20 that occur five
            times each on average.
        drop, categorical : tuple of str, optional
            Columns to leave out, and columns whose values are names even where they are numbers;
            in a target named here so are words such as NA, which say elsewhere that there is none.

        Raises
        ------
        InputError
            For a column that is not there, a missing value, text among numbers, too many
            categories, one class only.
        """
        table.require([target, *drop, *categorical])
        encoder = cls(target=_plan_target(table, target, task, target in categorical))
        for column in table.columns:
            if column == target or column in drop:
                continue
            if column in categorical or _is_categorical(table, column):
                categories = _sorted_texts(table.text(column))
                if column not in categorical:
                    _check_categories(table, column, categories)
                encoder.features.append({"column": column, "categories": categories})
            else:
                values = table.numbers(column)
                if len(values) > 10 and np.array_equal(values, values[0] + np.arange(len(values))):
                    table.notes.append(
                        f"column {column} counts the rows; --drop it if it means nothing"
                    )
                encoder.features.append({"column": column, "mean": 0.0, "scale": 1.0})
        if not encoder.features:
            raise InputError(f"{table.header}: there is no column to predict {target!r} from")
        return encoder

    def fit_scales(self, table: Table, rows: np.ndarray) -> None:
        """Take means and scales from `rows`; a column that is constant there gets scale 1."""
        for feature in self.features:
            if "scale" in feature:
                feature["mean"], feature["scale"] = _mean_and_scale(
                    table.numbers(feature["column"])[rows]
                )
        if "scale" in self.target:
            mean, scale = _mean_and_scale(table.numbers(self.target["column"])[rows])
            self.target.update(mean=mean, scale=scale)

    def encode_features(self, table: Table, dtype: Any = np.float64) -> np.ndarray:
        """Return the input of a network of `dtype`, float64 of shape (n_rows, n_features)."""
        table.require([feature["column"] for feature in self.features])
        x = np.empty((len(table), self.n_features))
        at = 0
        for feature in self.features:
            column = feature["column"]
            if "categories" in feature:
                width = len(feature["categories"])
                codes = _codes(table, column, feature["categories"], "category")
                x[:, at : at + width] = codes[:, None] == np.arange(width)
                at += width
            else:
                x[:, at] = _standardized(table, feature, dtype)
                at += 1
        return x

    def encode_target(self, table: Table, dtype: Any = np.float64) -> np.ndarray:
        """Return the network's target (n_rows,): int64 labels, or the quantity standardised."""
        column = self.target["column"]
        table.require([column])
        if self.classes is not None:
            return _codes(table, column, self.classes, "class")
        return _standardized(table, self.target, dtype)

    def decode(self, prediction: np.ndarray) -> np.ndarray:
        """Return the network's output (n_rows, n_out) as class names, or in the target's units."""
        if self.classes is not None:
            return np.array(self.classes, dtype=object)[prediction.argmax(axis=1)]
        return prediction[:, 0].astype(np.float64) * self.target["scale"] + self.target["mean"]

    def to_dict(self) -> dict[str, Any]:
        """Return the encoder as data that JSON can hold, for the model's metadata."""
        return {"features": self.features, "target": self.target}

    @classmethod
    def from_dict(cls, data: Any) -> "TableEncoder":
        """Return the encoder that `to_dict` described; ValueError where `data` describe none."""
        try:
            encoder = cls(list(data["features"]), dict(data["target"]))
            for entry in (*encoder.features, encoder.target):
                names = entry.get("categories", entry.get("classes"))
                texts = [entry["column"]] if names is None else [entry["column"], *names]
                fits = all(isinstance(text, str) for text in texts)
                if names is None:
                    numbers = (float(entry["mean"]), float(entry["scale"]))
                    fits = fits and bool(np.isfinite(numbers).all()) and numbers[1] > 0
                if not fits:
                    raise ValueError(f"column {entry['column']!r}")
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"the description of the table is damaged: {error}") from None
        return encoder


def split_rows(
    n_rows: int, fraction: float, rng: np.random.Generator, labels: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Draw the rows to hold out, such that every class keeps its share.

    Parameters
    ----------
    n_rows : int
        The number of rows.
    fraction : float
        The share to hold out, rounded to whole rows, but at least one row if it is above 0.
    rng : numpy.random.Generator
        Draws the rows.
    labels : ndarray of int64, shape (n_rows,), optional
        Classes. At least one row of each stays among the rows to learn from.

    Returns
    -------
    tuple of ndarray of int64
        Row numbers to learn from, and to hold out, both sorted.
    """
    order = rng.permutation(n_rows)
    n_held = min(max(round(fraction * n_rows), 1), n_rows - 1) if fraction > 0 else 0
    if labels is None:
        return np.sort(order[n_held:]), np.sort(order[:n_held])
    counts = np.bincount(labels)
    share = counts * (n_held / n_rows)
    take = np.minimum(share.astype(np.int64), np.maximum(counts - 1, 0))
    largest_remainder = np.argsort(take - share, kind="stable")
    while take.sum() < n_held and (take < counts - 1).any():
        for label in largest_remainder:
            if take.sum() < n_held and take[label] < counts[label] - 1:
                take[label] += 1
    by_label = order[np.argsort(labels[order], kind="stable")]
    rank = np.arange(n_rows) - (np.cumsum(counts) - counts)[labels[by_label]]
    held = rank < take[labels[by_label]]
    return np.sort(by_label[~held]), np.sort(by_label[held])


def _plan_target(table: Table, column: str, task: str, named: bool) -> dict[str, Any]:
    if len(table) == 0:
        raise InputError(f"{table.name}: there are no rows after the header")
    if task == "auto":
        task = _guess_task(table, column)
    if task == "regression":
        values = table.numbers(column)
        if values.min() == values.max():
            raise table.error(
                0, column, f"every row has the value {values[0]:g}; there is nothing to learn"
            )
        return {"column": column, "mean": 0.0, "scale": 1.0}
    values = table.text(column)
    if not named:
        _check_missing(table, column, values)
    classes = _sorted_texts(values)
    if len(classes) == 1:
        raise table.error(
            0, column, f"every row has the class {shorten(classes[0])}; there is nothing to learn"
        )
    if len(classes) > max(2, len(table) // 2):
        raise table.error(
            0,
            column,
            f"found {len(classes)} different values in {len(table)} rows, too many for classes",
        )
    return {"column": column, "classes": classes}


def _check_missing(table: Table, column: str, values: np.ndarray) -> None:
    """Refuse words that say that a row has no class; name those that may be one."""
    words = {text for text in set(values) if is_missing(text)}
    for text in sorted(words):
        if text.lower() in POSSIBLE_NAMES:
            table.notes.append(f"column {column}: {text!r} is taken for a class")
    missing = words - {text for text in words if text.lower() in POSSIBLE_NAMES}
    if missing:
        rows = np.flatnonzero(np.isin(values.astype(str), list(missing)))
        found = repr(values[rows[0]])
        count = "" if len(rows) == 1 else f"; {len(rows)} rows have none in this column"
        hint = f"--categorical {shlex.quote(column)} takes it for a class"
        raise table.error(int(rows[0]), column, f"no value ({found}){count} ({hint})")


def _guess_task(table: Table, column: str) -> str:
    values = table.possible_numbers(column)
    numbers = np.unique(values[np.isfinite(values)])
    few = len(numbers) <= 2 or (
        len(numbers) <= MAX_NUMBERED_CLASSES and len(numbers) * 5 <= len(table)
    )
    if table.is_text(column):
        mostly_numbers = np.isfinite(values).sum() * 2 > len(table)
        return "regression" if mostly_numbers and not few else "classification"
    if np.isfinite(values).all() and few and (numbers == np.floor(numbers)).all():
        return "classification"
    return "regression"


def _is_categorical(table: Table, column: str) -> bool:
    """Say whether a column is text; a column that is mostly numbers has a mistake in it."""
    if not table.is_text(column):
        return False
    is_number = ~np.isnan(table.possible_numbers(column))
    if is_number.sum() * 2 <= len(table):
        return True
    found = table.frame[column].to_numpy(dtype=object)
    row = next(int(i) for i in np.flatnonzero(~is_number) if not is_missing(str(found[i])))
    hint = "--categorical takes the column as text"
    raise table.error(row, column, f"found {shorten(str(found[row]))}, expected a number ({hint})")


def _check_categories(table: Table, column: str, categories: list[str]) -> None:
    if len(categories) <= max(2, min(MAX_CATEGORIES, len(table) // 2)):
        return
    commas = sum(possible_number(text.replace(",", ".", 1)) for text in categories)
    if commas * 2 > len(categories):
        table.numbers(column)  # its error says what to do about decimal commas
    hint = f"leave it out with --drop {shlex.quote(column)}"
    raise table.error(
        0, column, f"found {len(categories)} different texts, too many for categories; {hint}"
    )


def _sorted_texts(values: np.ndarray) -> list[str]:
    """Return the different texts in order: by value if all are numbers.

    Spellings of one whole number are one text. Where all are whole numbers it is written without a
    point; where they are not, as in 1.0, 1.1, 2.0, as it was found.
    """
    spelled: dict[str, str] = {}
    for text in sorted(set(values)):
        spelled.setdefault(same_name(text), text)
    whole = all(name.removeprefix("-").isdecimal() for name in spelled)
    texts = list(spelled if whole else spelled.values())
    try:
        return sorted(texts, key=lambda text: (float(text), text))
    except ValueError:
        return sorted(texts)


def _codes(table: Table, column: str, names: list[str], what: str) -> np.ndarray:
    """Return the place of each row's text among `names`."""
    values = table.text(column)
    places = {same_name(name): i for i, name in enumerate(names)}
    found = {value: places.get(same_name(value), -1) for value in set(values)}
    codes = np.fromiter((found[value] for value in values), dtype=np.int64, count=len(values))
    if (codes < 0).any():
        row = int(np.flatnonzero(codes < 0)[0])
        known = list_names(names, 8)
        raise table.error(
            row,
            column,
            f"found {shorten(values[row])}, a {what} the model has not seen; it knows {known}",
        )
    return codes


def _standardized(table: Table, entry: dict[str, Any], dtype: Any) -> np.ndarray:
    """Return a column of numbers standardised; what `dtype` cannot hold is an error."""
    values = table.numbers(entry["column"])
    with np.errstate(over="ignore"):
        standardized = (values - entry["mean"]) / entry["scale"]
    beyond = ~(np.abs(standardized) <= np.finfo(dtype).max)
    if beyond.any():
        row = int(np.flatnonzero(beyond)[0])
        found = f"found {values[row]:g}, standardised beyond the range of {np.dtype(dtype)}"
        raise table.error(row, entry["column"], found)
    return standardized


def _mean_and_scale(values: np.ndarray) -> tuple[float, float]:
    largest = float(np.abs(values).max())
    if values.min() == values.max():
        return float(values[0]), 1.0
    ratios = values / largest  # so that nothing overflows
    return float(ratios.mean() * largest), float(ratios.std() * largest) or 1.0
