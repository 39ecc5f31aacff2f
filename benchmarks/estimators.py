"""bpcore's scikit-learn estimators beside scikit-learn's: fit on digits, and predict of one row.

Both get the same data, epochs, batches and threads, in turns; the figures are medians, and the
ratio is the median of those of the pairs.
"""

import argparse
import statistics
import time
import warnings
from collections.abc import Callable

import numpy as np
from sklearn import neural_network as theirs
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

import bpcore
from benchmarks.report import duration
from bpcore import sklearn as ours

EPOCHS = 20
HIDDEN = ((100,), (64, 64))
# name, further parameters
CASES = [
    ("batch auto (200)", {}),
    ("batch 32", {"batch_size": 32}),
    ("batch 8", {"batch_size": 8}),
    ("sgd, batch 32", {"solver": "sgd", "batch_size": 32}),
    ("float32, batch auto (200)", {"dtype": "float32"}),
    ("early stopping, batch 32", {"early_stopping": True, "batch_size": 32}),
    ("lbfgs", {"solver": "lbfgs"}),
]


def seconds(call: Callable[[], object], times: int = 1) -> float:
    start = time.perf_counter()
    for _ in range(times):
        call()
    return (time.perf_counter() - start) / times


def compare(pair: list[Callable[[], object]], budget: float, times: int = 1) -> list[float]:
    """Return the median of the first, of the second, and of the ratios second over first."""
    for call in pair:
        call()
    taken, ends = [], time.perf_counter() + budget
    while time.perf_counter() < ends or len(taken) < 5:
        order = (0, 1) if len(taken) % 2 else (1, 0)
        found = {i: seconds(pair[i], times) for i in order}
        taken.append((found[0], found[1], found[1] / found[0]))
    return [statistics.median(column) for column in zip(*taken, strict=True)]


def fits(hidden: tuple[int, ...], parameters: dict) -> list[Callable[[], object]]:
    """Return what fits bpcore's and what fits scikit-learn's, from the same start."""
    X, y = load_digits(return_X_y=True)
    X = (X / 16).astype(parameters.get("dtype", "float64"))
    always = {"max_iter": EPOCHS, "tol": 0.0, "n_iter_no_change": np.inf, "random_state": 0}
    settings = always | {key: value for key, value in parameters.items() if key != "dtype"}
    models = [module.MLPClassifier(hidden, **settings) for module in (ours, theirs)]
    return [lambda model=model: model.fit(X, y) for model in models]


def predictions(kind: str, hidden: tuple[int, ...]) -> list[Callable[[], object]]:
    X, y = load_digits(return_X_y=True)
    models = [
        getattr(module, kind)(hidden_layer_sizes=hidden, max_iter=2) for module in (ours, theirs)
    ]
    for model in models:
        model.fit(X / 16, y)
    row = X[:1] / 16
    return [lambda model=model: model.predict(row) for model in models]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0, help="for each line")
    parser.add_argument("--threads", type=int, default=1, help="of each, BLAS's for scikit-learn")
    options = parser.parse_args(arguments)
    bpcore.set_num_threads(options.threads)
    with threadpool_limits(options.threads, user_api="blas"):
        measure(options.seconds)


def measure(budget: float) -> None:
    warnings.simplefilter("ignore", ConvergenceWarning)
    print(f"{'':44} {'bpcore':>9} {'sklearn':>9} {'ratio':>6}")
    for hidden in HIDDEN:
        for name, parameters in CASES:
            times = compare(fits(hidden, parameters), budget)
            line(f"fit, {hidden}, {name}", times)
    for kind in ("MLPClassifier", "MLPRegressor"):
        line(f"one row, {kind}", compare(predictions(kind, (100,)), budget, times=200))


def line(name: str, times: list[float]) -> None:
    print(f"{name:44} {duration(times[0]):>9} {duration(times[1]):>9} {times[2]:6.1f}", flush=True)


if __name__ == "__main__":
    main()
