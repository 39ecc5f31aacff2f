"""Peers in processes of their own, kept alive and asked in turn."""

import contextlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMBA_NUM_THREADS",
    "BPCORE_NUM_THREADS",
)


def cores() -> list[int]:
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def is_running(process: int) -> bool | None:
    """Whether any thread of a process runs or wants to; None where the system does not tell."""
    states = []
    for stat in Path(f"/proc/{process}/task").glob("*/stat"):
        with contextlib.suppress(OSError):  # the thread has ended
            states.append(stat.read_text().rpartition(")")[2].split()[0])
    return "R" in states if states else None


class WorkerError(RuntimeError):
    """The process of a peer is gone."""


@dataclass(frozen=True)
class Launch:
    """How to start a peer: a module of benchmarks.peers, under which Python and environment."""

    module: str
    python: str = sys.executable
    environment: dict[str, str] = field(default_factory=dict)


@dataclass
class Worker:
    """A peer's process. On one thread it is bound to one core: JAX cannot be limited otherwise."""

    launch: Launch
    threads: int

    def __post_init__(self) -> None:
        core = cores()[-1] if self.threads == 1 and hasattr(os, "sched_setaffinity") else -1
        environment = os.environ | dict.fromkeys(THREAD_VARIABLES, str(self.threads))
        path = [str(ROOT), environment.get("PYTHONPATH", "")]
        environment["PYTHONPATH"] = os.pathsep.join(part for part in path if part)
        environment |= self.launch.environment
        module = self.launch.module
        command = [
            self.launch.python,
            *("-m", "benchmarks.worker", module, str(self.threads), str(core)),
        ]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        assert self.process.stdin and self.process.stdout
        self.questions, self.answers = self.process.stdin, self.process.stdout

    def ask(self, what: str, **arguments: Any) -> dict[str, Any]:
        try:
            self.questions.write(json.dumps({"ask": what, **arguments}) + "\n")
            self.questions.flush()
            line = self.answers.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise WorkerError(f"{self.launch.module} ended with status {self.process.wait()}")
        return json.loads(line)

    def close(self) -> None:
        self.questions.close()
        try:
            self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.answers.close()
