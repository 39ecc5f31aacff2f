"""The elementary functions under the layers, on arrays of any shape.

They are the very ones that networks are trained with: accurate over the whole range, and an element
comes out the same to the last bit wherever it stands in its array. Infinities and nan are numbers
like any other, and no floating-point warnings are raised.

All take the same arguments. `x` is array_like; float32 stays float32, all else becomes float64.
`out`, if given, is where the result goes: an array of the shape and dtype of the result, in any
layout; it may overlap `x`, or be `x` itself. The result is a new array, or `out`. They raise
ShapeError, DTypeError or ValueError where `x` is not made of real numbers, or `out` does not fit or
is read-only.
"""

from typing import TYPE_CHECKING

import numpy as np

from bpcore import _core
from bpcore.checks import as_array
from bpcore.errors import DTypeError, ShapeError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["exp", "log1p", "sigmoid", "softplus", "tanh"]


def exp(x: "ArrayLike", *, out: np.ndarray | None = None) -> np.ndarray:
    """Return e to the power of x.

    Parameters
    ----------
    x : array_like
        Real numbers of any shape.
    out : ndarray, optional
        Where the result goes, of its shape and dtype.

    Returns
    -------
    ndarray of the shape of `x`

    Examples
    --------
    >>> from bpcore import functions
    >>> functions.exp([-1000.0, 0.0, 1000.0])
    array([ 0.,  1., inf])
    """
    return _evaluate("exp", x, out)


def log1p(x: "ArrayLike", *, out: np.ndarray | None = None) -> np.ndarray:
    """Return log(1 + x), accurate near 0; minus infinity at -1 and nan below.

    Parameters
    ----------
    x : array_like
        Real numbers of any shape.
    out : ndarray, optional
        Where the result goes, of its shape and dtype.

    Returns
    -------
    ndarray of the shape of `x`

    Examples
    --------
    >>> from bpcore import functions
    >>> functions.log1p([1e-20, -1.0])
    array([1.e-20,   -inf])
    """
    return _evaluate("log1p", x, out)


def tanh(x: "ArrayLike", *, out: np.ndarray | None = None) -> np.ndarray:
    """Return the hyperbolic tangent of x.

    Parameters
    ----------
    x : array_like
        Real numbers of any shape.
    out : ndarray, optional
        Where the result goes, of its shape and dtype.

    Returns
    -------
    ndarray of the shape of `x`

    Examples
    --------
    >>> from bpcore import functions
    >>> functions.tanh([-1000.0, 1e-20, 1000.0])
    array([-1.e+00,  1.e-20,  1.e+00])
    """
    return _evaluate("tanh", x, out)


def sigmoid(x: "ArrayLike", *, out: np.ndarray | None = None) -> np.ndarray:
    """Return the logistic function, 1 / (1 + exp(-x)).

    Parameters
    ----------
    x : array_like
        Real numbers of any shape.
    out : ndarray, optional
        Where the result goes, of its shape and dtype.

    Returns
    -------
    ndarray of the shape of `x`

    Examples
    --------
    >>> from bpcore import functions
    >>> functions.sigmoid([-1000.0, 0.0, 1000.0])
    array([0. , 0.5, 1. ])
    """
    return _evaluate("sigmoid", x, out)


def softplus(x: "ArrayLike", *, out: np.ndarray | None = None) -> np.ndarray:
    """Return log(1 + exp(x)) without overflow.

    Parameters
    ----------
    x : array_like
        Real numbers of any shape.
    out : ndarray, optional
        Where the result goes, of its shape and dtype.

    Returns
    -------
    ndarray of the shape of `x`

    Examples
    --------
    >>> from bpcore import functions
    >>> functions.softplus([-1000.0, 0.0, 1000.0])
    array([0.00000000e+00, 6.93147181e-01, 1.00000000e+03])
    """
    return _evaluate("softplus", x, out)


def _evaluate(name: str, x: "ArrayLike", out: np.ndarray | None) -> np.ndarray:
    x = as_array(x, "x")
    if out is None:
        out = np.empty(x.shape, x.dtype)
    elif not isinstance(out, np.ndarray):
        raise TypeError(f"out must be an array, got {type(out).__name__}")
    elif out.shape != x.shape:
        raise ShapeError(f"out has shape {out.shape}, expected {x.shape}")
    elif out.dtype.newbyteorder("=") != x.dtype:
        raise DTypeError(f"out has dtype {out.dtype}, expected {x.dtype}")
    elif not out.flags.writeable:
        raise ValueError("out is read-only")
    elif not (out.flags.carray and out.dtype.isnative) or np.may_share_memory(x, out):
        out[...] = _evaluate(name, x, None)
        return out
    _core.evaluate_function(name, x, out)
    return out
