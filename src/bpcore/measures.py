"""How good predictions are: confusions of classes, errors of quantities, beside a baseline's."""

from typing import NamedTuple

import numpy as np


class ClassMeasures:
    """What became of rows of several classes.

    Parameters
    ----------
    truth, answer : ndarray of int, shape (n,)
    n_classes : int

    Attributes
    ----------
    accuracy : float
    support : ndarray of shape (n_classes,)
        How many rows are of each class.
    precision, recall, f1 : ndarray of shape (n_classes,)
        nan where nothing was predicted, or there are no rows, of a class.

    Examples
    --------
    >>> import numpy as np
    >>> from bpcore.measures import ClassMeasures
    >>> found = ClassMeasures(np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1]), 2)
    >>> found.accuracy, found.precision.tolist(), found.confusion().tolist()
    (0.75, [1.0, 0.5], [[2, 1], [0, 1]])
    """

    def __init__(self, truth: np.ndarray, answer: np.ndarray, n_classes: int) -> None:
        self._truth, self._answer, self._n_classes = truth, answer, n_classes
        right = np.bincount(truth[truth == answer], minlength=n_classes)
        self.support = np.bincount(truth, minlength=n_classes)
        found = np.bincount(answer, minlength=n_classes)
        self.accuracy = float(right.sum() / len(truth))
        with np.errstate(invalid="ignore"):
            self.precision, self.recall = right / found, right / self.support
            # the harmonic mean of both, by counts
            self.f1 = 2 * right / (found + self.support)

    def confusion(self) -> np.ndarray:
        """Count rows by their class, and by the class predicted: shape (n_classes, n_classes)."""
        n = self._n_classes
        return np.bincount(self._truth * n + self._answer, minlength=n * n).reshape(n, n)

    def confusions(self, most: int) -> list[tuple[int, int, int]]:
        """Return class, class predicted for it, and rows, of the commonest confusions."""
        n, wrong = self._n_classes, self._truth != self._answer
        pairs, counts = np.unique(self._truth[wrong] * n + self._answer[wrong], return_counts=True)
        order = np.argsort(-counts, kind="stable")[:most]
        return [(int(pairs[k]) // n, int(pairs[k]) % n, int(counts[k])) for k in order]


class QuantityMeasures(NamedTuple):
    """How far predictions of a quantity are off: root mean squared, mean absolute, and R^2.

    R^2 is 1 - sum of squared errors / sum of squared deviations from the truth's mean; nan where
    the truth does not vary.
    """

    rmse: float
    mae: float
    r2: float


def quantity_measures(truth: np.ndarray, answer: np.ndarray) -> QuantityMeasures:
    """Measure predictions (n,) of a quantity.

    Examples
    --------
    >>> import numpy as np
    >>> from bpcore.measures import quantity_measures
    >>> quantity_measures(np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 4.0])).r2
    0.5
    """
    deviation = truth - truth.mean()
    unit = float(max(np.abs(truth - answer).max(), np.abs(deviation).max())) or 1.0
    error, deviation = (truth - answer) / unit, deviation / unit  # so that no square overflows
    variation = float(np.sum(deviation**2))
    r2 = 1 - float(np.sum(error**2)) / variation if variation else float("nan")
    rmse, mae = np.sqrt(np.mean(error**2)), np.mean(np.abs(error))
    return QuantityMeasures(unit * float(rmse), unit * float(mae), r2)
