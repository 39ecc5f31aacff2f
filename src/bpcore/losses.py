"""Losses: one number for how far predictions are from their targets, and its gradient.

Rows are samples. With ``l_i`` the loss of row i and ``w_i`` its weight (1 without weights), the
`reduction` says how one number is made:

===============  ========================================================
``mean``         ``sum_i w_i l_i / sum_i w_i``
``sum``          the sum over rows and outputs of w_i times the element
``sample_mean``  as ``mean``, but with ``l_i`` summed over the outputs
===============  ========================================================

``l_i`` is a mean over the outputs, save for cross-entropy, which is one number a row. `backward` is
exactly the derivative of the number that `forward` returned, whatever the reduction and weights.
"""

from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from bpcore import _core
from bpcore.checks import (
    as_array,
    as_matrix,
    as_sample_weight,
    as_target,
    boolean,
    check_non_negative,
    check_probabilities,
    choose,
    finite_positive,
    inside_unit,
)
from bpcore.configured import Configured
from bpcore.errors import ShapeError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

REDUCTIONS = ("mean", "sum", "sample_mean")
FUSED = {
    ("sigmoid", "bce"): "bce_logits",
    ("softmax", "cross_entropy"): "cross_entropy_logits",
    ("exp", "poisson"): "poisson_log",
}
"""Last activation and loss -> the loss of what goes into the former that a network computes."""


