"""What all layers have in common, and what all activations have."""

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from bpcore import _core
from bpcore.checks import as_array
from bpcore.configured import Configured
from bpcore.errors import ShapeError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


class Layer(Configured):
    """The base of all layers."""

    family: ClassVar[str] = "layer"
    fixed: ClassVar[bool] = True
    _last: tuple[Any, ...] | None = None  # what backward needs of the last forward

    def forward(self, x: "ArrayLike", *, training: bool = False) -> np.ndarray:
        """Return the layer's output and keep what `backward` needs.

        Parameters
        ----------
        x : array_like
            The input; float32 stays float32, all else becomes float64.
        training : bool
            Whether layers that act in training only (`Dropout`) do.

        Returns
        -------
        ndarray

        Raises
        ------
        ShapeError, DTypeError, ValueError
            `x` has the wrong shape, or is not made of real numbers.
        """
        raise NotImplementedError

    def backward(self, dy: "ArrayLike") -> np.ndarray:
        """Return the gradient at the input of the last `forward`.

        Parameters
        ----------
        dy : array_like
            The gradient at the output; its shape is that of the output.

        Returns
        -------
        ndarray
            The gradient at the input; its shape and dtype are those of the input.

        Raises
        ------
        RuntimeError
            There was no forward pass yet.
        ShapeError, DTypeError, ValueError
            `dy` has the wrong shape, or is not made of real numbers.
        """
        raise NotImplementedError

    def parameters(self) -> dict[str, np.ndarray]:
        """Return the trainable arrays by name; they are the layer's own, not copies."""
        return {}

    def gradients(self) -> dict[str, np.ndarray]:
        """Return the gradients of `parameters` by the same names."""
        return {}

    def _recall(self) -> tuple[Any, ...]:
        if self._last is None:
            raise RuntimeError(
                f"{type(self).__name__}.backward needs the values of a forward pass: "
                "call forward first"
            )
        return self._last

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy gets: all but the last forward pass."""
        return {key: value for key, value in vars(self).items() if key != "_last"}


class Activation(Layer, abstract=True):
    """The base of all activations: layers without weights that keep the shape.

    They take arrays of any shape and any value; the dtype is that of `x`. What holds for a subclass
    is said by `name` (its name, and that of its kernel) and, for some, by `rectifier` and an
    `__init__` that sets `parameter`.
    """

    family: ClassVar[str] = "activation"
    names: ClassVar[dict[str, Any]] = {}
    name: ClassVar[str]
    rectifier: ClassVar[bool] = False
    """Whether He's initialisation suits the layer before it: about half the inputs are cut off."""
    parameter: float = 0.0
    """The kernel's parameter."""

    @property
    def kernel(self) -> str:
        """The row of ``csrc/activations.def``."""
        return self.name

    def forward(self, x: "ArrayLike", *, training: bool = False) -> np.ndarray:
        """Return the activation of every element; see `Layer.forward`.

        Parameters
        ----------
        x : array_like of any shape
            Infinities and nan are numbers like any other.
        training : bool
            Makes no difference here.

        Returns
        -------
        ndarray of the shape of `x`
        """
        x = as_array(x, "x")
        y = np.empty(x.shape, x.dtype)
        self._evaluate(x, y)
        self._last = x.copy(), y.copy()
        return y

    def backward(self, dy: "ArrayLike") -> np.ndarray:
        """Return the gradient at the input of the last `forward`; see `Layer.backward`.

        Parameters
        ----------
        dy : array_like of the shape of the output
            The gradient at the output.

        Returns
        -------
        ndarray of the same shape
        """
        x, y = self._recall()
        dy = as_gradient(dy, y.shape, y.dtype)
        dx = np.empty(x.shape, x.dtype)
        self._differentiate(dy, x, y, dx)
        return dx

    def _evaluate(self, x: np.ndarray, y: np.ndarray) -> None:
        _core.activation_forward(self.kernel, self.parameter, x, y)

    def _differentiate(self, dy: np.ndarray, x: np.ndarray, y: np.ndarray, dx: np.ndarray) -> None:
        _core.activation_backward(self.kernel, self.parameter, dy, x, y, dx)


def as_gradient(dy: "ArrayLike", shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Return `dy` as an array, of the shape and the dtype that the output had."""
    dy = as_array(dy, "dy", dtype)
    if dy.shape != shape:
        raise ShapeError(f"dy has shape {dy.shape}, expected {shape}, as the output of forward")
    return dy
