"""Levenberg-Marquardt: whole steps of least squares, for small regression networks."""

import math
from dataclasses import dataclass, replace
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from bpcore.checks import as_array, check_memory, finite_positive
from bpcore.layers import Dense, Dropout
from bpcore.losses import MeanSquaredError
from bpcore.optimizers import Optimizer

if TYPE_CHECKING:
    from bpcore.network import Network

CHUNK = 4 << 20
"""Bytes of the Jacobian that are there at a time."""


class LevenbergMarquardt(Optimizer):
    """Least squares by damped Gauss-Newton steps [1]_ [2]_, the damping by Nielsen's rule [3]_.

    With J the derivatives of all predictions by the n_parameters parameters and g the gradient of
    the loss, a step h solves ``(H + damping I) h = -g``, where ``H = 2 c J^T W J`` is the curvature
    of the loss, errors times second derivatives left out; c and W are the loss's scale and the
    sample weights, and an `l2` penalty adds its own. A step that lowers the loss is taken, and the
    damping falls by up to two thirds, the more the better the step was foretold; any other is
    tried again with more damping.

    For networks of up to a few thousand parameters, with loss "mse" and all rows at once: an epoch
    of `fit` is one step, and costs about ``n n_out n_parameters**2 + n_parameters**3 / 3``
    multiplications and room for three n_parameters x n_parameters matrices. Where no step lowers
    the loss any more, further epochs change nothing.

    Parameters
    ----------
    damping : float
        The first damping, in units of the largest element on the diagonal of H; above 0.

    Raises
    ------
    ValueError
        By `fit`: another loss than "mse", an l1 penalty, `Dropout`, `gradient_clip`, batches of
        less than all rows.
    MemoryError
        By `fit`: the matrices would not fit this machine; nothing has changed.

    Notes
    -----
    There is no learning rate; histories show 1. `fit` records the damping after each step as the
    optimiser's state. The systems are solved by NumPy's LAPACK, so that the same bits are promised
    on one machine and build of NumPy only. float32 networks step in float64 and are rounded after
    each step.

    References
    ----------
    .. [1] D. W. Marquardt, "An algorithm for least-squares estimation of nonlinear parameters",
       Journal of the Society for Industrial and Applied Mathematics 11, 1963.
    .. [2] M. T. Hagan and M. B. Menhaj, "Training feedforward networks with the Marquardt
       algorithm", IEEE Transactions on Neural Networks 5, 1994.
    .. [3] H. B. Nielsen, "Damping parameter in Marquardt's method", report IMM-REP-1999-05,
       Technical University of Denmark, 1999, equation 2.5.

    Examples
    --------
    >>> import numpy as np
    >>> import bpcore
    >>> X = np.linspace(-2, 2, 200).reshape(-1, 1)
    >>> y = np.sin(3 * X) + X / 2
    >>> net = bpcore.Network(
    ...     [bpcore.Dense(1, 10, bias_init="uniform"), bpcore.Tanh(), bpcore.Dense(10, 1)], rng=0
    ... )
    >>> history = net.fit(X, y, epochs=100, optimizer=bpcore.LevenbergMarquardt())
    >>> net.loss_value(X, y) < 1e-6
    True
    """

    slot_names = ("damping",)
    takes_all_rows = True

    def __init__(self, *, damping: float = 1e-3) -> None:
        super().__init__(learning_rate=1.0)
        self.damping = finite_positive(damping, "damping")

    @property
    def learning_rate(self) -> float:
        """There is none: 1."""
        return 1.0

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        if value != 1.0:
            raise AttributeError(
                "LevenbergMarquardt has no learning_rate: its damping says how long a step is"
            )

    def slot_shape(self, n_parameters: int) -> tuple[int, ...]:
        """Return the shape of the state: the damping, one number, 0 before the first step."""
        return (1,)

    def step(self, net: "Network", *, epoch: int = 0) -> None:
        """Raise NotImplementedError: a step needs the rows, not only their gradient."""
        raise NotImplementedError(
            "LevenbergMarquardt needs the rows, not only their gradient: use net.fit"
        )

    def check_fit(
        self, net: "Network", n: int, batch_size: int, sampling: str, gradient_clip: float | None
    ) -> None:
        """Refuse what least squares cannot do."""
        name = type(self).__name__
        if not isinstance(net.loss, MeanSquaredError):
            raise ValueError(
                f"{name} is for loss 'mse', the network has {net.loss!r}. For the network of an "
                f"MLPRegressor give that loss='mse', or solver={name}()"
            )
        if net.l1:
            raise ValueError(f"{name} cannot have an l1 penalty, the network has l1={net.l1:g}")
        if any(isinstance(layer, Dropout) for layer in net.layers):
            raise ValueError(f"{name} cannot train with Dropout")
        if gradient_clip is not None:
            raise ValueError(f"{name} cannot have a gradient_clip, got {gradient_clip:g}")
        if batch_size < n or sampling == "replacement":
            raise ValueError(
                f"a step of {name} takes all {n} rows: leave out batch_size and sampling, "
                f"got batch_size={batch_size}, sampling={sampling!r}"
            )
        size = net.parameters.size
        check_memory(24 * size**2, f"{name} for {size:,} parameters")

    def begin_fit(self, net: "Network", **arguments: Any) -> "LeastSquaresFit":
        """Return the fit, which goes on from where the damping stands."""
        return LeastSquaresFit(net, self.damping, **arguments)


