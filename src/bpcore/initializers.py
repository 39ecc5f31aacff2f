"""How weights and biases start.

An initialiser fills an array of a given shape from a random generator. Random numbers are drawn in
float64 and rounded, so that a float32 network starts from the rounded weights of the float64 one.

For a weight of shape (n_in, n_out), fan-in is n_in and fan-out n_out; for a one-dimensional array
both are its length. Dense layers want the spread of their outputs to be that of their inputs, and
the spread of gradients to survive on the way back; the variances below are what that asks for.

References
----------
.. [1] Y. LeCun, L. Bottou, G. B. Orr and K.-R. Mueller, "Efficient BackProp", in Neural Networks:
   Tricks of the Trade, 1998, section 4.6.
.. [2] X. Glorot and Y. Bengio, "Understanding the difficulty of training deep feedforward neural
   networks", AISTATS 2010, equations 12 and 16.
.. [3] K. He, X. Zhang, S. Ren and J. Sun, "Delving deep into rectifiers", ICCV 2015, equation 10.
"""

from numbers import Real
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from bpcore.checks import FLOAT64, as_array, as_dtype, as_generator, finite, finite_non_negative
from bpcore.configured import Configured
from bpcore.errors import ShapeError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

Shape = tuple[int, ...]


class Initializer(Configured):
    """The base of all initialisers."""

    family: ClassVar[str] = "initializer"

    def draw(self, shape: Shape, rng: Any = None, dtype: Any = FLOAT64) -> np.ndarray:
        """Return a fresh array.

        Parameters
        ----------
        shape : tuple of int
            (n_in, n_out) for a weight, (n_out,) for a bias.
        rng : int, numpy.random.Generator or None
            Where random numbers come from.
        dtype : dtype
            float32 or float64.

        Returns
        -------
        ndarray of the given shape and dtype
        """
        raise NotImplementedError

    def check_shape(self, shape: Shape, argument: str) -> None:
        """Raise ShapeError if this cannot fill an array of that shape."""

    def before(self, rectifier: bool) -> "Initializer":
        """Return the initialiser to use for a layer that a rectifier follows, or does not."""
        return self


class _NormalByFans(Initializer, abstract=True):
    """Normal numbers around 0 with a variance that depends on the fans."""

    def variance(self, fan_in: int, fan_out: int) -> float:
        """Return the variance of the numbers drawn."""
        raise NotImplementedError

    def draw(self, shape: Shape, rng: Any = None, dtype: Any = FLOAT64) -> np.ndarray:
        """Return a fresh array; see `Initializer.draw`."""
        deviation = self.variance(shape[0], shape[-1]) ** 0.5
        return as_generator(rng).normal(0.0, deviation, shape).astype(dtype)


class _UniformByFans(_NormalByFans, abstract=True):
    """Uniform numbers around 0 with a variance that depends on the fans."""

    def draw(self, shape: Shape, rng: Any = None, dtype: Any = FLOAT64) -> np.ndarray:
        """Return a fresh array; see `Initializer.draw`."""
        limit = (3.0 * self.variance(shape[0], shape[-1])) ** 0.5
        return as_generator(rng).uniform(-limit, limit, shape).astype(dtype)


class GlorotUniform(_UniformByFans):
    """Uniform with variance 2 / (fan_in + fan_out), for sigmoid, tanh and linear layers [2]_.

    Examples
    --------
    >>> from bpcore import initializers
    >>> weight = initializers.GlorotUniform().draw((300, 300), rng=0)
    >>> bool(abs(weight).max() <= (6 / 600) ** 0.5), round(float(weight.var()) * 300, 2)
    (True, 1.0)
    """

    name = "glorot_uniform"

    def variance(self, fan_in: int, fan_out: int) -> float:
        """Return 2 / (fan_in + fan_out)."""
        return 2.0 / (fan_in + fan_out)


class GlorotNormal(_NormalByFans):
    """Normal with variance 2 / (fan_in + fan_out), for sigmoid, tanh and linear layers [2]_."""

    name = "glorot_normal"
    variance = GlorotUniform.variance


class HeUniform(_UniformByFans):
    """Uniform with variance 2 / fan_in, for layers that a rectifier follows [3]_."""

    name = "he_uniform"

    def variance(self, fan_in: int, fan_out: int) -> float:
        """Return 2 / fan_in."""
        return 2.0 / fan_in


class HeNormal(_NormalByFans):
    """Normal with variance 2 / fan_in, for layers that a rectifier follows [3]_."""

    name = "he_normal"
    variance = HeUniform.variance


class LecunNormal(_NormalByFans):
    """Normal with variance 1 / fan_in [1]_."""

    name = "lecun_normal"

    def variance(self, fan_in: int, fan_out: int) -> float:
        """Return 1 / fan_in."""
        return 1.0 / fan_in


