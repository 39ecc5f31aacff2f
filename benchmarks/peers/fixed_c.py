"""A C program written for exactly this network (c/fixed.c), the fastest of its variants."""

import ctypes
from itertools import product
from typing import Any

import numpy as np

from benchmarks import compiler
from benchmarks.peers import Task, Unsupported, fastest
from benchmarks.workloads import Problem, Weights

TITLE = "fixed C"
LARGEST = 5_000  # parameters; beyond, nobody would write it without a BLAS


def version() -> str:
    return compiler.version()


class Training:
    def __init__(self, problem: Problem, out_major: bool, in_place: bool) -> None:
        workload = problem.workload
        self.problem, self.out_major = problem, out_major
        order = "out-major" if out_major else "in-major"
        self.note = order + (", in place" if in_place else "")
        widths: dict[str, Any] = {f"N{i}": n for i, n in enumerate(workload.widths)}
        self._train = compiler.library(
            "fixed.c",
            REAL={4: "float", 8: "double"}[problem.dtype.itemsize],
            LAYERS=len(workload.widths) - 1,
            HIDDEN=workload.hidden.upper(),
            OUTPUT=workload.output.upper(),
            BCE=int(workload.loss == "bce"),
            ROWS=workload.rows,
            BATCH=workload.batch,
            OUT_MAJOR=int(out_major),
            IN_PLACE=int(in_place),
            **widths,
        ).train
        self._train.restype = None
        real = {4: ctypes.c_float, 8: ctypes.c_double}[problem.dtype.itemsize]
        self._rate = real(workload.learning_rate)
        self.reset()

    def reset(self) -> None:
        pieces = [
            piece
            for weight, bias in self.problem.weights
            for piece in ((weight.T if self.out_major else weight).ravel(), bias)
        ]
        self.parameters = np.concatenate(pieces)

    def run(self, n: int) -> None:
        arrays = (self.parameters, self.problem.X, self.problem.y)
        self._train(*map(compiler.pointer, arrays), self._rate, ctypes.c_long(n))

    def result(self) -> Weights:
        weights, start = [], 0
        for weight, bias in self.problem.weights:
            n_in, n_out = weight.shape
            flat = self.parameters[start : start + weight.size]
            start += weight.size
            shaped = flat.reshape(n_out, n_in).T if self.out_major else flat.reshape(n_in, n_out)
            weights.append((shaped, self.parameters[start : start + bias.size]))
            start += bias.size
        return weights


def prepare(problem: Problem, threads: int) -> Task:
    workload = problem.workload
    if workload.kind != "training" or workload.n_parameters > LARGEST or threads > 1:
        raise Unsupported("only training of small networks on one thread")
    if workload.optimizer != "sgd" or workload.loss == "cross_entropy" or len(workload.widths) > 4:
        raise Unsupported("only SGD, squared error or binary cross-entropy, at most 3 layers")
    if workload.rows % workload.batch or workload.dropout:
        raise Unsupported("only whole batches without dropout")
    places = (False, True) if workload.batch == 1 else (False,)
    variants = [Training(problem, *choice) for choice in product((False, True), places)]
    return fastest(variants)
