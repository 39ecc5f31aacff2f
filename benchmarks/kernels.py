"""Kernels alone, each part a script of its own, the parts of bpcore once at each level.

On one thread, and by the time of the process, so that they mean something on a shared machine.
"""

import os
import subprocess
import sys
from collections.abc import Sequence

from benchmarks.processes import ROOT, THREAD_VARIABLES, cores

PARTS = ("products", "functions", "optimizers", "widths")
EACH_LEVEL = ("optimizers", "widths")
"""The others compile the kernels themselves, for every level at once."""


def run(parts: Sequence[str]) -> int:
    unknown = set(parts) - set(PARTS)
    if unknown:
        raise SystemExit(
            f"no part is named {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}"
        )
    failed = 0
    for part in parts or PARTS:
        if not (ROOT / "benchmarks" / f"{part}.py").exists():
            print(f"not measured: {part}: no such script here")
            continue
        for level in levels() if part in EACH_LEVEL else [""]:
            print(f"== {part} {level}".rstrip(), flush=True)
            failed += script(part, level)
    return 1 if failed else 0


def levels() -> list[str]:
    import bpcore

    return list(bpcore.simd_levels())


def script(part: str, level: str) -> bool:
    """Run one part on one core; say whether it failed."""
    environment = os.environ | dict.fromkeys(THREAD_VARIABLES, "1")
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), environment.get("PYTHONPATH", "")])
    if level:
        environment["BPCORE_SIMD"] = level
    command = [sys.executable, "-m", f"benchmarks.{part}"]
    process = subprocess.Popen(command, env=environment)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(process.pid, {cores()[-1]})
    return process.wait() != 0
