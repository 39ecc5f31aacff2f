"""What the scikit-learn estimators have in common: from data and parameters to a trained network.

`bpcore.classifier` and `bpcore.regressor` say what their kind of target adds.
"""

import itertools
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from numbers import Real
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state

from bpcore import estimatorparts
from bpcore.checks import (
    as_dtype,
    as_sample_weight,
    boolean,
    choose,
    finite_non_negative,
    finite_positive,
    fraction,
    whole,
)
from bpcore.classweights import combined
from bpcore.estimatorfit import FRAMES, EpochEnd, minimise, train
from bpcore.estimatorfitted import Fitted, dense, refuse_masks, refuse_text
from bpcore.estimatorparts import Head
from bpcore.generators import generator_from
from bpcore.losses import Loss
from bpcore.network import Network
from bpcore.optimizers import Optimizer

LARGEST_AUTO_BATCH = 200


class BaseMLP(Fitted):
    """The base of `bpcore.classifier.MLPClassifier` and `bpcore.regressor.MLPRegressor`."""

    def _keep(self, arguments: dict[str, Any]) -> None:
        """Set the constructor's arguments, its ``locals()``, as attributes."""
        vars(self).update({name: arguments[name] for name in arguments if name != "self"})

    # ---- what depends on the kind of target ------------------------------------------------------

    def _validated(self, X: Any, y: Any, first: bool, incremental: bool) -> tuple[Any, ...]:
        """Return X, the target as a matrix, and weights of the rows' classes or None."""
        raise NotImplementedError

    def _encoded(self, y: Any) -> np.ndarray:
        """Return the target of the validation rows as a matrix."""
        raise NotImplementedError

    def _head(self, dtype: np.dtype) -> Head:
        """Return the loss and the output activation."""
        raise NotImplementedError

    def _target(self, Y: np.ndarray, loss: Loss) -> np.ndarray:
        """Return the target as the loss takes it."""
        return Y

    def _offset(self, Y: np.ndarray, weight: np.ndarray | None) -> float:
        """Return what the loss that is reported has more than bpcore's."""
        return 0.0

    def _score_of(self, Y: np.ndarray, y: np.ndarray, weight: np.ndarray | None) -> float:
        """Return the score of outputs y for a target Y."""
        raise NotImplementedError

    # ---- fit -------------------------------------------------------------------------------------

    def _fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        validation: tuple[Any, Any, Any] = (None, None, None),
        incremental: bool = False,
    ) -> "BaseMLP":
        with self._unless_it_fails():
            self._check_parameters(incremental)
            self._fit_checked(X, y, sample_weight, validation, incremental)
        return self

    @contextmanager
    def _unless_it_fails(self) -> Iterator[None]:
        """Leave the estimator as it was if an exception is raised: what grows is copied first."""
        before = vars(self).copy()
        try:
            yield
        except BaseException:
            vars(self).clear()
            vars(self).update(before)
            raise

    def _check_parameters(self, incremental: bool) -> None:
        """Check the numbers and choices that nothing else checks."""
        finite_non_negative(self.alpha, "alpha")
        if self.batch_size != "auto":
            whole(self.batch_size, "batch_size", 1)
        choose(self.learning_rate, ["constant", "invscaling", "adaptive"], "learning_rate")
        if self.learning_rate != "constant" and isinstance(self.solver, Optimizer):
            raise ValueError(
                f"learning_rate={self.learning_rate!r} is for solver='sgd'; the solver "
                f"{self.solver!r} has a learning rate of its own, which may be a schedule"
            )
        finite_positive(self.learning_rate_init, "learning_rate_init")
        finite_non_negative(self.power_t, "power_t")
        for name in ("momentum", "beta_1", "beta_2"):
            fraction(getattr(self, name), name)
        finite_positive(self.epsilon, "epsilon")
        whole(self.max_iter, "max_iter", 1)
        finite_non_negative(self.tol, "tol")
        fraction(self.validation_fraction, "validation_fraction")
        if self.n_iter_no_change != np.inf:
            whole(self.n_iter_no_change, "n_iter_no_change", 1)
        whole(self.max_fun, "max_fun", 1)
        if not isinstance(self.verbose, bool | np.bool_):
            whole(self.verbose, "verbose")
        for name in ("shuffle", "warm_start", "nesterovs_momentum", "early_stopping"):
            boolean(getattr(self, name), name)
        if incremental and self.early_stopping:
            raise ValueError("partial_fit does not support early_stopping=True")

    def _fit_checked(
        self, X: Any, y: Any, sample_weight: Any, validation: tuple[Any, ...], incremental: bool
    ) -> None:
        first = not self.__sklearn_is_fitted__() or not (self.warm_start or incremental)
        refuse_text(X, "X")
        refuse_masks(X, "X")
        refuse_masks(y, "y")
        X, Y, class_weight = self._validated(X, y, first, incremental)
        X = dense(X)
        if first:
            dtype = X.dtype if self.dtype is None else as_dtype(self.dtype)
        else:
            dtype = self.network_.dtype
        if isinstance(sample_weight, Real):
            sample_weight = np.full(len(X), float(sample_weight))
        weight = as_sample_weight(sample_weight, len(X))
        if class_weight is not None:
            weight = combined(class_weight, weight, None)
        self.n_outputs_ = Y.shape[1]
        hidden = estimatorparts.hidden_widths(self.hidden_layer_sizes)
        widths = [X.shape[1], *hidden, self.n_outputs_]
        random_state = None
        if first or self.early_stopping:  # it takes as long to make as a small batch to learn
            random_state = check_random_state(self.random_state)
        weights = self._weights(widths, random_state, first)
        self._begin(len(widths), first)
        if isinstance(self.solver, str) and self.solver == "lbfgs":
            self._fit_lbfgs(weights, dtype, X, Y, weight, validation)
        else:
            data = self._split(X, Y, weight, validation, random_state)
            self._fit_stochastic(weights, dtype, data, random_state, first, incremental)

    def _weights(
        self, widths: list[int], random_state: np.random.RandomState | None, first: bool
    ) -> list[np.ndarray]:
        """Return the weights and biases to start from."""
        shapes = [layer for pair in itertools.pairwise(widths) for layer in (pair, pair[1:])]
        if first:
            after = estimatorparts.hidden_activations(self.activation, len(widths) - 2)
            if not after and isinstance(self.activation, str):
                after = [estimatorparts.activation(self.activation, "activation")]
            return estimatorparts.starting_weights(widths, after, random_state)
        weights = list(self.network_.parameter_arrays().values())
        if [array.shape for array in weights] != shapes:
            fitted = [weights[0].shape[0], *(bias.size for bias in weights[1::2])]
            raise ValueError(
                f"warm_start and partial_fit go on with the fitted layers, of widths {fitted}; "
                f"hidden_layer_sizes and y ask for {widths}"
            )
        return weights

    def _begin(self, n_layers: int, first: bool) -> None:
        """Set the fitted attributes of a first fit, or go on with copies of what grows."""
        self.n_iter_ = 0
        if not first:
            for name in ("loss_curve_", "validation_scores_"):
                if getattr(self, name, None) is not None:
                    setattr(self, name, list(getattr(self, name)))
            return
        self.t_ = 0
        self.n_layers_ = n_layers
        for name in ("loss_curve_", "validation_scores_", "best_loss_", "best_validation_score_"):
            vars(self).pop(name, None)

    def _network(
        self, weights: list[np.ndarray], dtype: np.dtype, batch: float, rng: Any
    ) -> tuple[Network, Head]:
        """Return a network whose penalty is that of batches of this total weight."""
        n_hidden = len(weights) // 2 - 1
        head = self._head(dtype)
        self.out_activation_ = head.name
        net = estimatorparts.network(
            weights,
            estimatorparts.hidden_activations(self.activation, n_hidden),
            estimatorparts.dropouts(self.dropout, n_hidden),
            head.output,
            loss=head.loss,
            dtype=dtype,
            rng=rng,
            l2=self.alpha / (batch * head.scale),
        )
        return net, head

    # ---- lbfgs -----------------------------------------------------------------------------------

    def _fit_lbfgs(
        self,
        weights: list[np.ndarray],
        dtype: np.dtype,
        X: np.ndarray,
        Y: np.ndarray,
        weight: np.ndarray | None,
        validation: tuple[Any, ...],
    ) -> None:
        given = {
            "X_val": any(given is not None for given in validation),
            "callbacks": bool(self._callbacks()),
            "dropout": bool(np.any(self.dropout)),
        }
        for name in filter(given.get, given):
            raise ValueError(f"{name} has no meaning with solver='lbfgs'")
        total = len(X) if weight is None else weight.sum(dtype=np.float64)
        net, head = self._network(weights, np.dtype(np.float64), total, 0)
        self.n_iter_, self.loss_ = minimise(
            net,
            (X, self._target(Y, head.loss), weight),
            max_iter=self.max_iter,
            max_fun=self.max_fun,
            tol=self.tol,
            offset=self._offset(Y, weight),
            verbose=bool(self.verbose),
        )
        self.network_ = net if dtype == net.dtype else net.astype(dtype)

    # ---- stochastic solvers ----------------------------------------------------------------------

    def _split(
        self,
        X: np.ndarray,
        Y: np.ndarray,
        weight: np.ndarray | None,
        validation: tuple[Any, ...],
        random_state: np.random.RandomState | None,
    ) -> tuple[tuple[Any, ...], tuple[Any, ...] | None]:
        """Return the rows to train on, and those to validate on if there are any."""
        X_val, y_val, weight_val = validation
        if (X_val is None) != (y_val is None):
            raise ValueError("X_val and y_val are to be given together")
        if X_val is None and weight_val is not None:
            raise ValueError("sample_weight_val needs X_val and y_val")
        if X_val is not None:
            X_val = self._inputs(X_val, "X_val")
            refuse_masks(y_val, "y_val")
            Y_val = self._encoded(y_val)
            if len(X_val) != len(Y_val):
                raise ValueError(f"X_val has {len(X_val)} rows, y_val has {len(Y_val)}")
            if len(X_val) < 2:
                raise ValueError("The validation set is too small: X_val has one row.")
            return (X, Y, weight), (X_val, Y_val, as_sample_weight(weight_val, len(X_val)))
        if not self.early_stopping:
            return (X, Y, weight), None
        rows, others = train_test_split(
            np.arange(len(X)),
            random_state=random_state,
            test_size=self.validation_fraction,
            stratify=Y.astype(bool) if self._stratifies() else None,
        )
        if len(others) < 2:
            raise ValueError(
                "The validation set is too small. Increase 'validation_fraction' or the size of "
                "your dataset."
            )
        parts = [
            (X[chosen], Y[chosen], None if weight is None else weight[chosen])
            for chosen in (rows, others)
        ]
        return parts[0], parts[1]

    def _stratifies(self) -> bool:
        """Whether the validation rows are drawn class by class."""
        return False

    def _fit_stochastic(
        self,
        weights: list[np.ndarray],
        dtype: np.dtype,
        data: tuple[tuple[Any, ...], tuple[Any, ...] | None],
        random_state: np.random.RandomState | None,
        first: bool,
        incremental: bool,
    ) -> None:
        (X, Y, weight), validation = data
        n = len(X)
        before = self.network_.optimizer if incremental and not first else None
        optimizer = before or self._new_optimizer()
        batch_size = self._batch_size(n, optimizer)
        mean_weight = 1.0 if weight is None else as_sample_weight(weight, n).mean(dtype=np.float64)
        if first:
            rng = np.random.default_rng(random_state.randint(np.iinfo(np.int32).max))
        else:
            rng = generator_from(self.network_.rng.bit_generator.state)
        net, head = self._network(weights, dtype, batch_size * mean_weight, rng)
        if before is not None:  # the calls of partial_fit before
            state = before.state(self.network_)
            before.set_state(net, state.slots, state.step, state.epoch)
        report = (head.scale, self._offset(Y, weight))
        watcher = self._watcher(n, report, validation, first)
        if validation is not None:
            validation = (validation[0], self._target(validation[1], head.loss), validation[2])
        train(
            net,
            (X, self._target(Y, head.loss), weight),
            watcher,
            epochs=1 if incremental else self.max_iter,
            batch_size=batch_size,
            optimizer=optimizer,
            sampling="shuffle" if self.shuffle else "sequential",
            validation_data=validation,
            callbacks=[watcher, *self._callbacks()],
            health=bool(self.verbose) and not incremental,
        )
        stopped = watcher.stopped or net.history.stopped
        if not (incremental or stopped) and self.n_iter_ == self.max_iter:
            warnings.warn(
                f"Stochastic Optimizer: Maximum iterations ({self.max_iter}) reached and the "
                "optimization hasn't converged yet.",
                ConvergenceWarning,
                stacklevel=FRAMES - 1,
            )
        self.network_ = net

    def _batch_size(self, n: int, optimizer: Optimizer) -> int:
        if self.batch_size == "auto":
            return n if estimatorparts.takes_all_rows(optimizer) else min(LARGEST_AUTO_BATCH, n)
        if self.batch_size > n:
            warnings.warn(
                f"batch_size={self.batch_size} is more than the {n} rows to train on; it is "
                "clipped to that",
                stacklevel=FRAMES,
            )
        return min(int(self.batch_size), n)

    def _new_optimizer(self) -> Optimizer:
        return estimatorparts.optimizer(
            self.solver,
            {
                "learning_rate": self.learning_rate_init,
                "momentum": self.momentum,
                "nesterov": self.nesterovs_momentum,
                "beta_1": self.beta_1,
                "beta_2": self.beta_2,
                "epsilon": self.epsilon,
            },
        )

    def _watcher(
        self,
        n: int,
        report: tuple[float, float],
        validation: tuple[Any, ...] | None,
        first: bool,
    ) -> EpochEnd:
        """Return what stops the fit, with the attributes that it keeps."""
        if first or not hasattr(self, "loss_curve_"):
            self.loss_curve_: list[float] = []
            self._no_improvement_count = 0
            self.best_loss_ = self.validation_scores_ = self.best_validation_score_ = None
        if self.early_stopping:
            self.best_loss_ = None
        elif self.best_loss_ is None:
            self.best_loss_ = np.inf
        if validation is not None and self.validation_scores_ is None:
            self.validation_scores_: list[float] | None = []
            self.best_validation_score_: float | None = -np.inf
        score = None
        if validation is not None:
            X_val, Y_val, weight_val = validation

            def score(net: Network) -> float:
                y = net.predict(X_val)
                return self._score_of(Y_val, y, weight_val) if np.isfinite(y).all() else np.nan

        return EpochEnd(self, n, report, score)

    def _callbacks(self) -> list[Any]:
        if self.callbacks is None:
            return []
        return list(self.callbacks) if isinstance(self.callbacks, Iterable) else [self.callbacks]

    def _check_solver(self) -> bool:
        if isinstance(self.solver, str) and self.solver == "lbfgs":
            raise AttributeError(
                "partial_fit is only available for stochastic optimizers. lbfgs is not stochastic."
            )
        return True
