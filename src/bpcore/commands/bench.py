"""`bpcore bench`: how fast this machine trains and predicts, beside plain NumPy."""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import bpcore
from bpcore.commands.options import add_json, number
from bpcore.commands.report import Report

__all__ = ["EPILOG", "add_options", "run"]

ROUNDS = 5
EPILOG = """\
Each row is a median of five rounds, in which bpcore and NumPy take turns; NumPy
is a textbook's forward and backward pass with its BLAS on as many threads as it
likes. Networks are float32; training is SGD. Close other programs first.

examples:
  bpcore bench
  bpcore bench --seconds 2
  bpcore bench --seconds 2 --json

exit codes: 0 measured; 2 wrong input; 130 Ctrl-C
"""


class Case(NamedTuple):
    """A network, and rows of one update or of one prediction."""

    widths: tuple[int, ...]
    hidden: str
    rows: int
    training: bool

    @property
    def title(self) -> str:
        """What is done, in a few words."""
        rows = "1 row" if self.rows == 1 else f"{self.rows} rows"
        return f"{'update' if self.training else 'predict'}, {rows}"


_SIZES = [((4, 5, 3), "sigmoid", 1), ((64, 64, 64, 10), "tanh", 32), ((784, 128, 10), "relu", 32)]
CASES = [
    Case(widths, hidden, rows, training)
    for widths, hidden, batch in _SIZES
    for rows, training in ((batch, True), (1, False), (1000, False))
]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add all options of `bpcore bench`."""
    parser.add_argument(
        "--seconds",
        metavar="X",
        type=number(0, above=True),
        default=8.0,
        help="to spend, about (default: 8)",
    )
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    """Measure every case and print a table."""
    report = Report(options.json)
    before = bpcore.get_num_threads()
    threads = sorted({1, before})
    columns = "".join(f"{f'{n} thread' + 's' * (n > 1):>12}" for n in threads)
    level = bpcore.simd_level()
    report.text(f"bpcore {bpcore.__version__}, {level}; microseconds, and times as fast as NumPy")
    report.text(f"{'network':<16}{'what':<20}{'NumPy':>10}{columns}{'times':>8}")
    found = []
    slice_seconds = options.seconds / (len(CASES) * ROUNDS * (1 + len(threads)))
    try:
        for case in CASES:
            numpy, own = _measure(case, threads, slice_seconds)
            ratio = numpy / min(own)
            name = "-".join(map(str, case.widths))
            times = "".join(f"{_micro(seconds):>12}" for seconds in own)
            report.text(f"{name:<16}{case.title:<20}{_micro(numpy):>10}{times}{ratio:>8.1f}")
            found.append(
                {
                    "network": name,
                    "activation": case.hidden,
                    "kind": "training" if case.training else "prediction",
                    "rows": case.rows,
                    "numpy_seconds": numpy,
                    "bpcore_seconds": dict(zip(map(str, threads), own, strict=True)),
                    "ratio": ratio,
                }
            )
    finally:
        bpcore.set_num_threads(before)
    report.put(bpcore=bpcore.__version__, simd=level, numpy=np.__version__, cases=found)
    report.end()
    return 0


def _micro(seconds: float) -> str:
    return f"{seconds * 1e6:,.3g}" if seconds < 1e-3 else f"{seconds * 1e6:,.0f}"


def _measure(case: Case, threads: list[int], seconds: float) -> tuple[float, list[float]]:
    """Return the seconds of one update or prediction: NumPy's, and bpcore's for each `threads`."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((case.rows, case.widths[0]), np.float32)
    labels = rng.integers(0, case.widths[-1], case.rows)
    net = bpcore.mlp(
        case.widths, hidden=case.hidden, output="softmax", loss="cross_entropy", dtype="float32",
        rng=0,
    )  # fmt: skip
    plain = _Plain(net, case.hidden, np.eye(case.widths[-1], dtype=np.float32)[labels])
    sgd = bpcore.SGD(learning_rate=0.001)

    def fit(n: int) -> None:
        net.fit(x, labels, epochs=n, batch_size=None, optimizer=sgd, health=False)

    ours = fit if case.training else _repeated(lambda: net.predict(x))
    theirs = (
        _repeated(lambda: plain.update(x))
        if case.training
        else _repeated(lambda: plain.forward(x)[-1])
    )
    tasks: list[tuple[Any, Callable[[int], None]]] = [(None, theirs), *((n, ours) for n in threads)]
    counts, times = [], [[] for _ in tasks]
    for n_threads, task in tasks:
        bpcore.set_num_threads(n_threads or 1)
        counts.append(_count(task, seconds))
    for _ in range(ROUNDS):
        for (n_threads, task), count, measured in zip(tasks, counts, times, strict=True):
            bpcore.set_num_threads(n_threads or 1)
            measured.append(_time(task, count) / count)
    medians = [statistics.median(measured) for measured in times]
    return medians[0], medians[1:]


def _repeated(call: Callable[[], object]) -> Callable[[int], None]:
    def repeat(n: int) -> None:
        for _ in range(n):
            call()

    return repeat


def _count(task: Callable[[int], None], seconds: float) -> int:
    """Return how many repetitions take so long."""
    count, took = 1, _time(task, 1)
    while took < seconds / 10:
        count *= 4
        took = _time(task, count)
    return max(1, round(count * seconds / took))


def _time(task: Callable[[int], None], count: int) -> float:
    start = time.perf_counter()
    task(count)
    return time.perf_counter() - start


_ACTIVATIONS: dict[str, tuple[Callable, Callable]] = {
    "sigmoid": (lambda z: 1 / (1 + np.exp(-z)), lambda a: a * (1 - a)),
    "tanh": (np.tanh, lambda a: 1 - a * a),
    "relu": (lambda z: np.maximum(z, 0), lambda a: a > 0),
}
"""Each with its derivative in terms of its value."""


class _Plain:
    """The same network as a textbook writes it: softmax, cross-entropy, SGD."""

    def __init__(self, net: Any, hidden: str, target: np.ndarray) -> None:
        arrays = [array.copy() for array in net.parameter_arrays().values()]
        self.weights, self.biases = arrays[::2], arrays[1::2]
        self.activation, self.derivative = _ACTIVATIONS[hidden]
        self.target = target

    def forward(self, x: np.ndarray) -> list[np.ndarray]:
        """Return what every layer gives, from the input on."""
        values = [x]
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            values.append(self.activation(values[-1] @ weight + bias))
        z = values[-1] @ self.weights[-1] + self.biases[-1]
        e = np.exp(z - z.max(axis=1, keepdims=True))
        return [*values, e / e.sum(axis=1, keepdims=True)]

    def update(self, x: np.ndarray) -> None:
        """Take one step."""
        *values, p = self.forward(x)
        delta = (p - self.target) / np.float32(len(x))
        for i in reversed(range(len(self.weights))):
            below, weight = values[i], self.weights[i]
            before = delta
            if i:
                delta = (delta @ weight.T) * self.derivative(below)
            weight -= np.float32(0.001) * (below.T @ before)
            self.biases[i] -= np.float32(0.001) * before.sum(axis=0)
