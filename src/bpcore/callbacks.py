"""What can be done at the end of each epoch of a fit.

A callback is a function ``callback(net, epoch, logs)`` or an object with any of the methods
``on_fit_begin(net)``, ``on_epoch_end(net, epoch, logs)`` and ``on_fit_end(net, history)``. `logs`
holds the epoch's figures ("loss", "validation_loss", ...); what a callback adds to it becomes a
column of the history. One that returns True ends the fit. An `EarlyStopping` is told after those
that may add something, a `CSVLogger` after it, and a `Checkpoint` last.

One that keeps something from epoch to epoch may also have ``state_dict()``, which returns that as a
dict (of arrays and of what JSON can hold), and ``load_state_dict(state)``. Then `fit` with
``resume=True`` gives it back what it had, also after saving and loading, and tells it of each epoch
exactly once; it is matched by the name of its class, and in order if there are several. Other
callbacks get ``on_fit_begin`` again, and an epoch in whose callbacks a fit was interrupted is not
told to them a second time.

One that has ``check_fit(net, columns)`` is asked before the fit begins whether it suits, and raises
ValueError if not. `columns` is a `Columns`: the figures that there will be when it is told of an
epoch. It adds the names of its own. A callback whose class has no such method may add any, so
what comes after it can only be checked at the end of the first epoch.
"""

import os
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from bpcore.checks import boolean, choose, finite_non_negative, whole

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bpcore.history import History
    from bpcore.network import Network

LARGER_IS_BETTER = {"acc", "accuracy", "auc", "f1", "precision", "r2", "recall", "score"}
SMALLER_IS_BETTER = {"deviance", "error", "loss", "norm", "seconds"} | {
    "mae", "mape", "mse", "rmse", "rmsle"
}  # fmt: skip
TURNED_ROUND = {"brier", "neg", "negative"}
"""Words after which neither holds: "neg_mean_squared_error", "brier_score"."""
MODES = ("min", "max")


class Columns(list[str]):
    """The names of an epoch's figures, in order, as far as they are known before the fit.

    Attributes
    ----------
    complete : bool
        Whether there will be no others.
    """

    complete = True

    def add(self, name: str) -> None:
        """Add a name; ValueError if it is there."""
        if name in self:
            raise ValueError(
                f"two callbacks would record {name!r}, or a history has that column; name one of "
                "them otherwise"
            )
        self.append(name)


def check_fit(callbacks: "Iterable[Any]", net: "Network", validated: bool) -> None:
    """Ask the callbacks, in the order in which they are told, whether they suit a fit."""
    validation = ["validation_loss"] if validated else []
    columns = Columns(["loss", *validation, "learning_rate", "seconds"])
    for callback in callbacks:
        if callable(check := getattr(callback, "check_fit", None)):
            check(net, columns)
        # a subclass may add more than what it inherits speaks of
        columns.complete &= "check_fit" in vars(type(callback))


class Recorder:
    """One that adds figures and keeps nothing; yet which epochs it heard of counts.

    So that of an epoch in whose callbacks a fit was interrupted, it hears after all.
    """

    def state_dict(self) -> dict[str, Any]:
        """Return nothing."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take nothing."""


