"""The command line of ``python -m benchmarks``."""

import argparse
import fnmatch
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks import compare, kernels, peers, report, runner
from benchmarks.processes import Launch, cores
from benchmarks.worker import CLOCK_VARIABLE
from benchmarks.workloads import FLOATS, WORKLOADS, Workload


def names(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def numbers(text: str) -> list[int]:
    return [int(part) for part in names(text)]


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Without a command: run."
    )
    commands = top.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="bpcore beside its peers")
    add_choices(run)
    run.add_argument("--peers", type=names, help=f"default: all of {', '.join(peers.NAMES)}")
    run.add_argument(
        "--avx2",
        action="store_true",
        help="bpcore and NumPy (other peers cannot be told) without AVX-512",
    )
    run.add_argument("--quick", action="store_true", help="few and short rounds, named workloads")
    run.add_argument("--output", type=Path, help="write this .json, and an .md beside it")
    run.add_argument("--into", type=Path, help="renew the table of this Markdown file")
    two = commands.add_parser("compare", help="two builds of bpcore")
    two.add_argument(
        "old", help="a source tree with an in-place build, or a python that has bpcore"
    )
    two.add_argument("new", help="the same")
    add_choices(two)
    alone = commands.add_parser("kernels", help="products, functions, optimisers, widths")
    alone.add_argument("parts", nargs="*", help=f"default: all of {', '.join(kernels.PARTS)}")
    return top


def add_choices(to: argparse.ArgumentParser) -> None:
    to.add_argument("--only", type=names, help="workloads, as W5b,W6* ")
    to.add_argument("--dtypes", type=names, default=list(FLOATS))
    to.add_argument(
        "--threads", type=numbers, help="default: 1 and, for large workloads, all cores"
    )
    to.add_argument("--rounds", type=int)
    to.add_argument(
        "--clock",
        choices=("wall", "cpu"),
        default="wall",
        help="cpu: the process's own time, for one thread on a machine that others use too",
    )


def chosen(patterns: Sequence[str]) -> list[Workload]:
    unknown = [
        pattern
        for pattern in patterns
        if not any(fnmatch.fnmatchcase(workload.name, pattern) for workload in WORKLOADS)
    ]
    if unknown:
        known = ", ".join(workload.name for workload in WORKLOADS)
        raise SystemExit(f"no workload is named {', '.join(unknown)}; there are {known}")
    return [
        workload
        for workload in WORKLOADS
        if any(fnmatch.fnmatchcase(workload.name, pattern) for pattern in patterns)
    ]


def cases(arguments: argparse.Namespace, default: Sequence[str]) -> list[runner.Case]:
    threads = arguments.threads or sorted({1, len(cores())})
    workloads = chosen(arguments.only or default)
    return list(runner.cases(workloads, arguments.dtypes, threads, arguments.threads is None))


AVX2_PEERS = ("bpcore_fit", "numpy_tuned")


def without_avx512() -> dict[str, str]:
    """Return variables that keep bpcore, NumPy and its OpenBLAS to AVX2."""
    from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__

    found = [
        name
        for name in __cpu_dispatch__
        if __cpu_features__[name] and name.startswith(("AVX512", "X86_V4"))
    ]
    return {
        "BPCORE_SIMD": "avx2",
        "NPY_DISABLE_CPU_FEATURES": " ".join(found),
        "OPENBLAS_CORETYPE": "Haswell",
    }


def run(arguments: argparse.Namespace) -> int:
    effort = runner.QUICK if arguments.quick else runner.FULL
    if arguments.rounds:
        effort = runner.Effort(arguments.rounds, effort.seconds, float("inf"))
    environment = {CLOCK_VARIABLE: arguments.clock}
    if arguments.avx2:
        environment |= without_avx512()
    chosen_peers = arguments.peers or (AVX2_PEERS if arguments.avx2 else peers.NAMES)
    launches = {name: Launch(name, environment=environment) for name in chosen_peers}
    start = time.monotonic()
    print(report.machine())
    done = []
    with runner.Pool(launches) as pool:
        for case in cases(arguments, QUICK if arguments.quick else ["*"]):
            runner.run(case, pool, effort)
            print(report.as_text(case, pool), flush=True)
            done.append(case)
            if arguments.output:  # after each, so that an interrupted run leaves what it has
                arguments.output.write_text(report.as_json(done, pool))
        for name, why in pool.missing.items():
            print(f"not measured: {name}: {why}")
        markdown = report.as_markdown(done, pool)
        if arguments.output:
            arguments.output.with_suffix(".md").write_text(markdown + "\n")
        if arguments.into:
            report.renew(arguments.into, f"{report.versions(pool)}\n\n{markdown}")
    print(f"\n{markdown}\n\n{time.monotonic() - start:.0f} s in all")
    return 0


QUICK = ["W3b", "W5b", "W5c", "W6"]


def main(argv: Sequence[str] | None = None) -> int:
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv or (argv[0].startswith("-") and argv[0] not in ("-h", "--help")):
        argv.insert(0, "run")
    arguments = parser().parse_args(argv)
    if arguments.command == "compare":
        todo = cases(arguments, compare.DEFAULT)
        return compare.compare(
            arguments.old, arguments.new, todo, arguments.rounds, arguments.clock
        )
    if arguments.command == "kernels":
        return kernels.run(arguments.parts)
    return run(arguments)
