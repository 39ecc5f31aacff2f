"""How the estimators train: scikit-learn's rules of stopping over bpcore's loop, and L-BFGS."""

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.optimize import minimize
from sklearn.exceptions import ConvergenceWarning

from bpcore.callbacks import Columns
from bpcore.errors import DivergenceError
from bpcore.history import History
from bpcore.network import Network
from bpcore.optimizers import SGD

if TYPE_CHECKING:
    from bpcore.estimator import BaseMLP

LEAST_RATE = 1e-6
"""Below this an adaptive learning rate is not divided again."""

FRAMES = 6
"""From a warning to the caller of `fit`: train, _fit_stochastic, _fit_checked, _fit, fit."""

UNFIT = (
    "Solver produced non-finite parameter weights. The input data may contain large values and "
    "need to be preprocessed"
)


class EpochEnd:
    """What scikit-learn does after each epoch: record, score, compare, and stop or slow down.

    A callback of `Network.fit`. The figures go into the estimator's attributes, and the score into
    the history too, as "validation_score".

    Parameters
    ----------
    estimator : BaseMLP
    n_rows : int
        What an epoch adds to ``t_``.
    report : (float, float)
        Scale and offset: what bpcore's loss is multiplied by, and what is added then.
    score : callable or None
        Returns the score of the validation rows.
    """

    def __init__(
        self,
        estimator: "BaseMLP",
        n_rows: int,
        report: tuple[float, float],
        score: Callable[[Network], float] | None,
    ) -> None:
        self.estimator, self.n_rows, self.score = estimator, n_rows, score
        self.scale, self.offset = report
        self.stopped = False
        self.best_epoch: int | None = None  # None: the best weights are those of an earlier fit

    def check_fit(self, net: Network, columns: Columns) -> None:
        """Say which figure there will be."""
        if self.score is not None:
            columns.add("validation_score")

    def on_epoch_end(self, net: Network, epoch: int, logs: dict[str, Any]) -> bool:
        """Return whether it is time to stop."""
        estimator = self.estimator
        estimator.n_iter_ = epoch + 1
        estimator.loss_ = self.scale * logs["loss"] + self.offset
        estimator.t_ += self.n_rows
        estimator.loss_curve_.append(estimator.loss_)
        self.say(f"Iteration {epoch + 1}, loss = {estimator.loss_:.8f}")
        if self.score is not None:
            logs["validation_score"] = self.score(net)
            self.note_score(net, logs["validation_score"])
        if not estimator.early_stopping:
            self.compare(estimator.loss_, estimator.best_loss_, -1)
            estimator.best_loss_ = min(estimator.best_loss_, estimator.loss_)
        if estimator.solver == "sgd" and estimator.learning_rate == "invscaling":
            rate = estimator.learning_rate_init / (estimator.t_ + 1) ** estimator.power_t
            self.change_rate(net, rate)
        if estimator._no_improvement_count > estimator.n_iter_no_change:
            self.stopped = self.stop_or_slow_down(net)
        return self.stopped

    def note_score(self, net: Network, score: float) -> None:
        """Keep a validation score, and the parameters if it is the best."""
        estimator = self.estimator
        estimator.validation_scores_.append(score)
        self.say(f"Validation score: {score:f}")
        if estimator.early_stopping:
            self.compare(score, estimator.best_validation_score_, 1)
        if score > estimator.best_validation_score_:
            estimator.best_validation_score_ = score
            estimator._best_parameters = net.parameters.copy()
            self.best_epoch = estimator.n_iter_ - 1

    def on_fit_end(self, net: Network, history: History) -> None:
        """Go back to the best weights, before others see or save them."""
        estimator = self.estimator
        if not estimator.early_stopping:
            return
        if estimator.best_validation_score_ == -np.inf:
            raise ValueError(f"{UNFIT}: no validation score is a number")
        net.parameters[...] = estimator._best_parameters
        history.best_epoch = self.best_epoch

    def compare(self, figure: float, best: float, sign: int) -> None:
        """Count the epochs in a row that are not better than the best by `tol`; nan never is."""
        estimator = self.estimator
        if sign * figure >= sign * best + estimator.tol:
            estimator._no_improvement_count = 0
        else:
            estimator._no_improvement_count += 1

    def stop_or_slow_down(self, net: Network) -> bool:
        """Say what has not improved; return whether to stop."""
        estimator = self.estimator
        figure = "Validation score" if estimator.early_stopping else "Training loss"
        found = (
            f"{figure} did not improve more than tol={estimator.tol:f} for "
            f"{estimator.n_iter_no_change} consecutive epochs."
        )
        rate = net.optimizer.learning_rate
        if estimator.solver != "sgd" or estimator.learning_rate != "adaptive":
            self.say(f"{found} Stopping.")
            return True
        if rate <= LEAST_RATE:
            self.say(f"{found} Learning rate too small. Stopping.")
            return True
        self.change_rate(net, rate / 5.0)
        self.say(f"{found} Setting learning rate to {net.optimizer.learning_rate:f}")
        estimator._no_improvement_count = 0
        return False

    def change_rate(self, net: Network, rate: float) -> None:
        """Go on at another rate, with a velocity that moves the parameters as far as before.

        bpcore multiplies the velocity by the rate, scikit-learn's velocity has it inside.
        """
        optimizer = net.optimizer
        if isinstance(optimizer, SGD) and optimizer.momentum:
            (velocity,) = optimizer.state(net).slots
            velocity *= optimizer.learning_rate / rate
        optimizer.learning_rate = rate

    def say(self, text: str) -> None:
        """Print, if the estimator is verbose."""
        if self.estimator.verbose:
            print(text)


