"""What is measured: networks, data and starting weights, the same for bpcore and every peer."""

import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

Weights = list[tuple[np.ndarray, np.ndarray]]
"""The weight (n_in, n_out) and the bias (n_out,) of each dense layer."""

FLOATS = ("float64", "float32")


@dataclass(frozen=True)
class Workload:
    """A network to train, or to predict with.

    `rows` are the rows of the data, `batch` those of an update; where they are equal, every update
    sees the same rows. Rows are taken in order, so that all peers do the same work.
    """

    name: str
    widths: tuple[int, ...]
    hidden: str
    output: str
    rows: int
    batch: int
    loss: str = "mse"
    optimizer: str = "sgd"
    learning_rate: float = 0.01
    dropout: float = 0.0
    output_bias: bool = True
    kind: str = "training"
    """"training"; "prediction"; or "gradient", of the loss, one call each."""
    out: bool = False
    """A prediction goes into an array that the caller has."""
    dtypes: tuple[str, ...] = FLOATS
    threaded: bool = False

    @property
    def updates(self) -> int:
        """Updates in an epoch."""
        return -(-self.rows // self.batch)

    @property
    def n_parameters(self) -> int:
        pairs = zip(self.widths, self.widths[1:], strict=False)
        return sum((n_in + 1) * n_out for n_in, n_out in pairs)

    @property
    def unit(self) -> str:
        return {"training": "update", "gradient": "gradient", "prediction": "call"}[self.kind]

    @property
    def check_epochs(self) -> int:
        """Epochs after which the losses of all peers must agree."""
        work = self.n_parameters * self.rows
        return 1 if work > 3e7 or self.updates > 20 else 20

    def activation(self, layer: int) -> str:
        return self.output if layer == len(self.widths) - 2 else self.hidden

    @property
    def title(self) -> str:
        network = "-".join(map(str, self.widths))
        activations = self.hidden if self.hidden == self.output else f"{self.hidden}/{self.output}"
        rows = "1 row" if self.batch == 1 else f"{self.batch:,} rows"
        if len(self.widths) == 2:
            activations = self.output
        if self.kind == "prediction":
            return f"{network} {activations}, predict {rows}{', out=' if self.out else ''}"
        if self.dropout:
            activations += f", dropout {self.dropout}"
        if self.kind == "gradient":
            return f"{network} {activations}, loss and gradient, {rows}"
        fixed = "the same " if self.batch == self.rows else ""
        return f"{network} {activations}, {self.loss}, {self.optimizer}, {fixed}{rows}"


def _training(name: str, widths: tuple[int, ...], activations: str, rows: int, batch: int, **more):
    hidden, output = activations.split()
    return Workload(name, widths, hidden, output, rows, batch, **more)


def _prediction(
    name: str, widths: tuple[int, ...], activations: str, rows: int, **more
) -> Workload:
    return _training(name, widths, activations, rows, rows, kind="prediction", **more)


LARGE: dict[str, Any] = {"loss": "cross_entropy", "threaded": True}
MNIST = (784, 128, 10)
F32 = ("float32",)

WORKLOADS = [
    _training("W1", (1000, 2), "identity sigmoid", 10, 10),
    _training("W2", (5, 1), "identity sigmoid", 8, 8, loss="bce"),
    _training("W3a", (5, 4, 4, 1), "relu identity", 900, 900),
    _training("W3b", (5, 4, 4, 1), "relu identity", 900, 1),
    _training("W5a", (4, 3), "identity sigmoid", 1000, 1),
    _training("W5b", (4, 5, 3), "sigmoid sigmoid", 1000, 1),
    _training("W5c", (4, 5, 3), "sigmoid sigmoid", 1000, 10),
    _training("W6", MNIST, "relu softmax", 1024, 32, **LARGE),
    _training("W6-adam", MNIST, "relu softmax", 1024, 32, optimizer="adam", dtypes=F32, **LARGE),
    _training("W7", (784, 512, 512, 10), "relu softmax", 1024, 128, **LARGE),
    _training("W8", (4096,) * 4, "relu identity", 512, 512, threaded=True),
    _training(
        "W9", (4, 32, 16, 4), "tanh identity", 10_000, 10_000,
        optimizer="adam", learning_rate=0.001, dtypes=F32, threaded=True,
    ),
]  # fmt: skip

W10: dict[str, Any] = {"dropout": 0.2, "output_bias": False, "dtypes": ("float64",)}

WORKLOADS += [
    _training("W10", (24, 8, 2), "tanh identity", 200, 200, kind="gradient", **W10),
    _training("W10-fit", (24, 8, 2), "tanh identity", 200, 200, **W10),
]

for _out in (False, True):
    _name = "P{}-out" if _out else "P{}"
    WORKLOADS += [
        _prediction(_name.format(1), (4, 5, 3), "sigmoid sigmoid", 1, dtypes=F32, out=_out),
        _prediction(_name.format(2), (64, 64, 64, 10), "tanh identity", 1, dtypes=F32, out=_out),
        _prediction(_name.format(3), MNIST, "relu identity", 1, dtypes=F32, out=_out),
        _prediction(
            _name.format(4), MNIST, "relu identity", 10_000, dtypes=F32, out=_out, threaded=True
        ),
    ]

SIZES: dict[str, tuple[tuple[int, ...], str, dict[str, Any]]] = {
    "S13": ((13, 32, 16, 1), "tanh identity", {"dtypes": ("float64",)}),
    "S100": (
        (100, 50, 25, 3),
        "relu softmax",
        {"loss": "cross_entropy", "optimizer": "adam", "learning_rate": 0.001},
    ),
    "S300": ((784, 300, 100, 10), "relu softmax", LARGE | {"dtypes": F32}),
    "S1000": ((1000,) * 4, "relu identity", {"threaded": True, "dtypes": F32}),
}

for _name, (_widths, _activations, _more) in SIZES.items():
    for _batch in (1, 7, 33, 100, 1000):
        _rows = _batch * max(1, (100 if _name == "S1000" else 1000) // _batch)
        WORKLOADS.append(
            _training(f"{_name}-{_batch}", _widths, _activations, _rows, _batch, **_more)
        )

BY_NAME = {workload.name: workload for workload in WORKLOADS}


@dataclass
class Problem:
    """A workload's data and starting weights in one dtype."""

    workload: Workload
    dtype: np.dtype
    X: np.ndarray = field(init=False)
    y: np.ndarray = field(init=False)
    """Targets of shape (rows, n_out); one-hot for cross-entropy."""
    labels: np.ndarray | None = field(init=False, default=None)
    weights: Weights = field(init=False)

    def __post_init__(self) -> None:
        workload = self.workload
        rng = np.random.default_rng(zlib.crc32(workload.title.encode()))
        n_out = workload.widths[-1]
        X = rng.standard_normal((workload.rows, workload.widths[0]), np.float32)
        if workload.loss == "cross_entropy":
            self.labels = rng.integers(0, n_out, workload.rows)
            y: np.ndarray = np.eye(n_out)[self.labels]
        elif workload.loss == "bce":
            y = rng.integers(0, 2, (workload.rows, n_out))
        elif workload.output == "sigmoid":
            y = rng.uniform(size=(workload.rows, n_out))
        else:
            y = rng.standard_normal((workload.rows, n_out), np.float32)
        self.X, self.y = X.astype(self.dtype), y.astype(self.dtype)
        self.weights = []
        for n_in, n_out in zip(workload.widths, workload.widths[1:], strict=False):
            weight = rng.standard_normal((n_in, n_out), np.float32) / np.sqrt(n_in)
            bias = 0.1 * rng.standard_normal(n_out)
            if n_out == workload.widths[-1] and not workload.output_bias:
                bias[:] = 0
            self.weights.append((weight.astype(self.dtype), bias.astype(self.dtype)))

    def copied_weights(self) -> Weights:
        return [(weight.copy(), bias.copy()) for weight, bias in self.weights]

    @cached_property
    def batches(self) -> list[slice]:
        step = self.workload.batch
        return [slice(i, i + step) for i in range(0, self.workload.rows, step)]


def predict(workload: Workload, weights: Weights, X: np.ndarray) -> np.ndarray:
    """The network's output in float64, by the textbook's formulas."""
    a = X.astype(np.float64)
    for layer, (weight, bias) in enumerate(weights):
        z = a @ weight.astype(np.float64) + bias
        a = ACTIVATIONS[workload.activation(layer)](z)
    return a


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


ACTIVATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "identity": lambda z: z,
    "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
    "tanh": np.tanh,
    "relu": lambda z: np.maximum(z, 0),
    "softmax": softmax,
}


def direction(problem: Problem) -> np.ndarray:
    """Along which outputs of different peers are compared."""
    rng = np.random.default_rng(0)
    shape = (problem.workload.rows, problem.workload.widths[-1])
    return rng.standard_normal(shape) / np.sqrt(np.prod(shape))


def loss(problem: Problem, weights: Weights) -> float:
    """The mean loss over (at most 1,000) rows in float64."""
    rows = slice(0, 1000 if problem.workload.n_parameters < 1e7 else 64)
    p, y = predict(problem.workload, weights, problem.X[rows]), problem.y[rows]
    if problem.workload.loss == "cross_entropy":
        return float(-np.log((p * y).sum(axis=1)).mean())
    if problem.workload.loss == "bce":
        return float(-np.log(np.where(y == 1, p, 1 - p)).mean())
    return float(((p - y) ** 2).mean())
