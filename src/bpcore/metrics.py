"""Figures of one's own about each epoch: accuracy, R2, or any function of targets and predictions.

A built-in figure is a function of the network's loss that returns a function of (y, prediction).
"""

import reprlib
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from bpcore.callbacks import Columns, Recorder
from bpcore.checks import as_matrix, check_finite, choose
from bpcore.errors import ShapeError
from bpcore.losses import BinaryCrossEntropy, Loss

if TYPE_CHECKING:
    from bpcore.network import Network

Function = Callable[[np.ndarray, np.ndarray], float]

RECORDED = ("epoch", "loss", "validation_loss", "learning_rate", "seconds")
"""The columns that every history has, or may have."""


class Metric(Recorder):
    """Record a figure of each epoch: a function of targets and predictions.

    A callback that adds a column to the history, for `EarlyStopping` to monitor, `CSVLogger` to
    write and ``verbose=1`` to print.

    Parameters
    ----------
    name : str
        Of the column.
    function : callable, {"accuracy", "r2"} or None
        ``function(y, prediction)`` returns a number. `y` holds class labels, shape (n,), if it was
        given so for a cross-entropy loss, and else has the shape of the predictions, (n, n_out);
        predictions are those of ``net.predict``: logits where the loss takes logits. None is the
        built-in function called `name`. "accuracy": the share of rows whose largest prediction is
        the right one; for binary cross-entropy the share of targets (rows by outputs) on the right
        side of a probability of 1/2. "r2": the coefficient of determination, its mean over outputs.
    data : (X, y), optional
        The rows to predict; those of the fit's validation data without it. Sample weights do not
        count.

    Raises
    ------
    ValueError
        An unknown function, or the name of a column that every history has. From `fit`: there is
        neither `data` nor validation data, the figure does not suit the loss, or another callback
        records one of that name.
    TypeError
        From `fit`: the function returned something else than a number.

    Examples
    --------
    >>> import numpy as np
    >>> import bpcore
    >>> X = np.random.default_rng(0).normal(size=(200, 2))
    >>> y = (X[:, 0] > X[:, 1]).astype(int)
    >>> net = bpcore.mlp([2, 2], output="softmax", loss="cross_entropy", rng=0)
    >>> def worst_recall(y, prediction):
    ...     right = prediction.argmax(axis=1) == y
    ...     return min(right[y == label].mean() for label in (0, 1))
    >>> metrics = [bpcore.Metric("accuracy"), bpcore.Metric("worst_recall", worst_recall)]
    >>> history = net.fit(X, y, epochs=50, validation_fraction=0.2, callbacks=metrics)
    >>> history["worst_recall"][-1] <= history["accuracy"][-1]
    True
    """

    def __init__(
        self,
        name: str,
        function: Callable[[Any, Any], Any] | str | None = None,
        *,
        data: Any = None,
    ) -> None:
        if not isinstance(name, str):
            raise TypeError(f"the name of a metric must be text, got {name!r}")
        if not name or name in RECORDED:
            raise ValueError(f"a metric cannot be called {name!r}; a history has that column")
        if function is None or isinstance(function, str):
            function = choose(name if function is None else function, BUILT_IN, "metric")
        elif not callable(function):
            raise TypeError(f"function must be a callable or a name, got {function!r}")
        if data is not None and not (isinstance(data, tuple | list) and len(data) == 2):
            raise TypeError("data must be (X, y)")
        self.name, self.function, self.data = name, function, data

    def check_fit(self, net: "Network", columns: Columns) -> None:
        """Raise ValueError unless the figure can be had of this network in this fit."""
        columns.add(self.name)
        self._computed(net.loss)
        if self.data is not None:
            X, y = self._rows(net)
            for array, argument in ((X, "X"), (y, "y")):
                if array.dtype.kind == "f":
                    check_finite(array, f"metric {self.name!r}: {argument}", net.dtype)
        elif "validation_loss" not in columns:
            raise ValueError(
                f"metric {self.name!r} needs validation data: give data=(X, y), or give fit "
                "validation_data or validation_fraction"
            )

    def on_epoch_end(self, net: "Network", epoch: int, logs: dict[str, Any]) -> None:
        """Add the figure to the epoch's."""
        if self.data is None and net._exclusive.run is None:
            raise ValueError(f"metric {self.name!r} has no data outside of a fit")
        X, y = net._exclusive.run.validation_rows() if self.data is None else self._rows(net)
        y = y.view()
        y.flags.writeable = False  # it may be the caller's own
        logs[self.name] = self._number(self._computed(net.loss)(y, net.predict(X)))

    def _number(self, value: Any) -> float:
        """Return what a function gave as a float, unless it is no single number."""
        try:
            if isinstance(value, str | bytes) or getattr(value, "ndim", 0):
                raise TypeError("neither text nor an array is a number")
            return float(value)
        except (TypeError, ValueError, OverflowError) as error:
            raise TypeError(
                f"the function of metric {self.name!r} must return a number, got "
                f"{reprlib.repr(value)}"
            ) from error

    def _computed(self, loss: Loss) -> Function:
        if isinstance(self.function, str):
            return BUILT_IN[self.function](loss)
        return self.function

    def _rows(self, net: "Network") -> tuple[np.ndarray, np.ndarray]:
        X = as_matrix(self.data[0], f"metric {self.name!r}: X", net.n_in)
        if X.shape[0] == 0:
            raise ShapeError(f"metric {self.name!r}: X has no rows")
        y = f"metric {self.name!r}: y"
        return X, net.loss.check_target(self.data[1], y, X.shape[0], net.n_out)


def _accuracy(loss: Loss) -> Function:
    if loss.takes_labels:
        return _right_classes
    if isinstance(loss, BinaryCrossEntropy):
        return partial(_right_sides, 0.0 if loss.from_logits else 0.5)
    raise ValueError(
        f"accuracy is for cross-entropy losses, and this network has {loss.kernel}; give a "
        "function(y, prediction)"
    )


def _right_classes(y: np.ndarray, prediction: np.ndarray) -> float:
    labels = y if y.ndim == 1 else y.argmax(axis=1)
    return np.mean(prediction.argmax(axis=1) == labels)


def _right_sides(threshold: float, y: np.ndarray, prediction: np.ndarray) -> float:
    return np.mean((prediction > threshold) == (y > 0.5))


def _r2(loss: Loss) -> Function:
    if loss.takes_labels:
        raise ValueError(f"r2 is not for classes, and this network has {loss.kernel}")
    return _determination


def _determination(y: np.ndarray, prediction: np.ndarray) -> float:
    """1 - the squared errors by those of the mean; of a constant target, 1 or 0 (exact or not)."""
    unexplained = np.square(y - prediction, dtype=np.float64).sum(axis=0)
    total = np.square(y - y.mean(axis=0, dtype=np.float64)).sum(axis=0)
    exact = np.where(unexplained == 0.0, 1.0, 0.0)
    varies = total > 0.0
    return np.mean(np.where(varies, 1.0 - unexplained / np.where(varies, total, 1.0), exact))


BUILT_IN: dict[str, Callable[[Loss], Function]] = {"accuracy": _accuracy, "r2": _r2}
