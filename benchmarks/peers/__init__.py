"""One module for each peer: how it does a workload in its fastest idiom."""

from typing import Protocol

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
        """The weights as they are now; for a prediction, the last output."""


class Peer(Protocol):
    """What each module here offers."""

    TITLE: str

    def version(self) -> str: ...

    def prepare(self, problem: Problem, threads: int) -> Task: ...


NAMES = (
    "bpcore_fit",
    "fixed_c",
    "genann",
    "numba_loop",
    "jax_scan",
    "torch_manual",
    "numpy_tuned",
    "torch_idiomatic",
)
"""In the order of the tables; the first is what the others are compared with."""