class Auto(Initializer):
    """`HeUniform` where a rectifier (ReLU and its smooth kin) follows, else `GlorotUniform`."""

    name = "auto"

    def before(self, rectifier: bool) -> Initializer:
        """Return the initialiser to use."""
        return HeUniform() if rectifier else GlorotUniform()

    def draw(self, shape: Shape, rng: Any = None, dtype: Any = FLOAT64) -> np.ndarray:
        """Return a fresh array for a layer that stands alone; see `Initializer.draw`."""
        return self.before(rectifier=False).draw(shape, rng, dtype)


class Normal(Initializer):
    """Normal numbers, standard normal unless told otherwise.

    Parameters
    ----------
    mean : float
        Where they centre.
    std : float
        Their standard deviation, 0 or more.

    Examples
    --------
    >>> import bpcore
    >>> from bpcore import initializers
    >>> bpcore.Dense(4, 3, weight_init=initializers.Normal(std=0.01), rng=0).weight.shape
    (4, 3)
    """

    name = "normal"

    def __init__(self, *, mean: float = 0.0, std: float = 1.0) -> None:
        self.mean = finite(mean, "mean")
        self.std = finite_non_negative(std, "std")

    def draw(self, shape: Shape, rng: Any = None, dtype: Any = FLOAT64) -> np.ndarray:
        """Return a fresh array; see `Initializer.draw`."""
        return _rounded(as_generator(rng).normal(self.mean, self.std, shape), dtype)


class Uniform(Initializer):
    """Uniform numbers in [low, high), which is [0, 1) unless told otherwise.

    Parameters
    ----------
    low, high : float
        The ends, finite and in this order.
    """

    name = "uniform"

    def __init__(self, *, low: float = 0.0, high: float = 1.0) -> None:
        self.low = finite(low, "low")
        self.high = finite(high, "high")
        if not self.low <= self.high or np.isinf(self.high - self.low):
            raise ValueError(f"low must be <= high, a finite way apart, got {low} and {high}")

    def draw(self, shape: Shape, rng: Any = None, dtype: Any = FLOAT64) -> np.ndarray:
        """Return a fresh array; see `Initializer.draw`."""
        return _rounded(as_generator(rng).uniform(self.low, self.high, shape), dtype)


class Constant(Initializer):
    """The same number everywhere.

    Parameters
    ----------
    value : float
        The number.

    Examples
    --------
    >>> import bpcore
    >>> from bpcore import initializers
    >>> bpcore.Dense(4, 3, bias_init=initializers.Constant(0.1)).bias
    array([0.1, 0.1, 0.1])
    """

    def __init__(self, value: float) -> None:
        self.value = finite(value, "value")

    def draw(self, shape: Shape, rng: Any = None, dtype: Any = FLOAT64) -> np.ndarray:
        """Return a fresh array; see `Initializer.draw`."""
        return _rounded(np.full(shape, self.value), dtype)


class Zeros(Initializer):
    """Zero everywhere, as biases usually start."""

    name = "zeros"

    def draw(self, shape: Shape, rng: Any = None, dtype: Any = FLOAT64) -> np.ndarray:
        """Return a fresh array; see `Initializer.draw`."""
        return np.zeros(shape, dtype)


class Given(Initializer, abstract=True):
    """A copy of an array; what an array in place of an initialiser becomes.

    Parameters
    ----------
    values : array_like
        The weights or biases to start from.
    """

    def __init__(self, values: "ArrayLike") -> None:
        self.values = as_array(values, "initial value").copy()

    def check_shape(self, shape: Shape, argument: str) -> None:
        """Raise ShapeError if the array has another shape."""
        if self.values.shape != shape:
            raise ShapeError(f"{argument} has shape {self.values.shape}, expected {shape}")

    def draw(self, shape: Shape, rng: Any = None, dtype: Any = FLOAT64) -> np.ndarray:
        """Return a fresh array; see `Initializer.draw`."""
        self.check_shape(shape, "initial value")
        return _rounded(self.values.copy(), dtype)


def _rounded(values: np.ndarray, dtype: Any) -> np.ndarray:
    return as_array(values, "initial value", as_dtype(dtype))


INITIALIZERS = Initializer.names
"""Name -> class."""

from_config = Initializer.from_config


def get(spec: Any) -> Initializer:
    """Return the initialiser that `spec` stands for.

    Parameters
    ----------
    spec : str, Initializer, type, float or array_like
        A name from `INITIALIZERS`, an initialiser or its class, one number for all, or the values.

    Examples
    --------
    >>> from bpcore import initializers
    >>> initializers.get("he_uniform")
    HeUniform()
    >>> initializers.get(0.5)
    Constant(0.5)
    """
    if isinstance(spec, str | Initializer | type):
        return Initializer.get(spec)
    if isinstance(spec, Real) and not isinstance(spec, bool):
        return Constant(spec)
    return Given(spec)
