"""What bpcore raises and warns about.

Every error derives from the built-in exception that says the same in general, so that code which
knows nothing of bpcore can still catch it.
"""

__all__ = [
    "DTypeError",
    "DeadUnitsWarning",
    "DivergenceError",
    "ModelFileError",
    "SaturationWarning",
    "ShapeError",
    "StalledWarning",
    "UnscaledInputWarning",
]


class ShapeError(ValueError):
    """An array has the wrong number of dimensions, or the wrong size along one of them.

    Examples
    --------
    >>> import bpcore
    >>> bpcore.Dense(3, 2).forward([1.0, 2.0, 3.0])
    Traceback (most recent call last):
        ...
    bpcore.errors.ShapeError: x must have shape (n, 3), got (3,): x.reshape(1, -1) makes it one row
    """


class DTypeError(TypeError):
    """An array holds something other than real numbers: text, objects, complex numbers, dates.

    Examples
    --------
    >>> import bpcore
    >>> bpcore.Sigmoid().forward(["a", "b"])
    Traceback (most recent call last):
        ...
    bpcore.errors.DTypeError: x must hold real numbers, got dtype <U1
    """


class ModelFileError(ValueError):
    """A file is not a model that bpcore can read."""


class DivergenceError(ArithmeticError):
    """The loss or a gradient stopped being finite; the last finite weights are kept.

    Attributes
    ----------
    epoch, batch : int or None
        Where in a fit, counted from 0.
    learning_rate : float or None
        The learning rate there.
    """

    epoch: int | None = None
    batch: int | None = None
    learning_rate: float | None = None


class DeadUnitsWarning(UserWarning):
    """Some units answer every row with the same constant, so their weights cannot learn."""


class SaturationWarning(UserWarning):
    """Some units sit on the flat ends of their activation, where the gradient vanishes."""


class UnscaledInputWarning(UserWarning):
    """Features differ so much in scale, or lie so far from 0, that training will suffer."""


class StalledWarning(UserWarning):
    """Training stopped making progress."""
