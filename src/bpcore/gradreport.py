"""What a gradient check found: analytic and numeric side by side, and a verdict in a sentence."""

from typing import TYPE_CHECKING, Any

import numpy as np

from bpcore.frames import to_frame

if TYPE_CHECKING:
    import pandas

_JUDGED = ("right", "wrong", "not finite")
_LEAST_CHECKED = 0.1  # of the entries looked at; with fewer a check proves nothing
_ROWS_SHOWN = 4  # of each array
_LOW_RESOLUTION = 1e-10
_COLUMNS = ("array", "index", "analytic", "numeric", "error_estimate", "relative_error", "verdict")


class ArrayCheck:
    """The check of one array.

    Attributes
    ----------
    name : str
    shape : tuple of int
        Of the whole array.
    index : list
        A tuple of int for each entry looked at, or "direction k".
    analytic, numeric : ndarray
        The derivative that was given and the one measured.
    error_estimate : ndarray
        How far off the measured one may be.
    relative_error : ndarray
        ``abs(analytic - numeric) / max(abs(analytic), abs(numeric))``.
    verdict : ndarray of str
        "right", "wrong", "not finite", "kink" or "too small to judge".
    """

    def __init__(
        self,
        name: str,
        shape: tuple[int, ...],
        index: "list[tuple[int, ...] | str]",
        analytic: np.ndarray,
        numeric: np.ndarray,
        error_estimate: np.ndarray,
        verdict: np.ndarray,
    ) -> None:
        self.name, self.shape, self.index = name, shape, index
        self.analytic, self.numeric, self.error_estimate = analytic, numeric, error_estimate
        finite = np.isfinite(analytic)
        self.verdict = np.where(finite, verdict, "not finite")
        with np.errstate(all="ignore"):
            size = np.maximum(np.abs(analytic), np.abs(numeric))
            relative = np.where(size == 0, 0.0, np.abs(analytic - numeric) / size)
        self.relative_error = np.where(finite, relative, np.inf)

    @property
    def ok(self) -> bool:
        """Whether no entry is wrong and some could be judged."""
        return self.n_wrong == 0 and self.n_checked > 0

    @property
    def judged(self) -> np.ndarray:
        """Which entries could be judged: a mask."""
        return np.isin(self.verdict, _JUDGED)

    @property
    def n_checked(self) -> int:
        """How many entries could be judged."""
        return int(self.judged.sum())

    @property
    def n_wrong(self) -> int:
        """How many of them are wrong."""
        return int(np.isin(self.verdict, ("wrong", "not finite")).sum())

    @property
    def n_kinks(self) -> int:
        """How many were left out because the function has a kink there."""
        return int((self.verdict == "kink").sum())

    @property
    def n_undecided(self) -> int:
        """How many were left out because they are too small to judge."""
        return len(self.index) - self.n_checked - self.n_kinks

    @property
    def all_zero(self) -> bool:
        """Whether every entry that could be judged is exactly 0."""
        judged = self.judged
        return not (self.analytic[judged].any() or self.numeric[judged].any())

    def order(self) -> np.ndarray:
        """Positions of the entries, worst first, those left out last."""
        rank = np.select([np.isin(self.verdict, ("wrong", "not finite")), self.judged], [0, 1], 2)
        return np.lexsort((-np.nan_to_num(self.relative_error, nan=np.inf), rank))

    @property
    def worst_error(self) -> float:
        """The relative error of the worst entry that could be judged; nan without any."""
        return float(self.relative_error[self.order()[0]]) if self.n_checked else float("nan")

    @property
    def worst_index(self) -> "tuple[int, ...] | str | None":
        """The index of that entry."""
        return self.index[self.order()[0]] if self.n_checked else None

    def __repr__(self) -> str:
        return (
            f"<ArrayCheck {self.name}: {self.n_checked} checked, {self.n_wrong} wrong, "
            f"{self.n_kinks} kinks, {self.n_undecided} too small to judge>"
        )


