"""Optimisers: how a network's parameters follow its gradient.

The formulas and the defaults are those of ``torch.optim``. An optimiser object holds its settings,
and for every network that it has served the state that belongs to the two of them (velocity,
moments, number of steps): using it again continues from there, a new one starts afresh.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar
from weakref import WeakKeyDictionary

import numpy as np

from bpcore import _core, schedules
from bpcore.checks import boolean, finite_non_negative, finite_positive, fraction
from bpcore.configured import Configured
from bpcore.errors import DivergenceError, ShapeError
from bpcore.schedules import LearningRate

if TYPE_CHECKING:
    from bpcore.network import Network


class OptimizerState:
    """What an optimiser remembers about one network.

    Parameters
    ----------
    slots : tuple of ndarray
        Flat arrays like the network's parameters, in the order of `Optimizer.slot_names`.
    step : int
        The number of steps taken.
    epoch : int
        The number of epochs done in fits: where a schedule goes on.
    """

    def __init__(self, slots: tuple[np.ndarray, ...], step: int = 0, epoch: int = 0) -> None:
        self.slots = slots
        self.step = step
        self.epoch = epoch


class Optimizer(Configured):
    """The base of all optimisers.

    What holds for a subclass is said by `name` (its name, and that of its kernel), `slot_names` and
    `hyper`.

    Parameters
    ----------
    learning_rate : float or callable
        The rate, finite and above 0, or a schedule: a function of the epoch, counted from 0.
    """

    family: ClassVar[str] = "optimizer"
    name: ClassVar[str]
    slot_names: tuple[str, ...] = ()
    """The names of the arrays of state."""
    takes_all_rows: ClassVar[bool] = False
    """Whether each step is one of all rows."""

    def __init__(self, *, learning_rate: LearningRate = 0.01) -> None:
        self.learning_rate = schedules.check(learning_rate)
        self._states: WeakKeyDictionary[Network, OptimizerState] = WeakKeyDictionary()

    @property
    def kernel(self) -> str:
        """The row of ``csrc/optimizers.def``."""
        return self.name

    @property
    def hyper(self) -> tuple[float, float, float, float]:
        """The kernel's settings, the learning rate apart."""
        return (0.0, 0.0, 0.0, 0.0)

    def rate(self, epoch: int = 0) -> float:
        """Return the learning rate of an epoch, counted from 0."""
        return schedules.rate(self.learning_rate, epoch)

    def step(self, net: "Network", *, epoch: int = 0) -> None:
        """Change the parameters of a network once, by its gradients.

        Parameters
        ----------
        net : Network
            Its `gradients` are as `loss_and_gradient` or `backward` left them.
        epoch : int
            What a schedule is called with.

        Raises
        ------
        DivergenceError
            A gradient is, or a parameter would become, non-finite; nothing has changed.
        RuntimeError
            The network is being trained, by another thread or by the fit that called back.

        Examples
        --------
        >>> import bpcore
        >>> net = bpcore.Network([bpcore.Dense(1, 1, weight_init=[[0.0]])])
        >>> optimizer = bpcore.SGD(learning_rate=0.5)
        >>> loss, gradient = net.loss_and_gradient([[1.0]], [1.0])
        >>> optimizer.step(net)
        >>> net.parameters
        array([1., 1.])
        """
        learning_rate = self.rate(epoch)
        with net._exclusive:
            if net._exclusive.fitting:
                raise RuntimeError("a callback cannot take a step for the fit that called it")
            self._step(net, learning_rate)
            net.optimizer = self

    def _step(self, net: "Network", learning_rate: float) -> None:
        state = self.state(net)
        step = state.step + 1
        arrays = (net.parameters, net.gradients, state.slots)
        try:
            _core.optimizer_step(self.kernel, *arrays, self.hyper, learning_rate, step)
        except ArithmeticError:
            unfit = _core.find_unfit(net.gradients.reshape(1, -1), net.gradients.dtype)
            what = "a parameter would become non-finite"
            if unfit is not None:
                what = f"gradients[{unfit[1]}] is {net.gradients[unfit[1]]}"
            raise DivergenceError(
                f"{what} before step {step} at learning_rate {learning_rate:g}; nothing has changed"
            ) from None
        state.step = step

    def state(self, net: "Network") -> OptimizerState:
        """Return what this optimiser remembers about a network, fresh if it has not served it."""
        state = self._states.get(net)
        if state is None or len(state.slots) != len(self.slot_names):
            n, dtype = net.parameters.size, net.parameters.dtype
            state = OptimizerState(self.initial_slots(n, dtype, self.rate()))
            self._states[net] = state
        return state

    def epochs_done(self, net: "Network") -> int:
        """Return the number of epochs that fits of a network have done with this optimiser."""
        state = self._states.get(net)
        return 0 if state is None else state.epoch

    def set_state(
        self, net: "Network", slots: Sequence[np.ndarray], step: int, epoch: int = 0
    ) -> None:
        """Make this optimiser remember copies of the given arrays about a network.

        Raises
        ------
        ShapeError
            Not one flat array, like the network's parameters, for each of `slot_names`.
        """
        parameters = net.parameters
        if len(slots) != len(self.slot_names):
            name, expected = type(self).__name__, len(self.slot_names)
            raise ShapeError(f"{name} has {expected} arrays of state, got {len(slots)}")
        for name, slot in zip(self.slot_names, slots, strict=True):
            expected_shape = self.slot_shape(parameters.size)
            if slot.shape != expected_shape:
                raise ShapeError(f"{name} has shape {slot.shape}, expected {expected_shape}")
        copies = tuple(np.array(slot, parameters.dtype, order="C") for slot in slots)
        self._states[net] = OptimizerState(copies, step, epoch)

    def forget(self, net: "Network") -> None:
        """Forget a network, so that the next step is the first."""
        self._states.pop(net, None)

    def slot_shape(self, n_parameters: int) -> tuple[int, ...]:
        """Return the shape of each array of state: that of a network's parameters."""
        return (n_parameters,)

    def initial_slots(
        self, n: int, dtype: np.dtype, learning_rate: float
    ) -> tuple[np.ndarray, ...]:
        """Return the state before the first step: an array of `slot_shape` for each slot."""
        return tuple(np.zeros(self.slot_shape(n), dtype) for _ in self.slot_names)

    def check_fit(
        self, net: "Network", n: int, batch_size: int, sampling: str, gradient_clip: float | None
    ) -> None:
        """Raise ValueError where this optimiser cannot train a network in this way on n rows."""

    def begin_fit(self, net: "Network", **arguments: Any) -> _core.Fit:
        """Return the fit that a run drives; see `_core.Fit` for the arguments."""
        return _core.Fit(net._plan, optimizer=self.kernel, hyper=self.hyper, **arguments)

    def config(self) -> dict[str, Any]:
        """Return a dict that JSON can hold: the type's name and its arguments.

        Raises
        ------
        ValueError
            The learning rate is a function of the user's own, which cannot be saved.
        """
        config = super().config()
        if callable(self.learning_rate):
            if not isinstance(self.learning_rate, schedules.Schedule):
                raise ValueError(
                    "a learning_rate that is a function of one's own cannot be saved; "
                    "use a number or one of bpcore's schedules"
                )
            config["learning_rate"] = self.learning_rate.config()
        return config

    @classmethod
    def _restored(cls, arguments: dict[str, Any]) -> "Optimizer":
        learning_rate = arguments.get("learning_rate")
        if isinstance(learning_rate, dict):
            arguments = arguments | {"learning_rate": schedules.from_config(learning_rate)}
        return super()._restored(arguments)

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy gets: the settings, but no network's state."""
        return vars(self) | {"_states": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Become a copy that has served no network."""
        vars(self).update(state, _states=WeakKeyDictionary())


class SGD(Optimizer):
    """Gradient descent, with momentum on request [1]_ [2]_.

    With gradient g and rate r: ``v = momentum * v + g`` and ``p = p - r v``, or, with `nesterov`,
    ``p = p - r (g + momentum * v)``.

    Parameters
    ----------
    learning_rate : float or callable
        The rate r, finite and above 0, or a schedule: a function of the epoch, counted from 0.
    momentum : float
        The share of the velocity v that is kept; 0 or more and below 1.
    nesterov : bool
        Look ahead; asks for momentum.

    References
    ----------
    .. [1] B. T. Polyak, "Some methods of speeding up the convergence of iteration methods", USSR
       Computational Mathematics and Mathematical Physics 4, 1964.
    .. [2] I. Sutskever, J. Martens, G. Dahl and G. Hinton, "On the importance of initialization and
       momentum in deep learning", ICML 2013.

    Examples
    --------
    >>> import bpcore
    >>> bpcore.SGD(learning_rate=bpcore.StepDecay(0.1, 0.5, 10), momentum=0.9)
    SGD(learning_rate=StepDecay(0.1, 0.5, 10), momentum=0.9)
    """

    name = "sgd"

    def __init__(
        self,
        *,
        learning_rate: LearningRate = 0.01,
        momentum: float = 0.0,
        nesterov: bool = False,
    ) -> None:
        super().__init__(learning_rate=learning_rate)
        self.momentum = fraction(momentum, "momentum")
        self.nesterov = boolean(nesterov, "nesterov")
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov=True asks for a momentum above 0")

    @property
    def slot_names(self) -> tuple[str, ...]:
        """The names of the arrays of state: none without momentum."""
        return ("velocity",) if self.momentum else ()

    @property
    def hyper(self) -> tuple[float, float, float, float]:
        """Momentum and whether it is Nesterov's."""
        return (self.momentum, float(self.nesterov), 0.0, 0.0)


class RMSProp(Optimizer):
    """Gradient descent with each gradient divided by its recent root mean square [1]_.

    With gradient g and rate r: ``s = rho * s + (1 - rho) * g**2`` and
    ``p = p - r g / (sqrt(s) + epsilon)``.

    Parameters
    ----------
    learning_rate : float or callable
        The rate r, finite and above 0, or a schedule: a function of the epoch, counted from 0.
    rho : float
        The share of the mean square s that is kept; 0 or more and below 1.
    epsilon : float
        Keeps the division from 0; above 0.

    References
    ----------
    .. [1] T. Tieleman and G. Hinton, "Lecture 6.5: RMSProp", COURSERA: Neural Networks for Machine
       Learning, 2012.

    Examples
    --------
    >>> import bpcore
    >>> bpcore.RMSProp()
    RMSProp()
    """

    name = "rmsprop"
    slot_names = ("square_average",)

    def __init__(
        self, *, learning_rate: LearningRate = 0.01, rho: float = 0.99, epsilon: float = 1e-8
    ) -> None:
        super().__init__(learning_rate=learning_rate)
        self.rho = fraction(rho, "rho")
        self.epsilon = finite_positive(epsilon, "epsilon")

    @property
    def hyper(self) -> tuple[float, float, float, float]:
        """Rho and epsilon."""
        return (self.rho, self.epsilon, 0.0, 0.0)


class Adam(Optimizer):
    """Gradient descent by estimates of the gradient's first two moments [1]_.

    With gradient g and rate r, at step t: ``m = beta_1 * m + (1 - beta_1) * g``,
    ``v = beta_2 * v + (1 - beta_2) * g**2`` and
    ``p = p - r (m / (1 - beta_1**t)) / (sqrt(v / (1 - beta_2**t)) + epsilon)``.

    Parameters
    ----------
    learning_rate : float or callable
        The rate r, finite and above 0, or a schedule: a function of the epoch, counted from 0.
    beta_1, beta_2 : float
        The shares of the moments m and v that are kept; 0 or more and below 1.
    epsilon : float
        Keeps the division from 0; above 0.

    References
    ----------
    .. [1] D. P. Kingma and J. Ba, "Adam: a method for stochastic optimization", ICLR 2015,
       algorithm 1.

    Examples
    --------
    >>> import bpcore
    >>> bpcore.Adam(learning_rate=0.01)
    Adam(learning_rate=0.01)
    """

    name = "adam"
    slot_names = ("first_moment", "second_moment")

    def __init__(
        self,
        *,
        learning_rate: LearningRate = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
    ) -> None:
        super().__init__(learning_rate=learning_rate)
        self.beta_1 = fraction(beta_1, "beta_1")
        self.beta_2 = fraction(beta_2, "beta_2")
        self.epsilon = finite_positive(epsilon, "epsilon")

    @property
    def hyper(self) -> tuple[float, float, float, float]:
        """Both betas and epsilon."""
        return (self.beta_1, self.beta_2, self.epsilon, 0.0)


class AdamW(Adam):
    """Adam with parameters that shrink by a share of the rate at each step [1]_.

    With rate r, ``p = p (1 - r * weight_decay)`` comes before the step of `Adam`. All parameters
    shrink, biases too; a network's `l2` spares those.

    Parameters
    ----------
    learning_rate : float or callable
        The rate r, finite and above 0, or a schedule: a function of the epoch, counted from 0.
    beta_1, beta_2 : float
        The shares of the moments that are kept; 0 or more and below 1.
    epsilon : float
        Keeps the division from 0; above 0.
    weight_decay : float
        How fast parameters shrink; finite and 0 or more.

    References
    ----------
    .. [1] I. Loshchilov and F. Hutter, "Decoupled weight decay regularization", ICLR 2019,
       algorithm 2.

    Examples
    --------
    >>> import bpcore
    >>> bpcore.AdamW(weight_decay=0.1)
    AdamW(weight_decay=0.1)
    """

    name = "adamw"

    def __init__(
        self,
        *,
        learning_rate: LearningRate = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__(learning_rate=learning_rate, beta_1=beta_1, beta_2=beta_2, epsilon=epsilon)
        self.weight_decay = finite_non_negative(weight_decay, "weight_decay")

    @property
    def hyper(self) -> tuple[float, float, float, float]:
        """Both betas, epsilon and the weight decay."""
        return (self.beta_1, self.beta_2, self.epsilon, self.weight_decay)


class Rprop(Optimizer):
    """Steps whose size follows the sign of the gradient alone; for full batches [1]_.

    Each parameter has a step size, `learning_rate` at first. Where the gradient keeps its sign the
    size is multiplied by ``etas[1]``, where it turns by ``etas[0]`` (and the gradient counts as 0
    this once), within the limits `step_sizes`. Then ``p = p - size * sign(g)``.

    Parameters
    ----------
    learning_rate : float or callable
        The first step size, finite and above 0. Of a schedule only the first value counts.
    etas : (float, float)
        The factors; the first in (0, 1), the second above 1.
    step_sizes : (float, float)
        The least and the greatest step size, above 0 and in this order.

    References
    ----------
    .. [1] M. Riedmiller and H. Braun, "A direct adaptive method for faster backpropagation
       learning: the RPROP algorithm", IEEE International Conference on Neural Networks, 1993.

    Examples
    --------
    >>> import bpcore
    >>> bpcore.Rprop(etas=(0.4, 1.1))
    Rprop(etas=(0.4, 1.1))
    """

    name = "rprop"
    slot_names = ("previous_gradient", "step_size")

    def __init__(
        self,
        *,
        learning_rate: LearningRate = 0.01,
        etas: tuple[float, float] = (0.5, 1.2),
        step_sizes: tuple[float, float] = (1e-6, 50.0),
    ) -> None:
        super().__init__(learning_rate=learning_rate)
        self.etas = _pair(etas, "etas")
        self.step_sizes = _pair(step_sizes, "step_sizes")
        if not self.etas[0] < 1 < self.etas[1]:
            raise ValueError(f"etas must be below 1 and above 1, got {self.etas}")
        if self.step_sizes[0] > self.step_sizes[1]:
            raise ValueError(f"step_sizes must be in order, got {self.step_sizes}")

    @property
    def hyper(self) -> tuple[float, float, float, float]:
        """Both etas and both step sizes."""
        return (*self.etas, *self.step_sizes)

    def initial_slots(
        self, n: int, dtype: np.dtype, learning_rate: float
    ) -> tuple[np.ndarray, ...]:
        """Return no previous gradient, and the learning rate as every step size."""
        return (np.zeros(n, dtype), np.full(n, learning_rate, dtype))


def _pair(values: Any, name: str) -> tuple[float, float]:
    try:
        low, high = values
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a pair of numbers, got {values!r}") from None
    return finite_positive(low, f"{name}[0]"), finite_positive(high, f"{name}[1]")


OPTIMIZERS = Optimizer.names
"""Name -> class."""

get = Optimizer.get
from_config = Optimizer.from_config