@dataclass
class Stand:
    """Where a fit stands between two steps; replaced as a whole, so that no fit is half way."""

    parameters: np.ndarray
    gradient: np.ndarray  # at the start of the last step
    loss: float
    damping: float  # 0: of the first step
    step: int
    epoch: int = 0
    elapsed: float = 0.0
    converged: bool = False


class LeastSquaresFit:
    """A fit by `LevenbergMarquardt`, driven as `_core.Fit` is; see there for the arguments."""

    batch = 0
    diverged = False

    def __init__(
        self,
        net: "Network",
        first_damping: float,
        *,
        data: tuple[Any, ...],
        validation: tuple[Any, ...] | None,
        parameters: np.ndarray,
        gradients: np.ndarray,
        slots: tuple[np.ndarray, ...],
        n_steps: int,
        learning_rates: np.ndarray,
        losses: np.ndarray,
        validation_losses: np.ndarray | None,
        seconds: np.ndarray,
        **ignored: Any,  # what `check_fit` has seen to
    ) -> None:
        self.parameters, self.gradients, self.slot = parameters, gradients, slots[0]
        self.losses, self.validation_losses, self.seconds = losses, validation_losses, seconds
        self.plan = net._plan if net.dtype == np.float64 else net._make_plan("float64")
        self.data = _in_float64(data)
        self.validation = None if validation is None else _in_float64(validation)
        self.first_damping = first_damping
        self.scale = _loss_scale(net, self.data)
        self.penalty = net.l2 * _weights_of(net) if net.l2 else None  # its curvature
        here = (parameters.astype(np.float64), gradients.astype(np.float64))
        self.now = Stand(*here, math.nan, float(self.slot[0]), n_steps)
        n, size = self.data[0].shape[0], parameters.size
        rows = max(1, min(n, CHUNK // (8 * net.n_out * max(size, 1))))
        self.jacobian = np.empty((-(-rows // 16) * 16, net.n_out, size))
        self.matrix = np.empty((size, size))

    # ---- driven by a run -------------------------------------------------------------------------

    @property
    def epoch(self) -> int:
        """Epochs done."""
        return self.now.epoch

    @property
    def n_steps(self) -> int:
        """Steps taken, those before this fit included."""
        return self.now.step

    def position(self) -> tuple[dict[str, Any], np.ndarray]:
        """Where the fit stands, as `_core.Fit.position` says it."""
        self._hand_over()
        numbers = {
            "epoch": self.now.epoch, "batch": 0, "drawn": False, "validating": False,
            "dropout_key": 0,
        }  # fmt: skip
        return numbers, np.array([0.0, 0.0, 0.0, self.now.elapsed])

    def go_to(self, numbers: dict[str, Any], sums: np.ndarray) -> None:
        """Stand where another fit of the same kind stood."""
        if not 0 <= numbers["epoch"] <= self.losses.size:
            raise ValueError(f"epoch {numbers['epoch']}: there is no such epoch in this fit")
        parameters = self.parameters.astype(np.float64)
        self.now = replace(
            self.now, parameters=parameters, epoch=numbers["epoch"], elapsed=float(sums[3])
        )

    def train(self, stop_epoch: int, budget: float) -> bool:
        """Take steps until `stop_epoch` epochs are done or `budget` seconds are over.

        Raises
        ------
        ArithmeticError
            The loss or its derivatives are not finite.
        """
        with np.errstate(all="ignore"):  # what overflows is no better, or refused
            self._train(stop_epoch, budget)
        return self.now.epoch >= stop_epoch

    def _train(self, stop_epoch: int, budget: float) -> None:
        began, before = perf_counter(), self.now.elapsed
        changed = not np.array_equal(self.parameters, self.now.parameters)
        if changed or math.isnan(self.now.loss):
            parameters = self.parameters.astype(np.float64)
            loss = self._checked(self._loss(parameters))
            self.now = replace(self.now, parameters=parameters, loss=loss, converged=False)
        try:
            while self.now.epoch < stop_epoch and perf_counter() - began < budget:
                then = self.now if self.now.converged else self._step(self.now)
                self.losses[self.now.epoch] = self.now.loss
                if self.validation_losses is not None:
                    self.validation_losses[self.now.epoch] = self.plan.loss(
                        then.parameters, *self.validation
                    )
                elapsed = before + perf_counter() - began
                self.seconds[self.now.epoch] = elapsed
                self.now = replace(then, epoch=self.now.epoch + 1, elapsed=elapsed)
        finally:
            self._hand_over()

    def _hand_over(self) -> None:
        """Give the network what the last whole step has left."""
        self.parameters[...] = self.now.parameters
        self.gradients[...] = self.now.gradient
        self.slot[0] = self.now.damping

    # ---- a step ----------------------------------------------------------------------------------

    def _step(self, now: Stand) -> Stand:
        """Return where a step leads that lowers the loss, or, if there is none, the same place."""
        curvature, gradient = self._curvature(now.parameters)
        diagonal = curvature.diagonal().copy()
        growth = 2.0
        damping = now.damping or self.first_damping * (diagonal.max() or 1.0)
        while True:
            np.fill_diagonal(curvature, diagonal + damping)
            try:
                step = np.linalg.solve(curvature, -gradient)
            except np.linalg.LinAlgError:  # singular even so
                step = np.full_like(gradient, np.nan)
            trial = self._rounded(now.parameters + step)
            if np.array_equal(trial, now.parameters) or not math.isfinite(damping):
                return replace(now, gradient=gradient, converged=True)
            loss = self._loss(trial)
            if loss < now.loss:
                foretold = 0.5 * step @ (damping * step - gradient)
                gain = (now.loss - loss) / foretold
                damping = self._kept(damping * max(1 / 3, 1 - (2 * gain - 1) ** 3))
                return Stand(trial, gradient, loss, damping, now.step + 1)
            damping *= growth
            growth *= 2.0

    def _rounded(self, parameters: np.ndarray) -> np.ndarray:
        """Return parameters that the network can hold."""
        if self.parameters.dtype == np.float64:
            return parameters
        return parameters.astype(self.parameters.dtype).astype(np.float64)

    def _kept(self, damping: float) -> float:
        """Return a damping that the optimiser's state can hold, and that is not 0."""
        limits = np.finfo(self.slot.dtype)
        kept = self.slot.dtype.type(min(max(damping, limits.tiny), limits.max))
        return float(kept)

    def _loss(self, parameters: np.ndarray) -> float:
        return self.plan.loss(parameters, *self.data)

    def _curvature(self, parameters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return H and g; see `LevenbergMarquardt`."""
        matrix, gradient = self.matrix, np.empty_like(parameters)
        self.plan.gauss_newton(parameters, *self.data, matrix, gradient, self.jacobian)
        matrix *= 2 * self.scale
        gradient *= 2 * self.scale
        if self.penalty is not None:
            matrix.flat[:: parameters.size + 1] += self.penalty
            gradient += self.penalty * parameters
        self._checked(float(gradient @ gradient) + float(matrix.trace()))
        return matrix, gradient

    def _checked(self, number: float) -> float:
        if not math.isfinite(number):
            self.diverged = True
            raise ArithmeticError("the loss or its derivatives are not finite")
        return number


def _in_float64(data: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return X, y and the weights of the rows that count, as float64 in C order."""
    X, y, weight, rows = data
    n = len(X) if rows is None else len(rows)
    check_memory(8 * n * (X.shape[1] + y[0].size), f"{n:,} rows of float64")
    chosen = [array if rows is None or array is None else array[rows] for array in (X, y, weight)]
    return tuple(
        None if array is None else as_array(array, "data", np.dtype(np.float64)) for array in chosen
    )


def _loss_scale(net: "Network", data: tuple[Any, ...]) -> float:
    """Return what the sum of weighted squares is multiplied by in the loss."""
    X, _, weight = data
    total = float(len(X)) if weight is None else float(weight.sum())
    return {"mean": 1 / total / net.n_out, "sample_mean": 1 / total, "sum": 1.0}[net.loss.reduction]


def _weights_of(net: "Network") -> np.ndarray:
    """Return 1 for each parameter that is a weight, on which penalties are, and 0 for biases."""
    flat, start = np.zeros(net.parameters.size), 0
    for layer in net.layers:
        if isinstance(layer, Dense):
            flat[start : start + layer.n_in * layer.n_out] = 1.0
            start += layer.n_parameters
    return flat
