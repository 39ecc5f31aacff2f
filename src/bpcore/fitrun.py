"""A fit under way: stretches of about 50 ms in C, and what is recorded and told between them."""

import copy
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from bpcore import optimizers, schedules
from bpcore.callbacks import EarlyStopping
from bpcore.customloss import NonFiniteLossError
from bpcore.errors import DivergenceError
from bpcore.history import History
from bpcore.metrics import Metric
from bpcore.progress import Progress
from bpcore.unfinished import Unfinished, objects
from bpcore.watch import Watch

if TYPE_CHECKING:
    from bpcore.network import Network

BUDGET = 0.05
"""Seconds in C before Python may look at signals."""


class Run:
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
        settings: dict[str, Any],
        earlier: Unfinished | None,
    ) -> None:
        n = data[0].shape[0] if data[3] is None else data[3].size
        batch_size, sampling = settings["batch_size"], settings["sampling"]
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
        self.fit = optimizer.begin_fit(
            net,
            data=data,
            validation=validation,
            parameters=net.parameters,
            gradients=net.gradients,
            generator=net.rng,
            slots=self.state.slots,
            n_steps=self.state.step,
            gradient_clip=settings["gradient_clip"] or 0.0,
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

    def train(self, watchers: list[Any], bar: Progress, print_every: int, health: bool) -> History:
        """Train to the end, or note what is needed to go on."""
        net = self.net
        self.watchers = watchers
        net._exclusive.run = self
        try:
            return self.train_on(bar, print_every, health)
        finally:
            net._exclusive.run = None
            if not self.finished or net._interrupted is not None:
                net._interrupted = self.unfinished()

    def train_on(self, bar: Progress, print_every: int, health: bool) -> History:
        """Train in stretches, with all that lies between them."""
        net, epochs, watchers = self.net, self.rates.size, self.watchers
        fresh = self.take_up()
        net.history = self.history(self.fit.epoch)
        self.tell(fresh, "on_fit_begin", net)
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
                    printed = self.print_lines(printed, last, print_every, bar)
                bar.show(self.fit.epoch * self.n_batches + self.fit.batch, self.last_logs)
            if self.ended:
                bar.stop()
        finally:
            net.history = self.history(self.fit.epoch)
        net.history.stopped = stopped
        self.finished = self.ended or self.fit.epoch == epochs
        if watchers:
            self.end()
        net._unwatched -= perf_counter() - began
        if watch is not None:
            bar.close()  # before lines about warnings
            epoch = self.fit.epoch
            watch.end(self.losses[:epoch], float(self.rates[epoch - 1]), epoch * self.n_batches)
        return net.history

    def take_up(self) -> list[Any]:
        """Give the callbacks what they had, and then the network; return those that begin anew."""
        watchers = self.watchers
        self.told = [self.rounds] * len(watchers)
        kept = [] if self.earlier is None else list(self.earlier.callbacks)
        fresh = []
        for i, watcher in enumerate(watchers):
            same = [entry for entry in kept if entry["type"] == type(watcher).__name__]
            if same and has_state(watcher):
                kept = [entry for entry in kept if entry is not same[0]]
                watcher.load_state_dict(same[0]["state"])
                self.told[i] = same[0]["told"]
            else:
                fresh.append(watcher)
        arrays = {} if self.earlier is None else self.earlier.arrays
        for name in ("parameters", "gradients"):  # now that no callback has refused its state
            if name in arrays:
                getattr(self.net, name)[...] = arrays[name]
        return fresh

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
        except ArithmeticError as error:
            what = "the loss or its gradient became non-finite"
            if isinstance(error, NonFiniteLossError):
                what = str(error)
            elif not self.fit.diverged:  # a signal's handler raised it, or a loss in Python
                raise
            epoch, batch = self.fit.epoch, self.fit.batch
            rate = float(self.rates[epoch])
            error = DivergenceError(f"{what} in epoch {epoch}, batch {batch}{self.remedies(rate)}")
            error.epoch, error.batch, error.learning_rate = epoch, batch, rate
            raise error from None
        finally:
            self.state.step = self.fit.n_steps
            self.state.epoch = self.first_epoch + self.fit.epoch

    def remedies(self, rate: float) -> str:
        """Say what a fit that diverged leaves behind, and what may help."""
        inputs = Watch(self.net, self.data, 1).look_at_inputs()
        unscaled = f", as {inputs.describe()}" if len(inputs.unscaled) else ""
        where, ways = "", f"standardised inputs{unscaled} and targets"
        if not self.optimizer.takes_all_rows:  # those have no rate, and do not clip
            where = f", at learning_rate {rate:g}"
            ways = f"a smaller learning_rate, {ways}, or gradient_clip"
        kept = "the weights from before that step are kept"
        if not np.isfinite(self.net.parameters).all():
            kept = "the weights were not finite before that step"
        return f"{where}; {kept}. Try {ways}"

    def tell(self, watchers: list[Any], event: str, *arguments: Any) -> list[Any]:
        """Call the callbacks, which may use the network; return their answers."""
        if not watchers:
            return []
        self.net._exclusive.between_epochs = True
        try:
            return _tell(watchers, event, *arguments)
        finally:
            self.net._exclusive.between_epochs = False

    def validation_rows(self) -> tuple[np.ndarray, np.ndarray]:
        """Return X and y of the validation data, y as the loss takes it."""
        X, y, _, rows = self.validation
        return (X, y) if rows is None else (X[rows], y[rows])

    def logs(self, epoch: int) -> dict[str, Any]:
        """Return an epoch's figures, with those that callbacks have added so far."""
        logs = {"loss": float(self.losses[epoch])}
        if self.validation_losses is not None:
            logs["validation_loss"] = float(self.validation_losses[epoch])
        logs["learning_rate"] = float(self.rates[epoch])
        logs["seconds"] = float(self.seconds[epoch])
        return logs | {
            name: values[epoch] for name, values in self.extra.items() if epoch < len(values)
        }

    def last_logs(self) -> dict[str, Any]:
        """Return the figures of the last epoch that is done, if there is one."""
        return self.logs(self.fit.epoch - 1) if self.fit.epoch else {}

    def end_epoch(self, watchers: list[Any]) -> bool:
        """Call the callbacks that have not heard of this epoch; say whether one wants to stop."""
        done = self.rounds = self.fit.epoch
        logs = self.logs(done - 1)
        known, stops = set(self.columns()), False
        for i, watcher in enumerate(watchers):
            if self.told[i] >= done:
                continue
            try:
                answers = self.tell([watcher], "on_epoch_end", self.net, done - 1, logs)
            finally:
                self.note(logs, known)  # at once: the next may save the network
            stop = any(isinstance(answer, bool | np.bool_) and answer for answer in answers)
            stops = stops or stop
            if stop and isinstance(watcher, EarlyStopping):
                self.ended = True  # and is asked again if the end does not come to pass
            else:
                self.told[i] = done
        self.heed_learning_rate()
        return stops

    def note(self, logs: dict[str, Any], known: set[str]) -> None:
        """Keep what the callbacks added to the figures of the last epoch."""
        epoch = self.fit.epoch - 1
        for name in [name for name in logs if name not in known]:
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
        """Return what a fit that stops here would need."""
        numbers, sums = self.fit.position()
        recorded = numbers["epoch"] + numbers["validating"]
        arrays = {"sums": sums}
        for name, column in self.columns().items():
            after = name in ("validation_loss", "seconds")  # the validation
            arrays[f"column.{name}"] = column[: numbers["epoch"] if after else recorded].copy()
        for name, values in self.extra.items():
            arrays[f"column.{name}"] = objects(values[:recorded])
        if self.order is not None:
            replaces = self.settings["sampling"] == "replacement"
            if replaces and numbers["drawn"]:
                arrays["order"] = self.order[: self.settings["batch_size"]].copy()
            elif not replaces and (numbers["drawn"] or numbers["batch"] > 0):
                arrays["order"] = self.order.copy()
        if numbers["validating"] or (numbers["batch"] == 0 and self.gradients_are_wanted()):
            arrays["gradients"] = self.net.gradients.copy()
        if self.validation is not None and self.validation[3] is not None:
            arrays["held_out"] = self.validation[3]
        settings = self.settings | {"optimizer": self.optimizer_text()}
        told = self.rounds if self.watchers else numbers["epoch"]
        position = numbers | {"told": told, "first_epoch": self.first_epoch}
        return Unfinished(settings, position, self.callback_states(), arrays)

    def gradients_are_wanted(self) -> bool:
        """Whether a callback has yet to see those of the last step, or they are the fit's last.

        Of an epoch whose round has begun, only callbacks with a state hear again. A `Checkpoint`
        has none, so what it saves need not hold them for itself.
        """
        epoch = self.fit.epoch
        heard = [
            told if has_state(watcher) else self.rounds
            for watcher, told in zip(
                self.watchers, self.told, strict=False
            )  # none before `take_up`
        ]
        return epoch == self.rates.size or any(told < epoch for told in heard)

    def optimizer_text(self) -> str:
        """How the optimiser was given; callbacks may have changed its learning rate since."""
        if self.earlier is not None:
            return self.earlier.settings["optimizer"]
        return optimizer_text(self.optimizer, self.first_learning_rate)

    def callback_states(self) -> list[dict[str, Any]]:
        """Return what the callbacks keep from epoch to epoch."""
        if not self.begun:
            return []
        return [
            {"type": type(watcher).__name__, "told": told, "state": dict(watcher.state_dict())}
            for watcher, told in zip(self.watchers, self.told, strict=True)
            if has_state(watcher)
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
        self.rounds = earlier.position["told"]
        self.fit.go_to(earlier.position, arrays["sums"])

    def history(self, epochs: int) -> History:
        """Return the records of the first `epochs` epochs."""
        columns = (self.rates, self.losses, self.seconds, self.validation_losses, self.extra)
        return history_of(epochs, *columns)

    def print_lines(self, printed: int, last: int, every: int, bar: Progress) -> int:
        """Print the lines that are due; return the epochs looked at."""
        for epoch in range(printed, self.fit.epoch):
            if (epoch + 1) % every == 0 or epoch + 1 == last:
                logs = self.logs(epoch)
                metrics = [metric.name for metric in self.watchers if isinstance(metric, Metric)]
                figures = "  ".join(
                    f"{name} {logs[name]:.6g}"
                    for name in ("loss", "validation_loss", *metrics)
                    if name in logs
                )
                bar.print(f"epoch {epoch + 1}/{self.rates.size}  {figures}")
        return self.fit.epoch


def history_of(
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


def optimizer_text(optimizer: optimizers.Optimizer, learning_rate: Any) -> str:
    """How an optimiser with this learning rate is written."""
    twin = copy.copy(optimizer)
    twin.learning_rate = learning_rate
    return repr(twin)


def has_state(callback: Any) -> bool:
    """Whether a callback can go on where it was."""
    return hasattr(callback, "state_dict") and hasattr(callback, "load_state_dict")


EVENTS = ("on_fit_begin", "on_epoch_end", "on_fit_end")


def _tell(watchers: list[Any], event: str, *arguments: Any) -> list[Any]:
    answers = []
    for watcher in watchers:
        method: Callable[..., Any] | None = getattr(watcher, event, None)
        if method is None and event == "on_epoch_end" and callable(watcher):
            method = watcher
        if method is not None:
            answers.append(method(*arguments))
    return answers
