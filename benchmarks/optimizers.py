"""Steps of the optimisers, as a share of what memory can deliver."""

import argparse
import ctypes
import time

import bpcore
from benchmarks import compiler
from benchmarks.machine import LEVELS, Machine
from benchmarks.processes import ROOT
from benchmarks.report import duration

OPTIMIZERS = {
    "sgd": (bpcore.SGD(), 3),
    "sgd, momentum": (bpcore.SGD(momentum=0.9), 5),
    "rmsprop": (bpcore.RMSProp(), 5),
    "adam": (bpcore.Adam(), 7),
    "adamw": (bpcore.AdamW(), 7),
    "rprop": (bpcore.Rprop(), 7),
}
"""And how many arrays of the parameters' size a step reads and writes."""

WIDTHS = (30, 300, 1000)  # 930, 90,300 and 1,001,000 parameters


def seconds(optimizer: bpcore.optimizers.Optimizer, net: bpcore.Network, budget: float) -> float:
    """The least time of a step."""
    best, until = float("inf"), time.process_time() + budget
    while time.process_time() < until:
        start = time.process_time()
        optimizer.step(net)
        best = min(best, time.process_time() - start)
    return best


def seconds_alone(
    optimizer: bpcore.optimizers.Optimizer, net: bpcore.Network, machine: Machine, budget: float
) -> float:
    """The least time of a step as a fit takes it: without the checks of one from outside."""
    flags = LEVELS[machine.level][1]
    macros = {"BP_REAL_BITS": 8 * net.parameters.itemsize, f"BP_LEVEL_IS_{machine.level}": 1}
    options = ("-std=c11", "-O3", "-ffp-contract=off", *flags, f"-I{ROOT / 'csrc'}")
    function = compiler.library("steps.c", options, **macros).step_seconds
    function.restype = ctypes.c_double
    hyper = (ctypes.c_double * 4)(*optimizer.hyper)
    counts = (len(optimizer.slot_names), ctypes.c_int64(net.parameters.size))
    return function(optimizer.name.encode(), hyper, *counts, ctypes.c_double(budget))


def measure(net: bpcore.Network, machine: Machine, budget: float) -> None:
    size = net.parameters.nbytes
    triad = machine.triad_bandwidth(4 * size)
    least = machine.adam_bandwidth(net.parameters.size)
    print(f"  {net.parameters.size:,} parameters: a triad over Adam's four arrays")
    print(f"    {triad / 1e9:.1f} GB/s, the least work on them {least / 1e9:.1f} GB/s")
    for name, (optimizer, passes) in OPTIMIZERS.items():
        took = seconds_alone(optimizer, net, machine, budget)
        rate = passes * size / took
        shares = f"{rate / triad:4.0%} of the triad, {rate / least:4.0%} of the least work"
        whole = duration(seconds(optimizer, net, budget))
        print(f"    {name:<14} {duration(took):>9} {rate / 1e9:7.1f} GB/s, {shares}", end="")
        print(f"; by optimizer.step {whole}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=0.1, help="for each line")
    budget = parser.parse_args().seconds
    bpcore.set_num_threads(1)
    for dtype in ("float32", "float64"):
        machine = Machine(bpcore.simd_level(), dtype)
        memory = machine.triad_bandwidth(3 << 27)
        print(f"{bpcore.simd_level()} {dtype}: a triad in main memory {memory / 1e9:.1f} GB/s")
        for width in WIDTHS:
            net = bpcore.Network([bpcore.Dense(width, width)], dtype=dtype, rng=0)
            net.gradients = 1e-3 * (1 + net.rng.random(net.gradients.size))
            measure(net, machine, budget)


if __name__ == "__main__":
    main()
