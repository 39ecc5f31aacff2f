"""A line for each epoch in a file of comma-separated values."""

import io
import os
from collections.abc import Iterable
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

from bpcore.callbacks import Columns
from bpcore.checks import boolean

if TYPE_CHECKING:
    from bpcore.network import Network


class CSVLogger:
    r"""Write the figures of each epoch to a CSV file, as they come.

    The first line names the columns: those of the history, fixed by the first epoch. Each epoch
    adds a line at its end, so others can read the file while the fit goes on. Numbers are written
    in full: what is read back is what the history holds. A figure that an epoch lacks is an empty
    field. A fit that goes on with ``resume=True`` goes on with the file, each epoch once.

    Parameters
    ----------
    path : str or os.PathLike
        The file; its folder must be there.
    separator : str
        One character between the fields: "," or "\t", ";", ...
    append : bool
        Whether to add to the file that is there, whose columns must be the same, on lines of their
        own that end as its first one does; else it is replaced.

    Raises
    ------
    OSError
        From `fit`: the file cannot be written.
    ValueError
        From `fit`: the file to append to has other columns, or a fit goes on with another
        separator.

    Examples
    --------
    >>> import os, tempfile
    >>> import bpcore
    >>> net = bpcore.mlp([1, 1], rng=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "history.csv")
    ...     logger = bpcore.CSVLogger(path)
    ...     history = net.fit([[0.0], [1.0]], [0.0, 1.0], epochs=3, callbacks=[logger])
    ...     with open(path) as file:
    ...         lines = file.read().splitlines()
    >>> lines[0]
    'epoch,loss,learning_rate,seconds'
    >>> [float(line.split(",")[1]) for line in lines[1:]] == history["loss"]
    True
    """

    def __init__(
        self, path: "str | os.PathLike[str]", *, separator: str = ",", append: bool = False
    ) -> None:
        self.path = os.fspath(path)
        if not isinstance(separator, str):
            raise TypeError(f"separator must be text, got {separator!r}")
        if len(separator) != 1 or separator.isalnum() or separator in '"\r\n.+-_':
            raise ValueError(
                f"separator must be one character that is in no number or name, got {separator!r}"
            )
        self.separator = separator
        self.append = boolean(append, "append")
        self._forget()

    def _forget(self) -> None:
        self._names: list[str] = []
        self._line_end = "\n"
        self._start = 0  # where this fit's lines begin
        self._epoch, self._before, self._end = -1, 0, 0  # the last line: its epoch and place
        self._resumed = False

    def check_fit(self, net: "Network", columns: Columns) -> None:
        """Raise ValueError if the file to append to will not have the columns of this fit."""
        if self.append and columns.complete and os.path.exists(self.path):
            self._check_columns(["epoch", *columns])

    def on_fit_begin(self, net: "Network") -> None:
        """Make the file, or find its end."""
        self._forget()
        with open(self.path, "ab+" if self.append else "wb+") as file:
            file.seek(0)
            self._line_end = "\r\n" if file.readline().endswith(b"\r\n") else "\n"
            self._start = self._before = self._end = file.seek(0, os.SEEK_END)

    def on_epoch_end(self, net: "Network", epoch: int, logs: dict[str, Any]) -> None:
        """Write a line."""
        if not self._names:
            names = ["epoch", *logs]
            if self._start > 0:
                self._check_columns(names)
            self._names = names
        elif self._resumed:
            self._go_back(net, epoch)
        self._resumed = False
        # if interrupted in here, the same epoch is told again, and `_go_back` removes its line
        self._epoch, self._before = epoch, self._end
        self._write([{"epoch": epoch} | logs])

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed fit needs."""
        places = {"start": self._start, "before": self._before, "end": self._end}
        form = {"names": self._names, "separator": self.separator, "line_end": self._line_end}
        return form | {"epoch": self._epoch} | places

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned."""
        if state["separator"] != self.separator:
            raise ValueError(
                f"resume=True goes on with separator {state['separator']!r} in {self.path}, got "
                f"{self.separator!r}"
            )
        self._names, self._line_end = list(state["names"]), str(state["line_end"])
        self._epoch = int(state["epoch"])
        self._start, self._before, self._end = (
            int(state[name]) for name in ("start", "before", "end")
        )
        self._resumed = True

    def _check_columns(self, names: list[str]) -> None:
        """Refuse to append to lines with other columns."""
        import csv

        with open(self.path, encoding="utf-8-sig", errors="replace", newline="") as file:
            found = next(csv.reader(file, delimiter=self.separator), names)
        if found != names:
            raise ValueError(
                f"{self.path} has the columns {self._line(found)!a}, and this fit records "
                f"{self._line(names)!a}"
            )

    def _go_back(self, net: "Network", epoch: int) -> None:
        """Take away the lines of epochs that are told again, or make up for a file that is gone."""
        self._end = self._before if epoch <= self._epoch else self._end
        with open(self.path, "ab") as file:
            size = file.seek(0, os.SEEK_END)
            lost = size < self._end
            if lost:
                self._start = self._end = min(self._start, size)
            file.truncate(self._end)
        if lost:
            history = net.history
            self._write([{name: history[name][i] for name in history} for i in range(epoch)])

    def _write(self, rows: list[dict[str, Any]]) -> None:
        """Add lines to the file, and the one that names the columns if it is empty."""
        lines = [self._line(_plain(row.get(name, "")) for name in self._names) for row in rows]
        if self._end == 0:
            lines.insert(0, self._line(self._names))
        with open(self.path, "ab+") as file:
            if file.seek(0, os.SEEK_END):
                file.seek(-1, os.SEEK_END)
                if file.read() not in b"\r\n":  # by whoever wrote the file before
                    lines.insert(0, "")
            file.write("".join(line + self._line_end for line in lines).encode())
            self._end = file.tell()

    def _line(self, fields: Iterable[Any]) -> str:
        import csv

        text = io.StringIO()
        # what is in the line's end is quoted in a field
        csv.writer(text, delimiter=self.separator, lineterminator="\r\n").writerow(fields)
        return text.getvalue().removesuffix("\r\n")


def _plain(value: Any) -> Any:
    """Return a number in the form whose text says all of it."""
    if isinstance(value, Integral):
        return value if isinstance(value, bool) else int(value)
    return repr(float(value)) if isinstance(value, Real) else value