class GradientReport:
    """The result of a gradient check; `print` it to read it.

    Attributes
    ----------
    arrays : dict of str to ArrayCheck
        What was found in each array, with all its entries.
    problems : list of str
        What spoiled the check as a whole.
    hint : str
        A factor, sign, transposition or pattern of zeros that would explain the difference, or "".
    resolution : float
        How precisely the function itself is computed, relative to its value.

    Examples
    --------
    >>> import numpy as np
    >>> import bpcore
    >>> x = np.array([0.5, 0.0, -1.5])
    >>> report = bpcore.check_gradients(lambda x: np.abs(x).sum(), np.sign, x)
    >>> report.ok, report.n_checked, report.n_kinks, report.n_undecided
    (True, 2, 1, 0)
    """

    def __init__(
        self,
        arrays: dict[str, ArrayCheck],
        problems: "list[str]" = (),
        hint: str = "",
        resolution: float = 0.0,
    ) -> None:
        self.arrays, self.hint, self.resolution = arrays, hint, resolution
        self.problems = [*problems, *self._own_problems()]

    def _own_problems(self) -> list[str]:
        found = []
        for array in self.arrays.values():
            unfit = ~np.isfinite(array.analytic)
            if unfit.any():
                at = int(unfit.argmax())
                found.append(
                    f"the gradient of {array.name} is {array.analytic[at]} at {array.index[at]}"
                )
        if found or not self.arrays:
            return found
        nothing = "so code that always returns 0 would pass"
        if not any(array.analytic.any() for array in self.arrays.values()):
            why = "dead or saturated units, or nothing left to learn?"
            return [] if self.n_wrong else [f"every gradient is exactly 0, {nothing} ({why})"]
        if self.n_checked < _LEAST_CHECKED * self.n_entries:
            advice = ""
            if self.resolution > _LOW_RESOLUTION:
                advice = (
                    "; the function is precise only to about "
                    f"{min(self.resolution, 1):.0e} of its value: "
                    "compute it in float64, without cancellation"
                )
            left = self.n_entries - self.n_checked
            return [
                f"{left} of {_entries(self.n_entries)} had to be left out "
                f"({self.n_kinks} at kinks, {self.n_undecided} too small to judge){advice}"
            ]
        if all(array.all_zero for array in self.arrays.values()):
            return [f"every gradient that could be judged is exactly 0, {nothing}"]
        return []

    def _sum(self, name: str) -> int:
        return sum(getattr(array, name) for array in self.arrays.values())

    @property
    def n_entries(self) -> int:
        """How many entries were looked at."""
        return sum(len(array.index) for array in self.arrays.values())

    @property
    def n_checked(self) -> int:
        """How many of them could be judged."""
        return self._sum("n_checked")

    @property
    def n_wrong(self) -> int:
        """How many of those are wrong."""
        return self._sum("n_wrong")

    @property
    def n_kinks(self) -> int:
        """How many were left out because the function has a kink there."""
        return self._sum("n_kinks")

    @property
    def n_undecided(self) -> int:
        """How many were left out because they are too small to judge."""
        return self._sum("n_undecided")

    @property
    def ok(self) -> bool:
        """Whether the gradients are proven: enough could be judged, and all of it is right."""
        return bool(self.arrays) and not self.problems and self.n_wrong == 0

    @property
    def along_directions(self) -> bool:
        """Whether random directions were looked at, not single entries."""
        return any(isinstance(i, str) for array in self.arrays.values() for i in array.index[:1])

    def _worst(self) -> ArrayCheck | None:
        judged = [array for array in self.arrays.values() if array.n_checked]
        return max(judged, key=lambda a: (a.n_wrong > 0, a.worst_error), default=None)

    @property
    def worst_error(self) -> float:
        """The relative error of the worst entry that could be judged; nan without any."""
        worst = self._worst()
        return float("nan") if worst is None else worst.worst_error

    @property
    def worst_location(self) -> "tuple[str, tuple[int, ...] | str] | None":
        """The name of its array, and its index there."""
        worst = self._worst()
        return None if worst is None else (worst.name, worst.worst_index)

    def to_frame(self) -> "pandas.DataFrame":
        """Return every entry as a row of a pandas DataFrame.

        Returns
        -------
        pandas.DataFrame
            With columns array, index, analytic, numeric, error_estimate, relative_error, verdict.

        Raises
        ------
        ImportError
            pandas is not installed.
        """
        rows: dict[str, list[Any]] = {name: [] for name in _COLUMNS}
        for array in self.arrays.values():
            rows["array"] += [array.name] * len(array.index)
            for name in _COLUMNS[1:]:
                rows[name] += list(getattr(array, name))
        return to_frame(rows)

    def plot(self, ax: Any = None) -> Any:
        """Draw analytic against numeric derivatives with matplotlib: right ones lie on the line.

        The scales are logarithmic but around 0, each array has a colour, and the worst of the
        wrong entries are ringed and named. What could not be judged is hollow.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            Where to draw; a new pyplot figure without it.

        Returns
        -------
        matplotlib.axes.Axes

        Raises
        ------
        ImportError
            matplotlib is not installed.
        """
        from bpcore.plotgradients import plot_gradients

        return plot_gradients(self, ax)

    def _repr_html_(self) -> str:
        from bpcore.htmlreprs import gradients_html

        return gradients_html(self)

    def __repr__(self) -> str:
        return (
            f"<GradientReport ok={self.ok}: {self.n_checked} checked, {self.n_wrong} wrong, "
            f"{self.n_kinks} kinks, {self.n_undecided} too small to judge, "
            f"worst relative error {self.worst_error:.1e}>"
        )

    def __str__(self) -> str:
        lines = [self.sentence()]
        if self.hint:
            lines.append(f"Hint: {self.hint}.")
        zero = [name for name, array in self.arrays.items() if array.all_zero and array.n_checked]
        if zero and self.ok:
            lines.append(f"Exactly 0 throughout: {', '.join(zero)} (dead or saturated units?).")
        for array in self.arrays.values():
            lines += ["", *_array_table(array)]
        return "\n".join(lines)

    def sentence(self) -> str:
        """Say the verdict in a sentence or two."""
        left_out = ""
        if self.n_kinks or self.n_undecided:
            left_out = (
                f" Left out: {self.n_kinks} at kinks, {self.n_undecided} too small to judge "
                "beside rounding."
            )
        if self.n_wrong:
            differ = "differs" if self.n_wrong == 1 else "differ"
            also = "".join(f" Also, {problem}." for problem in self.problems)
            return (
                f"Gradients WRONG: {self.n_wrong} of {self._counted()} {differ} from "
                f"central differences, worst at {self._place()} "
                f"(relative error {self.worst_error:.1e}).{left_out}{also}"
            )
        if not self.ok:
            return f"Gradients NOT PROVEN: {'; '.join(self.problems)}."
        everything = "" if left_out else "all "
        agree = "agrees" if self.n_checked == 1 else "agree"
        return (
            f"Gradients proven: {everything}{self._counted()} {agree} with central "
            f"differences; worst relative error {self.worst_error:.1e} at {self._place()}."
            f"{left_out}"
        )

    def _counted(self) -> str:
        if not self.along_directions:
            return _entries(self.n_checked)
        return f"{self.n_checked} direction{'s' * (self.n_checked != 1)}"

    def _place(self) -> str:
        name, index = self.worst_location
        place = ", ".join(map(str, index)) if isinstance(index, tuple) else index
        return f"{name}[{place}]" if place else name


