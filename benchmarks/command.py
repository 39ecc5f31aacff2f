"""The command line of ``python -m benchmarks``."""

import argparse
import fnmatch
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks import peers, report, runner
from benchmarks.processes import cores
from benchmarks.worker import CLOCK_VARIABLE
from benchmarks.workloads import FLOATS, WORKLOADS, Workload


def names(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    add_run_arguments(top)
    return top


def add_run_arguments(to: argparse.ArgumentParser) -> None:
    to.add_argument("--only", type=names, default=["*"], help="workloads, e.g. W5b,'W6*'")
    to.add_argument(
        "--peers", type=names, default=list(peers.NAMES), help="bpcore_fit,numpy_tuned,..."
    )
    to.add_argument("--dtypes", type=names, default=list(FLOATS))
    to.add_argument(
        "--threads",
        type=lambda text: [int(part) for part in names(text)],
        help="default: 1 and, for large workloads, all cores",
    )
    to.add_argument("--rounds", type=int)
    to.add_argument("--quick", action="store_true", help="short rounds, and few")
    to.add_argument(
        "--clock",
        choices=("wall", "cpu"),
        default="wall",
        help="cpu: the process's own time, for one thread on a machine that others use too",
    )
    to.add_argument("--output", type=Path, help="write this .json and an .md beside it")


def chosen(patterns: Sequence[str]) -> list[Workload]:
    found = [
        workload
        for workload in WORKLOADS
        if any(fnmatch.fnmatchcase(workload.name, pattern) for pattern in patterns)
    ]
    unknown = [
        pattern
        for pattern in patterns
        if not any(fnmatch.fnmatchcase(workload.name, pattern) for workload in WORKLOADS)
    ]
    if unknown:
        known = ", ".join(workload.name for workload in WORKLOADS)
        raise SystemExit(f"no workload is named {', '.join(unknown)}; there are {known}")
    return found


def run(arguments: argparse.Namespace) -> int:
    effort = runner.QUICK if arguments.quick else runner.FULL
    if arguments.rounds:
        effort = runner.Effort(arguments.rounds, effort.seconds, float("inf"))
    threads = arguments.threads or sorted({1, len(cores())})
    start = time.monotonic()
    print(report.machine())
    done = []
    with runner.Pool(arguments.peers, {CLOCK_VARIABLE: arguments.clock}) as pool:
        todo = runner.cases(
            chosen(arguments.only), arguments.dtypes, threads, arguments.threads is None
        )
        for case in todo:
            runner.run(case, pool, effort)
            print(report.as_text(case, pool), flush=True)
            done.append(case)
        for name, why in pool.missing.items():
            print(f"not measured: {name}: {why}")
        markdown = report.as_markdown(done, pool)
        if arguments.output:
            arguments.output.write_text(report.as_json(done, pool))
            arguments.output.with_suffix(".md").write_text(markdown + "\n")
    print(f"\n{markdown}\n\n{time.monotonic() - start:.0f} s in all")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    return run(parser().parse_args(argv))
