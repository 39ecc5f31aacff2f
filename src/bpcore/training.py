"""The fit loop: arguments checked, then C in stretches of about 50 ms, with Python in between."""

from collections.abc import Callable, Iterable
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from bpcore import _core, optimizers, schedules
from bpcore.callbacks import EarlyStopping
from bpcore.checks import (
    as_matrix,
    as_sample_weight,
    boolean,
    check_finite,
    check_memory,
    choose,
    finite_positive,
    fraction,
    whole,
)
from bpcore.errors import DivergenceError, ShapeError
from bpcore.history import History
from bpcore.watch import Watch

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from bpcore.network import Network

BUDGET = 0.05
"""Seconds in C before Python may look at signals."""


def fit(
    net: "Network",
    X: "ArrayLike",
    y: "ArrayLike",
    *,
    epochs: int = 1,
    batch_size: int | None = 32,
    optimizer: Any = None,
    sampling: str = "shuffle",
    sample_weight: "ArrayLike | None" = None,
    gradient_clip: float | None = None,
    validation_data: Any = None,
    validation_fraction: float = 0.0,
    early_stopping: "EarlyStopping | int | None" = None,
    callbacks: Iterable[Any] = (),
    verbose: int = 0,
    print_every: int = 1,
    progress: bool = False,
    resume: bool = False,
    health: bool = True,
) -> History:
    """Train the network.

    Parameters
    ----------
    X : array_like of shape (n, n_in)
        Rows are samples. Arrays of float32 and float64 are read where they lie, in any layout,
        memory maps included, and never written to.
    y : array_like
        The target: shape (n, n_out), or (n,) for one output; class labels for cross-entropy.
    epochs : int
        An epoch goes through all rows once; 0 does nothing.
    batch_size : int or None
        Rows a step; None, or more than there are, is all rows. The last batch may be short.
    optimizer : str, Optimizer or None
        None: the one that the network has, state and all, else ``SGD()``. An optimiser that has
        served this network before continues; a name or a new object starts afresh.
    sampling : {"shuffle", "sequential", "replacement"}
        "shuffle": a new order each epoch, that of ``net.rng.permutation(n)``; a single batch of all
        rows keeps their own order. "sequential": rows in order. "replacement": each batch is
        ``net.rng.integers(0, n, batch_size)``.
    sample_weight : array_like of shape (n,), optional
        Finite, 0 or more, not all 0.
    gradient_clip : float, optional
        The largest Euclidean norm of the whole gradient; longer ones are scaled down to it.
    validation_data : (X, y) or (X, y, sample_weight), optional
        Its loss is recorded after each epoch.
    validation_fraction : float
        Instead of `validation_data`: this share of the rows, drawn at random, is held out.
    early_stopping : EarlyStopping, int or None
        An int is the patience of an `EarlyStopping`.
    callbacks : iterable
        See `bpcore.callbacks`. One may set ``net.optimizer.learning_rate`` for the epochs to come.
    verbose : int
        1 prints a line every `print_every` epochs, and after the last.
    print_every : int
        Epochs a line.
    progress : bool
        Show a progress bar (tqdm).
    resume : bool
        Not available yet.
    health : bool
        Whether to look, now and then and on a few rows, at the inputs and at what the layers make
        of them, and to warn of what is wrong; see `Network.health`. Results are the same without.

    Returns
    -------
    History
        The loss of an epoch is the mean over its batches, by weight, of each batch's loss before
        its update; nan if the epoch drew rows of weight 0 alone. `net.gradients` holds the gradient
        of the last step; after an exception it may hold anything.

    Raises
    ------
    ShapeError, DTypeError, ValueError, TypeError
        An argument is not what it should be; nothing has changed.
    DivergenceError
        The loss or a gradient became non-finite; the last finite weights are kept.
    RuntimeError
        Another thread, or a callback, is already training the network.
    KeyboardInterrupt
        Within a fraction of a second; the weights are those after the last whole batch.

    Warns
    -----
    UnscaledInputWarning, DeadUnitsWarning, SaturationWarning, StalledWarning
        At most once each, with a remedy. A network's first fit is looked at, later ones once they
        have lasted long enough for a look to cost next to nothing.

    Examples
    --------
    >>> import numpy as np
    >>> import bpcore
    >>> X = np.linspace(-1, 1, 50).reshape(-1, 1)
    >>> net = bpcore.mlp([1, 8, 1], hidden="tanh", rng=0)
    >>> history = net.fit(X, X[:, 0] ** 2, epochs=200, optimizer="adam", verbose=1, print_every=100)
    ... # doctest: +ELLIPSIS
    epoch 100/200  loss ...
    epoch 200/200  loss ...
    """
    if boolean(resume, "resume"):
        raise NotImplementedError("fit cannot resume yet")
    epochs = whole(epochs, "epochs", 0)
    check_memory(32 * epochs, f"the record of {epochs} epochs")
    verbose = whole(int(verbose) if isinstance(verbose, bool) else verbose, "verbose")
    print_every = whole(print_every, "print_every", 1)
    health = boolean(health, "health")
    sampling = choose(sampling, _core.sampling_names(), "sampling")
    clip = 0.0 if gradient_clip is None else finite_positive(gradient_clip, "gradient_clip")
    data = _checked(net, X, y, sample_weight, "")
    n = data[0].shape[0]
    batch_size = n if batch_size is None else whole(batch_size, "batch_size", 1)
    watchers = _callbacks(callbacks, early_stopping)
    if validation_data is not None and validation_fraction:
        raise ValueError("give validation_data or validation_fraction, not both")
    validation = None if validation_data is None else _validation(net, validation_data)
    held_out = _held_out(n, fraction(validation_fraction, "validation_fraction"))
    optimizer = _optimizer(net, optimizer)
    rates = schedules.rates(optimizer.learning_rate, epochs)
    bar = _Progress(progress)
    if epochs == 0:
        return _history(0, rates, rates, rates, rates if validation or held_out else None, {})

    with net._exclusive:
        if net._exclusive.fitting:
            raise RuntimeError("a callback cannot train the network that is being trained")
        net._exclusive.fitting = True
        try:
            rows = None
            if held_out:
                rows, others = _split(net.rng, n, held_out, data[2])
                validation = (*data, others)
            net.optimizer = optimizer
            run = _Run(net, (*data, rows), validation, optimizer, rates, batch_size, sampling, clip)
            return run.train(watchers, bar, print_every if verbose else 0, health)
        finally:
            net._exclusive.fitting = False
            bar.close()


