"""One peer in a process of its own: answers the runner's questions, one JSON line each."""

import hashlib
import json
import os
import statistics
import sys
import time
import traceback
from importlib import import_module
from typing import Any

CLOCK_VARIABLE = "BENCHMARKS_CLOCK"

# numpy and the peers are imported only after the affinity is set: some count the cores then


def main() -> None:
    name, threads, core = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not mix with the answers
    if core >= 0:
        os.sched_setaffinity(0, {core})
    session = Session(name, threads)
    for line in sys.stdin:
        question = json.loads(line)
        try:
            answer = getattr(session, question.pop("ask"))(**question)
        except Exception as error:
            answer = session.excuse(error)
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


class Session:
    def __init__(self, name: str, threads: int) -> None:
        self.name, self.threads = name, threads
        self.task: Any = None
        self.problem: Any = None
        cpu = os.environ.get(CLOCK_VARIABLE) == "cpu"
        self.clock = time.process_time if cpu else time.perf_counter

    def excuse(self, error: Exception) -> dict[str, str]:
        from benchmarks.peers import Unsupported

        if isinstance(error, Unsupported):
            return {"unsupported": str(error)}
        if isinstance(error, ImportError):
            return {"missing": str(error)}
        traceback.print_exc()
        return {"error": f"{type(error).__name__}: {error}"}

    def hello(self) -> dict[str, str]:
        self.peer = import_module(f"benchmarks.peers.{self.name}")
        return {"title": self.peer.TITLE, "version": self.peer.version()}

    def prepare(self, workload: str, dtype: str) -> dict[str, Any]:
        import numpy as np

        from benchmarks.workloads import BY_NAME, Problem

        self.task = self.problem = None  # the last one's memory
        self.problem = Problem(BY_NAME[workload], np.dtype(dtype))
        self.task = self.peer.prepare(self.problem, self.threads)
        return {"note": getattr(self.task, "note", "")}

    def check(self) -> dict[str, Any]:
        """What the peers must agree on: losses before and after training, or of calls."""
        from benchmarks.workloads import direction, loss

        kind = self.problem.workload.kind
        if kind == "prediction":
            along = direction(self.problem)
            return {"before": 0.0, "after": float((along * self.task.call()).sum())}
        if kind == "gradient":
            losses = [float(self.task.call()) for _ in range(1000)]
            error = statistics.stdev(losses) / len(losses) ** 0.5
            return {"before": 0.0, "after": statistics.fmean(losses), "uncertainty": error}
        self.task.reset()
        before = loss(self.problem, self.problem.weights)
        epochs = self.problem.workload.check_epochs
        took = self.seconds(epochs)
        weights = self.task.result()
        after = loss(self.problem, weights)
        digest = hashlib.sha256(b"".join(array.tobytes() for pair in weights for array in pair))
        return {
            "before": before,
            "after": after,
            "digest": digest.hexdigest(),
            "epoch": took / epochs,
        }

    def seconds(self, n: int) -> float:
        start = self.clock()
        self.task.run(n)
        return self.clock() - start

    def calibrate(self, seconds: float) -> dict[str, int]:
        """How many epochs or calls fill a round of so many seconds."""
        self.task.reset()
        n, took = 1, self.seconds(1)
        while took < seconds / 4 and took < 0.5:
            n = max(2 * n, min(10 * n, int(n * seconds / (2 * took + 1e-9))))
            took = self.seconds(n)
        return {"n": max(1, round(n * seconds / took))}

    def round(self, n: int) -> dict[str, float]:
        self.task.reset()
        return {"seconds": self.seconds(n)}


if __name__ == "__main__":
    main()
