"""Learning rates that change from epoch to epoch.

A schedule is anything that can be called with the number of an epoch, from 0, and returns the
learning rate of that epoch; a function of one's own will do. The epochs are those that the
optimiser has done with the network: a second fit with the same optimiser (or none given) goes on
where the first one stood, and one with a new optimiser begins at 0. `fit` asks for the rates of all
its epochs at its start, so the answer should depend on the epoch alone.
"""

import math
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from bpcore.checks import (
    finite_non_negative,
    finite_positive,
    whole,
)
from bpcore.configured import Configured

LearningRate = float | Callable[[int], float]


class Schedule(Configured):
    """The base of the schedules that can be saved with a model."""

    family: ClassVar[str] = "schedule"

    def __call__(self, epoch: int) -> float:
        """Return the learning rate of an epoch, counted from 0."""
        raise NotImplementedError


class StepDecay(Schedule):
    """Multiply the rate by `factor` every so many epochs: ``initial * factor**(epoch // every)``.

    Parameters
    ----------
    initial : float
        The rate at first, finite and above 0.
    factor : float
        Above 0 and at most 1.
    every : int
        The number of epochs with the same rate, 1 or more.

    Examples
    --------
    >>> import bpcore
    >>> schedule = bpcore.StepDecay(0.5, 0.1, 2)
    >>> [schedule(epoch) for epoch in range(5)]
    [0.5, 0.5, 0.05, 0.05, 0.005000000000000001]
    """

    def __init__(self, initial: float, factor: float, every: int) -> None:
        self.initial = finite_positive(initial, "initial")
        self.factor = _factor(factor)
        self.every = whole(every, "every", 1)

    def __call__(self, epoch: int) -> float:
        """Return the learning rate of an epoch, counted from 0."""
        return self.initial * self.factor ** (epoch // self.every)


class ExponentialDecay(Schedule):
    """Multiply the rate by `factor` every epoch: ``initial * factor**epoch``.

    Parameters
    ----------
    initial : float
        The rate at first, finite and above 0.
    factor : float
        Above 0 and at most 1.

    Examples
    --------
    >>> import bpcore
    >>> schedule = bpcore.ExponentialDecay(0.5, 0.5)
    >>> [schedule(epoch) for epoch in range(4)]
    [0.5, 0.25, 0.125, 0.0625]
    """

    def __init__(self, initial: float, factor: float) -> None:
        self.initial = finite_positive(initial, "initial")
        self.factor = _factor(factor)

    def __call__(self, epoch: int) -> float:
        """Return the learning rate of an epoch, counted from 0."""
        return self.initial * self.factor**epoch


class CosineDecay(Schedule):
    """Fall from `initial` to `final` along half a cosine, and stay there [1]_.

    ``final + (initial - final) (1 + cos(pi epoch / epochs)) / 2`` up to ``epoch = epochs``.

    Parameters
    ----------
    initial : float
        The rate at first, finite and above 0.
    epochs : int
        The epoch that is the first to have the final rate, 1 or more.
    final : float
        The rate at last, finite and 0 or more.

    References
    ----------
    .. [1] I. Loshchilov and F. Hutter, "SGDR: stochastic gradient descent with warm restarts",
       ICLR 2017, equation 5.

    Examples
    --------
    >>> import bpcore
    >>> schedule = bpcore.CosineDecay(1.0, 4)
    >>> [round(schedule(epoch), 4) for epoch in range(6)]
    [1.0, 0.8536, 0.5, 0.1464, 0.0, 0.0]
    """

    def __init__(self, initial: float, epochs: int, *, final: float = 0.0) -> None:
        self.initial = finite_positive(initial, "initial")
        self.epochs = whole(epochs, "epochs", 1)
        self.final = finite_non_negative(final, "final")

    def __call__(self, epoch: int) -> float:
        """Return the learning rate of an epoch, counted from 0."""
        share = 0.5 * (1.0 + math.cos(math.pi * min(epoch / self.epochs, 1.0)))
        return self.final + (self.initial - self.final) * share


from_config = Schedule.from_config


def check(learning_rate: Any) -> LearningRate:
    """Return a learning rate as a float, or a schedule as it is.

    Examples
    --------
    >>> from bpcore import schedules
    >>> schedules.check(float("nan"))
    Traceback (most recent call last):
        ...
    ValueError: learning_rate must be finite and > 0, got nan
    """
    if callable(learning_rate) and not isinstance(learning_rate, type):
        return learning_rate
    return finite_positive(learning_rate, "learning_rate")


def rate(learning_rate: LearningRate, epoch: int) -> float:
    """Return the learning rate of an epoch, checked; a schedule may reach 0.

    Examples
    --------
    >>> from bpcore import schedules
    >>> schedules.rate(lambda epoch: 1.0 - epoch, 2)
    Traceback (most recent call last):
        ...
    ValueError: learning_rate(2) must be finite and >= 0, got -1.0
    """
    if callable(learning_rate):
        return finite_non_negative(learning_rate(epoch), f"learning_rate({epoch})")
    return finite_positive(learning_rate, "learning_rate")


def rates(learning_rate: LearningRate, epochs: int, first: int = 0) -> np.ndarray:
    """Return the learning rates of epochs `first`, ... as a float64 array, checked.

    Examples
    --------
    >>> import bpcore
    >>> from bpcore import schedules
    >>> schedules.rates(bpcore.ExponentialDecay(1.0, 0.5), 3)
    array([1.  , 0.5 , 0.25])
    """
    if callable(learning_rate):
        return np.array([rate(learning_rate, first + epoch) for epoch in range(epochs)], np.float64)
    constant = np.empty(epochs)
    constant.fill(rate(learning_rate, 0))  # np.full is slower, and a fit may be short
    return constant


def _factor(value: float) -> float:
    factor = finite_positive(value, "factor")
    if factor > 1:
        raise ValueError(f"factor must be > 0 and <= 1, got {factor}")
    return factor
