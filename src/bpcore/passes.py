"""What a network computes: predictions, single passes, losses and gradients."""

import math
import threading
from typing import TYPE_CHECKING, Any

import numpy as np

from bpcore import _core
from bpcore.checks import as_array, as_matrix, as_sample_weight, check_memory
from bpcore.errors import ShapeError
from bpcore.layers import Dropout, Layer
from bpcore.losses import Loss

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


class Passes:
    """The part of `Network` that runs data through it; see there."""

    layers: tuple[Layer, ...]
    loss: Loss
    dtype: np.dtype
    n_in: int
    n_out: int
    rng: "np.random.Generator"  # quoted: importing numpy.random takes 10 ms
    _plan: _core.Plan
    _parameters: np.ndarray
    _gradients: np.ndarray
    _exclusive: "Exclusive"

    def predict(self, X: "ArrayLike", *, out: np.ndarray | None = None) -> np.ndarray:
        """Return the network's outputs; layers that act in training only (`Dropout`) do not act.

        Parameters
        ----------
        X : array_like of shape (n, n_in)
            Rows are samples, in any layout; n may be 0.
        out : ndarray of shape (n, n_out), optional
            Where to put the result: C-contiguous, of the network's dtype.

        Returns
        -------
        ndarray of shape (n, n_out)
            Of the network's dtype; `out` if that is given. A row's result does not depend on the
            others.

        Raises
        ------
        ShapeError, DTypeError, ValueError
            `X` or `out` has the wrong shape or dtype.

        Examples
        --------
        >>> import bpcore
        >>> net = bpcore.Network([bpcore.Dense(2, 1, weight_init=[[1.0], [2.0]])])
        >>> net.predict([[1.0, 1.0], [2.0, 0.0]])
        array([[3.],
               [2.]])
        """
        y = self._plan.predict_plain(self._parameters, X, out)
        return self._predict_any(X, out) if y is None else y

    __call__ = predict

    def _predict_any(self, X: "ArrayLike", out: np.ndarray | None) -> np.ndarray:
        """As `predict`, whatever the form of the arrays."""
        X = self._inputs(X)
        if out is None:
            out = np.empty((X.shape[0], self.n_out), self.dtype)
        else:
            X = self._check_out(out, X)
        self._plan.predict(self._parameters, X, out)
        return out

    def _inputs(self, X: "ArrayLike") -> np.ndarray:
        X = as_matrix(X, "X", self.n_in)
        return X if X.dtype is self.dtype else self._in_range(X, "X")

    def _in_range(self, array: np.ndarray, argument: str) -> np.ndarray:
        """Refuse finite numbers that the network's dtype cannot hold."""
        narrows = array.dtype.itemsize > self.dtype.itemsize and array.dtype.kind == "f"
        if narrows and _core.find_unfit(array, self.dtype) is not None:
            return as_array(array, argument, self.dtype)
        return array

    def _check_out(self, out: np.ndarray, X: np.ndarray) -> np.ndarray:
        """Check `out`; return X, copied if it shares memory with it."""
        if not isinstance(out, np.ndarray) or out.dtype != self.dtype:
            got = out.dtype if isinstance(out, np.ndarray) else type(out).__name__
            raise TypeError(f"out must be an array of {self.dtype}, got {got}")
        if out.shape != (X.shape[0], self.n_out):
            raise ShapeError(f"out has shape {out.shape}, expected {(X.shape[0], self.n_out)}")
        if not (out.flags.carray and out.dtype.isnative):
            raise ValueError("out must be C-contiguous, aligned and writeable")
        return X.copy() if _core.may_overlap(X, out) else X

    def input_jacobian(self, X: "ArrayLike") -> np.ndarray:
        """Return the derivative of every output by every input, for each row on its own.

        Layers that act in training only (`Dropout`) do not act. The parameters stay, and so does
        what `forward` kept.

        Parameters
        ----------
        X : array_like of shape (n, n_in)
            Rows are samples; n may be 0.

        Returns
        -------
        ndarray of shape (n, n_out, n_in)
            Element ``[r, j, i]`` is the derivative of output j by input i at row r, of the
            network's dtype. At a kink it is the derivative that `backward` takes. No row depends
            on the others.

        Raises
        ------
        ShapeError, DTypeError, ValueError
            `X` has the wrong shape or dtype.
        MemoryError
            The result would not fit this machine; nothing has been allocated.

        Notes
        -----
        One forward pass, and a backward pass for each output [1]_.

        References
        ----------
        .. [1] C. M. Bishop, "Neural networks for pattern recognition", Oxford University Press,
           1995, section 4.9.

        Examples
        --------
        >>> import bpcore
        >>> net = bpcore.Network(
        ...     [bpcore.Dense(2, 2, weight_init=[[1.0, 2.0], [3.0, -4.0]]), bpcore.ReLU()]
        ... )
        >>> net.input_jacobian([[1.0, 1.0]])
        array([[[1., 3.],
                [0., 0.]]])
        """
        X = self._inputs(X)
        shape = (X.shape[0], self.n_out, self.n_in)
        check_memory(math.prod(shape) * self.dtype.itemsize, "the Jacobian of so many rows")
        jacobian = np.empty(shape, self.dtype)
        self._plan.input_jacobian(self._parameters, X, jacobian)
        return jacobian

    # ---- one pass at a time --------------------------------------------------------------------

    def forward(self, X: "ArrayLike", *, training: bool = False) -> np.ndarray:
        """Return the network's outputs and keep what `backward` needs.

        Parameters
        ----------
        X : array_like of shape (n, n_in)
        training : bool
            Whether `Dropout` acts.

        Returns
        -------
        ndarray of shape (n, n_out)

        Raises
        ------
        ShapeError, DTypeError, ValueError
            `X` has the wrong shape or dtype.
        RuntimeError
            Another thread is training the network.
        """
        X = self._inputs(X)
        y = np.empty((X.shape[0], self.n_out), self.dtype)
        with self._exclusive:
            self._plan.forward(self._parameters, X, y, training, self._dropout_key(training))
        return y

    def backward(self, dy: "ArrayLike") -> np.ndarray:
        """Set `gradients` and return the gradient at the input of the last `forward`.

        Parameters
        ----------
        dy : array_like of shape (n, n_out)
            The gradient at the output. The penalty's gradient is added to `gradients`.

        Returns
        -------
        ndarray of shape (n, n_in)

        Raises
        ------
        RuntimeError
            There was no forward pass yet, or another thread is training the network.
        ShapeError, DTypeError, ValueError
            `dy` has the wrong shape or dtype.

        Examples
        --------
        >>> import bpcore
        >>> net = bpcore.Network([bpcore.Dense(2, 1, weight_init=[[1.0], [2.0]])])
        >>> net.forward([[3.0, 4.0]])
        array([[11.]])
        >>> net.backward([[10.0]])
        array([[10., 20.]])
        >>> net.gradients
        array([30., 40., 10.])
        """
        with self._exclusive:
            n = self._plan.rows_kept
            if n < 0:
                raise RuntimeError(
                    "backward needs the values of a forward pass: call forward first"
                )
            dy = as_array(dy, "dy", self.dtype)
            if dy.shape != (n, self.n_out):
                raise ShapeError(
                    f"dy has shape {dy.shape}, expected {(n, self.n_out)}, as the output of forward"
                )
            dx = np.empty((n, self.n_in), self.dtype)
            self._plan.backward(self._parameters, self._gradients, dy, dx)
        return dx

    def loss_value(
        self, X: "ArrayLike", y: "ArrayLike", *, sample_weight: "ArrayLike | None" = None
    ) -> float:
        """Return the loss, with the penalty; `Dropout` does not act.

        Parameters
        ----------
        X : array_like of shape (n, n_in)
        y : array_like
            The target: shape (n, n_out), or (n,) for one output; class labels for cross-entropy.
        sample_weight : array_like of shape (n,), optional

        Returns
        -------
        float
        """
        return self._plan.loss(self._parameters, *self._data(X, y, sample_weight))

    def loss_and_gradient(
        self,
        X: "ArrayLike",
        y: "ArrayLike",
        *,
        sample_weight: "ArrayLike | None" = None,
        training: bool = False,
        input_gradient: bool = False,
    ) -> tuple[float, np.ndarray] | tuple[float, np.ndarray, np.ndarray]:
        """Return the loss and its derivative by the parameters, penalty included.

        Parameters
        ----------
        X, y, sample_weight
            As for `loss_value`.
        training : bool
            Whether `Dropout` acts.
        input_gradient : bool
            Whether to return the derivative by X too.

        Returns
        -------
        loss : float
        gradient : ndarray of shape (n_parameters,)
            A fresh array; `gradients` holds the same numbers.
        dX : ndarray of shape (n, n_in)
            With `input_gradient`.

        Raises
        ------
        RuntimeError
            Another thread is training the network.

        Examples
        --------
        A step of one's own:

        >>> import bpcore
        >>> net = bpcore.Network([bpcore.Dense(1, 1, weight_init=[[2.0]])])
        >>> loss, gradient = net.loss_and_gradient([[1.0], [3.0]], [1.0, 3.0])
        >>> loss, gradient
        (5.0, array([10.,  4.]))
        >>> bpcore.SGD(learning_rate=0.1).step(net)
        >>> net.parameters
        array([ 1. , -0.4])
        """
        X, y, weight = self._data(X, y, sample_weight)
        X, y = self._apart(X), self._apart(y)
        dX = np.empty((X.shape[0], self.n_in), self.dtype) if input_gradient else None
        with self._exclusive:
            key = self._dropout_key(training)
            self._exclusive.calling = self.loss.calls_python
            try:
                loss = self._plan.loss_and_gradient(
                    self._parameters, X, y, weight, self._gradients, dX, training, key
                )
            finally:
                self._exclusive.calling = False
            gradient = self._gradients.copy()
        return (loss, gradient) if dX is None else (loss, gradient, dX)

    def _data(
        self, X: "ArrayLike", y: "ArrayLike", sample_weight: "ArrayLike | None"
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        X = self._inputs(X)
        if X.shape[0] == 0:
            raise ShapeError("X has no rows, so there is no loss")
        y = self._in_range(self.loss.check_target(y, "y", X.shape[0], self.n_out), "y")
        return X, y, as_sample_weight(sample_weight, X.shape[0], self.dtype)

    def _plain_data(
        self, X: "ArrayLike", y: "ArrayLike", sample_weight: "ArrayLike | None"
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """As `_data`, in the form that the kernels of single layers take."""
        X, y, weight = self._data(X, y, sample_weight)
        y = as_array(y, "y", self.dtype) if y.dtype.kind == "f" else np.ascontiguousarray(y)
        return as_array(X, "X", self.dtype), y, weight

    def _apart(self, array: np.ndarray) -> np.ndarray:
        """Return a copy of data that lies in what a pass or a fit writes to."""
        overlaps = _core.may_overlap(array, self._gradients) or _core.may_overlap(
            array, self._parameters
        )
        return array.copy() if overlaps else array

    def _dropout_key(self, training: bool) -> int:
        if training and any(isinstance(layer, Dropout) for layer in self.layers):
            return int(self.rng.integers(2**64, dtype=np.uint64))
        return 0


class Exclusive:
    """One thread at a time, and nobody in the middle of a batch; others are told so at once."""

    __slots__ = ("_lock", "between_epochs", "calling", "fitting", "run")

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self.fitting = self.between_epochs = False
        self.calling = False  # a loss in Python, in the middle of a pass
        self.run: Any = None  # the fit under way, which knows where it stands

    def __enter__(self) -> None:
        if not self._lock.acquire(False):
            raise RuntimeError("another thread is training this network")
        if self.fitting and not self.between_epochs:  # a signal handler, say
            self._lock.release()
            raise RuntimeError("the network is in the middle of a fit")
        if self.calling:
            self._lock.release()
            raise RuntimeError("the network is in the middle of computing its loss")

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        self._lock.release()
