"""Nanoseconds an element of the elementary functions at each level, beside NumPy and PyTorch.

    python benchmarks/functions.py [--size 10000] [--rounds 31] [--json FILE]

Each level runs in a process of its own, in which the peers are held to the same instructions. In
every round all of them compute the same arrays, one after the other; the median over the rounds
counts. A ratio below 1 says that bpcore is faster. PyTorch is left out if it is not installed, and
uses one thread.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

FUNCTIONS = ("exp", "log1p", "tanh", "sigmoid", "softplus", "gelu", "gelu_tanh")
# What holds the peers to the instructions of a level.
PEER_SETTINGS = {
    "avx2": {
        "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",
        "ATEN_CPU_CAPABILITY": "avx2",
    },
    "generic": {
        "NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4 AVX512_ICL AVX512_SPR",
        "ATEN_CPU_CAPABILITY": "default",
    },
}
OLD_NAMES = {  # of the features, before NumPy 2.4
    "X86_V3": "FMA3 AVX2",
    "X86_V4": "AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL",
}


def parse(arguments):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=10_000, help="elements of an array")
    parser.add_argument("--rounds", type=int, default=31)
    parser.add_argument("--json", help="where to write the results as well")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def ours(name, x, out):
    from bpcore import _core

    if name.startswith("gelu"):
        return lambda: _core.activation_forward(name, 0.0, x, out)
    return lambda: _core.evaluate_function(name, x, out)


def numpys(name, x, out):
    import numpy as np

    function = getattr(np, name, None)
    return function and (lambda: function(x, out))


def pytorchs(name, x, out):
    try:
        import torch
    except ImportError:
        return None
    torch.set_num_threads(1)
    x, out = torch.from_numpy(x), torch.from_numpy(out)
    if name == "softplus":
        return lambda: torch.nn.functional.softplus(x)
    if name.startswith("gelu"):
        approximate = "tanh" if name == "gelu_tanh" else "none"
        return lambda: torch.nn.functional.gelu(x, approximate=approximate)
    function = getattr(torch, name)
    return lambda: function(x, out=out)


LIBRARIES = {"bpcore": ours, "numpy": numpys, "torch": pytorchs}


def seconds(call, times):
    start = time.perf_counter()
    for _ in range(times):
        call()
    return (time.perf_counter() - start) / times


def measure(size, rounds):
    """Rows of dtype, function and nanoseconds an element by library, for the level in use."""
    import numpy as np

    rows = []
    for dtype in ("float32", "float64"):
        x = np.random.default_rng(0).uniform(-8, 8, size).astype(dtype)
        for name in FUNCTIONS:
            points = np.abs(x) if name == "log1p" else x
            calls = {key: make(name, points, np.empty_like(x)) for key, make in LIBRARIES.items()}
            calls = {key: call for key, call in calls.items() if call}
            times = max(1, int(2e-4 / max(min(seconds(c, 2) for c in calls.values()), 1e-9)))
            taken = {key: [] for key in calls}
            for _ in range(rounds):
                for key, call in calls.items():
                    taken[key].append(seconds(call, times))
            medians = {key: 1e9 * statistics.median(v) / size for key, v in taken.items()}
            rows.append({"dtype": dtype, "function": name, "nanoseconds": medians})
    return rows


def in_process(level, options):
    import numpy as np

    environment = os.environ | {"BPCORE_SIMD": level} | PEER_SETTINGS.get(level, {})
    disabled = environment.get("NPY_DISABLE_CPU_FEATURES", "")
    if tuple(int(part) for part in np.__version__.split(".")[:2]) < (2, 4):
        names = (OLD_NAMES.get(feature, feature) for feature in disabled.split())
        environment["NPY_DISABLE_CPU_FEATURES"] = " ".join(names)
    command = [sys.executable, "-W", "ignore", os.path.abspath(__file__), "--here"]
    command += ["--size", str(options.size), "--rounds", str(options.rounds)]
    output = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE).stdout
    return json.loads(output)


def table(level, rows):
    lines = [f"{level}: ns an element, and bpcore's time to that of each peer"]
    for row in rows:
        taken = row["nanoseconds"]
        cells = [f"{row['dtype']:8} {row['function']:9} bpcore {taken['bpcore']:6.3f}"]
        for peer in taken:
            if peer != "bpcore":
                ratio = taken["bpcore"] / taken[peer]
                cells.append(f"{peer} {taken[peer]:7.3f} ({ratio:4.2f})")
        lines.append("   ".join(cells))
    return "\n".join(lines)


def main(arguments=None):
    options = parse(arguments)
    if options.here:
        print(json.dumps(measure(options.size, options.rounds)))
        return
    import bpcore

    results = {}
    for level in reversed(bpcore.simd_levels()):
        results[level] = in_process(level, options)
        print(table(level, results[level]), flush=True)
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(results, file, indent=1)


if __name__ == "__main__":
    main()
