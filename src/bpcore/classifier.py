"""The classifier of `bpcore.sklearn`."""

from dataclasses import replace
from typing import Any, Self

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils import column_or_1d
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import type_of_target, unique_labels

from bpcore import estimatorparts
from bpcore.classweights import class_weights
from bpcore.estimator import BaseMLP
from bpcore.estimatorparts import Head
from bpcore.layers import Sigmoid, Softmax
from bpcore.losses import BinaryCrossEntropy, CategoricalCrossEntropy, Loss


class MLPClassifier(ClassifierMixin, BaseMLP):
    """A multi-layer perceptron that tells classes apart.

    Two classes are one logistic output, more are a softmax, and several labels at once (y a matrix
    of 0 and 1) a logistic output each.

    Parameters
    ----------
    hidden_layer_sizes : sequence of int or int
        The units of each hidden layer.
    activation : str, Activation or list of them
        After the hidden layers: "identity", "logistic", "tanh", "relu", another name or an object
        of bpcore, or a list with one for each.
    solver : str or Optimizer
        "adam", "sgd", "lbfgs", the name of another optimiser of bpcore (which gets those of
        `learning_rate_init`, `beta_1`, `beta_2` and `epsilon` that it takes), or an optimiser with
        its own settings, schedules included: then those four, `momentum`, `nesterovs_momentum` and
        `power_t` count for nothing, and `learning_rate` must be "constant".
    alpha : float
        The weight of the penalty: ``alpha / (2 n) * sum(W**2)``, for n rows a batch.
    batch_size : int or "auto"
        Rows a step; "auto" is 200, or all if there are fewer. "lbfgs" takes all rows.
    learning_rate : {"constant", "invscaling", "adaptive"}
        For "sgd": as it is, ``learning_rate_init / (t_ + 1)**power_t`` after each epoch, or divided
        by 5 whenever training would stop otherwise.
    learning_rate_init : float
        The learning rate at first.
    power_t : float
        The exponent of "invscaling".
    max_iter : int
        Epochs at most; iterations of "lbfgs".
    shuffle : bool
        Whether each epoch has an order of its own.
    random_state : int, numpy.random.RandomState or None
        Where the starting weights, the validation rows, the order of rows and dropout come from.
    tol : float
        What counts as an improvement, of the loss or of the validation score.
    verbose : bool or int
        Print each epoch, and warn of what is wrong with inputs and units (see `Network.health`).
    warm_start : bool
        Whether `fit` goes on from the weights of the last.
    momentum, nesterovs_momentum : float, bool
        Of "sgd"; momentum is 0 or more and below 1.
    early_stopping : bool
        Stop by the score on validation rows, and go back to the best weights.
    validation_fraction : float
        The share of rows that early stopping holds out, unless `fit` is given validation data.
    beta_1, beta_2, epsilon : float
        Of "adam".
    n_iter_no_change : int or inf
        How many epochs in a row without improvement are borne.
    max_fun : int
        Evaluations of the loss at most, of "lbfgs".
    loss : str or Loss
        "log_loss", or a loss of bpcore over the probabilities, by name or as an object.
    class_weight : dict, "balanced", list of dict or None
        Weights of the classes, by label, 1 for labels that a dict lacks; "balanced" makes their
        sums equal. They multiply `sample_weight`. For several labels at once a list has a dict
        with weights of 0 and 1 for each, and a row's weights are multiplied.
    dropout : float or list of float
        The share of each hidden layer's units that are dropped in training.
    dtype : {"float64", "float32"} or None
        Of the network; None is that of X.
    callbacks : list or None
        Of `bpcore.Network.fit`; see `bpcore.callbacks`.

    Attributes
    ----------
    network_ : bpcore.Network
        What was trained; it can be saved, checked, exported. Its `history` holds bpcore's own loss,
        `loss_curve_` the one reported; see ``docs/scikit-learn.md``.
    classes_ : ndarray of shape (n_classes,)
    coefs_, intercepts_ : list of ndarray
        Weights and biases of each layer, views of the network's; assigning to an entry copies.
    loss_ : float
        The loss of the last epoch, penalty included.
    best_loss_ : float or None
        The least loss; None with early stopping.
    loss_curve_ : list of float
        The loss of each epoch.
    validation_scores_, best_validation_score_ : list of float, float or None
        The accuracy on the validation rows after each epoch.
    n_iter_, t_ : int
        Epochs of the last fit; rows seen in all.
    n_features_in_, n_layers_, n_outputs_ : int
    feature_names_in_ : ndarray of str
        Where X has names.
    out_activation_ : str
        "logistic" or "softmax".

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from bpcore.sklearn import MLPClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> model = MLPClassifier(hidden_layer_sizes=8, solver="lbfgs", random_state=0)
    >>> model = make_pipeline(StandardScaler(), model).fit(X, y)
    >>> model.score(X, y) > 0.97
    True
    """

    def __init__(
        self,
        hidden_layer_sizes: Any = (100,),
        activation: Any = "relu",
        *,
        solver: Any = "adam",
        alpha: float = 0.0001,
        batch_size: Any = "auto",
        learning_rate: str = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: bool | int = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
        loss: Any = "log_loss",
        class_weight: Any = None,
        dropout: Any = 0.0,
        dtype: Any = None,
        callbacks: Any = None,
    ) -> None:
        self._keep(locals())

    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        X_val: Any = None,
        y_val: Any = None,
        sample_weight_val: Any = None,
    ) -> Self:
        """Train on X and y.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n, n_features)
            Sparse matrices are made dense.
        y : array-like of shape (n,) or (n, n_labels)
            Class labels of any type, or a matrix of 0 and 1.
        sample_weight : array-like of shape (n,) or float, optional
            Finite, 0 or more, not all 0.
        X_val, y_val, sample_weight_val : array-like, optional
            Rows to score after each epoch; with `early_stopping` they take the place of those that
            `validation_fraction` holds out.

        Returns
        -------
        self

        Raises
        ------
        ValueError, TypeError
            An argument or a parameter is not what it should be, or training diverged; the estimator
            is as it was. With `early_stopping`, divergence after the first epoch is a warning.
        KeyboardInterrupt
            In the first epoch; the estimator is as it was. Later it is a warning.

        Warns
        -----
        ConvergenceWarning
            `max_iter` was reached, or training with `early_stopping` diverged.
        """
        return self._fit(X, y, sample_weight, (X_val, y_val, sample_weight_val))

    @available_if(BaseMLP._check_solver)
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None, classes: Any = None) -> Self:
        """Train for one epoch more.

        Parameters
        ----------
        X, y, sample_weight
            As for `fit`.
        classes : array-like of shape (n_classes,)
            All classes there will ever be; the first call needs it, unless `fit` came before.

        Returns
        -------
        self
        """
        if isinstance(self.class_weight, str) and self.class_weight == "balanced":
            raise ValueError(
                "class_weight='balanced' needs all rows, and partial_fit sees some: give a dict"
            )
        with self._unless_it_fails():
            self._know_classes(y, classes)
            return self._fit(X, y, sample_weight, incremental=True)

    def predict(self, X: Any) -> np.ndarray:
        """Return the most probable class of each row, or the labels that are more likely than not.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n, n_features)

        Returns
        -------
        ndarray of shape (n,) or (n, n_labels)
        """
        y = self._outputs(X)
        if self._label_binarizer.y_type_.startswith("multilabel"):
            return self._label_binarizer.inverse_transform(y)
        return self.classes_.take(self._decided(y))

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the probability of each class.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n, n_features)

        Returns
        -------
        ndarray of shape (n, n_classes)
            In the order of `classes_`; of one class that is (n, 1), all 1.
        """
        y = self._outputs(X)
        if y.shape[1] > 1 or self._label_binarizer.y_type_.startswith("multilabel"):
            return y
        if self.classes_.size == 1:
            return np.ones_like(y)
        return np.hstack([1 - y, y])

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """Return the logarithm of `predict_proba`."""
        probabilities = self.predict_proba(X)
        with np.errstate(divide="ignore"):
            return np.log(probabilities)

    # ---- what makes it a classifier --------------------------------------------------------------

    def _know_classes(self, y: Any, classes: Any) -> None:
        """Learn the classes from the first call of `partial_fit`; later ones must agree."""
        known = getattr(self, "classes_", None)
        if classes is None:
            if known is None:
                raise ValueError("classes must be passed on the first call to partial_fit")
        elif known is None:
            multilabel = type_of_target(y).startswith("multilabel")
            self._label_binarizer = LabelBinarizer().fit(y if multilabel else classes)
            self.classes_ = self._label_binarizer.classes_
        elif not np.array_equal(known, unique_labels(classes)):
            raise ValueError(f"classes={classes!r} is not what the first call was given: {known}")

    def _validated(self, X: Any, y: Any, first: bool, incremental: bool) -> tuple[Any, ...]:
        X, y = self._validated_pair(X, y, first)
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        if first and not incremental:
            self._label_binarizer = LabelBinarizer().fit(y)
            self.classes_ = self._label_binarizer.classes_
        elif self.warm_start and not incremental:
            self._check_same_classes(unique_labels(y))
        Y = self._encoded(y)
        return X, Y, None if self.class_weight is None else self._class_weights(Y)

    def _class_weights(self, Y: np.ndarray) -> np.ndarray:
        """Return the weights of the rows' classes; of several labels they are multiplied."""
        labels = self._decided(Y)
        if labels.ndim == 1:
            return class_weights(self.class_weight, labels, self.classes_)[labels]
        each = self.class_weight
        if isinstance(each, str):
            each = [each] * labels.shape[1]
        if not isinstance(each, list | tuple) or len(each) != labels.shape[1]:
            raise ValueError(
                f"with several labels class_weight must be 'balanced' or a list of a dict for each "
                f"of the {labels.shape[1]}, got {each!r}"
            )
        columns = zip(each, labels.T.astype(np.intp), strict=True)
        return np.prod([class_weights(w, column, [0, 1])[column] for w, column in columns], axis=0)

    def _check_same_classes(self, classes: np.ndarray) -> None:
        if set(classes) != set(self.classes_):
            raise ValueError(
                "warm_start can only be used where `y` has the same classes as in the previous "
                f"call to fit. Previously got {self.classes_}, `y` has {classes}"
            )

    def _encoded(self, y: Any) -> np.ndarray:
        y_type = self._label_binarizer.y_type_
        plain = type(y) is np.ndarray and y.ndim == 1 and y.dtype == self.classes_.dtype
        if plain and y_type in ("binary", "multiclass") and y.dtype.kind in "iufU":
            # what LabelBinarizer does, in a hundredth of the time for a small batch
            numbers = np.minimum(np.searchsorted(self.classes_, y), self.classes_.size - 1)
            if (self.classes_[numbers] == y).all():
                if y_type == "multiclass":
                    return np.eye(self.classes_.size)[numbers]
                return numbers.reshape(-1, 1).astype(np.float64)
        unseen = np.setdiff1d(unique_labels(y), self.classes_)
        if unseen.size:
            raise ValueError(
                f"`y` has classes not in `self.classes_`: {unseen}. `self.classes_` has "
                f"{self.classes_}"
            )
        return self._label_binarizer.transform(y).astype(np.float64)

    def _head(self, dtype: np.dtype) -> Head:
        if self._label_binarizer.y_type_ == "multiclass":
            head = Head(CategoricalCrossEntropy(), Softmax(), "softmax")
        else:
            # the labels' losses add up
            head = Head(BinaryCrossEntropy(reduction="sample_mean"), Sigmoid(), "logistic")
        if isinstance(self.loss, str) and self.loss == "log_loss":
            return head
        loss = estimatorparts.loss_object(self.loss, ["log_loss"])
        if loss.takes_labels and self._label_binarizer.y_type_ == "binary":
            raise ValueError(
                f"{loss.name} needs an output for each class, and {self.classes_.size} classes "
                "have one together: use 'log_loss' or 'bce'"
            )
        return replace(head, loss=loss)

    def _target(self, Y: np.ndarray, loss: Loss) -> np.ndarray:
        labels = loss.takes_labels and self._label_binarizer.y_type_ == "multiclass"
        return Y.argmax(axis=1) if labels else Y

    def _stratifies(self) -> bool:
        return self.n_outputs_ == 1

    def _decided(self, y: np.ndarray) -> np.ndarray:
        """Return the number of each row's class, or its labels as a matrix of truth values."""
        if self._label_binarizer.y_type_.startswith("multilabel"):
            return y > 0.5
        if self.classes_.size == 1:
            return np.zeros(len(y), np.intp)
        return y.argmax(axis=1) if y.shape[1] > 1 else (y[:, 0] > 0.5).astype(np.intp)

    def _score_of(self, Y: np.ndarray, y: np.ndarray, weight: np.ndarray | None) -> float:
        right = self._decided(Y) == self._decided(y)
        return float(np.average(right.reshape(len(y), -1).all(axis=1), weights=weight))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags
