"""What a fitted estimator shows of its network, and how it predicts."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted, validate_data

from bpcore import _core
from bpcore.dense import Dense
from bpcore.errors import DTypeError
from bpcore.estimatorparts import LayerArrays
from bpcore.network import Network
from bpcore.optimizers import Optimizer

INPUT = {"accept_sparse": ["csr", "csc"], "dtype": (np.float64, np.float32)}
"""What `validate_data` is to make of X."""


class Fitted(BaseEstimator):
    """An estimator with a network once it is fitted."""

    network_: Network

    def __sklearn_is_fitted__(self) -> bool:
        """Whether there is a network."""
        return "network_" in vars(self)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    @property
    def coefs_(self) -> list[np.ndarray]:
        """The weights of each layer, of shape (n_in, n_out): views of the network's."""
        return self._layer_arrays("coefs_", "weight")

    @coefs_.setter
    def coefs_(self, value: Iterable[Any]) -> None:
        self._assign(self.coefs_, list(value), "coefs_")

    @property
    def intercepts_(self) -> list[np.ndarray]:
        """The biases of each layer, of shape (n_out,): views of the network's."""
        return self._layer_arrays("intercepts_", "bias")

    @intercepts_.setter
    def intercepts_(self, value: Iterable[Any]) -> None:
        self._assign(self.intercepts_, list(value), "intercepts_")

    def _layer_arrays(self, name: str, kind: str) -> LayerArrays:
        if not self.__sklearn_is_fitted__():
            raise AttributeError(f"{type(self).__name__} has no {name} before it is fitted")
        layers = self.network_.layers
        return LayerArrays(getattr(layer, kind) for layer in layers if isinstance(layer, Dense))

    def _assign(self, arrays: LayerArrays, values: list[Any], name: str) -> None:
        if len(values) != len(arrays):
            raise ValueError(f"{name} must hold {len(arrays)} arrays, got {len(values)}")
        for i, value in enumerate(values):
            arrays[i] = value

    @property
    def _optimizer(self) -> Optimizer | None:
        """What scikit-learn's estimators call it; its own tests look at the learning rate there."""
        return self.network_.optimizer

    def _outputs(self, X: Any) -> np.ndarray:
        """Return the network's outputs, of shape (n, n_outputs).

        A plain array takes a few microseconds; scikit-learn looks at all else.
        """
        net = vars(self).get("network_")
        if net is not None and "feature_names_in_" not in vars(self):
            y = net._plan.predict_plain(net.parameters, X, None)
            if y is not None and _core.find_unfit(X, net.dtype) is None:
                return y
        check_is_fitted(self)
        return self.network_.predict(self._inputs(X, "X"))

    def _validated_pair(self, X: Any, y: Any, first: bool, **keywords: Any) -> tuple[Any, Any]:
        """Return X and y as `validate_data` does, at once for plain arrays that fit."""
        if not first and self._is_plain(X) and type(y) is np.ndarray and y.shape == (len(X),):
            kind = y.dtype.kind
            if kind in "iuU" or (kind == "f" and np.isfinite(y).all()):
                return X, y
        return validate_data(self, X, y, multi_output=True, reset=first, **keywords, **INPUT)

    def _is_plain(self, X: Any) -> bool:
        return (
            type(X) is np.ndarray
            and X.dtype in INPUT["dtype"]
            and X.dtype.isnative
            and X.ndim == 2
            and X.shape[1] == self.n_features_in_
            and len(X) > 0
            and "feature_names_in_" not in vars(self)
            and _core.find_unfit(X, X.dtype) is None
        )

    def _inputs(self, X: Any, argument: str) -> np.ndarray:
        """Return rows for a fitted estimator, checked, as an array."""
        refuse_text(X, argument)
        refuse_masks(X, argument)
        return dense(validate_data(self, X, reset=False, **INPUT))


def refuse_text(values: Any, argument: str) -> None:
    """Raise TypeError for text and dates, which `validate_data` may turn into numbers."""
    array = np.asarray(values) if isinstance(values, list | tuple) else values
    dtype = getattr(array, "dtype", None)
    if getattr(dtype, "kind", "f") in "SUMm":
        raise DTypeError(f"{argument} must hold real numbers, got {dtype}")


def refuse_masks(values: Any, argument: str) -> None:
    """Raise TypeError for a masked array, whose masked values `validate_data` would take."""
    if isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values):
        raise DTypeError(
            f"{argument} is a masked array with {np.ma.count_masked(values)} masked values; fill "
            "or drop them first"
        )


def dense(X: Any) -> np.ndarray:
    """Return a sparse matrix as an array, and an array as it is."""
    return X.toarray() if hasattr(X, "toarray") else X
