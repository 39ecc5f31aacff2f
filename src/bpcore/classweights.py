"""Weights of classes, as weights of rows."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bpcore.checks import as_sample_weight, finite_non_negative
from bpcore.losses import Loss


def row_weights(
    class_weight: Any,
    y: np.ndarray,
    sample_weight: np.ndarray | None,
    *,
    loss: Loss,
    n_out: int,
    dtype: np.dtype,
) -> np.ndarray | None:
    """Return the weight of each row: that of its class, times its own.

    Parameters
    ----------
    class_weight : "balanced", mapping of label to number, or None
        "balanced" is ``n / (k * count)`` for n rows and k classes [1]_; labels that a mapping lacks
        weigh 1.
    y : ndarray
        The target as `Loss.check_target` returns it.
    sample_weight : ndarray of shape (n,), optional
        Checked.
    loss : Loss
    n_out : int
        The number of outputs.
    dtype : numpy.dtype
        Of the result.

    References
    ----------
    .. [1] G. King and L. Zeng, "Logistic regression in rare events data", Political Analysis 9,
       2001.

    Examples
    --------
    >>> import numpy as np
    >>> from bpcore import losses
    >>> from bpcore.classweights import row_weights
    >>> y = np.array([[0.0], [0.0], [0.0], [1.0]])
    >>> loss = losses.get("bce")
    >>> row_weights("balanced", y, None, loss=loss, n_out=1, dtype=np.dtype("float64"))
    array([0.66666667, 0.66666667, 0.66666667, 2.        ])
    """
    if class_weight is None:
        return sample_weight
    labels, n_classes = _labels(y, loss, n_out)
    rows = class_weights(class_weight, labels, range(n_classes))[labels]
    return combined(rows, sample_weight, dtype)


def class_weights(class_weight: Any, labels: np.ndarray, classes: Sequence[Any]) -> np.ndarray:
    """Return the weight of each class.

    Parameters
    ----------
    class_weight : "balanced" or mapping of label to number
    labels : ndarray of int
        The number of each row's class.
    classes : sequence
        The labels that a mapping goes by, in the order of their numbers.

    Examples
    --------
    >>> import numpy as np
    >>> from bpcore.classweights import class_weights
    >>> class_weights({"b": 3}, np.array([0, 0, 1]), ["a", "b"])
    array([1., 3.])
    """
    if isinstance(class_weight, str):
        if class_weight != "balanced":
            raise ValueError(f"class_weight must be 'balanced' or a dict, got {class_weight!r}")
        return _balanced(labels, classes)
    if isinstance(class_weight, Mapping):
        return _given(class_weight, classes)
    raise TypeError(
        f"class_weight must be 'balanced', a dict of label to weight, or None, got {class_weight!r}"
    )


def combined(
    rows: np.ndarray, sample_weight: np.ndarray | None, dtype: np.dtype | None
) -> np.ndarray | None:
    """Return weights of rows by their classes, times their own, checked."""
    if sample_weight is not None:
        rows = rows * sample_weight
    if not rows.any():
        raise ValueError("class_weight leaves no row a weight above 0")
    return as_sample_weight(rows, len(rows), dtype)


def described(class_weight: Any) -> str | None:
    """Return checked class weights as text that is the same for the same weights."""
    if class_weight is None or isinstance(class_weight, str):
        return class_weight
    return str({int(label): float(class_weight[label]) for label in sorted(class_weight)})


def _labels(y: np.ndarray, loss: Loss, n_out: int) -> tuple[np.ndarray, int]:
    """Return the rows' labels and the number of classes."""
    if y.ndim == 1:
        return y, n_out
    if not loss.takes_labels and n_out > 1:
        raise ValueError(
            f"class_weight is for cross-entropy and for one output of 0 or 1; {loss.kernel} with "
            f"{n_out} outputs has no classes"
        )
    unfit = ((y != 0) & (y != 1)).any(axis=1)
    if unfit.any():
        row = int(unfit.argmax())
        raise ValueError(f"class_weight needs targets of 0 and 1, and row {row} is {y[row]}")
    if loss.takes_labels:
        return y.argmax(axis=1), n_out
    return y[:, 0].astype(np.intp), 2


def _balanced(labels: np.ndarray, classes: Sequence[Any]) -> np.ndarray:
    counts = np.bincount(labels, minlength=len(classes))
    if not counts.all():
        missing = _plain(classes)[int(counts.argmin())]
        raise ValueError(
            f"class_weight='balanced' needs rows of every class, and of label {missing!r} there "
            "are none; give a dict"
        )
    return labels.size / (len(classes) * counts)


def _given(class_weight: Mapping[Any, Any], classes: Sequence[Any]) -> np.ndarray:
    weights = np.ones(len(classes))
    number = {label: i for i, label in enumerate(_plain(classes))}
    for label, weight in class_weight.items():
        if label not in number:
            if isinstance(classes, range):
                known = f"labels go from 0 to {len(classes) - 1}"
            else:
                known = f"the classes are {_shortened(list(number))}"
            raise ValueError(f"class_weight has a weight for label {label!r}; {known}")
        weights[number[label]] = finite_non_negative(weight, f"class_weight[{label!r}]")
    return weights


def _plain(classes: Sequence[Any]) -> list[Any]:
    """Return labels as Python's own objects, which print as they are written."""
    return classes.tolist() if isinstance(classes, np.ndarray) else list(classes)


def _shortened(labels: list[Any]) -> str:
    return ", ".join(map(repr, labels[:10])) + (", ..." if len(labels) > 10 else "")