class Loss(Configured):
    """The base of all losses.

    What holds for a subclass is said by `name` (its name, and that of its kernel) and, for some, by
    an `__init__` that sets `parameter`. One whose `__init__` takes ``from_<scale>``, whether
    predictions are on another scale (their logits, say), is known by the name ``<name>_<scale>``
    too, which is that of its kernel then.

    Parameters
    ----------
    reduction : {"mean", "sum", "sample_mean"}
        How the losses of the rows become one number.
    """

    family: ClassVar[str] = "loss"
    fixed: ClassVar[bool] = True
    name: ClassVar[str]
    takes_labels: ClassVar[bool] = False
    """Whether the target may be class labels."""
    calls_python: ClassVar[bool] = False
    """Whether computing it runs code of the user's."""
    parameter: float = 0.0
    """The kernel's parameter."""
    scales: ClassVar[dict[str, str]] = {}
    """Argument that stands for another scale -> the kernel for it."""
    _gradient: np.ndarray | None = None  # that of the last forward

    def __init_subclass__(cls, **keywords: Any) -> None:
        """Register the subclass, with its variants for predictions on another scale."""
        super().__init_subclass__(**keywords)
        starts = [argument for argument in cls._arguments() if argument.startswith("from_")]
        cls.scales = {start: f"{cls.name}_{start.removeprefix('from_')}" for start in starts}
        for argument, name in cls.scales.items():
            cls.names[name] = partial(cls, **{argument: True})

    def __init__(self, *, reduction: str = "mean") -> None:
        self.reduction = choose(reduction, REDUCTIONS, "reduction")

    @property
    def kernel(self) -> str:
        """The row of ``csrc/losses.def``."""
        return next(
            (k for argument, k in self.scales.items() if getattr(self, argument)), self.name
        )

    @property
    def label(self) -> str:
        """What summaries call it."""
        return self.kernel

    @property
    def plain_kernel(self) -> str | None:
        """The kernel for predictions on the scale of the target; None where there is none."""
        return self.name

    def forward(
        self,
        prediction: "ArrayLike",
        target: "ArrayLike",
        *,
        sample_weight: "ArrayLike | None" = None,
    ) -> float:
        """Return the loss, and keep its gradient for `backward`.

        Parameters
        ----------
        prediction : array_like of shape (n, k) or (n,)
            One row a sample; (n,) is one output a sample. float32 stays float32, all else becomes
            float64, and the target and the weights follow.
        target : array_like of the same shape
            For one output (n,) and (n, 1) are the same. Cross-entropy takes class labels too.
        sample_weight : array_like of shape (n,), optional
            A weight for each row: finite, 0 or more, not all 0.

        Returns
        -------
        float

        Raises
        ------
        ShapeError
            The shapes do not match; nothing is ever broadcast.
        DTypeError
            Something is not made of real numbers.
        ValueError
            No rows, a label out of range, a probability outside [0, 1], weights that cannot be.
        """
        prediction = as_array(prediction, "prediction")
        shape = prediction.shape
        if len(shape) == 1 and not self.takes_labels:
            prediction = prediction.reshape(-1, 1)
        if prediction.ndim != 2:
            as_matrix(prediction, "prediction")
        if prediction.size == 0:
            raise ShapeError(f"prediction is empty, of shape {shape}, so there is no loss")
        target = self.check_target(target, "target", *prediction.shape)
        if target.dtype.kind == "f":
            target = as_array(target, "target", prediction.dtype)
        weight = as_sample_weight(sample_weight, prediction.shape[0], prediction.dtype)
        gradient = np.empty_like(prediction)
        value = self.evaluate(prediction, target, weight, gradient)
        self._gradient = gradient.reshape(shape)
        return value

    def backward(self) -> np.ndarray:
        """Return the gradient of the last `forward` with respect to its predictions.

        Returns
        -------
        ndarray
            Of the shape and dtype of the predictions.

        Raises
        ------
        RuntimeError
            There was no forward pass yet.
        """
        if self._gradient is None:
            raise RuntimeError(
                f"{type(self).__name__}.backward gives the gradient of a forward pass: "
                "call forward first"
            )
        return self._gradient.copy()

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
        """Return the loss of arrays as the core takes them, and fill `gradient` unless it is None.

        `kernel` and `reduction` are by default the loss's own.
        """
        kernel, reduction = kernel or self.kernel, reduction or self.reduction
        return _core.loss_evaluate(
            kernel, self.parameter, reduction, prediction, target, weight, gradient
        )

    def check_target(
        self, target: "ArrayLike", argument: str, n_rows: int, n_out: int
    ) -> np.ndarray:
        """Return a target as `checks.as_target` does, checked for this loss."""
        return as_target(target, argument, n_rows, n_out, self.takes_labels)

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy gets: all but the last forward pass."""
        return {key: value for key, value in vars(self).items() if key != "_gradient"}


class MeanSquaredError(Loss):
    """The square of the difference d = prediction - target: ``d**2``, without a factor 1/2.

    Parameters
    ----------
    reduction : {"mean", "sum", "sample_mean"}
        How the losses of the rows become one number.

    Examples
    --------
    >>> import bpcore
    >>> loss = bpcore.MeanSquaredError()
    >>> loss.forward([[1.0, 2.0], [3.0, 4.0]], [[1.0, 2.0], [3.0, 2.0]])
    1.0
    >>> loss.backward()
    array([[0., 0.],
           [0., 1.]])
    """

    name = "mse"


class MeanAbsoluteError(Loss):
    """The size of the difference d = prediction - target: ``|d|``, with derivative 0 at d = 0.

    Parameters
    ----------
    reduction : {"mean", "sum", "sample_mean"}
        How the losses of the rows become one number.

    Examples
    --------
    >>> import bpcore
    >>> loss = bpcore.MeanAbsoluteError(reduction="sum")
    >>> loss.forward([1.0, 2.0, 3.0], [1.0, 4.0, 2.5])
    2.5
    >>> loss.backward()
    array([ 0., -1.,  1.])
    """

    name = "mae"


class Huber(Loss):
    """Half the square of d = prediction - target near 0, and its size beyond [1]_.

    ``d**2 / 2`` for ``|d| <= delta``, else ``delta (|d| - delta / 2)``.

    Parameters
    ----------
    delta : float
        Where one becomes the other, finite and above 0.
    reduction : {"mean", "sum", "sample_mean"}
        How the losses of the rows become one number.

    References
    ----------
    .. [1] P. J. Huber, "Robust estimation of a location parameter", Annals of Mathematical
       Statistics 35, 1964.

    Examples
    --------
    >>> import bpcore
    >>> loss = bpcore.Huber(delta=2.0, reduction="sum")
    >>> loss.forward([1.0, 10.0], [0.0, 0.0])
    18.5
    >>> loss.backward()
    array([1., 2.])
    """

    name = "huber"

    def __init__(self, *, delta: float = 1.0, reduction: str = "mean") -> None:
        super().__init__(reduction=reduction)
        self.delta = self.parameter = finite_positive(delta, "delta")


class BinaryCrossEntropy(Loss):
    """The log loss of probabilities: ``-t log(p) - (1 - t) log(1 - p)`` for targets t in [0, 1].

    Probabilities are clipped to [eps, 1 - eps] of their dtype; where that changes them, the loss is
    flat and its derivative 0. From logits z, with p the logistic function of z, the loss is
    computed as ``max(z, 0) - t z + log1p(exp(-|z|))``, which needs no clipping and has the
    derivative ``p - t``.

    Parameters
    ----------
    from_logits : bool
        Whether predictions are logits; else they are probabilities.
    reduction : {"mean", "sum", "sample_mean"}
        How the losses of the rows become one number.

    Examples
    --------
    >>> import bpcore
    >>> loss = bpcore.BinaryCrossEntropy(from_logits=True, reduction="sum")
    >>> loss.forward([0.0, 10000.0], [1.0, 0.0])
    10000.69314718056
    >>> loss.backward()
    array([-0.5,  1. ])
    """

    name = "bce"

    def __init__(self, *, from_logits: bool = False, reduction: str = "mean") -> None:
        super().__init__(reduction=reduction)
        self.from_logits = boolean(from_logits, "from_logits")

    def check_target(
        self, target: "ArrayLike", argument: str, n_rows: int, n_out: int
    ) -> np.ndarray:
        """Return a target as `checks.as_target` does, made sure to lie in [0, 1]."""
        target = super().check_target(target, argument, n_rows, n_out)
        check_probabilities(target, argument)
        return target


class CategoricalCrossEntropy(Loss):
    """Minus the log of the probability of the right class: ``-sum_j t_j log(p_j)``.

    Probabilities are clipped to at least eps of their dtype; where that changes them, the loss is
    flat and its derivative 0. From logits z, with p their softmax, the log is
    ``z_j - max(z) - log(sum exp(z - max(z)))``, which needs no clipping, and the derivative is
    ``p - t``.

    Parameters
    ----------
    from_logits : bool
        Whether predictions are logits; else they are probabilities.
    reduction : {"mean", "sum", "sample_mean"}
        How the losses of the rows become one number; "mean" and "sample_mean" are the same here.

    Notes
    -----
    The target is class labels, whole numbers from 0 of shape (n,) or (n, 1), or rows of
    probabilities of shape (n, k) that sum to 1.

    Examples
    --------
    >>> import bpcore
    >>> loss = bpcore.CategoricalCrossEntropy(from_logits=True)
    >>> loss.forward([[0.0, 0.0], [10000.0, 0.0]], [0, 1]) == (0.6931471805599453 + 10000) / 2
    True
    >>> loss.backward()
    array([[-0.25,  0.25],
           [ 0.5 , -0.5 ]])
    """

    name = "cross_entropy"
    takes_labels = True

    def __init__(self, *, from_logits: bool = False, reduction: str = "mean") -> None:
        super().__init__(reduction=reduction)
        self.from_logits = boolean(from_logits, "from_logits")


class Quantile(Loss):
    """The pinball loss, which the quantile of the targets minimises [1]_.

    With d = target - prediction and q the `quantile`: ``max(q d, (q - 1) d)``, so ``q |d|`` where
    the prediction is too low and ``(1 - q) |d|`` where it is too high; the derivative is 0 at
    d = 0. For 0.5, the median, it is half the absolute error.

    Parameters
    ----------
    quantile : float
        The share of targets that should lie below the prediction, above 0 and below 1.
    reduction : {"mean", "sum", "sample_mean"}
        How the losses of the rows become one number.

    References
    ----------
    .. [1] R. Koenker and G. Bassett, "Regression quantiles", Econometrica 46, 1978.

    Examples
    --------
    >>> import bpcore
    >>> loss = bpcore.Quantile(quantile=0.75, reduction="sum")
    >>> loss.forward([1.0, 2.0, 3.0], [3.0, 2.0, 2.0])
    1.75
    >>> loss.backward()
    array([-0.75,  0.  ,  0.25])
    """

    name = "quantile"

    def __init__(self, *, quantile: float = 0.5, reduction: str = "mean") -> None:
        super().__init__(reduction=reduction)
        self.quantile = self.parameter = inside_unit(quantile, "quantile")


class Poisson(Loss):
    """The Poisson log-likelihood of counts, with its sign changed: ``p - t log(p)`` for rates p.

    The targets t are counts, or other numbers of 0 or more. ``log(t!)``, which no prediction
    changes, is left out, so that the loss may be negative. Rates are clipped to at least eps of
    their dtype; where that changes them, the loss is flat and its derivative 0. From the log z of
    the rate the loss is ``exp(z) - t z``, which needs no clipping and has the derivative
    ``exp(z) - t``. A network that ends in `Exp` is computed from there.

    Parameters
    ----------
    from_log : bool
        Whether predictions are logs of rates; else they are rates.
    reduction : {"mean", "sum", "sample_mean"}
        How the losses of the rows become one number.

    Examples
    --------
    >>> import bpcore
    >>> loss = bpcore.Poisson(from_log=True, reduction="sum")
    >>> loss.forward([0.0, 0.0], [3.0, 0.0])
    2.0
    >>> loss.backward()
    array([-2.,  1.])
    """

    name = "poisson"

    def __init__(self, *, from_log: bool = False, reduction: str = "mean") -> None:
        super().__init__(reduction=reduction)
        self.from_log = boolean(from_log, "from_log")

    def check_target(
        self, target: "ArrayLike", argument: str, n_rows: int, n_out: int
    ) -> np.ndarray:
        """Return a target as `checks.as_target` does, made sure to be 0 or more."""
        target = super().check_target(target, argument, n_rows, n_out)
        check_non_negative(target, argument)
        return target


LOSSES = Loss.names
"""Name -> what makes one."""

get = Loss.get
from_config = Loss.from_config