class _Run:
    """A fit under way: the C side, the records, and what to tell whom."""

    def __init__(
        self,
        net: "Network",
        data: tuple[Any, ...],
        validation: tuple[Any, ...] | None,
        optimizer: optimizers.Optimizer,
        rates: np.ndarray,
        batch_size: int,
        sampling: str,
        clip: float,
    ) -> None:
        n = data[0].shape[0] if data[3] is None else data[3].size
        epochs = rates.size
        batch_size = min(batch_size, n)
        shuffled = sampling == "replacement" or (sampling == "shuffle" and batch_size < n)
        self.net, self.data, self.rates = net, data, rates
        self.optimizer, self.learning_rate = optimizer, optimizer.learning_rate
        self.state = optimizer.state(net)
        self.n_batches = -(-n // batch_size)
        self.losses, self.seconds = np.empty(epochs), np.empty(epochs)
        self.validation_losses = None if validation is None else np.empty(epochs)
        self.extra: dict[str, list[Any]] = {}
        self.fit = _core.Fit(
            net._plan,
            data=data,
            validation=validation,
            parameters=net.parameters,
            gradients=net.gradients,
            generator=net.rng,
            optimizer=optimizer.kernel,
            slots=self.state.slots,
            hyper=optimizer.hyper,
            n_steps=self.state.step,
            gradient_clip=clip,
            sampling=sampling,
            batch_size=batch_size,
            order=np.empty(n, np.int64) if shuffled else None,
            learning_rates=rates,
            losses=self.losses,
            validation_losses=self.validation_losses,
            seconds=self.seconds,
        )

    def train(
        self, watchers: list[Any], bar: "_Progress", print_every: int, health: bool
    ) -> History:
        net, epochs = self.net, self.rates.size
        net.history = self.history(0)
        self.tell(watchers, "on_fit_begin", net)
        bar.open(epochs * self.n_batches)
        printed, stopped, began, watch = 0, False, perf_counter(), None
        try:
            while self.fit.epoch < epochs and not stopped:
                done = self.stretch(self.fit.epoch + 1 if watchers else epochs)
                if health and watch is None and perf_counter() - began >= net._unwatched:
                    watch = Watch(net, self.data, epochs)
                    watch.begin()
                if watchers and done:
                    stopped = self.end_epoch(watchers)
                last = self.fit.epoch if stopped else epochs
                if print_every:
                    printed = self.print_lines(printed, last, print_every)
                bar.show(
                    self.fit.epoch * self.n_batches + self.fit.batch, self.losses[: self.fit.epoch]
                )
        finally:
            net.history = self.history(self.fit.epoch)
        self.tell(watchers, "on_fit_end", net, net.history)
        net._unwatched -= perf_counter() - began
        if watch is not None:
            bar.close()  # before lines about warnings
            epoch = self.fit.epoch
            watch.end(self.losses[:epoch], float(self.rates[epoch - 1]), epoch * self.n_batches)
        return net.history

    def stretch(self, stop_epoch: int) -> bool:
        """Train in C for a while; say whether `stop_epoch` is reached."""
        try:
            return self.fit.train(stop_epoch, BUDGET)
        except ArithmeticError:
            if not self.fit.diverged:  # a signal's handler raised it
                raise
            epoch, batch = self.fit.epoch, self.fit.batch
            rate = float(self.rates[epoch])
            inputs = Watch(self.net, self.data, 1).look_at_inputs()
            unscaled = f", as {inputs.describe()}" if len(inputs.unscaled) else ""
            error = DivergenceError(
                f"the loss or its gradient became non-finite in epoch {epoch}, batch {batch}, at "
                f"learning_rate {rate:g}; the weights from before that step are kept. Try a "
                f"smaller learning_rate, standardised inputs{unscaled} and targets, or "
                "gradient_clip"
            )
            error.epoch, error.batch, error.learning_rate = epoch, batch, rate
            raise error from None
        finally:
            self.state.step = self.fit.n_steps

    def tell(self, watchers: list[Any], event: str, *arguments: Any) -> list[Any]:
        """Call the callbacks, which may use the network; return their answers."""
        if not watchers:
            return []
        self.net._exclusive.between_epochs = True
        try:
            return _tell(watchers, event, *arguments)
        finally:
            self.net._exclusive.between_epochs = False

    def logs(self, epoch: int) -> dict[str, float]:
        logs = {"loss": float(self.losses[epoch])}
        if self.validation_losses is not None:
            logs["validation_loss"] = float(self.validation_losses[epoch])
        logs["learning_rate"] = float(self.rates[epoch])
        logs["seconds"] = float(self.seconds[epoch])
        return logs

    def end_epoch(self, watchers: list[Any]) -> bool:
        """Call the callbacks; say whether one of them wants to stop."""
        epoch = self.fit.epoch - 1
        logs = self.logs(epoch)
        known = set(logs)
        stops = self.tell(watchers, "on_epoch_end", self.net, epoch, logs)
        for name in logs.keys() - known:
            self.extra.setdefault(name, [np.nan] * epoch)
        for name, values in self.extra.items():
            values.append(logs.get(name, np.nan))
        self.heed_learning_rate()
        return any(isinstance(stop, bool | np.bool_) and stop for stop in stops)

    def heed_learning_rate(self) -> None:
        """Go on with the learning rate that a callback has given the optimiser."""
        if self.optimizer.learning_rate is not self.learning_rate:
            self.learning_rate = self.optimizer.learning_rate
            later = schedules.rates(self.learning_rate, self.rates.size)[self.fit.epoch :]
            self.rates[self.fit.epoch :] = later

    def history(self, epochs: int) -> History:
        columns = (self.rates, self.losses, self.seconds, self.validation_losses, self.extra)
        return _history(epochs, *columns)

    def print_lines(self, printed: int, last: int, every: int) -> int:
        """Print the lines that are due; return the epochs looked at."""
        for epoch in range(printed, self.fit.epoch):
            if (epoch + 1) % every == 0 or epoch + 1 == last:
                logs = self.logs(epoch)
                figures = "  ".join(
                    f"{name} {logs[name]:.6g}"
                    for name in ("loss", "validation_loss")
                    if name in logs
                )
                print(f"epoch {epoch + 1}/{self.rates.size}  {figures}")
        return self.fit.epoch


def _history(
    epochs: int,
    rates: np.ndarray,
    losses: np.ndarray,
    seconds: np.ndarray,
    validation_losses: np.ndarray | None,
    extra: dict[str, list[Any]],
) -> History:
    """Return the records of the first `epochs` epochs."""
    columns: dict[str, Any] = {"epoch": range(epochs), "loss": losses[:epochs]}
    if validation_losses is not None:
        columns["validation_loss"] = validation_losses[:epochs]
    columns["learning_rate"] = rates[:epochs]
    columns["seconds"] = seconds[:epochs]
    for name in sorted(extra):
        columns[name] = (extra[name] + [np.nan] * epochs)[:epochs]
    return History(columns)


class _Progress:
    """A tqdm bar, or nothing."""

    def __init__(self, wanted: bool) -> None:
        self._bar = self._tqdm = None
        if not boolean(wanted, "progress"):
            return
        try:
            from tqdm.auto import tqdm
        except ImportError as error:
            raise ImportError("progress=True needs tqdm: pip install 'bpcore[cli]'") from error
        self._tqdm = tqdm

    def open(self, n_batches: int) -> None:
        if self._tqdm is not None:
            self._bar = self._tqdm(total=n_batches, unit="batch", unit_scale=True)

    def show(self, batches: int, losses: np.ndarray) -> None:
        if self._bar is not None:
            self._bar.update(batches - self._bar.n)
            if losses.size:
                self._bar.set_postfix(loss=f"{losses[-1]:.4g}", refresh=False)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


def _checked(
    net: "Network", X: "ArrayLike", y: "ArrayLike", sample_weight: "ArrayLike | None", of: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Return data in the form that C reads; `of` goes before the arguments' names in messages."""
    X = as_matrix(X, f"{of}X", net.n_in)
    n = X.shape[0]
    if n == 0:
        raise ShapeError(f"{of}X has no rows")
    check_finite(X, f"{of}X", net.dtype)
    y = net.loss.check_target(y, f"{of}y", n, net.n_out)
    if y.dtype.kind == "f":
        check_finite(y, f"{of}y", net.dtype)
    return net._apart(X), net._apart(y), as_sample_weight(sample_weight, n, net.dtype)


def _validation(net: "Network", validation_data: Any) -> tuple[Any, ...]:
    if not isinstance(validation_data, (tuple, list)) or len(validation_data) not in (2, 3):
        raise TypeError("validation_data must be (X, y) or (X, y, sample_weight)")
    weight = validation_data[2] if len(validation_data) == 3 else None
    return (
        *_checked(net, validation_data[0], validation_data[1], weight, "validation_data "),
        None,
    )


def _held_out(n: int, share: float) -> int:
    """How many rows a fraction is: at least one, and not all."""
    if not share:
        return 0
    if n < 2:
        raise ValueError("validation_fraction needs two rows at least")
    return min(max(round(share * n), 1), n - 1)


def _split(
    rng: "np.random.Generator", n: int, held_out: int, weight: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Draw the rows to train on and those to hold out, both in order."""
    before = rng.bit_generator.state
    order = rng.permutation(n)
    rows, rows_held_out = np.sort(order[held_out:]), np.sort(order[:held_out])
    if weight is not None and not (weight[rows].any() and weight[rows_held_out].any()):
        rng.bit_generator.state = before
        raise ValueError(
            "sample_weight is all zero in the rows that validation_fraction drew to hold out, or "
            "in the others; give validation_data"
        )
    return rows, rows_held_out


def _optimizer(net: "Network", optimizer: Any) -> optimizers.Optimizer:
    if optimizer is None:
        return optimizers.SGD() if net.optimizer is None else net.optimizer
    return optimizers.get(optimizer)


def _callbacks(callbacks: Iterable[Any], early_stopping: Any) -> list[Any]:
    single = callable(callbacks) or any(hasattr(callbacks, name) for name in _EVENTS)
    watchers = [callbacks] if single else list(callbacks)
    for callback in watchers:
        known = callable(callback) or any(hasattr(callback, name) for name in _EVENTS)
        if isinstance(callback, type) or not known:
            events = ", ".join(_EVENTS)
            raise TypeError(
                f"a callback must be a function or an object with {events}; got {callback!r}"
            )
    if early_stopping is None:
        return watchers
    if not isinstance(early_stopping, EarlyStopping):
        early_stopping = EarlyStopping(patience=whole(early_stopping, "early_stopping", 1))
    return [*watchers, early_stopping]


_EVENTS = ("on_fit_begin", "on_epoch_end", "on_fit_end")


def _tell(watchers: list[Any], event: str, *arguments: Any) -> list[Any]:
    answers = []
    for watcher in watchers:
        method: Callable[..., Any] | None = getattr(watcher, event, None)
        if method is None and event == "on_epoch_end" and callable(watcher):
            method = watcher
        if method is not None:
            answers.append(method(*arguments))
    return answers
