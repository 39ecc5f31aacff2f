"""Training of n-n-n networks for every n: no width may cost much more than its neighbours.

Once a row fills two vectors, the time of a flop at n + 1 is at most 1.5 times that at n; below,
time(n) <= 1.5 time(n + 1) and time(n + 1) <= 2.2 time(n). A pair that breaks the rule is measured
again before it is reported.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np

import bpcore
from benchmarks.machine import Machine


def update(n: int, batch: int, dtype: str) -> Callable[[int], None]:
    """Return a function that trains for so many updates."""
    net = bpcore.mlp([n, n, n], hidden="relu", dtype=dtype, rng=0)
    rng = np.random.default_rng(0)
    X = rng.standard_normal((8 * batch, n)).astype(dtype)
    optimizer = bpcore.SGD(learning_rate=1e-4)

    def train(updates: int) -> None:
        net.fit(
            X,
            X,
            epochs=updates // 8,
            batch_size=batch,
            optimizer=optimizer,
            sampling="sequential",
        )

    return train


def seconds(n: int, batch: int, dtype: str, budget: float) -> float:
    """The least time of an update."""
    train, updates = update(n, batch, dtype), 8
    took = 0.0
    while took < budget / 5:
        updates *= 2
        start = time.process_time()
        train(updates)
        took = time.process_time() - start
    best = took / updates
    until = time.process_time() + budget
    while time.process_time() < until:
        start = time.process_time()
        train(updates)
        best = min(best, (time.process_time() - start) / updates)
    return best


def cliff(n: int, times: dict[int, float], lanes: int) -> str:
    """What is wrong with the step from n to n + 1, or nothing."""
    ratio = times[n + 1] / times[n]
    if n >= 2 * lanes:
        flops = ratio * (n / (n + 1)) ** 2
        return f"a flop costs {flops:.2f} times as much" if flops > 1.5 else ""
    if ratio > 2.2:
        return f"time grows {ratio:.2f} times"
    return f"time falls {1 / ratio:.2f} times" if ratio < 1 / 1.5 else ""


def scan(batch: int, dtype: str, widths: range, budget: float) -> None:
    machine = Machine(bpcore.simd_level(), dtype)
    lanes = machine.vector_bytes // np.dtype(dtype).itemsize
    peak = machine.peak_flops()
    print(f"{bpcore.simd_level()} {dtype}, batches of {batch}: fma peak {peak / 1e9:.1f} GFLOP/s")
    times = {n: seconds(n, batch, dtype, budget) for n in [*widths, widths.stop]}
    shown = [n for n in widths if n in (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128)]
    shares = (f"{n}: {10 * n * n * batch / times[n] / peak:.0%}" for n in shown)
    print(f"  share of the peak at n = {', '.join(shares)}")
    for n in widths:
        for _ in range(3):
            if cliff(n, times, lanes):
                for m in (n, n + 1):
                    times[m] = min(times[m], seconds(m, batch, dtype, 3 * budget))
        wrong = cliff(n, times, lanes)
        if wrong:
            print(f"  CLIFF from n = {n} ({times[n] * 1e6:.3f} us) to {n + 1}: {wrong}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--last", type=int, default=130, help="the largest n")
    parser.add_argument("--seconds", type=float, default=0.02, help="for each n")
    arguments = parser.parse_args()
    bpcore.set_num_threads(1)
    for dtype in ("float32", "float64"):
        for batch in (1, 8, 32):
            scan(batch, dtype, range(1, arguments.last), arguments.seconds)


if __name__ == "__main__":
    main()
