"""Loops as one writes them by hand, all in one function, compiled by numba with fastmath.

The function is put together as text for the layers at hand: numba is two to five times slower if
the loops of a layer are a function of their own. `one`, `zero`, `rate` and `scale` are constants
of the workload's dtype, so that nothing is computed in another.
"""

import numba
import numpy as np

from benchmarks.peers import Calls, Task, Unsupported, fastest
from benchmarks.workloads import Problem, Weights, Workload

TITLE = "numba"
LARGEST = 5_000  # parameters; beyond, a BLAS is faster

ACTIVATIONS = {
    "identity": "z",
    "sigmoid": "one / (one + np.exp(-z))",
    "tanh": "np.tanh(z)",
    "relu": "max(z, zero)",
}
SLOPES = {
    "identity": "one",
    "sigmoid": "{y} * (one - {y})",
    "tanh": "one - {y} * {y}",
    "relu": "(one if {y} > zero else zero)",
}


def version() -> str:
    return numba.__version__


def loops(workload: Workload, out_major: bool) -> str:
    """Return the source of train(epochs, X, y, w1, b1, gw1, gb1, w2, b2, ...).

    Weights are (n_out, n_in) if `out_major`, else (n_in, n_out): either can be the faster.
    """
    layers = range(1, len(workload.widths))
    at = "j, i" if out_major else "i, j"
    arrays = ", ".join(f"w{k}, b{k}, gw{k}, gb{k}" for k in layers)
    lines = [f"def train(epochs, X, y, {arrays}):"]
    for k in layers:
        lines.append(f"    y{k} = np.empty({workload.widths[k]}, X.dtype)")
        lines.append(f"    d{k} = np.empty({workload.widths[k]}, X.dtype)")
    lines.append("    for epoch in range(epochs):")
    if workload.batch == 1:
        lines.append(f"        for r in range({workload.rows}):")
        in_place = (f"w{{k}}[{at}] -= ", "b{k}[j] -= ")
        return "\n".join(lines + indented(12, one_row(workload, at, in_place)))
    lines.append(f"        for start in range(0, {workload.rows}, {workload.batch}):")
    for k in layers:
        lines += [f"            gw{k}[:] = zero", f"            gb{k}[:] = zero"]
    lines.append(f"            for r in range(start, start + {workload.batch}):")
    lines += indented(16, one_row(workload, at, (f"gw{{k}}[{at}] += ", "gb{k}[j] += ")))
    for k in layers:
        change = [f"    w{k}[{at}] -= rate * gw{k}[{at}]"]
        lines += indented(12, over_weights(workload, k, at, change))
        lines += [
            f"            for j in range({workload.widths[k]}):",
            f"                b{k}[j] -= rate * gb{k}[j]",
        ]
    return "\n".join(lines)


def indented(by: int, lines: list[str]) -> list[str]:
    return [" " * by + line for line in lines]


def over_weights(workload: Workload, k: int, at: str, body: list[str]) -> list[str]:
    """Two loops over a layer's weights as they lie, around `body`, which is indented once."""
    n_in, n_out = workload.widths[k - 1 : k + 1]
    headers = {"i": f"for i in range({n_in}):", "j": f"for j in range({n_out}):"}
    outer, inner = at.split(", ")
    return [headers[outer], f"    {headers[inner]}", *indented(4, body)]


def one_row(workload: Workload, at: str, change: tuple[str, str]) -> list[str]:
    """Forward, backward, and what a row's gradient changes."""
    lines, last = [], len(workload.widths) - 1
    for k in range(1, last + 1):
        x = "X[r, i]" if k == 1 else f"y{k - 1}[i]"
        lines += [
            f"for j in range({workload.widths[k]}):",
            f"    z = b{k}[j]",
            f"    for i in range({workload.widths[k - 1]}):",
            f"        z += {x} * w{k}[{at}]",
            f"    y{k}[j] = {ACTIVATIONS[workload.activation(k - 1)]}",
        ]
    p = f"y{last}[j]"
    slope = "one" if workload.loss == "bce" else SLOPES[workload.output].format(y=p)
    lines += [
        f"for j in range({workload.widths[last]}):",
        f"    d{last}[j] = scale * ({p} - y[r, j]) * ({slope})",
    ]
    for k in range(last, 0, -1):
        lines += one_layer_back(workload, k, at, *(text.format(k=k) for text in change))
    return lines


