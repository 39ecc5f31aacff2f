"""Runs workloads: peers prepared, checked against each other, then timed in turns."""

import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.processes import Launch, Worker, WorkerError, is_running
from benchmarks.workloads import Workload

REFERENCE = "bpcore_fit"
SETTLE = 0.2  # seconds after which idle threads of other processes have surely stopped spinning
LONGEST_SETTLE = 2.0


@dataclass(frozen=True)
class Effort:
    """How many rounds, and how long each."""

    rounds: int
    seconds: float
    budget: float
    """Seconds for all rounds of one peer; slow workloads get fewer, but at least three."""


FULL = Effort(7, 0.1, 2.0)
QUICK = Effort(3, 0.02, 0.3)


def quartiles(values: Sequence[float]) -> tuple[float, float]:
    if len(values) < 2:
        return float("nan"), float("nan")
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, high


@dataclass
class Figures:
    """One peer's times for one workload, in seconds an update or call."""

    peer: str
    times: list[float] = field(default_factory=list)
    before: float = float("nan")
    after: float = float("nan")
    error: float = 0.0
    """Of `after`, if chance has a part in it (dropout)."""
    note: str = ""
    absent: str = ""
    """Why there are no times."""
    digest: str = ""
    """Of the bits of the weights after the check."""
    ratio: float = float("nan")
    """The reference's time by this one's, the median over rounds."""
    agrees: bool | None = None
    """Whether it has done the same as the reference."""

    @property
    def median(self) -> float:
        return statistics.median(self.times) if self.times else float("nan")

    @property
    def spread(self) -> float:
        """The distance between the quartiles as a share of the median."""
        low, high = quartiles(self.times)
        return (high - low) / self.median


@dataclass
class Case:
    """A workload in one dtype at one number of threads, and everybody's figures."""

    workload: Workload
    dtype: str
    threads: int
    figures: dict[str, Figures] = field(default_factory=dict)

    @property
    def timed(self) -> dict[str, Figures]:
        return {name: figures for name, figures in self.figures.items() if figures.times}

    @property
    def best_peer(self) -> Figures | None:
        peers = [figures for name, figures in self.timed.items() if name != REFERENCE]
        return min((peer for peer in peers if peer.agrees is not False), default=None, key=_median)


def _median(figures: Figures) -> float:
    return figures.median


class Pool:
    """The processes, each started when it is first needed."""

    def __init__(self, peers: Mapping[str, Launch]) -> None:
        self.peers = peers
        self.workers: dict[tuple[str, int], Worker] = {}
        self.titles: dict[str, str] = {}
        self.versions: dict[str, str] = {}
        self.missing: dict[str, str] = {}

    def worker(self, peer: str, threads: int) -> Worker | None:
        if peer in self.missing:
            return None
        key = (peer, threads)
        if key not in self.workers:
            self.workers[key] = Worker(self.peers[peer], threads)
            hello = self.ask(key, "hello")
            if "title" not in hello:
                self.missing[peer] = str(next(iter(hello.values())))
                return None
            self.titles[peer], self.versions[peer] = hello["title"], hello["version"]
        return self.workers[key]

    def ask(self, key: tuple[str, int], what: str, **arguments: Any) -> dict[str, Any]:
        """Ask; of a process that has ended, say so, and start another next time."""
        try:
            return self.workers[key].ask(what, **arguments)
        except WorkerError as error:
            self.workers.pop(key)
            return {"error": str(error)}

    def settle(self) -> None:
        """Wait until all threads sleep; OpenBLAS's idle ones keep a core busy for a while."""
        until, quiet = time.monotonic() + LONGEST_SETTLE, 0
        while quiet < 3 and time.monotonic() < until:
            running = [is_running(worker.process.pid) for worker in self.workers.values()]
            if None in running:
                time.sleep(SETTLE)
                return
            quiet = 0 if any(running) else quiet + 1
            time.sleep(0.002)

    def close(self) -> None:
        for worker in self.workers.values():
            worker.close()

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def cases(
    workloads: Sequence[Workload], dtypes: Sequence[str], threads: Sequence[int], few: bool
) -> Iterator[Case]:
    """Small workloads are timed on one thread only if `few`."""
    for workload in workloads:
        for dtype in dtypes:
            if dtype in workload.dtypes:
                for count in threads:
                    if count == 1 or workload.threaded or not few:
                        yield Case(workload, dtype, count)


def run(case: Case, pool: Pool, effort: Effort) -> None:
    """Fill in the figures of a case; all are compared with the first of the pool."""
    counts: dict[str, int] = {}
    for peer in pool.peers:
        figures = case.figures[peer] = Figures(peer)
        n = _prepare(case, peer, pool, figures, effort)
        if n:
            counts[peer] = n
    _time(case, pool, counts, effort)
    reference = case.figures[next(iter(pool.peers))]
    for figures in case.timed.values():
        if reference.times:
            pairs = zip(reference.times, figures.times, strict=False)
            figures.ratio = statistics.median(ours / theirs for ours, theirs in pairs)
            figures.agrees = agree(case, reference, figures)


def _prepare(case: Case, peer: str, pool: Pool, figures: Figures, effort: Effort) -> int:
    """Return how many epochs or calls a round has; 0 if the peer does not take part."""
    if pool.worker(peer, case.threads) is None:
        figures.absent = pool.missing[peer]
        return 0
    key = (peer, case.threads)
    questions: list[tuple[str, dict[str, Any]]] = [
        ("prepare", {"workload": case.workload.name, "dtype": case.dtype}),
        ("check", {}),
        ("calibrate", {"seconds": effort.seconds}),
    ]
    answers: dict[str, Any] = {"n": 1}
    for what, arguments in questions:
        if what == "calibrate" and answers.get("epoch", 0.0) > effort.seconds:
            break  # one epoch is long enough
        answer = pool.ask(key, what, **arguments)
        for trouble in ("unsupported", "missing", "error"):
            if trouble in answer:
                figures.absent = answer[trouble]
                if trouble == "error":
                    print(f"{peer}, {case.workload.name}: {answer[trouble]}", file=sys.stderr)
                return 0
        answers |= answer
    figures.note, figures.error = answers["note"], answers.get("uncertainty", 0.0)
    figures.digest = answers.get("digest", "")
    figures.before, figures.after = answers["before"], answers["after"]
    return int(answers["n"])


def _time(case: Case, pool: Pool, counts: dict[str, int], effort: Effort) -> None:
    peers = list(counts)
    spent = 0.0
    for turn in range(effort.rounds):
        if turn >= 3 and spent > effort.budget * len(peers):
            break
        for peer in peers[turn % len(peers) :] + peers[: turn % len(peers)] if peers else ():
            if case.threads > 1:
                pool.settle()
            answer = pool.ask((peer, case.threads), "round", n=counts[peer])
            if "seconds" in answer:
                units = counts[peer] * case.workload.updates
                case.figures[peer].times.append(answer["seconds"] / units)
                spent += answer["seconds"]


def agree(case: Case, reference: Figures, figures: Figures) -> bool:
    """Whether the loss has changed by the same amount, as far as the dtype can tell."""
    ours, theirs = reference.after - reference.before, figures.after - figures.before
    tolerance = 1e-6 if case.dtype == "float64" else 2e-3
    rounding = 1e-13 if case.dtype == "float64" else 2e-6
    chance = 5 * (reference.error + figures.error)
    return bool(
        np.isfinite(theirs)
        and abs(ours - theirs) <= tolerance * abs(ours) + rounding * abs(reference.before) + chance
        and abs(ours) > 2 * rounding * abs(reference.before)
    )