def train(
    net: Network,
    data: tuple[np.ndarray, np.ndarray, np.ndarray | None],
    watcher: EpochEnd,
    *,
    epochs: int,
    **keywords: Any,
) -> None:
    """Train by bpcore's loop until the watcher, a callback or the user stops it.

    A fit that ends before its first epoch does has nothing to show, and raises.
    """
    X, y, weight = data
    estimator = watcher.estimator
    try:
        net.fit(X, y, sample_weight=weight, epochs=epochs, **keywords)
    except KeyboardInterrupt:
        if not estimator.n_iter_:
            raise
        watcher.on_fit_end(net, net.history)
        warnings.warn("Training interrupted by user.", stacklevel=FRAMES)
    except DivergenceError as error:
        if not (estimator.early_stopping and estimator.n_iter_):
            raise ValueError(f"{UNFIT}: {error}") from error
        watcher.on_fit_end(net, net.history)
        estimator.validation_scores_.append(np.nan)
        warnings.warn(
            f"Stochastic Optimizer: {error}. The weights with the best validation score are kept.",
            ConvergenceWarning,
            stacklevel=FRAMES,
        )
    net._interrupted = None  # an estimator's fit is not resumed


def minimise(
    net: Network,
    data: tuple[np.ndarray, np.ndarray, np.ndarray | None],
    *,
    max_iter: int,
    max_fun: int,
    tol: float,
    offset: float,
    verbose: bool,
) -> tuple[int, float]:
    """Minimise the loss of a float64 network by SciPy's L-BFGS-B over its flat parameters.

    Returns
    -------
    n_iter : int
    loss : float
    """
    X, y, weight = data
    done = 0

    def loss_and_gradient(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        net.parameters[...] = parameters
        loss, gradient = net.loss_and_gradient(X, y, sample_weight=weight)
        return loss + offset, gradient

    def report(intermediate_result: Any) -> None:
        nonlocal done
        done += 1
        if verbose:
            print(f"Iteration {done}, loss = {intermediate_result.fun:.8f}")

    result = minimize(
        loss_and_gradient,
        net.parameters.copy(),
        method="L-BFGS-B",
        jac=True,
        callback=report,
        options={"maxiter": max_iter, "maxfun": max_fun, "gtol": tol},
    )
    if not (np.isfinite(result.fun) and np.isfinite(result.x).all()):
        raise ValueError(UNFIT)
    net.parameters[...] = result.x
    if result.status != 0:
        warnings.warn(
            f"lbfgs failed to converge after {result.nit} iteration(s) ({result.message}). "
            "Increase max_iter or max_fun to improve the convergence, or scale the data.",
            ConvergenceWarning,
            stacklevel=FRAMES,
        )
    return min(int(result.nit), max_iter), float(result.fun)
