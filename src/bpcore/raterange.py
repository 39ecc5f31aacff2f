"""The learning-rate range test: how the loss goes as the rate grows from batch to batch."""

import copy
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from bpcore import optimizers, training
from bpcore.checks import finite_positive, fraction, whole
from bpcore.errors import DivergenceError
from bpcore.frames import to_frame

if TYPE_CHECKING:
    import pandas
    from numpy.typing import ArrayLike

    from bpcore.network import Network

ROWS = 256
"""So many rows are drawn to look at the loss after each step; all where there are no more."""
RISE = 3.0
"""The sweep ends where the smoothed loss has risen by so many times the first one."""


class LearningRateRange:
    """What `learning_rate_range` found.

    Attributes
    ----------
    learning_rates : ndarray of shape (n,)
        The rates tried, each `highest` / `lowest` to the power of 1 / (n_steps - 1) times the one
        before; fewer than `n_steps` where the loss diverged.
    losses, smoothed_losses : ndarray of shape (n,)
        The loss after the step with each rate, and its exponential moving average.
    diverged : bool
        Whether the sweep ended before `highest`.
    suggestion : float
        A tenth of the rate at which the smoothed loss is lowest: a rule of thumb on the safe side,
        so look at the plot. nan if the loss never fell, which says that `lowest` is too high.

    Examples
    --------
    >>> import bpcore
    >>> net = bpcore.Network([bpcore.Dense(1, 1, weight_init="zeros")])
    >>> bpcore.learning_rate_range(net, [[1.0], [2.0]], [1.0, 2.0], n_steps=30)
    LearningRateRange(27 rates from 1e-06 to 1.89, where the loss diverged; suggestion 0.0621)
    """

    def __init__(
        self,
        learning_rates: np.ndarray,
        losses: np.ndarray,
        smoothed_losses: np.ndarray,
        diverged: bool,
    ) -> None:
        self.learning_rates, self.losses = learning_rates, losses
        self.smoothed_losses, self.diverged = smoothed_losses, diverged

    @property
    def suggestion(self) -> float:  # noqa: D102 (documented with the class)
        lowest = int(self.smoothed_losses.argmin())
        return float(self.learning_rates[lowest]) / 10.0 if lowest > 0 else float("nan")

    def __len__(self) -> int:
        return self.learning_rates.size

    def __repr__(self) -> str:
        first, last = self.learning_rates[[0, -1]]
        ended = ", where the loss diverged" if self.diverged else ""
        return (
            f"LearningRateRange({len(self)} rates from {first:.3g} to {last:.3g}{ended}; "
            f"suggestion {self.suggestion:.3g})"
        )

    def to_frame(self) -> "pandas.DataFrame":
        """Return a pandas DataFrame with columns learning_rate, loss and smoothed_loss.

        Raises
        ------
        ImportError
            pandas is not installed.
        """
        columns = (self.learning_rates, self.losses, self.smoothed_losses)
        return to_frame(dict(zip(("learning_rate", "loss", "smoothed_loss"), columns, strict=True)))

    def plot(self, ax: Any = None) -> Any:
        """Draw the losses by learning rate, and the suggestion, with matplotlib.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            Where to draw; a new figure without it.

        Returns
        -------
        matplotlib.axes.Axes

        Raises
        ------
        ImportError
            matplotlib is not installed.
        """
        from bpcore.plot import plot_learning_rate_range

        return plot_learning_rate_range(self, ax)


