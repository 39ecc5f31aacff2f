"""genann, if GENANN_LIBRARY names an optimised shared library of it.

With the exact sigmoid, not the looked-up one that is its default: the others compute it too.
"""

import ctypes
import os

import numpy as np

from benchmarks import compiler
from benchmarks.peers import Unsupported
from benchmarks.workloads import Problem, Weights

TITLE = "genann"


class Network(ctypes.Structure):
    """Its public struct."""

    _fields_ = (
        ("inputs", ctypes.c_int),
        ("hidden_layers", ctypes.c_int),
        ("hidden", ctypes.c_int),
        ("outputs", ctypes.c_int),
        ("activation_hidden", ctypes.c_void_p),
        ("activation_output", ctypes.c_void_p),
        ("total_weights", ctypes.c_int),
        ("total_neurons", ctypes.c_int),
        ("weight", ctypes.POINTER(ctypes.c_double)),
    )


def library() -> ctypes.CDLL:
    path = os.environ.get("GENANN_LIBRARY")
    if not path:
        raise ImportError("set GENANN_LIBRARY to a shared library of genann")
    try:
        return ctypes.CDLL(os.path.abspath(path))
    except OSError as error:
        raise ImportError(str(error)) from error


def version() -> str:
    library()
    return "exact sigmoid"


class Training:
    def __init__(self, problem: Problem) -> None:
        self.problem, self.library = problem, library()
        widths = problem.workload.widths
        hidden = widths[1:-1]
        self.library.genann_init.restype = ctypes.POINTER(Network)
        sizes = (widths[0], len(hidden), hidden[0] if hidden else 0, widths[-1])
        self.net = self.library.genann_init(*sizes)
        exact = ctypes.cast(self.library.genann_act_sigmoid, ctypes.c_void_p).value
        self.net.contents.activation_hidden = self.net.contents.activation_output = exact
        shape = (self.net.contents.total_weights,)
        self.weights = np.ctypeslib.as_array(self.net.contents.weight, shape)
        self.train = compiler.library("one_by_one.c").one_by_one
        self.train.restype = None
        self.reset()

    def reset(self) -> None:
        """A neuron's weights are its bias, with the opposite sign, and those of its inputs."""
        rows = [np.vstack([-bias, weight]).T.ravel() for weight, bias in self.problem.weights]
        self.weights[...] = np.concatenate(rows)

    def run(self, n: int) -> None:
        workload = self.problem.workload
        self.train(
            ctypes.cast(self.library.genann_train, ctypes.c_void_p),
            self.net,
            compiler.pointer(self.problem.X),
            compiler.pointer(self.problem.y),
            # half the sum of squares instead of their mean, so another rate for the same step
            ctypes.c_double(workload.learning_rate * 2 / workload.widths[-1]),
            *map(ctypes.c_long, (n, workload.rows, workload.widths[0], workload.widths[-1])),
        )

    def result(self) -> Weights:
        weights, start = [], 0
        for weight, bias in self.problem.weights:
            end = start + weight.size + bias.size
            rows = self.weights[start:end].reshape(bias.size, -1)
            weights.append((rows[:, 1:].T, -rows[:, 0]))
            start = end
        return weights


def prepare(problem: Problem, threads: int) -> Training:
    workload = problem.workload
    sigmoid = workload.output == "sigmoid" and (
        len(workload.widths) == 2 or workload.hidden == "sigmoid"
    )
    if not sigmoid or workload.loss != "mse" or workload.optimizer != "sgd" or workload.batch != 1:
        raise Unsupported("only sigmoid, squared error, one row an update")
    if problem.dtype != np.float64 or threads > 1 or workload.kind != "training":
        raise Unsupported("only training in float64 on one thread")
    if len(set(workload.widths[1:-1])) > 1:
        raise Unsupported("only hidden layers of one width")
    return Training(problem)
