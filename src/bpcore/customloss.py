"""Losses written in Python: two functions of arrays, proven when they are put together."""

import reprlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from bpcore import _core
from bpcore.checks import (
    FLOAT64,
    as_array,
    as_generator,
    as_matrix,
    as_target,
    boolean,
    check_finite,
)
from bpcore.errors import DivergenceError, ShapeError
from bpcore.losses import Loss

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["CustomLoss", "NonFiniteLossError"]

ROWS, OUTPUTS = 7, 3
"""The shape of the random predictions and targets that a loss is tried on: two odd primes."""
_SAME = 1e-6  # by what share of the largest a row's numbers may change with its neighbours
Function = Callable[[np.ndarray, np.ndarray], "ArrayLike"]


class NonFiniteLossError(DivergenceError):
    """A function of a `CustomLoss` gave infinity or nan."""


class CustomLoss(Loss):
    """A loss that is written in Python, with its gradient; the gradient is checked at once.

    Parameters
    ----------
    function : callable
        ``function(prediction, target)`` gives the losses of the rows, of shape (n,), or those of
        the elements, of shape (n, k), over whose outputs "mean" averages. Both arrays are (n, k)
        and read-only, of the network's dtype. The loss of a row must depend on that row alone, as n
        is whatever number of rows is computed at a time; `reduction` makes one number of them, and
        sample weights are applied to what this function returns.
    gradient : callable
        ``gradient(prediction, target)`` gives the derivative of the sum of the losses by each
        prediction, of shape (n, k): no division by n, and none by k.
    name : str, optional
        What messages, `summary` and files call it; by default the name of `function`.
    reduction : {"mean", "sum", "sample_mean"}
        How the losses of the rows become one number.
    check : bool
        Whether to compare `gradient` with differences of `function`, by `check_gradients`.
    check_with : (prediction, target), optional
        Where to try both functions: arrays of shape (n, k), used as float64. By default 7 rows of 3
        outputs, predictions and targets drawn from the standard normal distribution (always the
        same); a loss of probabilities, of counts or of another number of outputs needs its own.

    Raises
    ------
    ValueError
        The gradient is wrong, with the report of `check_gradients` and its hint; a row's numbers
        change with the rows beside it; a function gives infinity or nan.
    ShapeError, DTypeError
        A function gives something else than real numbers in one of these shapes.

    Notes
    -----
    The functions are called once for each block of rows, one block after the other and in the same
    order at any number of threads, so results are as repeatable as the functions are. What a
    function raises leaves `fit`, `loss_value` and the rest unchanged; the weights are then those
    after the last whole batch, and ``fit(..., resume=True)`` goes on from there. A number that is
    not finite is a `DivergenceError` that says where it was. In a file there is only the
    name of such a loss: ``bpcore.load(path, loss=...)`` gives it back. A pickle holds the
    functions if they can be pickled; a copy of a network shares them. `explain_gradients` does not
    know such losses.

    Examples
    --------
    Errors above cost three times as much as errors below:

    >>> import numpy as np
    >>> import bpcore
    >>> def lopsided(prediction, target):
    ...     d = prediction - target
    ...     return np.where(d > 0, 3 * d**2, d**2)
    >>> def lopsided_gradient(prediction, target):
    ...     d = prediction - target
    ...     return np.where(d > 0, 6 * d, 2 * d)
    >>> loss = bpcore.CustomLoss(lopsided, lopsided_gradient)
    >>> net = bpcore.mlp([2, 8, 1], hidden="tanh", loss=loss, rng=0)
    >>> X = np.random.default_rng(0).normal(size=(50, 2))
    >>> history = net.fit(X, X[:, 0] * X[:, 1], epochs=20, optimizer="adam")
    >>> history["loss"][-1] < history["loss"][0]
    True

    A wrong gradient does not get that far:

    >>> bpcore.CustomLoss(lopsided, lambda p, t: p - t)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    ValueError: the gradient of CustomLoss lopsided is wrong...
    """

    transient = frozenset({"check", "check_with"})
    calls_python = True

    def __init__(
        self,
        function: Function,
        gradient: Function,
        *,
        name: str | None = None,
        reduction: str = "mean",
        check: bool = True,
        check_with: "tuple[ArrayLike, ArrayLike] | None" = None,
    ) -> None:
        super().__init__(reduction=reduction)
        for argument, value in (("function", function), ("gradient", gradient)):
            if not callable(value):
                raise TypeError(f"{argument} must be callable, got {type(value).__name__}")
        if name is None:
            name = getattr(function, "__name__", type(function).__name__)
        if not isinstance(name, str):
            raise TypeError(f"name must be a string, got {type(name).__name__}")
        check = boolean(check, "check")
        self.function, self.gradient, self.name = function, gradient, name
        self.by_element = self._try(*_points(check_with), check)

    @property
    def kernel(self) -> str:
        """What the core is told: that it must call, and for what."""
        return "called_elements" if self.by_element else "called_rows"

    @property
    def plain_kernel(self) -> None:
        """There is no kernel to ask for the loss of other predictions."""
        return None

    @property
    def label(self) -> str:
        """The name."""
        return self.name

    def losses_of(self, prediction: np.ndarray, target: np.ndarray) -> np.ndarray:
        """Return the losses, (n,) or (n, k), of read-only arrays, in the form that C reads."""
        shape = prediction.shape if self.by_element else prediction.shape[:1]
        losses = self.function(prediction, target)
        return self._checked(losses, "function", shape, prediction, target)

    def slopes_of(self, prediction: np.ndarray, target: np.ndarray) -> np.ndarray:
        """Return the derivative of their sum, (n, k), in the form that C reads."""
        slopes = self.gradient(prediction, target)
        return self._checked(slopes, "gradient", prediction.shape, prediction, target)

    def evaluate(
        self,
        prediction: np.ndarray,
        target: np.ndarray,
        weight: np.ndarray | None,
        gradient: np.ndarray | None = None,
        *,
        kernel: str | None = None,
        reduction: str | None = None,
    ) -> float:
        """Return the loss of arrays as the core takes them, and fill `gradient` unless None."""
        points = _read_only(prediction), _read_only(target)
        losses = self.losses_of(*points)
        if gradient is not None:
            gradient[...] = self.slopes_of(*points)
        setting = kernel or self.kernel, reduction or self.reduction
        return _core.loss_weigh(*setting, losses, weight, gradient, prediction.shape[1])

    def config(self) -> dict[str, Any]:
        """Return what a file can hold: all but the functions."""
        return {"type": CustomLoss.__name__, "name": self.name, "reduction": self.reduction}

    def __repr__(self) -> str:
        functions = (
            getattr(f, "__name__", reprlib.repr(f)) for f in (self.function, self.gradient)
        )
        arguments = list(functions)
        if self.name != getattr(self.function, "__name__", type(self.function).__name__):
            arguments.append(f"name={self.name!r}")
        if self.reduction != "mean":
            arguments.append(f"reduction={self.reduction!r}")
        return f"CustomLoss({', '.join(arguments)})"

    def __deepcopy__(self, memo: dict[int, Any]) -> "CustomLoss":
        """Share the functions, which may hold anything."""
        twin = type(self).__new__(type(self))
        twin.__dict__.update(self.__getstate__())
        return twin

    # ---- checks ----------------------------------------------------------------------------------

    def _checked(
        self,
        result: "ArrayLike",
        argument: str,
        shape: tuple[int, ...],
        prediction: np.ndarray,
        target: np.ndarray,
    ) -> np.ndarray:
        """Return what a function gave as a plain array of this shape, of the predictions' dtype."""
        given = self._array(result, argument)
        if given.shape != shape:
            raise ShapeError(
                f"{argument} of CustomLoss {self.name} gave an array of shape {given.shape} for "
                f"predictions of shape {prediction.shape}, expected {shape}"
            )
        place = _core.find_unfit(given, prediction.dtype)
        if place is not None:
            row, column = place
            raise NonFiniteLossError(
                f"{argument} of CustomLoss {self.name} gave {given[place[: given.ndim]]} for "
                f"prediction {reprlib.repr(prediction[row].tolist())} and target "
                f"{reprlib.repr(target[row].tolist())}" + (f", output {column}" * (given.ndim == 2))
            )
        return np.ascontiguousarray(given, prediction.dtype)

    def _array(self, result: "ArrayLike", argument: str) -> np.ndarray:
        """Return what a function gave as float32 or float64."""
        if type(result) is np.ndarray and result.dtype is FLOAT64:
            return result
        return as_array(result, f"what {argument} of CustomLoss {self.name} gave")

    def _try(self, prediction: np.ndarray, target: np.ndarray, check: bool) -> bool:
        """Try both functions; return whether there is a loss for each element."""
        points = _read_only(prediction), _read_only(target)
        n, k = prediction.shape
        with np.errstate(all="ignore"):
            losses = self._array(self.function(*points), "function")
            if losses.shape not in ((n,), (n, k)):
                raise ShapeError(
                    f"function of CustomLoss {self.name} gave an array of shape {losses.shape} for "
                    f"predictions of shape {(n, k)}; expected a loss for each row, {(n,)}, or for "
                    f"each element, {(n, k)}. The mean or sum is for `reduction` to take"
                )
            by_element = losses.ndim == 2
            try:
                losses = self._checked(losses, "function", losses.shape, *points)
                slopes = self.slopes_of(*points)
            except NonFiniteLossError as error:
                raise ValueError(
                    f"{error}; where predictions or targets are limited, give "
                    "check_with=(prediction, target)"
                ) from None
            self._check_rows(points, losses, slopes)
            if check:
                self._check_gradient(*points)
        return by_element

    def _check_rows(
        self, points: tuple[np.ndarray, ...], losses: np.ndarray, slopes: np.ndarray
    ) -> None:
        """Refuse functions of which a row's numbers change with the rows beside it."""
        first = [_read_only(array[: max(1, len(array) // 2)]) for array in points]
        for argument, whole in (("function", losses), ("gradient", slopes)):
            alone = self._array(getattr(self, argument)(*first), argument)
            part = whole[: len(first[0])]
            close = {"rtol": _SAME, "atol": _SAME * np.abs(part).max()}
            if alone.shape != part.shape or not np.allclose(alone, part, **close):
                raise ValueError(
                    f"{argument} of CustomLoss {self.name} gives other numbers for "
                    f"{len(first[0])} rows alone than for the same rows among {len(whole)}; each "
                    "row's must depend on that row alone. Dividing by the number of rows is for "
                    "`reduction` to do"
                )

    def _check_gradient(self, prediction: np.ndarray, target: np.ndarray) -> None:
        from bpcore.gradcheck import check_gradients  # which comes above losses

        report = check_gradients(
            lambda p: np.sum(self.function(p, target)),
            lambda p: self.gradient(p, target),
            prediction,
        )
        if not report.ok:
            verdict = "is wrong" if report.n_wrong else "could not be checked"
            raise ValueError(f"the gradient of CustomLoss {self.name} {verdict}\n{report}")


def _points(check_with: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return where to try a loss: as given, or random numbers that are always the same."""
    if check_with is None:
        rng = as_generator(0)
        return rng.normal(size=(ROWS, OUTPUTS)), rng.normal(size=(ROWS, OUTPUTS))
    if not isinstance(check_with, (tuple, list)) or len(check_with) != 2:
        raise TypeError("check_with must be (prediction, target)")
    prediction = as_array(as_matrix(check_with[0], "check_with prediction"), "", FLOAT64)
    if not prediction.size:
        raise ShapeError(f"check_with prediction is empty, of shape {prediction.shape}")
    target = as_target(check_with[1], "check_with target", *prediction.shape)
    target = as_array(target, "", FLOAT64)
    for array, argument in ((prediction, "prediction"), (target, "target")):
        check_finite(array, f"check_with {argument}", FLOAT64)
    return prediction, target


def _read_only(array: np.ndarray) -> np.ndarray:
    """Return a view that a function cannot write to."""
    view = array.view()
    view.flags.writeable = False
    return view
