"""The regressor of `bpcore.sklearn`."""

from typing import Any, Self

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.metrics import r2_score
from sklearn.utils import column_or_1d
from sklearn.utils.metaestimators import available_if

from bpcore import estimatorparts
from bpcore.estimator import BaseMLP
from bpcore.estimatorfitted import refuse_text
from bpcore.estimatorparts import Head
from bpcore.losses import Loss, MeanSquaredError, Poisson


class MLPRegressor(RegressorMixin, BaseMLP):
    """A multi-layer perceptron that predicts numbers.

    Parameters
    ----------
    loss : str or Loss
        "squared_error", half the square, averaged over the outputs, which in `network_` is
        ``Huber`` with the largest `delta` there is, or for `LevenbergMarquardt` half of "mse";
        "poisson", half the Poisson deviance, summed over the outputs, with an exponential output;
        or a loss of bpcore, by name ("mse", "mae", "huber", "quantile", ...) or as an object.
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
    output_activation : str, Activation or None
        After the last layer; None is "exp" for the Poisson loss, else "identity".
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
    coefs_, intercepts_ : list of ndarray
        Weights and biases of each layer, views of the network's; assigning to an entry copies.
    loss_ : float
        The loss of the last epoch, penalty included.
    best_loss_ : float or None
        The least loss; None with early stopping.
    loss_curve_ : list of float
        The loss of each epoch.
    validation_scores_, best_validation_score_ : list of float, float or None
        The score R^2 on the validation rows after each epoch.
    n_iter_, t_ : int
        Epochs of the last fit; rows seen in all.
    n_features_in_, n_layers_, n_outputs_ : int
    feature_names_in_ : ndarray of str
        Where X has names.
    out_activation_ : str
        "identity", "exp", or another name of bpcore's.

    Examples
    --------
    >>> import numpy as np
    >>> from bpcore.sklearn import MLPRegressor
    >>> X = np.linspace(-2, 2, 100).reshape(-1, 1)
    >>> y = np.sin(3 * X[:, 0])
    >>> model = MLPRegressor(hidden_layer_sizes=20, activation="tanh", solver="lbfgs",
    ...                      max_iter=500, alpha=0, random_state=0)
    >>> model.fit(X, y).score(X, y) > 0.99
    True
    >>> model.network_
    Network(Dense(1, 20), Tanh(), Dense(20, 1), loss=huber, float64, 61 parameters)
    """

    def __init__(
        self,
        loss: Any = "squared_error",
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
        output_activation: Any = None,
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
        y : array-like of shape (n,) or (n, n_outputs)
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
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train for one epoch more; see `fit` for the parameters."""
        return self._fit(X, y, sample_weight, incremental=True)

    def predict(self, X: Any) -> np.ndarray:
        """Return the predictions.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n, n_features)

        Returns
        -------
        ndarray of shape (n,) or (n, n_outputs)
        """
        y = self._outputs(X)
        return y.ravel() if y.shape[1] == 1 else y

    # ---- what makes it a regressor ---------------------------------------------------------------

    def _validated(self, X: Any, y: Any, first: bool, incremental: bool) -> tuple[Any, ...]:
        X, y = self._validated_pair(X, y, first, y_numeric=True)
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        return X, self._encoded(y), None

    def _encoded(self, y: Any) -> np.ndarray:
        y = np.asarray(y)
        refuse_text(y, "y")
        if y.dtype.kind != "f":
            y = y.astype(np.float64)
        return y.reshape(len(y), -1)

    def _head(self, dtype: np.dtype) -> Head:
        loss, scale = self._loss(dtype)
        output = self.output_activation
        if output is None:
            output = "exp" if loss.kernel == "poisson" else "identity"
        output = estimatorparts.activation(output, "output_activation")
        name = "logistic" if output.name == "sigmoid" else output.name
        return Head(loss, output, name, scale)

    def _loss(self, dtype: np.dtype) -> tuple[Loss, float]:
        """Return the loss, and what it is multiplied by to be the one asked for."""
        if isinstance(self.loss, str) and self.loss == "squared_error":
            if estimatorparts.takes_all_rows(self.solver):
                return MeanSquaredError(), 0.5  # all that least squares know
            return estimatorparts.half_squared_error(dtype), 1.0
        if self._is_half_deviance():
            return Poisson(reduction="sample_mean"), 1.0
        return estimatorparts.loss_object(self.loss, ["squared_error", "poisson"]), 1.0

    def _is_half_deviance(self) -> bool:
        return isinstance(self.loss, str) and self.loss == "poisson"

    def _offset(self, Y: np.ndarray, weight: np.ndarray | None) -> float:
        if not self._is_half_deviance():
            return 0.0
        logarithms = np.log(Y, out=np.zeros_like(Y, np.float64), where=Y > 0)
        return float(np.average((Y * logarithms - Y).sum(axis=1), weights=weight))

    def _score_of(self, Y: np.ndarray, y: np.ndarray, weight: np.ndarray | None) -> float:
        return float(r2_score(Y, y, sample_weight=weight))
