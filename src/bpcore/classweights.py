"""Weights of classes, as weights of rows."""

from collections.abc import Mapping
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
    if isinstance(class_weight, str):
        if class_weight != "balanced":
            raise ValueError(f"class_weight must be 'balanced' or a dict, got {class_weight!r}")
        weights = _balanced(labels, n_classes)
    elif isinstance(class_weight, Mapping):
        weights = _given(class_weight, n_classes)
    else:
        raise TypeError(
            f"class_weight must be 'balanced', a dict of label to weight, or None, got "
            f"{class_weight!r}"
        )
    rows = weights[labels]
    if sample_weight is not None:
        rows *= sample_weight
    if not rows.any():
        raise ValueError("class_weight leaves no row a weight above 0")
    return as_sample_weight(rows, labels.size, dtype)


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


def _balanced(labels: np.ndarray, n_classes: int) -> np.ndarray:
    counts = np.bincount(labels, minlength=n_classes)
    if not counts.all():
        missing = int(counts.argmin())
        raise ValueError(
            f"class_weight='balanced' needs rows of every class, and of label {missing} there are "
            "none; give a dict"
        )
    return labels.size / (n_classes * counts)


def _given(class_weight: Mapping[Any, Any], n_classes: int) -> np.ndarray:
    weights = np.ones(n_classes)
    for label, weight in class_weight.items():
        if label not in range(n_classes):
            raise ValueError(
                f"class_weight has a weight for label {label!r}; labels go from 0 to "
                f"{n_classes - 1}"
            )
        weights[int(label)] = finite_non_negative(weight, f"class_weight[{label!r}]")
    return weights
