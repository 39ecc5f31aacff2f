"""What a fit records."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bpcore.frames import to_frame

if TYPE_CHECKING:
    import pandas


class History(Mapping[str, list[Any]]):
    """The figures of each epoch, as lists by name.

    ``history["loss"]`` is the mean of the epoch's batch losses before their updates; further names
    are "epoch" (from 0), "learning_rate", "seconds" (of training so far, without callbacks, to
    about a millisecond), "validation_loss" where there is validation data, and what callbacks
    added. ``len(history)`` is the number of epochs; `keys`, `items` and ``in`` are those of the
    lists.

    Attributes
    ----------
    best_epoch : int or None
        The epoch, from 0, whose weights early stopping gave back to the network; None if none were.
    stopped : bool
        Whether a callback ended the fit.

    Examples
    --------
    >>> import bpcore
    >>> net = bpcore.mlp([1, 1], rng=0)
    >>> history = net.fit([[0.0], [1.0]], [0.0, 1.0], epochs=3)
    >>> len(history)
    3
    >>> list(history)
    ['epoch', 'loss', 'learning_rate', 'seconds']
    """

    def __init__(self, columns: Mapping[str, Sequence[Any] | np.ndarray]) -> None:
        self._columns = dict(columns)
        self.best_epoch: int | None = None
        self.stopped = False

    def __getitem__(self, name: str) -> list[Any]:
        values = self._columns[name]
        if isinstance(values, list):
            return values
        # millions of epochs take longer to list than to train, so only what is asked for is
        listed = values.tolist() if isinstance(values, np.ndarray) else list(values)
        self._columns[name] = listed
        return listed

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns["epoch"])

    def __bool__(self) -> bool:
        return True  # a history of no epochs is still a history

    def __repr__(self) -> str:
        if not len(self):
            return "History(0 epochs)"
        last = ", ".join(
            f"{name} {values[-1]:.6g}" for name, values in self._columns.items() if name != "epoch"
        )
        return f"History({len(self)} epochs, at last {last})"

    def to_frame(self) -> "pandas.DataFrame":
        """Return a pandas DataFrame with a row for each epoch and a column for each name.

        Raises
        ------
        ImportError
            pandas is not installed.
        """
        return to_frame(dict(self))

    def plot(
        self,
        ax: Any = None,
        *,
        names: "Sequence[str] | None" = None,
        learning_rate: bool | None = None,
    ) -> Any:
        """Draw figures by epoch with matplotlib.

        The scale is logarithmic where positive figures span more than a factor of ten. The best
        epoch is marked where early stopping went back to it. Nothing is shown or saved.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            Where to draw; a new pyplot figure without it.
        names : sequence of str, optional
            The columns to draw; the losses without it.
        learning_rate : bool, optional
            Whether to draw the learning rate too, on a scale at the right; by default if it
            changes.

        Returns
        -------
        matplotlib.axes.Axes

        Raises
        ------
        ValueError
            A name that is not recorded.
        ImportError
            matplotlib is not installed.
        """
        from bpcore.plot import plot_history

        return plot_history(self, ax, names=names, learning_rate=learning_rate)

    def _repr_html_(self) -> str:
        from bpcore.htmlreprs import history_html

        return history_html(self)
