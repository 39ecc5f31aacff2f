"""scikit-learn's multi-layer perceptrons, trained by bpcore.

`MLPClassifier` and `MLPRegressor` take the parameters of their namesakes in
``sklearn.neural_network``, with the same defaults and meaning, and have the same fitted attributes:
changing the import is the whole migration. ``docs/scikit-learn.md`` says what is new and where
results differ.

Needs scikit-learn: ``pip install 'bpcore[sklearn]'``.
"""

try:
    import sklearn as _sklearn  # noqa: F401
except ImportError as error:
    raise ImportError(
        "bpcore.sklearn needs scikit-learn 1.6 or newer: pip install 'bpcore[sklearn]'"
    ) from error

from bpcore.classifier import MLPClassifier
from bpcore.regressor import MLPRegressor

__all__ = ["MLPClassifier", "MLPRegressor"]