class EarlyStopping:
    """Stop when a figure has not improved for a while, and go back to the best weights.

    Parameters
    ----------
    monitor : str or None
        The name of a column of the history: "loss", "validation_loss", what a `Metric` or another
        callback adds. None is "validation_loss" where there is one, else "loss".
    mode : {"min", "max"} or None
        Whether smaller or larger figures are better. None goes by the last word of the name, in
        upper or lower case: "max" for accuracy, acc, r2, score, auc, f1, precision and recall;
        "min" for loss, error, mse, mae, mape, rmse, rmsle, deviance, norm and seconds. Any other
        name needs a mode.
    patience : int
        How many epochs without improvement end the fit, 1 or more.
    min_delta : float
        What counts as an improvement is a change for the better by more than this, 0 or more.
    restore_best : bool
        Whether the network gets back the weights of its best epoch: those after it, or, if the
        figure is "loss", which is taken before each update, those at its start.

    Raises
    ------
    ValueError
        The name of the figure does not say whether smaller or larger is better. From `fit`: no such
        figure is recorded.

    Attributes
    ----------
    best : float
        The best figure of the last fit; infinity, or minus infinity, before there is one.
    best_epoch : int
        Its epoch, from 0; -1 before there is one.

    Examples
    --------
    >>> import bpcore
    >>> net = bpcore.mlp([1, 1], rng=0)
    >>> stopping = bpcore.EarlyStopping(patience=5, min_delta=1e-6)
    >>> X, y = [[0.0], [1.0]], [0.0, 1.0]
    >>> history = net.fit(X, y, epochs=10_000, optimizer="rprop", early_stopping=stopping)
    >>> len(history) < 1000
    True

    On the accuracy of rows held out:

    >>> X, y = [[float(i)] for i in range(-10, 10)], [0] * 10 + [1] * 10
    >>> net = bpcore.mlp([1, 1], output="sigmoid", loss="bce", rng=0)
    >>> stopping = bpcore.EarlyStopping(monitor="accuracy", patience=20)
    >>> history = net.fit(
    ...     X, y, epochs=500, validation_fraction=0.25, callbacks=[bpcore.Metric("accuracy")],
    ...     early_stopping=stopping, health=False,
    ... )
    >>> stopping.best == max(history["accuracy"]) and len(history) == stopping.best_epoch + 21
    True
    """

    def __init__(
        self,
        *,
        monitor: str | None = None,
        mode: str | None = None,
        patience: int = 10,
        min_delta: float = 0.0,
        restore_best: bool = True,
    ) -> None:
        if monitor is not None and not isinstance(monitor, str):
            raise TypeError(f"monitor must be the name of a column or None, got {monitor!r}")
        self.monitor = monitor
        self.mode = _mode(monitor or "loss") if mode is None else choose(mode, MODES, "mode")
        self.patience = whole(patience, "patience", 1)
        self.min_delta = finite_non_negative(min_delta, "min_delta")
        self.restore_best = boolean(restore_best, "restore_best")
        self._forget()

    def _forget(self) -> None:
        self.best, self.best_epoch = np.inf if self.mode == "min" else -np.inf, -1
        self._parameters: np.ndarray | None = None  # the best
        self._before: np.ndarray | None = None  # at the start of the epoch

    def check_fit(self, net: "Network", columns: Columns) -> None:
        """Raise ValueError if there will be no such figure."""
        if self.monitor is not None and columns.complete:
            self._check_monitor(columns)

    def _check_monitor(self, names: "Iterable[str]") -> None:
        if self.monitor not in names:
            raise ValueError(
                f"monitor {self.monitor!r} is not recorded; there are {', '.join(names)}"
            )

    def on_fit_begin(self, net: "Network") -> None:
        """Forget an earlier fit."""
        self._forget()
        self._before = net.parameters.copy()

    def on_epoch_end(self, net: "Network", epoch: int, logs: dict[str, Any]) -> bool:
        """Return whether it is time to stop."""
        name = self.monitor
        if name is None:
            name = "validation_loss" if "validation_loss" in logs else "loss"
        else:
            self._check_monitor(logs)
        after = net.parameters.copy()
        # an interruption anywhere in here may be followed by a second call for the same epoch
        sign = 1 if self.mode == "min" else -1
        if sign * logs[name] < sign * self.best - self.min_delta:
            # "loss" is that of the weights before their updates
            self._parameters = self._before if name == "loss" else after
            self.best_epoch = epoch
            self.best = logs[name]
        self._before = after
        return epoch - max(self.best_epoch, 0) >= self.patience

    def on_fit_end(self, net: "Network", history: "History") -> None:
        """Go back to the best weights."""
        if self.restore_best and self._parameters is not None:
            net.parameters[...] = self._parameters
            history.best_epoch = self.best_epoch
        self._parameters = self._before = None

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed fit needs."""
        state = {"best": float(self.best), "best_epoch": self.best_epoch}
        return state | {"parameters": self._parameters, "before": self._before}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned."""
        self.best, self.best_epoch = float(state["best"]), int(state["best_epoch"])
        self._parameters, self._before = state.get("parameters"), state.get("before")


