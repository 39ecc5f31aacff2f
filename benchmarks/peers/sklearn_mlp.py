"""scikit-learn's MLPRegressor and MLPClassifier: what they can do of the workloads."""

import warnings

import numpy as np
import sklearn
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier, MLPRegressor

from benchmarks.peers import Calls, Unsupported
from benchmarks.workloads import Problem, Weights

TITLE = "scikit-learn"


def version() -> str:
    return sklearn.__version__


class Training:
    """`fit` with warm_start, so that it goes on from the weights that are there."""

    def __init__(self, problem: Problem) -> None:
        workload = self.workload = problem.workload
        self.problem = problem
        classes = workload.loss == "cross_entropy"
        hidden = {"sigmoid": "logistic"}.get(workload.hidden, workload.hidden)
        # half the mean over rows of the sum over outputs, instead of the mean of all
        rate = workload.learning_rate * (1 if classes else 2 / workload.widths[-1])
        self.estimator = (MLPClassifier if classes else MLPRegressor)(
            hidden_layer_sizes=workload.widths[1:-1],
            activation=hidden,
            solver=workload.optimizer,
            alpha=0.0,
            batch_size=workload.batch,
            learning_rate_init=workload.learning_rate if workload.optimizer == "adam" else rate,
            momentum=0.0,
            nesterovs_momentum=False,
            shuffle=False,
            tol=0.0,
            n_iter_no_change=10**9,
            warm_start=True,
            max_iter=1,
        )
        self.X, self.y = problem.X, problem.labels if classes else problem.y
        if not classes and workload.widths[-1] == 1:
            self.y = self.y.ravel()
        self.run(1)
        self.reset()

    def reset(self) -> None:
        weights = self.problem.copied_weights()
        self.estimator.coefs_ = [weight for weight, _ in weights]
        self.estimator.intercepts_ = [bias for _, bias in weights]

    def run(self, n: int) -> None:
        self.estimator.max_iter = n
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            self.estimator.fit(self.X, self.y)

    def result(self) -> Weights:
        return list(zip(self.estimator.coefs_, self.estimator.intercepts_, strict=True))


def prediction(problem: Problem) -> Calls:
    estimator = Training(problem).estimator
    estimator.out_activation_ = {"sigmoid": "logistic"}.get(
        problem.workload.output, problem.workload.output
    )
    X, shape = problem.X, problem.y.shape

    def predict() -> np.ndarray:
        return estimator.predict(X).reshape(shape)

    return Calls(predict)


def prepare(problem: Problem, threads: int) -> Training | Calls:
    workload = problem.workload
    if workload.kind == "prediction":
        return prediction(problem)
    if workload.kind == "gradient" or workload.dropout:
        raise Unsupported("no dropout")
    if workload.name.startswith("S") or workload.name == "W8":
        raise Unsupported("left out for the time it takes")
    if workload.output == "sigmoid":
        raise Unsupported("no squared error after a sigmoid, no layer of one's own")
    return Training(problem)
