"""The elementary functions with more digits than float64 has."""

import decimal

import numpy as np
from reference import FUNCTIONS

LONGDOUBLE_IS_WIDER = np.finfo(np.longdouble).nmant > 60


def function(name, x):
    """The function at finite x, in a type more precise than that of x.

    Where float64 has no wider type, `decimal` does it, rounded once to float64.
    """
    if x.dtype == np.float32:
        return FUNCTIONS[name](x.astype(np.float64))
    if LONGDOUBLE_IS_WIDER:
        with np.errstate(all="ignore"):
            return FUNCTIONS[name](x.astype(np.longdouble))
    return np.array([float(in_decimals(name, v)) for v in x.ravel()]).reshape(x.shape)


def in_decimals(name, x):
    """The function of one finite float in 60 digits."""
    with decimal.localcontext() as context:
        context.prec = 60
        context.Emin, context.Emax = decimal.MIN_EMIN, decimal.MAX_EMAX
        x = decimal.Decimal(float(x))
        if name == "exp":
            return x.exp()
        if name == "sigmoid":
            small = (-abs(x)).exp()
            return (small if x < 0 else 1) / (1 + small)
        if name == "log1p":
            return _decimal_log1p(x)
        if name == "softplus":
            return max(x, decimal.Decimal(0)) + _decimal_log1p((-abs(x)).exp())
        if abs(x) < decimal.Decimal("1e-12"):  # tanh; the quotient below would cancel
            return x - x**3 / 3
        small = (-2 * abs(x)).exp()
        return ((1 - small) / (1 + small)).copy_sign(x)


def _decimal_log1p(x):
    if abs(x) < decimal.Decimal("1e-12"):
        return x - x**2 / 2 + x**3 / 3
    return (1 + x).ln()
