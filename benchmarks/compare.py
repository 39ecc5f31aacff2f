"""Two builds of bpcore beside each other, to judge a change."""

import os
from collections.abc import Sequence
from pathlib import Path

from benchmarks import report, runner
from benchmarks.processes import ROOT, Launch
from benchmarks.worker import CLOCK_VARIABLE

DEFAULT = ["W1", "W2", "W3*", "W5*", "W6*", "W7", "W9", "W10*", "P*"]


def launch(build: str, clock: str) -> Launch:
    """`build` is a source tree with an in-place build, or a Python that has bpcore installed."""
    place = Path(build).resolve()
    environment = {CLOCK_VARIABLE: clock, "PYTHONPATH": str(ROOT)}
    if (place / "src" / "bpcore").is_dir():
        environment["PYTHONPATH"] += os.pathsep + str(place / "src")
        return Launch("bpcore_fit", environment=environment)
    if not place.is_file():
        raise SystemExit(f"{build} is neither a source tree of bpcore nor a Python")
    # the path as given: a virtual environment's python is a link, and what it resolves to is not it
    return Launch("bpcore_fit", os.path.abspath(build), environment)


def compare(
    old: str, new: str, cases: Sequence[runner.Case], rounds: int | None, clock: str
) -> int:
    effort = runner.Effort(rounds or 15, 0.05, float("inf"))
    print(report.machine())
    titles = f"{'old':>10} {'new':>10} {'new/old':>8}   quartiles   bits"
    print(f"{'':34} {titles}")
    with runner.Pool({"new": launch(new, clock), "old": launch(old, clock)}) as pool:
        for case in cases:
            runner.run(case, pool, effort)
            print(line(case), flush=True)
    if pool.missing:
        print(*(f"{name}: {why}" for name, why in pool.missing.items()), sep="\n")
    return 1 if pool.missing else 0


def line(case: runner.Case) -> str:
    name = f"{case.workload.name} {case.dtype} {case.threads} thread{'s' * (case.threads > 1)}"
    old, new = case.figures["old"], case.figures["new"]
    if not old.times or not new.times:
        return f"{name:34} {old.absent or new.absent}"
    low, high = runner.quartiles([b / a for a, b in zip(old.times, new.times, strict=True)])
    bits = ("same" if old.digest == new.digest else "different") if old.digest else ""
    bits = bits if old.agrees is not False else "OTHER RESULT"
    figures = f"{report.duration(old.median):>10} {report.duration(new.median):>10}"
    return f"{name:34} {figures} {old.ratio:8.3f}   {low:.3f}-{high:.3f}   {bits}"
