"""One module for each peer: how it does a workload in its fastest idiom."""

import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from benchmarks.workloads import Problem, Weights


class Unsupported(Exception):
    """A peer does not do this workload; the message says why."""


class Task(Protocol):
    """A workload prepared by a peer."""

    def reset(self) -> None:
        """Go back to the starting weights."""

    def run(self, n: int) -> None:
        """Train for n epochs, or predict n times."""

    def result(self) -> Weights:
        """The weights as they are now."""


class Calls:
    """A task that is one call many times: a prediction, or a loss with its gradient."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self.call = call

    def reset(self) -> None:
        pass

    def run(self, n: int) -> None:
        call = self.call
        for _ in range(n):
            call()


def fastest(variants: Sequence[Task], threads: int = 1) -> Task:
    """Return the one that trains fastest, by a few short tries in turns."""
    clock = time.process_time if threads == 1 else time.perf_counter
    best = [float("inf")] * len(variants)
    for _ in range(7):
        for k, variant in enumerate(variants):
            variant.reset()
            n, took = 0, 0.0
            while took < 0.002:
                start = clock()
                variant.run(max(1, n))
                took += clock() - start
                n += max(1, n)
            best[k] = min(best[k], took / n)
    return variants[best.index(min(best))]


class Peer(Protocol):
    """What each module here offers."""

    TITLE: str

    def version(self) -> str: ...

    def prepare(self, problem: Problem, threads: int) -> Task | Calls:
        """Calls return the output of a prediction, and the loss of a gradient."""


NAMES = (
    "bpcore_fit",
    "fixed_c",
    "genann",
    "numba_loop",
    "jax_scan",
    "torch_manual",
    "numpy_tuned",
    "torch_idiomatic",
    "onnx_session",
    "sklearn_mlp",
)
"""In the order of the tables; the first is what the others are compared with."""