def learning_rate_range(
    net: "Network",
    X: "ArrayLike",
    y: "ArrayLike",
    *,
    lowest: float = 1e-6,
    highest: float = 10.0,
    n_steps: int = 100,
    batch_size: int | None = 32,
    optimizer: Any = None,
    sample_weight: "ArrayLike | None" = None,
    smoothing: float = 0.8,
) -> LearningRateRange:
    """Train a copy of a network with a rate that grows from step to step, and record the loss.

    The learning-rate range test [1]_: rates that are too low change nothing, good ones let the loss
    fall, and too high ones make it rise or diverge, which ends the sweep. The loss is that of the
    same rows after each step, all or at most 256 drawn at random. The network, its optimiser and
    its generator stay as they are.

    Parameters
    ----------
    net : Network
    X, y
        The training data, as for `Network.fit`.
    lowest, highest : float
        The first rate and the last, in geometric steps; above 0.
    n_steps : int
        How many rates there are, 2 or more, and so many steps.
    batch_size : int or None
        Rows a batch, drawn with replacement by a copy of ``net.rng``; None, or more than there are,
        is all rows. The rate to use depends on it.
    optimizer : str, Optimizer or None
        Whose learning rate is sought; a copy takes the steps. None: the one that the network has,
        with its state, else ``SGD()``. Another starts afresh.
    sample_weight : array_like of shape (n,), optional
    smoothing : float
        How much of the moving average stays from step to step, at least 0 and below 1. The average
        is divided by 1 - smoothing**t, so that it has no bias towards 0 at first.

    Returns
    -------
    LearningRateRange

    Raises
    ------
    ShapeError, DTypeError, ValueError, TypeError
        An argument is not what it should be, or the optimiser has no learning rate that counts:
        that of `Rprop` is its first step's alone.
    DivergenceError
        The loss or a gradient is not finite at the lowest rate already.
    RuntimeError
        Another thread is training the network.

    References
    ----------
    .. [1] L. N. Smith, "Cyclical learning rates for training neural networks", WACV 2017,
       section 3.3.

    Examples
    --------
    >>> import numpy as np
    >>> import bpcore
    >>> X = np.linspace(-1, 1, 200).reshape(-1, 1)
    >>> y = np.sin(3 * X)
    >>> net = bpcore.mlp([1, 16, 1], hidden="tanh", rng=0)
    >>> found = bpcore.learning_rate_range(net, X, y, optimizer="adam")
    >>> 1e-3 < found.suggestion < 1e-1
    True
    >>> history = net.fit(X, y, optimizer=bpcore.Adam(learning_rate=found.suggestion))
    """
    rates = _rates(lowest, highest, n_steps)
    smoothing = fraction(smoothing, "smoothing")
    X, y, weight = training.checked(net, X, y, sample_weight, "")
    if batch_size is not None:
        batch_size = whole(batch_size, "batch_size", 1)
    trial = copy.deepcopy(net)
    stepper = _stepper(net, trial, optimizer)
    losses: list[float] = []
    smoothed: list[float] = []
    total = share = 0.0
    lowest_loss = np.inf
    for loss in _sweep(trial, stepper, rates, (X, y, weight), batch_size):
        total = smoothing * total + (1.0 - smoothing) * loss
        share = smoothing * share + (1.0 - smoothing)
        losses.append(loss)
        smoothed.append(total / share)
        lowest_loss = min(lowest_loss, smoothed[-1])
        if smoothed[-1] - lowest_loss > RISE * max(abs(losses[0]), losses[0] - lowest_loss):
            break
    if not losses:
        raise DivergenceError(f"the loss is not finite at the lowest rate already, {rates[0]:g}")
    n = len(losses)
    return LearningRateRange(rates[:n], np.array(losses), np.array(smoothed), n < rates.size)


def _rates(lowest: float, highest: float, n_steps: int) -> np.ndarray:
    lowest, highest = finite_positive(lowest, "lowest"), finite_positive(highest, "highest")
    if lowest >= highest:
        raise ValueError(f"lowest must be below highest, got {lowest} and {highest}")
    return np.geomspace(lowest, highest, whole(n_steps, "n_steps", 2))


def _stepper(net: "Network", trial: "Network", optimizer: Any) -> optimizers.Optimizer:
    """Return an optimiser for the copy; that of the network has come with it, state and all."""
    given = net.optimizer if optimizer is None else optimizers.get(optimizer)
    if given is None:
        return optimizers.SGD()
    if isinstance(given, optimizers.Rprop):
        raise ValueError("Rprop finds its steps by itself: its learning_rate is only the first")
    if given.takes_all_rows:
        raise ValueError(f"{type(given).__name__} has no learning_rate to look for")
    return trial.optimizer if given is net.optimizer else copy.deepcopy(given)


def _sweep(
    trial: "Network",
    stepper: optimizers.Optimizer,
    rates: np.ndarray,
    data: tuple[np.ndarray, np.ndarray, np.ndarray | None],
    batch_size: int | None,
) -> Iterator[float]:
    """Take a step with each rate; yield the loss after it; end where that is not finite."""
    n = data[0].shape[0]
    # where weights are 0 there is no loss, and a batch of such rows alone cannot be
    pool = np.flatnonzero(data[2]) if data[2] is not None else None
    count = n if pool is None else pool.size

    def drawn(size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        if size >= count:
            return data
        rows = trial.rng.integers(0, count, size)
        rows = rows if pool is None else pool[rows]
        return tuple(None if array is None else array[rows] for array in data)

    looked_at = drawn(ROWS)
    for rate in rates:
        X, y, weight = drawn(n if batch_size is None else batch_size)
        stepper.learning_rate = float(rate)
        try:
            trial.loss_and_gradient(X, y, sample_weight=weight, training=True)
            stepper.step(trial)
            X, y, weight = looked_at
            loss = trial.loss_value(X, y, sample_weight=weight)
        except DivergenceError:  # a loss in Python raises it from either
            return
        if not np.isfinite(loss):
            return
        yield loss
