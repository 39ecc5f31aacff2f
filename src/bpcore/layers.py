"""Layers, each usable alone on arrays or inside a Network.

A layer computes ``y = layer.forward(x)`` and, for the gradient ``dy`` of some loss at ``y``, the
gradient at ``x``: ``dx = layer.backward(dy)``. The arithmetic is in the compiled core; the classes
here check arguments and keep what the backward pass needs. They keep copies, so arrays that went in
or came out may be changed freely between the two passes.

An activation is a class with a docstring and a `name`, that of a row in ``csrc/activations.def``::

    class ReLU(Activation):
        name = "relu"
        rectifier = True
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from bpcore import _core
from bpcore.checks import as_array, as_generator, choose, finite_non_negative, fraction
from bpcore.dense import Dense
from bpcore.errors import ShapeError
from bpcore.layer_base import Activation, Layer, as_gradient

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = [
    "ACTIVATIONS",
    "ELU",
    "GELU",
    "Activation",
    "Dense",
    "Dropout",
    "Exp",
    "Identity",
    "Layer",
    "LeakyReLU",
    "ReLU",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Tanh",
    "activation",
    "from_config",
]


class Identity(Activation):
    """``y = x``.

    Examples
    --------
    >>> import bpcore
    >>> bpcore.Identity().forward([-1.0, 2.0])
    array([-1.,  2.])
    """

    name = "identity"


class Sigmoid(Activation):
    """The logistic function, ``y = 1 / (1 + exp(-x))``, with ``dy/dx = y (1 - y)``.

    Examples
    --------
    >>> import bpcore
    >>> layer = bpcore.Sigmoid()
    >>> layer.forward([-1000.0, 0.0, 1000.0])
    array([0. , 0.5, 1. ])
    >>> layer.backward([1.0, 1.0, 1.0])
    array([0.  , 0.25, 0.  ])
    """

    name = "sigmoid"


class Tanh(Activation):
    """The hyperbolic tangent, with ``dy/dx = 1 - y**2``.

    Examples
    --------
    >>> import bpcore
    >>> bpcore.Tanh().forward([-1000.0, 0.0, 1000.0])
    array([-1.,  0.,  1.])
    """

    name = "tanh"


class ReLU(Activation):
    """The rectifier, ``y = max(x, 0)``, with derivative 1 for x > 0, else 0, at 0 too [1]_.

    References
    ----------
    .. [1] X. Glorot, A. Bordes and Y. Bengio, "Deep sparse rectifier neural networks",
       AISTATS 2011.

    Examples
    --------
    >>> import bpcore
    >>> layer = bpcore.ReLU()
    >>> layer.forward([-1.0, 0.0, 2.0])
    array([0., 0., 2.])
    >>> layer.backward([10.0, 10.0, 10.0])
    array([ 0.,  0., 10.])
    """

    name = "relu"
    rectifier = True


class LeakyReLU(Activation):
    """``y = x`` for x > 0, else ``slope * x`` [1]_; at 0 the derivative is `slope`.

    Parameters
    ----------
    slope : float
        The slope on the left, finite and 0 or more.

    References
    ----------
    .. [1] A. L. Maas, A. Y. Hannun and A. Y. Ng, "Rectifier nonlinearities improve neural network
       acoustic models", ICML 2013.

    Examples
    --------
    >>> import bpcore
    >>> bpcore.LeakyReLU(slope=0.1).forward([-1.0, 2.0])
    array([-0.1,  2. ])
    """

    name = "leaky_relu"
    rectifier = True

    def __init__(self, *, slope: float = 0.01) -> None:
        self.slope = self.parameter = finite_non_negative(slope, "slope")


class ELU(Activation):
    """``y = x`` for x > 0, else ``alpha * (exp(x) - 1)`` [1]_; at 0 the derivative is `alpha`.

    Parameters
    ----------
    alpha : float
        Minus the value far to the left, finite and 0 or more.

    References
    ----------
    .. [1] D.-A. Clevert, T. Unterthiner and S. Hochreiter, "Fast and accurate deep network learning
       by exponential linear units (ELUs)", ICLR 2016.

    Examples
    --------
    >>> import bpcore
    >>> bpcore.ELU().forward([-1000.0, 0.0, 2.0])
    array([-1.,  0.,  2.])
    """

    name = "elu"
    rectifier = True

    def __init__(self, *, alpha: float = 1.0) -> None:
        self.alpha = self.parameter = finite_non_negative(alpha, "alpha")


class Softplus(Activation):
    """``y = log(1 + exp(x))``, a smooth rectifier, with the logistic function as derivative [1]_.

    References
    ----------
    .. [1] C. Dugas, Y. Bengio, F. Belisle, C. Nadeau and R. Garcia, "Incorporating second-order
       functional knowledge for better option pricing", NIPS 2000.

    Examples
    --------
    >>> import bpcore
    >>> bpcore.Softplus().forward([-1000.0, 0.0, 1000.0])
    array([0.00000000e+00, 6.93147181e-01, 1.00000000e+03])
    """

    name = "softplus"
    rectifier = True


class GELU(Activation):
    """``y = x P(x)``, with P the distribution function of the standard normal [1]_.

    Parameters
    ----------
    approximate : {"none", "tanh"}
        "none": ``P(x) = (1 + erf(x / sqrt(2))) / 2``. "tanh": the approximation
        ``P(x) = (1 + tanh(sqrt(2 / pi) (x + 0.044715 x**3))) / 2``; its derivative is that of the
        approximation.

    References
    ----------
    .. [1] D. Hendrycks and K. Gimpel, "Gaussian error linear units (GELUs)", arXiv:1606.08415,
       2016.

    Examples
    --------
    >>> import bpcore
    >>> bpcore.GELU().forward([-1.0, 0.0, 1.0]).round(4)
    array([-0.1587,  0.    ,  0.8413])
    >>> bpcore.GELU(approximate="tanh").forward([-1.0, 0.0, 1.0]).round(4)
    array([-0.1588,  0.    ,  0.8412])
    """

    name = "gelu"
    rectifier = True
    kernels: ClassVar[dict[str, str]] = {"none": "gelu", "tanh": "gelu_tanh"}

    def __init__(self, *, approximate: str = "none") -> None:
        self.approximate = choose(approximate, self.kernels, "approximate")

    @property
    def kernel(self) -> str:
        """The row of ``csrc/activations.def``."""
        return self.kernels[self.approximate]


class SiLU(Activation):
    """``y = x / (1 + exp(-x))``, also called swish [1]_ [2]_.

    References
    ----------
    .. [1] S. Elfwing, E. Uchibe and K. Doya, "Sigmoid-weighted linear units for neural network
       function approximation in reinforcement learning", Neural Networks 107, 2018.
    .. [2] P. Ramachandran, B. Zoph and Q. V. Le, "Searching for activation functions",
       arXiv:1710.05941, 2017.

    Examples
    --------
    >>> import bpcore
    >>> bpcore.SiLU().forward([-1.0, 0.0, 1.0]).round(4)
    array([-0.2689,  0.    ,  0.7311])
    """

    name = "silu"
    rectifier = True


class Exp(Activation):
    """The exponential function, ``y = exp(x)``, which is its own derivative.

    As a last layer it gives outputs above 0, such as rates; with the loss `Poisson` the pair is
    computed from x, the log of the rate. Above 709.8 (88.7 in float32) the result is infinity.

    Examples
    --------
    >>> import bpcore
    >>> layer = bpcore.Exp()
    >>> layer.forward([-1000.0, 0.0, 1.0])
    array([0.        , 1.        , 2.71828183])
    >>> layer.backward([1.0, 1.0, 1.0])
    array([0.        , 1.        , 2.71828183])
    """

    name = "exp"


class Softmax(Activation):
    """``y_i = exp(x_i) / sum_j exp(x_j)`` along the last axis.

    The greatest element is subtracted first, so that nothing overflows. With ``dy`` the gradient at
    the output, ``dx_i = y_i (dy_i - sum_j dy_j y_j)``.

    Examples
    --------
    >>> import bpcore
    >>> bpcore.Softmax().forward([[0.0, 0.0], [-10000.0, 10000.0]])
    array([[0.5, 0.5],
           [0. , 1. ]])
    """

    name = "softmax"

    def _evaluate(self, x: np.ndarray, y: np.ndarray) -> None:
        _core.softmax_forward(_as_rows(x), _as_rows(y))

    def _differentiate(self, dy: np.ndarray, x: np.ndarray, y: np.ndarray, dx: np.ndarray) -> None:
        _core.softmax_backward(_as_rows(dy), _as_rows(y), _as_rows(dx))


def _as_rows(x: np.ndarray) -> np.ndarray:
    if x.ndim == 2:
        return x
    if x.ndim == 0:
        raise ShapeError("x has no axis for softmax to go along")
    return x.reshape(math.prod(x.shape[:-1]), x.shape[-1])


ACTIVATIONS = Activation.names
"""Name -> class."""

activation = Activation.get
from_config = Layer.from_config


class Dropout(Layer):
    """In training, zero each element with probability `p` and divide the others by ``1 - p``.

    So the mean is what it is without; out of training ``y = x`` [1]_.

    Parameters
    ----------
    p : float
        The probability, 0 or more and below 1.
    rng : int, numpy.random.Generator or None
        Where the layer draws from when it is used alone; None is fresh entropy. Within a network it
        is the network's own generator.

    References
    ----------
    .. [1] N. Srivastava, G. Hinton, A. Krizhevsky, I. Sutskever and R. Salakhutdinov, "Dropout: a
       simple way to prevent neural networks from overfitting", JMLR 15, 2014.

    Examples
    --------
    >>> import bpcore
    >>> layer = bpcore.Dropout(0.5, rng=0)
    >>> layer.forward([1.0, 2.0, 3.0])
    array([1., 2., 3.])
    >>> set(layer.forward([1.0] * 100, training=True).tolist()) == {0.0, 2.0}
    True
    """

    transient = frozenset({"rng"})

    def __init__(self, p: float, *, rng: Any = None) -> None:
        self.p = self.parameter = fraction(p, "p")
        self._rng = None if rng is None else as_generator(rng)

    def forward(self, x: "ArrayLike", *, training: bool = False) -> np.ndarray:
        """Return `x`, in training with some elements dropped; see `Layer.forward`."""
        x = as_array(x, "x")
        factor = np.ones_like(x)
        if training and self.p > 0:
            if self._rng is None:
                self._rng = as_generator()
            _core.dropout_mask(int(self._rng.integers(2**64, dtype=np.uint64)), self.p, factor)
        self._last = (factor,)
        return _product(x, factor)

    def backward(self, dy: "ArrayLike") -> np.ndarray:
        """Return `dy`, treated as the input of the last `forward` was; see `Layer.backward`."""
        (factor,) = self._recall()
        return _product(as_gradient(dy, factor.shape, factor.dtype), factor)


def _product(x: np.ndarray, factor: np.ndarray) -> np.ndarray:
    with np.errstate(all="ignore"):  # infinities and nan are numbers like any other
        return np.multiply(x, factor, out=np.empty_like(x))


_BUILT_IN = frozenset(Layer.types.values())  # those of users come later


def check_built_in(names: Sequence[str], layers: Sequence[Layer]) -> None:
    """Refuse layers of other classes than bpcore's: nobody can know what those compute."""
    for name, layer in zip(names, layers, strict=True):
        if type(layer) not in _BUILT_IN:
            parent = next(cls for cls in type(layer).__mro__ if cls in {*_BUILT_IN, Layer})
            raise ValueError(
                f"layer {name!r} cannot be exported: {type(layer).__name__} is a subclass of "
                f"{parent.__name__}, and what it does otherwise would be lost; expected a layer "
                "of bpcore itself"
            )