def one_layer_back(
    workload: Workload, k: int, at: str, change_weight: str, change_bias: str
) -> list[str]:
    n_in, n_out = workload.widths[k - 1 : k + 1]
    biases = [f"for j in range({n_out}):", f"    {change_bias}d{k}[j]"]
    if k == 1:
        change = [f"    {change_weight}X[r, i] * d{k}[j]"]
        return over_weights(workload, k, at, change) + biases
    return [
        f"for i in range({n_in}):",
        "    s = zero",
        f"    for j in range({n_out}):",
        f"        s += w{k}[{at}] * d{k}[j]",
        f"        {change_weight}y{k - 1}[i] * d{k}[j]",
        f"    d{k - 1}[i] = s * ({SLOPES[workload.hidden].format(y=f'y{k - 1}[i]')})",
        *biases,
    ]


class Training:
    def __init__(self, problem: Problem, out_major: bool) -> None:
        workload, real = problem.workload, problem.dtype.type
        self.problem, self.out_major = problem, out_major
        self.note = "out-major" if out_major else "in-major"
        scale = (2 if workload.loss == "mse" else 1) / workload.batch / problem.y.shape[1]
        if workload.batch == 1:
            scale *= workload.learning_rate  # once, instead of for each weight
        names = {
            "np": np,
            "one": real(1),
            "zero": real(0),
            "rate": real(workload.learning_rate),
            "scale": real(scale),
        }
        exec(loops(workload, out_major), names)
        self.train = numba.njit(fastmath=True)(names["train"])
        self.weights, self.gradients = self._arrays(), self._arrays()
        self.run(0)  # compile

    def _arrays(self) -> Weights:
        pairs = self.problem.copied_weights()
        return [(w.T.copy() if self.out_major else w, b) for w, b in pairs]

    def reset(self) -> None:
        for ours, given in zip(self.weights, self.problem.weights, strict=True):
            ours[0][...] = given[0].T if self.out_major else given[0]
            ours[1][...] = given[1]

    def run(self, n: int) -> None:
        arrays = [
            array
            for pairs in zip(self.weights, self.gradients, strict=True)
            for pair in pairs
            for array in pair
        ]
        self.train(n, self.problem.X, self.problem.y, *arrays)

    def result(self) -> Weights:
        return [(w.T if self.out_major else w, b) for w, b in self.weights]


def prediction_loops(workload: Workload) -> str:
    """Return the source of predict(X, out, w1, b1, w2, b2, ...)."""
    layers = range(1, len(workload.widths))
    arrays = ", ".join(f"w{k}, b{k}" for k in layers)
    lines = [f"def predict(X, out, {arrays}):"]
    lines += [f"    y{k} = np.empty({workload.widths[k]}, X.dtype)" for k in layers]
    lines.append("    for r in range(len(X)):")
    for k in layers:
        n_in, n_out = workload.widths[k - 1 : k + 1]
        x = "X[r, i]" if k == 1 else f"y{k - 1}[i]"
        y = "out[r, j]" if k == layers[-1] else f"y{k}[j]"
        lines += indented(8, [
            f"for j in range({n_out}):",
            f"    y{k}[j] = b{k}[j]",
            f"for i in range({n_in}):",
            f"    for j in range({n_out}):",
            f"        y{k}[j] += {x} * w{k}[i, j]",
            f"for j in range({n_out}):",
            f"    z = y{k}[j]",
            f"    {y} = {ACTIVATIONS[workload.activation(k - 1)]}",
        ])  # fmt: skip
    lines.append("    return out")
    return "\n".join(lines)


def prediction(problem: Problem) -> Calls:
    names = {"np": np, "one": problem.dtype.type(1), "zero": problem.dtype.type(0)}
    exec(prediction_loops(problem.workload), names)
    predict = numba.njit(fastmath=True)(names["predict"])
    arrays = [array for pair in problem.weights for array in pair]
    X, out = problem.X, np.empty_like(problem.y)
    if problem.workload.out:
        return Calls(lambda: predict(X, out, *arrays))
    return Calls(lambda: predict(X, np.empty_like(out), *arrays))


def prepare(problem: Problem, threads: int) -> Task | Calls:
    workload = problem.workload
    if workload.kind == "prediction" and threads == 1:
        return prediction(problem)
    if workload.kind != "training" or workload.n_parameters > LARGEST or threads > 1:
        raise Unsupported("only training of small networks on one thread")
    if workload.optimizer != "sgd" or workload.loss == "cross_entropy":
        raise Unsupported("only SGD, squared error or binary cross-entropy")
    if workload.rows % workload.batch or workload.dropout:
        raise Unsupported("only whole batches without dropout")
    return fastest([Training(problem, out_major) for out_major in (False, True)])
