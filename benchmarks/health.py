"""What looking at a network's health costs a fit: time with, over time without, in turns.

`first`: a new network's fit, which is always looked at; `later`: fits of one network.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np

import bpcore

# name, widths, rows, batch size, epochs
CASES = [
    ("784-128-10, 60 epochs", (784, 128, 10), 1024, 32, 60),
    ("784-128-10, 1 epoch", (784, 128, 10), 1024, 32, 1),
    ("64-64-10, 60 epochs", (64, 64, 10), 1024, 32, 60),
    ("4-5-3, 100 epochs of 1,000 rows", (4, 5, 3), 1000, 10, 100),
    ("4-5-3, one row", (4, 5, 3), 1, 1, 1),
]


def fits(case: tuple, dtype: str, later: bool) -> Callable[[bool], float]:
    """Return a function that fits with health or without and returns the seconds."""
    _, sizes, n, batch_size, epochs = case
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n, sizes[0])).astype(dtype)
    y = rng.integers(0, sizes[-1], n)
    keywords = {"epochs": epochs, "batch_size": batch_size, "optimizer": bpcore.SGD()}

    def new() -> bpcore.Network:
        settings = {"output": "softmax", "loss": "cross_entropy", "dtype": dtype, "rng": 0}
        net = bpcore.mlp(sizes, **settings)
        net.predict(X)  # draws the weights
        return net

    nets = {True: new(), False: new()}

    def fit(health: bool) -> float:
        net = nets[health] if later else new()
        start = time.perf_counter()
        net.fit(X, y, health=health, **keywords)
        return time.perf_counter() - start

    return fit


def measure(fit: Callable[[bool], float], budget: float) -> tuple[float, float]:
    """Return the median time without, and the median ratio of pairs taken in turns."""
    for health in (True, False, True, False):
        fit(health)
    ends, times = time.perf_counter() + budget, {True: [], False: []}
    while time.perf_counter() < ends or len(times[True]) < 5:
        first = len(times[True]) % 2 == 0
        for health in (first, not first):
            times[health].append(fit(health))
    pairs = zip(times[True], times[False], strict=True)
    return statistics.median(times[False]), statistics.median(a / b for a, b in pairs)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0, help="for each figure")
    options = parser.parse_args(arguments)
    bpcore.set_num_threads(1)
    print(f"{'':34} {'dtype':8} {'without':>10} {'first':>7} {'later':>7}")
    for case in CASES:
        for dtype in ("float32", "float64"):
            without, first = measure(fits(case, dtype, later=False), options.seconds)
            _, later = measure(fits(case, dtype, later=True), options.seconds)
            print(f"{case[0]:34} {dtype:8} {1e6 * without:8.1f}us {first:7.3f} {later:7.3f}")


if __name__ == "__main__":
    main()