def _entries(n: int) -> str:
    return "1 entry" if n == 1 else f"{n} entries"


def _array_table(array: ArrayCheck) -> list[str]:
    """Lines that show the worst entries of an array."""
    counts = [f"{array.n_checked} checked"]
    if array.n_wrong:
        counts.append(f"{array.n_wrong} WRONG")
    if array.n_kinks:
        counts.append(f"{array.n_kinks} at kinks")
    if array.n_undecided:
        counts.append(f"{array.n_undecided} too small to judge")
    if array.n_checked and array.all_zero:
        counts.append("all exactly 0")
    lines = [f"{array.name} {array.shape}: {', '.join(counts)}"]
    header = ("index", "analytic", "numeric", "relative error", "verdict")
    rows = [header]
    order = array.order()[:_ROWS_SHOWN]
    for k in order:
        rows.append(
            (
                str(array.index[k]),
                f"{array.analytic[k]:.10e}",
                f"{array.numeric[k]:.10e}",
                f"{array.relative_error[k]:.1e}",
                str(array.verdict[k]),
            )
        )
    widths = [max(len(row[c]) for row in rows) for c in range(4)]
    for row in rows:
        cells = [row[0].ljust(widths[0]), *(row[c].rjust(widths[c]) for c in (1, 2, 3)), row[4]]
        lines.append("  " + "  ".join(cells).rstrip())
    if len(array.index) > len(order):
        lines.append(f"  ... and {len(array.index) - len(order)} more")
    return lines
