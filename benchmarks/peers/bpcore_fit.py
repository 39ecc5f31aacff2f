"""bpcore through its public interface: ``net.fit``."""

import bpcore
from benchmarks.peers import Unsupported
from benchmarks.workloads import Problem, Weights

TITLE = "bpcore"


def version() -> str:
    return f"{bpcore.__version__} ({bpcore.simd_level()})"


class Training:
    def __init__(self, problem: Problem) -> None:
        workload = problem.workload
        self.net = bpcore.mlp(
            workload.widths,
            hidden=workload.hidden,
            output=workload.output,
            loss=workload.loss,
            dtype=problem.dtype,
            rng=0,
        )
        self.y = problem.y if problem.labels is None else problem.labels
        self.problem = problem
        self.reset()

    def reset(self) -> None:
        workload = self.problem.workload
        dense = [layer for layer in self.net.layers if isinstance(layer, bpcore.Dense)]
        for layer, (weight, bias) in zip(dense, self.problem.weights, strict=True):
            layer.weight, layer.bias = weight, bias
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
        dense = [layer for layer in self.net.layers if isinstance(layer, bpcore.Dense)]
        return [(layer.weight, layer.bias) for layer in dense]


def prepare(problem: Problem, threads: int) -> Training:
    bpcore.set_num_threads(threads)
    if problem.workload.kind != "training":
        raise Unsupported("not yet")
    return Training(problem)