def _mode(name: str) -> str:
    """Return which figures of this name are better, where the name says so."""
    words = re.findall("[a-z][a-z0-9]*", name.lower())  # of "norm.0" the number does not count
    if words and not TURNED_ROUND.intersection(words):
        if words[-1] in LARGER_IS_BETTER:
            return "max"
        if words[-1] in SMALLER_IS_BETTER:
            return "min"
    raise ValueError(
        f"the name {name!r} does not say whether smaller or larger figures are better; give "
        "mode='min' or mode='max'"
    )


class Checkpoint:
    """Save the network every so many epochs, and at the end of the fit.

    At every moment the file is whole: the one before, or the new one (see `bpcore.Network.save`).
    So after a crash, or a power cut, a fit can go on from the last one saved, to the same bits as
    if nothing had happened.

    Parameters
    ----------
    path : str or os.PathLike
        The file, by custom with the ending ``.safetensors``.
    every : int
        How many epochs lie between two saves, 1 or more.

    Examples
    --------
    >>> import os, tempfile
    >>> import bpcore
    >>> X, y = [[0.0], [1.0]], [0.0, 1.0]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "model.safetensors")
    ...     checkpoint = bpcore.Checkpoint(path, every=2)
    ...     def power_cut(net, epoch, logs):
    ...         if epoch == 6:
    ...             raise InterruptedError
    ...     try:
    ...         bpcore.mlp([1, 1]).fit(X, y, epochs=10, callbacks=[checkpoint, power_cut])
    ...     except InterruptedError:
    ...         net = bpcore.load(path)
    ...         history = net.fit(X, y, epochs=10, callbacks=[checkpoint], resume=True)
    >>> history["epoch"]
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    """

    def __init__(self, path: "str | os.PathLike[str]", *, every: int = 1) -> None:
        self.path = os.fspath(path)
        self.every = whole(every, "every", 1)

    def on_epoch_end(self, net: "Network", epoch: int, logs: dict[str, Any]) -> None:
        """Save, if it is time."""
        if (epoch + 1) % self.every == 0:
            net.save(self.path)

    def on_fit_end(self, net: "Network", history: "History") -> None:
        """Save the result."""
        net.save(self.path)


class GradientNorms(Recorder):
    """Record a norm of each dense layer's weight gradient: "gradient_norm.0", ...

    The gradient is that of the epoch's last batch, after clipping.

    Parameters
    ----------
    order : {1, 2} or numpy.inf
        1: the sum of absolute values; 2: the Euclidean norm; inf: the largest absolute value.

    Examples
    --------
    >>> import bpcore
    >>> net = bpcore.mlp([1, 2, 1], rng=0)
    >>> history = net.fit([[0.0], [1.0]], [0.0, 1.0], callbacks=[bpcore.GradientNorms()])
    >>> [name for name in history if name.startswith("gradient")]
    ['gradient_norm.0', 'gradient_norm.2']
    """

    def __init__(self, *, order: float = 2) -> None:
        if order not in (1, 2, np.inf):
            raise ValueError(f"order must be 1, 2 or numpy.inf, got {order!r}")
        self.order = order

    def check_fit(self, net: "Network", columns: Columns) -> None:
        """Say which figures there will be."""
        for name in self._gradients(net):
            columns.add(name)

    def on_epoch_end(self, net: "Network", epoch: int, logs: dict[str, Any]) -> None:
        """Add the norms to the epoch's figures."""
        for name, gradient in self._gradients(net).items():
            logs[name] = float(np.linalg.norm(gradient.ravel(), self.order))

    def _gradients(self, net: "Network") -> dict[str, np.ndarray]:
        """Return those of the weights, by the name of the figure."""
        parts = {name.rpartition("."): array for name, array in net.gradient_arrays().items()}
        return {
            f"gradient_norm.{layer}": array
            for (layer, _, kind), array in parts.items()
            if kind == "weight"
        }
