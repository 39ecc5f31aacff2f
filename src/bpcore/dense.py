"""The dense layer, the one with weights."""

from typing import TYPE_CHECKING, Any

import numpy as np

from bpcore import _core, initializers
from bpcore.checks import (
    as_array,
    as_dtype,
    as_generator,
    as_matrix,
    boolean,
    check_memory,
    units,
)
from bpcore.errors import ShapeError
from bpcore.layer_base import Activation, Layer, as_gradient

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, DTypeLike


class Dense(Layer):
    """Every output is a weighted sum of all inputs: ``y = x @ weight + bias``.

    Weights are drawn when they are first needed, so that a network can draw those of its layers
    from its own generator, fit for the activation that follows. Inside a network, `weight` and
    `bias` are views of the network's flat array of parameters.

    Parameters
    ----------
    n_in, n_out : int
        The numbers of inputs and outputs, 1 or more.
    weight_init, bias_init : str, Initializer, float or array_like
        How they start: the name of an initialiser, an initialiser, one number, or the values.
    bias : bool
        Whether there is a bias.
    dtype : dtype
        float32 or float64. A network's dtype replaces it.
    rng : int, numpy.random.Generator or None
        Where random weights come from; None is fresh entropy, or the network's generator.

    Attributes
    ----------
    weight : ndarray of shape (n_in, n_out)
        Assigning to it copies into it; changing it in place works as well.
    bias : ndarray of shape (n_out,), or None
        Likewise.
    grad_weight, grad_bias : ndarray
        The gradients that the last `backward` found; 0 before.

    Raises
    ------
    ValueError
        Sizes below 1 or fractional, an unknown initialiser, an array of another shape.
    MemoryError
        More weights than memory, found out before anything is allocated.

    Notes
    -----
    With ``dy`` the gradient at the output: ``grad_weight = x.T @ dy``, ``grad_bias = dy.sum(0)``,
    ``dx = dy @ weight.T``. `backward` overwrites the gradients, it does not add to them.

    Examples
    --------
    >>> import bpcore
    >>> layer = bpcore.Dense(2, 1, weight_init=[[3.0], [5.0]], bias_init=[1.0])
    >>> layer.forward([[1.0, 0.0], [1.0, 1.0]])
    array([[4.],
           [9.]])
    >>> layer.backward([[1.0], [10.0]])
    array([[ 3.,  5.],
           [30., 50.]])
    >>> layer.grad_weight
    array([[11.],
           [10.]])
    >>> layer.grad_bias
    array([11.])
    """

    transient = frozenset({"weight_init", "bias_init", "rng"})

    def __init__(
        self,
        n_in: int,
        n_out: int,
        *,
        weight_init: Any = "auto",
        bias_init: Any = "zeros",
        bias: bool = True,
        dtype: "DTypeLike" = "float64",
        rng: Any = None,
    ) -> None:
        self.n_in = units(n_in, "Dense: n_in")
        self.n_out = units(n_out, "Dense: n_out")
        self.has_bias = boolean(bias, "bias")
        self._dtype = as_dtype(dtype)
        check_memory(2 * self.n_parameters * self._dtype.itemsize, f"Dense({n_in}, {n_out})")
        self._weight_init = initializers.get(weight_init)
        self._bias_init = initializers.get(bias_init)
        self._weight_init.check_shape((self.n_in, self.n_out), "weight_init")
        if self.has_bias:
            self._bias_init.check_shape((self.n_out,), "bias_init")
        self._rng = None if rng is None else as_generator(rng)
        self._arrays: tuple[np.ndarray | None, ...] | None = None  # drawn when first needed
        self._bound = False

    @property
    def n_parameters(self) -> int:
        """The number of weights and biases."""
        return (self.n_in + self.has_bias) * self.n_out

    @property
    def dtype(self) -> np.dtype:
        """The dtype of weights and results."""
        return self._dtype if self._arrays is None else self._arrays[0].dtype

    @property
    def weight(self) -> np.ndarray:  # noqa: D102 (documented with the class, as those below)
        return self._drawn()[0]

    @weight.setter
    def weight(self, value: "ArrayLike") -> None:
        self._assign(0, value, "weight")

    @property
    def bias(self) -> np.ndarray | None:  # noqa: D102
        return self._drawn()[1]

    @bias.setter
    def bias(self, value: "ArrayLike") -> None:
        self._assign(1, value, "bias")

    @property
    def grad_weight(self) -> np.ndarray:  # noqa: D102
        return self._drawn()[2]

    @grad_weight.setter
    def grad_weight(self, value: "ArrayLike") -> None:
        self._assign(2, value, "grad_weight")

    @property
    def grad_bias(self) -> np.ndarray | None:  # noqa: D102
        return self._drawn()[3]

    @grad_bias.setter
    def grad_bias(self, value: "ArrayLike") -> None:
        self._assign(3, value, "grad_bias")

    def forward(self, x: "ArrayLike", *, training: bool = False) -> np.ndarray:
        """Return ``x @ weight + bias``; see `Layer.forward`.

        Parameters
        ----------
        x : array_like of shape (n, n_in)
            Rows are samples. It is converted to the dtype of the weights.
        training : bool
            Makes no difference here.

        Returns
        -------
        ndarray of shape (n, n_out)
        """
        weight, bias, _, _ = self._drawn()
        x = as_array(x, "x", weight.dtype)
        if x.ndim != 2 or x.shape[1] != self.n_in:
            as_matrix(x, "x", self.n_in, repr(self))
        y = np.empty((x.shape[0], self.n_out), weight.dtype)
        _core.dense_forward(x, weight, bias, y)
        self._last = (x.copy(),)
        return y

    def backward(self, dy: "ArrayLike") -> np.ndarray:
        """Set `grad_weight` and `grad_bias`, and return the gradient at the input.

        Parameters
        ----------
        dy : array_like of shape (n, n_out)
            The gradient at the output of the last `forward`.

        Returns
        -------
        ndarray of shape (n, n_in)
        """
        (x,) = self._recall()
        weight, _, grad_weight, grad_bias = self._drawn()
        dy = as_gradient(dy, (x.shape[0], self.n_out), x.dtype)
        dx = np.empty_like(x)
        _core.dense_backward(dy, x, weight, grad_weight, grad_bias, dx)
        return dx

    def parameters(self) -> dict[str, np.ndarray]:
        """Return {"weight": weight, "bias": bias}, without the bias if there is none."""
        return self._named(self._drawn()[:2])

    def gradients(self) -> dict[str, np.ndarray]:
        """Return {"weight": grad_weight, "bias": grad_bias}, without the bias if there is none."""
        return self._named(self._drawn()[2:])

    def config(self) -> dict[str, Any]:
        """Return type, sizes and dtype; not the weights."""
        return {
            "type": "Dense",
            "n_in": self.n_in,
            "n_out": self.n_out,
            "bias": self.has_bias,
            "dtype": self.dtype.name,
        }

    def __repr__(self) -> str:
        """Return the call that makes such a layer; the initialisers have done their work."""
        return f"Dense({self.n_in}, {self.n_out}{'' if self.has_bias else ', bias=False'})"

    def _named(self, pair: tuple[np.ndarray | None, ...]) -> dict[str, np.ndarray]:
        named = zip(("weight", "bias"), pair, strict=True)
        return {name: array for name, array in named if array is not None}

    def _assign(self, index: int, value: "ArrayLike", argument: str) -> None:
        array = self._drawn()[index]
        if array is None:
            raise ValueError(f"{self!r} has no bias to assign to")
        value = as_array(value, argument, array.dtype)
        if value.shape != array.shape:
            raise ShapeError(f"{argument} has shape {value.shape}, expected {array.shape}")
        array[...] = value

    def _drawn(self) -> tuple[np.ndarray | None, ...]:
        if self._arrays is None:
            weight, bias = self._draw(self._rng, self._dtype, None)
            grad_bias = None if bias is None else np.zeros_like(bias)
            self._arrays = weight, bias, np.zeros_like(weight), grad_bias
        return self._arrays

    def _draw(
        self, rng: Any, dtype: np.dtype, next_activation: str | None
    ) -> tuple[np.ndarray, np.ndarray | None]:
        activation = Activation.names.get(next_activation)
        rectifier = activation is not None and activation.rectifier
        shape = (self.n_in, self.n_out)
        weight = self._weight_init.before(rectifier).draw(shape, rng, dtype)
        if not self.has_bias:
            return weight, None
        return weight, self._bias_init.before(rectifier).draw((self.n_out,), rng, dtype)

    def _bind(
        self,
        weight: np.ndarray,
        bias: np.ndarray | None,
        grad_weight: np.ndarray,
        grad_bias: np.ndarray | None,
        rng: Any,
        next_activation: str | None = None,
    ) -> None:
        """Move into a network: take its views for one's own, with the values that one has."""
        if self._bound:
            raise ValueError(f"{self!r} is already part of a network; use a copy.deepcopy of it")
        if self._arrays is None:
            rng = rng if self._rng is None else self._rng
            values = self._draw(rng, weight.dtype, next_activation)
        else:
            named = self.parameters().items()
            values = [as_array(value, name, weight.dtype) for name, value in named]
        weight[...] = values[0]
        if bias is not None:
            bias[...] = values[1]
        self._arrays = weight, bias, grad_weight, grad_bias
        self._bound = True
        self._last = None

    def _release(self) -> None:
        """Move out of a network that came to nothing, with the values that one has."""
        self._arrays = _copies(self._arrays)
        self._bound = False

    @classmethod
    def _restored(cls, arguments: dict[str, Any]) -> "Dense":
        return cls(weight_init="zeros", **arguments)

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy gets: arrays of its own, as it belongs to no network."""
        return super().__getstate__() | {"_arrays": _copies(self._arrays), "_bound": False}


def _copies(arrays: tuple[np.ndarray | None, ...] | None) -> tuple[np.ndarray | None, ...] | None:
    return arrays and tuple(None if array is None else array.copy() for array in arrays)
