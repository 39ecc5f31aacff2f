"""Errors seeded one at a time into the formulas of csrc/: does a test catch each?

    python tests/mutations.py [PATTERN ...]     those whose 'file: name' holds a pattern, else all
        --level LEVEL    of instruction set; the best that this machine runs
        --jobs N         errors tried at the same time; the processors
        --list           only say which there are

The errors are those of mutations.toml. Each is put into a copy of the tree; what it touches is
compiled anew, and the C tests run until the first failure, then the Python tests. Fingerprints and
levels compared bit by bit do not count, as they tell that something changed, not that it is wrong:
they are left out, and there is one level only. Ends with 'N caught, M survived'.
"""

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor, as_completed

import mutation_build
import mutation_table

import bpcore


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("patterns", nargs="*", metavar="PATTERN")
    parser.add_argument("--level", default=None)
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--list", action="store_true")
    return parser.parse_args()


def chosen(patterns):
    mutations = mutation_table.load()
    return [m for m in mutations if not patterns or any(p in str(m) for p in patterns)]


def run(mutations, build, jobs):
    """Try each; returns those that no test caught."""
    survivors = []
    with ThreadPoolExecutor(jobs) as pool:
        futures = {pool.submit(build.try_mutation, m): m for m in mutations}
        try:
            for future in as_completed(futures):
                result, mutation = future.result(), futures[future]
                print(f"{result.verdict:8} {mutation}: {result.by} ({result.seconds:.0f} s)")
                sys.stdout.flush()
                if result.verdict != "caught":
                    survivors.append(mutation)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return survivors


def main():
    start, options = time.monotonic(), arguments()
    mutations = chosen(options.patterns)
    if options.list:
        print(*mutations, f"{len(mutations)} errors", sep="\n")
        return 0
    lacking = mutation_table.lacking(mutation_table.load())
    for formula in lacking:
        print(f"no error in {formula}")
    if lacking or not mutations:
        print("nothing was tried")
        return 2
    level = options.level or bpcore.simd_levels()[-1]
    if level == "generic":
        print("no level with fma here, and generic alone would leave out the vectors")
        return 2
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(KeyboardInterrupt):
        try:
            build = mutation_build.Build(folder, level, options.jobs)
            print(f"{level}, {time.monotonic() - start:.0f} s to build what has no errors")
            survivors = run(mutations, build, options.jobs)
        except subprocess.CalledProcessError as error:
            print(f"without an error of the table {error.cmd[0]} fails: {error.output}")
            return 2
        print(*(f"SURVIVED {mutation}" for mutation in survivors), sep="\n")
        caught = len(mutations) - len(survivors)
        print(f"{caught} caught, {len(survivors)} survived, {time.monotonic() - start:.0f} s")
        return 1 if survivors else 0
    return 130


if __name__ == "__main__":
    sys.exit(main())
