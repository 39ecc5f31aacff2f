"""bpcore through its public interface: ``net.fit``, ``net.predict``, ``net.loss_and_gradient``."""

from collections.abc import Callable

import bpcore
from benchmarks.peers import Calls, Task
from benchmarks.workloads import Problem, Weights

TITLE = "bpcore"

ACTIVATIONS = {
    "identity": bpcore.Identity,
    "sigmoid": bpcore.Sigmoid,
    "tanh": bpcore.Tanh,
    "relu": bpcore.ReLU,
    "softmax": bpcore.Softmax,
}


def version() -> str:
    return f"{bpcore.__version__} ({bpcore.simd_level()})"


def network(problem: Problem) -> bpcore.Network:
    workload = problem.workload
    layers: list[object] = []
    for k, (weight, bias) in enumerate(problem.weights):
        last = k == len(problem.weights) - 1
        has_bias = workload.output_bias or not last
        dense = bpcore.Dense(*weight.shape, weight_init=weight, bias=has_bias, dtype=problem.dtype)
        if has_bias:
            dense.bias = bias
        layers += [dense, ACTIVATIONS[workload.activation(k)]()]
        if workload.dropout and not last:
            layers.append(bpcore.Dropout(workload.dropout))
    return bpcore.Network(layers, loss=workload.loss, dtype=problem.dtype, rng=0)


class Training:
    def __init__(self, problem: Problem) -> None:
        self.net = network(problem)
        self.dense = [layer for layer in self.net.layers if isinstance(layer, bpcore.Dense)]
        self.y = problem.y if problem.labels is None else problem.labels
        self.problem = problem
        self.reset()

    def reset(self) -> None:
        workload = self.problem.workload
        for layer, (weight, bias) in zip(self.dense, self.problem.weights, strict=True):
            layer.weight = weight
            if layer.bias is not None:
                layer.bias = bias
        kind = {"sgd": bpcore.SGD, "adam": bpcore.Adam}[workload.optimizer]
        self.optimizer = kind(learning_rate=workload.learning_rate)

    def run(self, n: int) -> None:
        self.net.fit(
            self.problem.X,
            self.y,
            epochs=n,
            batch_size=self.problem.workload.batch,
            optimizer=self.optimizer,
            sampling="sequential",
        )

    def result(self) -> Weights:
        pairs = zip(self.dense, self.problem.weights, strict=True)
        return [
            (layer.weight, 0 * bias if layer.bias is None else layer.bias)
            for layer, (_, bias) in pairs
        ]


def prediction(problem: Problem) -> Calls:
    net, X = network(problem), problem.X
    if not problem.workload.out:
        return Calls(lambda: net.predict(X))
    out = net.predict(X)
    return Calls(lambda: net.predict(X, out=out))


def gradient(problem: Problem) -> Calls:
    net, X, y = network(problem), problem.X, problem.y
    return Calls(lambda: net.loss_and_gradient(X, y, training=True)[0])


def prepare(problem: Problem, threads: int) -> Task | Calls:
    bpcore.set_num_threads(threads)
    kinds: dict[str, Callable[[Problem], Task | Calls]] = {
        "training": Training,
        "prediction": prediction,
        "gradient": gradient,
    }
    return kinds[problem.workload.kind](problem)
