"""The fit loop: arguments checked, then C in stretches of about 50 ms, with Python in between."""

import copy
from collections.abc import Callable, Iterable, Sequence
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from bpcore import _core, optimizers, schedules
from bpcore.callbacks import Checkpoint, EarlyStopping
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
from bpcore.unfinished import DefaultFloat, DefaultInt, DefaultText, Unfinished, objects
from bpcore.watch import Watch

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from bpcore.network import Network

BUDGET = 0.05
"""Seconds in C before Python may look at signals."""

EPOCHS, BATCH_SIZE, SAMPLING = DefaultInt(1), DefaultInt(32), DefaultText("shuffle")
FRACTION = DefaultFloat(0.0)


def fit(
    net: "Network",
    X: "ArrayLike",
    y: "ArrayLike",
    *,
    epochs: int = EPOCHS,
    batch_size: int | None = BATCH_SIZE,
    optimizer: Any = None,
    sampling: str = SAMPLING,
    sample_weight: "ArrayLike | None" = None,
    gradient_clip: float | None = None,
    validation_data: Any = None,
    validation_fraction: float = FRACTION,
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
        served this network before continues, its schedule too; a name or a new object starts
        afresh.
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
        Finish the fit that was interrupted, by Ctrl-C, a callback, another exception, or the end of
        the process after a `Checkpoint`: from the batch where it stood, to the same bits as if
        nothing had happened, its record too. X, y, weights, validation data and callbacks must be
        given again. Other arguments that are not given are as they were; those given must be the
        same, but `epochs` may be larger. Nothing else may have used the network's generator.
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
    earlier = _earlier(net) if boolean(resume, "resume") else None
    if earlier is not None:
        epochs = earlier.argument("epochs", epochs)
        batch_size = earlier.argument("batch_size", batch_size)
        sampling = earlier.argument("sampling", sampling)
        gradient_clip = earlier.argument("gradient_clip", gradient_clip)
        validation_fraction = earlier.argument("validation_fraction", validation_fraction)
    epochs = 1 if epochs is EPOCHS else whole(epochs, "epochs", 0)
    check_memory(32 * epochs, f"the record of {epochs} epochs")
    verbose = whole(int(verbose) if isinstance(verbose, bool) else verbose, "verbose")
    print_every = whole(print_every, "print_every", 1)
    health = boolean(health, "health")
    if sampling is SAMPLING:
        sampling = "shuffle"
    else:
        sampling = choose(sampling, _core.sampling_names(), "sampling")
    clip = 0.0 if gradient_clip is None else finite_positive(gradient_clip, "gradient_clip")
    data = _checked(net, X, y, sample_weight, "")
    n = data[0].shape[0]
    if batch_size is BATCH_SIZE:
        batch_size = 32
    else:
        batch_size = n if batch_size is None else whole(batch_size, "batch_size", 1)
    watchers = _callbacks(callbacks, early_stopping)
    if validation_data is not None and validation_fraction:
        raise ValueError("give validation_data or validation_fraction, not both")
    validation = None if validation_data is None else _validation(net, validation_data)
    share = 0.0
    if validation_fraction is not FRACTION:
        share = fraction(validation_fraction, "validation_fraction")
    held_out = _held_out(n, share)
    optimizer = _optimizer(net, optimizer, earlier)
    batch_size = min(batch_size, n - held_out)
    if earlier is not None:
        others = None if validation is None else validation[0].shape[0]
        now = (batch_size, sampling, clip, share)
        earlier.check(_settings(data, held_out or others, epochs, *now))
    rates = _rates(net, optimizer, epochs, earlier)
    bar = _Progress(progress)
    if epochs == 0:
        return _history(0, rates, rates, rates, rates if validation or held_out else None, {})

    with net._exclusive:
        if net._exclusive.fitting:
            raise RuntimeError("a callback cannot train the network that is being trained")
        net._exclusive.fitting = True
        try:
            rows = others = None
            if held_out:
                rows, others = _split(net.rng, n, held_out, data[2], earlier)
                validation = (*data, others)
            net.optimizer = optimizer
            now = (batch_size, sampling, clip, share)
            run = _Run(net, (*data, rows), validation, optimizer, rates, now, earlier)
            return run.train(watchers, bar, print_every if verbose else 0, health)
        finally:
            net._exclusive.fitting = False
            bar.close()


class _Run:
    """A fit under way: the C side, the records, and what to tell whom."""

    watchers: Sequence[Any] = ()
    told: Sequence[int] = ()  # the epochs that each of them heard of
    rounds = 0  # of telling them
    begun = ended = finished = False
    stopped: Unfinished | None = None

    def __init__(
        self,
        net: "Network",
        data: tuple[Any, ...],
        validation: tuple[Any, ...] | None,
        optimizer: optimizers.Optimizer,
        rates: np.ndarray,
        settings: tuple[int, str, float, float],
        earlier: Unfinished | None,
    ) -> None:
        n = data[0].shape[0] if data[3] is None else data[3].size
        batch_size, sampling, clip, _ = settings
        epochs = rates.size
        shuffled = sampling == "replacement" or (sampling == "shuffle" and batch_size < n)
        self.net, self.rates = net, rates
        self.data, self.validation = data, validation
        self.settings, self.earlier = settings, earlier
        self.optimizer, self.learning_rate = optimizer, optimizer.learning_rate
        self.first_learning_rate = self.learning_rate
        self.state = optimizer.state(net)
        self.first_epoch = self.state.epoch if earlier is None else earlier.position["first_epoch"]
        self.n_batches = -(-n // batch_size)
        self.losses, self.seconds = np.empty(epochs), np.empty(epochs)
        self.validation_losses = None if validation is None else np.empty(epochs)
        self.order = np.empty(n, np.int64) if shuffled else None
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
            order=self.order,
            learning_rates=rates,
            losses=self.losses,
            validation_losses=self.validation_losses,
            seconds=self.seconds,
        )
        if earlier is not None:
            self.go_on(earlier)

    def columns(self) -> dict[str, np.ndarray]:
        """The history's columns of numbers, in which C or Python fills in each epoch."""
        columns = {"loss": self.losses, "learning_rate": self.rates, "seconds": self.seconds}
        if self.validation_losses is not None:
            columns["validation_loss"] = self.validation_losses
        return columns

    def train(
        self, watchers: list[Any], bar: "_Progress", print_every: int, health: bool
    ) -> History:
        net = self.net
        self.watchers = watchers
        net._exclusive.run = self
        try:
            return self.train_on(bar, print_every, health)
        finally:
            net._exclusive.run = None
            if not self.finished or net._interrupted is not None:
                net._interrupted = self.unfinished()

    def train_on(self, bar: "_Progress", print_every: int, health: bool) -> History:
        net, epochs, watchers = self.net, self.rates.size, self.watchers
        net.history = self.history(self.fit.epoch)
        if watchers:
            self.begin()
        self.begun = True
        bar.open(epochs * self.n_batches)
        printed = first = self.fit.epoch
        began, watch = perf_counter(), None
        try:
            stopped = bool(printed and watchers) and self.end_epoch(watchers)
            while self.fit.epoch < epochs and not stopped:
                done = self.stretch(self.fit.epoch + 1 if watchers else epochs)
                if health and watch is None and perf_counter() - began >= net._unwatched:
                    watch = Watch(net, self.data, epochs - first)
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
        self.finished = self.ended or self.fit.epoch == epochs
        if watchers:
            self.end()
        net._unwatched -= perf_counter() - began
        if watch is not None:
            bar.close()  # before lines about warnings
            epoch = self.fit.epoch
            watch.end(self.losses[:epoch], float(self.rates[epoch - 1]), epoch * self.n_batches)
        return net.history

    def begin(self) -> None:
        """Tell the callbacks, but those that go on from where they were."""
        watchers = self.watchers
        self.told = [self.rounds] * len(watchers)
        kept = [] if self.earlier is None else list(self.earlier.callbacks)
        fresh = []
        for i, watcher in enumerate(watchers):
            same = [entry for entry in kept if entry["type"] == type(watcher).__name__]
            if same and _has_state(watcher):
                kept = [entry for entry in kept if entry is not same[0]]
                watcher.load_state_dict(same[0]["state"])
                self.told[i] = same[0]["told"]
            else:
                fresh.append(watcher)
        self.tell(fresh, "on_fit_begin", self.net)

    def end(self) -> None:
        """Tell the callbacks; what they do to the network is no part of an unfinished fit."""
        before = None
        if not self.finished:
            before = self.net.parameters.copy()
            self.stopped = self.record()
            self.stopped.arrays["parameters"] = before
        self.tell(self.watchers, "on_fit_end", self.net, self.net.history)
        if self.stopped is not None and np.array_equal(before, self.net.parameters):
            del self.stopped.arrays["parameters"]

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
            self.state.epoch = self.first_epoch + self.fit.epoch

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
        """Call the callbacks that have not heard of this epoch; say whether one wants to stop."""
        done = self.rounds = self.fit.epoch
        logs = self.logs(done - 1)
        known, stops = set(logs), False
        try:
            for i, watcher in enumerate(watchers):
                if self.told[i] >= done:
                    continue
                answers = self.tell([watcher], "on_epoch_end", self.net, done - 1, logs)
                stop = any(isinstance(answer, bool | np.bool_) and answer for answer in answers)
                stops = stops or stop
                if stop and isinstance(watcher, EarlyStopping):
                    self.ended = True  # and is asked again if the end does not come to pass
                else:
                    self.told[i] = done
        finally:
            self.note(logs, known)
        self.heed_learning_rate()
        return stops

    def note(self, logs: dict[str, Any], known: set[str]) -> None:
        """Keep what the callbacks added to the figures of the last epoch."""
        epoch = self.fit.epoch - 1
        for name in logs.keys() - known:
            values = self.extra.setdefault(name, [])
            values[epoch:] = []
            values += [np.nan] * (epoch - len(values))
            values.append(logs[name])

    def heed_learning_rate(self) -> None:
        """Go on with the learning rate that a callback has given the optimiser."""
        if self.optimizer.learning_rate is not self.learning_rate:
            self.learning_rate = self.optimizer.learning_rate
            later = schedules.rates(self.learning_rate, self.rates.size, self.first_epoch)
            self.rates[self.fit.epoch :] = later[self.fit.epoch :]

    # ---- interruptions ---------------------------------------------------------------------------

    def unfinished(self) -> Unfinished | None:
        """Return what is needed to finish this fit; None if it is finished."""
        if self.finished:
            return None
        if not self.begun and self.earlier is not None:
            return self.earlier
        return self.stopped or self.record()

    def record(self) -> Unfinished:
        numbers, sums = self.fit.position()
        recorded = numbers["epoch"] + numbers["validating"]
        arrays = {"sums": sums}
        for name, column in self.columns().items():
            after = name in ("validation_loss", "seconds")  # the validation
            arrays[f"column.{name}"] = column[: numbers["epoch"] if after else recorded].copy()
        for name, values in self.extra.items():
            arrays[f"column.{name}"] = objects(values[:recorded])
        if self.order is not None:
            batch_size, sampling, *_ = self.settings
            replaces = sampling == "replacement"
            if replaces and numbers["drawn"]:
                arrays["order"] = self.order[:batch_size].copy()
            elif not replaces and (numbers["drawn"] or numbers["batch"] > 0):
                arrays["order"] = self.order.copy()
        n_validation = None
        if self.validation is not None:
            held_out = self.validation[3]
            n_validation = len(self.validation[0] if held_out is None else held_out)
            if held_out is not None:
                arrays["held_out"] = held_out
        settings = _settings(self.data, n_validation, self.rates.size, *self.settings)
        settings["optimizer"] = self.optimizer_text()
        told = self.rounds if self.watchers else numbers["epoch"]
        position = numbers | {"told": told, "first_epoch": self.first_epoch}
        return Unfinished(settings, position, self.callback_states(), arrays)

    def optimizer_text(self) -> str:
        """How the optimiser was given; callbacks may have changed its learning rate since."""
        if self.earlier is not None:
            return self.earlier.settings["optimizer"]
        return _optimizer_text(self.optimizer, self.first_learning_rate)

    def callback_states(self) -> list[dict[str, Any]]:
        if not self.begun:
            return []
        return [
            {"type": type(watcher).__name__, "told": told, "state": dict(watcher.state_dict())}
            for watcher, told in zip(self.watchers, self.told, strict=True)
            if _has_state(watcher)
        ]

    def go_on(self, earlier: Unfinished) -> None:
        """Stand where the earlier fit stood."""
        arrays, columns = earlier.arrays, self.columns()
        for name, values in arrays.items():
            kind, _, column = name.partition(".")
            if kind == "column" and column in columns:
                columns[column][: values.size] = values
            elif kind == "column":
                self.extra[column] = values.tolist()
        if self.order is not None:
            order = arrays.get("order", self.order[:0])
            self.order.fill(0)
            self.order[: order.size] = order
        if "parameters" in arrays:
            self.net.parameters[...] = arrays["parameters"]
        self.rounds = earlier.position["told"]
        self.fit.go_to(earlier.position, arrays["sums"])

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
    rng: "np.random.Generator",
    n: int,
    held_out: int,
    weight: np.ndarray | None,
    earlier: Unfinished | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw the rows to train on and those to hold out, both in order."""
    if earlier is not None:
        rows_held_out = earlier.arrays["held_out"]
        return np.setdiff1d(np.arange(n), rows_held_out), rows_held_out
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


def _optimizer(net: "Network", optimizer: Any, earlier: Unfinished | None) -> optimizers.Optimizer:
    given = None if optimizer is None else optimizers.get(optimizer)
    if earlier is None:
        return given or net.optimizer or optimizers.SGD()
    if given is not None and given is not net.optimizer:
        text = _optimizer_text(given, given.learning_rate)
        if text != earlier.settings["optimizer"]:
            was = earlier.settings["optimizer"]
            raise ValueError(f"resume=True goes on with optimizer {was}, got {text}")
    return net.optimizer or optimizers.SGD()


def _optimizer_text(optimizer: optimizers.Optimizer, learning_rate: Any) -> str:
    twin = copy.copy(optimizer)
    twin.learning_rate = learning_rate
    return repr(twin)


def _settings(
    data: tuple[Any, ...],
    n_validation: int | None,
    epochs: int,
    batch_size: int,
    sampling: str,
    clip: float,
    share: float,
) -> dict[str, Any]:
    """Return what a fit that goes on must share with the one before."""
    return {
        "n": data[0].shape[0],
        "epochs": epochs,
        "batch_size": batch_size,
        "sampling": sampling,
        "gradient_clip": clip or None,
        "validation_fraction": share,
        "sample_weight": data[2] is not None,
        "n_validation": n_validation,
    }


def _rates(
    net: "Network", optimizer: optimizers.Optimizer, epochs: int, earlier: Unfinished | None
) -> np.ndarray:
    """Return the learning rates; a schedule goes on where the optimiser stands."""
    if earlier is not None:
        earlier.check_epochs(epochs)
        return schedules.rates(optimizer.learning_rate, epochs, earlier.position["first_epoch"])
    first = optimizer.epochs_done(net) if callable(optimizer.learning_rate) else 0
    return schedules.rates(optimizer.learning_rate, epochs, first)


def _earlier(net: "Network") -> Unfinished:
    if net._interrupted is None:
        raise ValueError(
            "there is nothing to resume: the network has no fit that was interrupted. Call fit "
            "without resume to train on"
        )
    return net._interrupted


def _has_state(callback: Any) -> bool:
    return hasattr(callback, "state_dict") and hasattr(callback, "load_state_dict")


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
    if early_stopping is not None:
        if not isinstance(early_stopping, EarlyStopping):
            early_stopping = EarlyStopping(patience=whole(early_stopping, "early_stopping", 1))
        watchers.append(early_stopping)
    if watchers:  # what is saved is what the others leave
        watchers.sort(key=lambda callback: isinstance(callback, Checkpoint))
    return watchers


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
