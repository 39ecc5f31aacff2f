"""Products alone beside NumPy's: GFLOP/s, and the share of what bare fused multiply-adds reach.

Run as ``python benchmarks/products.py``; compiles the kernels of this source tree with ``CC``.
"""

import argparse
import ctypes
import os
import subprocess
import tempfile
import time
from pathlib import Path

for name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ[name] = "1"
import numpy as np  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
FLAGS = {
    "generic": [],
    "avx2": ["-mavx2", "-mfma"],
    "avx512": ["-mavx512f", "-mavx512dq", "-mavx512vl", "-mfma"],
    "neon": [],
}
KINDS = ["nn", "tn", "nt"]
MODES = ["store", "add", "step"]
SHAPES = [
    (32, 784, 128),
    (784, 32, 128),
    (128, 512, 512),
    (128, 784, 512),
    (784, 128, 512),
    (512, 4096, 4096),
    (2048, 2048, 2048),
]  # m, k, n


def compiled(level, dtype, folder):
    library = Path(folder) / f"products_{dtype}_{level}.so"
    command = [
        os.environ.get("CC", "cc"),
        *("-std=c11", "-O3", "-ffp-contract=off", "-fPIC", "-shared", *FLAGS[level]),
        f"-DBP_REAL_BITS={32 if dtype == 'float32' else 64}",
        f"-DBP_LEVEL_IS_{level}",
        f"-I{ROOT / 'csrc'}",
        *(
            str(ROOT / name)
            for name in (
                "benchmarks/products.c",
                "csrc/pool.c",
                "csrc/processors.c",
                "csrc/status.c",
            )
        ),
        *("-o", str(library), "-lm", "-lpthread"),
    ]
    subprocess.run(command, check=True)
    loaded = ctypes.CDLL(str(library))
    loaded.bp_set_num_threads(1)
    loaded.peak_flops.argtypes = [ctypes.c_double]
    loaded.peak_flops.restype = ctypes.c_double
    loaded.product_seconds.argtypes = [ctypes.c_int] * 2 + [ctypes.c_int64] * 3 + [ctypes.c_double]
    loaded.product_seconds.restype = ctypes.c_double
    return loaded


def numpy_seconds(kind, m, n, k, dtype, seconds):
    a = np.full((k, m) if kind == "tn" else (m, k), 0.5, dtype)
    b = np.full((n, k) if kind == "nt" else (k, n), 0.5, dtype)
    a, b = a.T if kind == "tn" else a, b.T if kind == "nt" else b
    out = np.empty((m, n), dtype)
    best, until = np.inf, time.process_time() + seconds
    while time.process_time() < until:
        start = time.process_time()
        np.matmul(a, b, out=out)
        best = min(best, time.process_time() - start)
    return best


def present_levels():
    import bpcore

    levels = bpcore.simd_levels()
    return [level for level in reversed(levels) if level != "generic"] or ["generic"]


def listed(kind):
    return lambda text: [kind(part) for part in text.split(",")]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--levels", type=listed(str), default=present_levels())
    parser.add_argument("--dtypes", type=listed(str), default=["float32", "float64"])
    parser.add_argument("--kinds", type=listed(str), default=KINDS)
    parser.add_argument("--mode", choices=MODES, default="store")
    parser.add_argument("--shapes", help="such as 32x784x128,10x4x5: m x k x n")
    parser.add_argument("--seconds", type=float, default=0.2, help="of each measurement")
    parser.add_argument("--no-numpy", action="store_true")
    options = parser.parse_args()
    shapes = SHAPES
    if options.shapes:
        shapes = [tuple(map(int, shape.split("x"))) for shape in options.shapes.split(",")]
    with tempfile.TemporaryDirectory() as folder:
        libraries = {
            (dtype, level): compiled(level, dtype, folder)
            for dtype in options.dtypes
            for level in options.levels
        }
        for dtype in options.dtypes:
            report(
                dtype,
                {key[1]: value for key, value in libraries.items() if key[0] == dtype},
                shapes,
                options,
            )


def report(dtype, levels, shapes, options):
    peaks = {level: library.peak_flops(0.1) for level, library in levels.items()}
    heads = "".join(f"{level} {peaks[level] / 1e9:7.1f} peak".rjust(22) for level in levels)
    print(f"{dtype} m x k x n".ljust(28) + heads + ("" if options.no_numpy else "numpy".rjust(10)))
    for m, k, n in shapes:
        for kind in options.kinds:
            flops = 2.0 * m * n * k
            line = f"{kind} {m}x{k}x{n}".ljust(28)
            for level, library in levels.items():
                took = library.product_seconds(
                    KINDS.index(kind), MODES.index(options.mode), m, n, k, options.seconds
                )
                line += f"{flops / took / 1e9:9.1f} GF {flops / took / peaks[level]:6.1%} ".rjust(
                    22
                )
            if not options.no_numpy:
                line += (
                    f"{flops / numpy_seconds(kind, m, n, k, dtype, options.seconds) / 1e9:10.1f}"
                )
            print(line, flush=True)


if __name__ == "__main__":
    main()
