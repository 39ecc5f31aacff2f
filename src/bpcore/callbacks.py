"""What can be done at the end of each epoch of a fit.

A callback is a function ``callback(net, epoch, logs)`` or an object with any of the methods
``on_fit_begin(net)``, ``on_epoch_end(net, epoch, logs)`` and ``on_fit_end(net, history)``. `logs`
holds the epoch's figures ("loss", "validation_loss", ...); what a callback adds to it becomes a
column of the history. One that returns True ends the fit.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from bpcore.checks import boolean, finite_non_negative, whole

if TYPE_CHECKING:
    from bpcore.history import History
    from bpcore.network import Network


class EarlyStopping:
    """Stop when a figure has not improved for a while, and go back to the best weights.

    Parameters
    ----------
    monitor : str or None
        The name of a column of the history; smaller is better. None is "validation_loss" where
        there is one, else "loss".
    patience : int
        How many epochs without improvement end the fit, 1 or more.
    min_delta : float
        What counts as an improvement is a decrease by more than this, 0 or more.
    restore_best : bool
        Whether the network gets back the weights of its best epoch: those after it, or, if the
        figure is "loss", which is taken before each update, those at its start.

    Attributes
    ----------
    best : float
        The best figure of the last fit.
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
    """

    def __init__(
        self,
        *,
        monitor: str | None = None,
        patience: int = 10,
        min_delta: float = 0.0,
        restore_best: bool = True,
    ) -> None:
        self.monitor = monitor
        self.patience = whole(patience, "patience", 1)
        self.min_delta = finite_non_negative(min_delta, "min_delta")
        self.restore_best = boolean(restore_best, "restore_best")
        self._forget()

    def _forget(self) -> None:
        self.best, self.best_epoch = np.inf, -1
        self._parameters: np.ndarray | None = None  # the best
        self._before: np.ndarray | None = None  # at the start of the epoch

    def on_fit_begin(self, net: "Network") -> None:
        """Forget an earlier fit."""
        self._forget()
        self._before = net.parameters.copy()

    def on_epoch_end(self, net: "Network", epoch: int, logs: dict[str, Any]) -> bool:
        """Return whether it is time to stop."""
        name = self.monitor or ("validation_loss" if "validation_loss" in logs else "loss")
        if name not in logs:
            raise ValueError(f"monitor {name!r} is not recorded; there are {', '.join(logs)}")
        after = net.parameters.copy()
        if logs[name] < self.best - self.min_delta:
            self.best, self.best_epoch = logs[name], epoch
            # "loss" is that of the weights before their updates
            self._parameters = self._before if name == "loss" else after
        self._before = after
        return epoch - max(self.best_epoch, 0) >= self.patience

    def on_fit_end(self, net: "Network", history: "History") -> None:
        """Go back to the best weights."""
        if self.restore_best and self._parameters is not None:
            net.parameters[...] = self._parameters
        self._parameters = self._before = None


class GradientNorms:
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

    def on_epoch_end(self, net: "Network", epoch: int, logs: dict[str, Any]) -> None:
        """Add the norms to the epoch's figures."""
        for name, gradient in net.gradient_arrays().items():
            layer, _, kind = name.rpartition(".")
            if kind == "weight":
                logs[f"gradient_norm.{layer}"] = float(np.linalg.norm(gradient.ravel(), self.order))
