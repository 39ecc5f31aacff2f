"""NumPy with every array allocated beforehand and every operation in place."""

import numpy as np

from benchmarks.peers import Calls, Unsupported
from benchmarks.workloads import Problem, Weights

TITLE = "numpy tuned"
CHUNK = 32_768  # elements of Adam's arrays that stay in the second-level cache


def version() -> str:
    return np.__version__


class Training:
    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.workload = problem.workload
        self.batches = [(problem.X[rows], problem.y[rows]) for rows in problem.batches]
        size = sum(array.size for pair in problem.weights for array in pair)
        self.parameters, self.gradient, self.m, self.v = np.zeros((4, size), problem.dtype)
        self.weights = self._views(self.parameters)
        self.gradients = self._views(self.gradient)
        widths = self.workload.widths[1:]
        self.outputs = [np.empty((self.workload.batch, n), problem.dtype) for n in widths]
        self.deltas = [np.empty_like(output) for output in self.outputs]
        self.slopes = [np.empty_like(output) for output in self.outputs]
        self.column = np.empty((self.workload.batch, 1), problem.dtype)
        self.step = {"sgd": self._sgd, "adam": self._adam}[self.workload.optimizer]
        self.reset()

    def _views(self, flat: np.ndarray) -> Weights:
        views, start = [], 0
        for weight, bias in self.problem.weights:
            middle, end = start + weight.size, start + weight.size + bias.size
            views.append((flat[start:middle].reshape(weight.shape), flat[middle:end]))
            start = end
        return views

    def reset(self) -> None:
        self.m[...] = self.v[...] = self.n_steps = 0
        for ours, given in zip(self.weights, self.problem.weights, strict=True):
            ours[0][...], ours[1][...] = given

    def run(self, n: int) -> None:
        for _ in range(n):
            for x, y in self.batches:
                self._backward(x, y, self.forward(x))
                self.step()

    def forward(self, x: np.ndarray) -> np.ndarray:
        for layer, (weight, bias) in enumerate(self.weights):
            z = self.outputs[layer]
            np.dot(x, weight, out=z)
            np.add(z, bias, out=z)
            self._activate(self.workload.activation(layer), z)
            x = z
        return x

    def _activate(self, kind: str, z: np.ndarray) -> None:
        if kind == "relu":
            np.maximum(z, 0, out=z)
        elif kind == "tanh":
            np.tanh(z, out=z)
        elif kind == "sigmoid":
            np.negative(z, out=z)
            np.exp(z, out=z)
            np.add(z, 1, out=z)
            np.reciprocal(z, out=z)
        elif kind == "softmax":
            np.maximum.reduce(z, axis=1, keepdims=True, out=self.column)
            np.subtract(z, self.column, out=z)
            np.exp(z, out=z)
            np.add.reduce(z, axis=1, keepdims=True, out=self.column)
            np.divide(z, self.column, out=z)

    def _times_slope(self, kind: str, y: np.ndarray, slope: np.ndarray, delta: np.ndarray) -> None:
        if kind == "identity":
            return
        if kind == "relu":
            np.greater(y, 0, out=slope)
        elif kind == "tanh":
            np.multiply(y, y, out=slope)
            np.subtract(1, slope, out=slope)
        else:
            np.subtract(1, y, out=slope)
            np.multiply(slope, y, out=slope)
        np.multiply(delta, slope, out=delta)

    def _backward(self, x: np.ndarray, y: np.ndarray, p: np.ndarray) -> None:
        workload, last = self.workload, len(self.weights) - 1
        delta = self.deltas[last]
        np.subtract(p, y, out=delta)
        scale = 1 / len(x)
        if workload.loss == "mse":
            scale *= 2 / workload.widths[-1]
            self._times_slope(workload.output, p, self.slopes[last], delta)
        if workload.optimizer == "sgd":
            scale *= workload.learning_rate  # on the small array instead of on the gradient
        np.multiply(delta, scale, out=delta)
        for layer in range(last, -1, -1):
            below = self.outputs[layer - 1] if layer else x
            weight_gradient, bias_gradient = self.gradients[layer]
            np.dot(below.T, delta, out=weight_gradient)
            np.add.reduce(delta, axis=0, out=bias_gradient)
            if layer:
                passed = self.deltas[layer - 1]
                np.dot(delta, self.weights[layer][0].T, out=passed)
                self._times_slope(workload.hidden, below, self.slopes[layer - 1], passed)
                delta = passed

    def _sgd(self) -> None:
        np.subtract(self.parameters, self.gradient, out=self.parameters)

    def _adam(self) -> None:
        self.n_steps += 1
        correction = np.sqrt(1 - 0.999**self.n_steps)
        rate = self.workload.learning_rate * correction / (1 - 0.9**self.n_steps)
        for start in range(0, self.parameters.size, CHUNK):
            part = slice(start, start + CHUNK)
            g, m, v = self.gradient[part], self.m[part], self.v[part]
            np.multiply(m, 0.9 / 0.1, out=m)
            np.add(m, g, out=m)
            np.multiply(m, 0.1, out=m)
            np.multiply(g, g, out=g)
            np.multiply(g, 0.001, out=g)
            np.multiply(v, 0.999, out=v)
            np.add(v, g, out=v)
            np.sqrt(v, out=g)
            np.add(g, 1e-8 * correction, out=g)
            np.divide(m, g, out=g)
            np.multiply(g, rate, out=g)
            np.subtract(self.parameters[part], g, out=self.parameters[part])

    def result(self) -> Weights:
        return self.weights


def prediction(problem: Problem) -> Calls:
    """All layers but the last write into arrays made beforehand."""
    task = Training(problem)
    X, last = problem.X, task.outputs[-1]
    if problem.workload.out:
        return Calls(lambda: task.forward(X))

    def predict() -> np.ndarray:
        task.outputs[-1] = np.empty_like(last)
        return task.forward(X)

    return Calls(predict)


class Dropped(Training):
    """The loss and gradient of a network with one hidden layer and dropout after it."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.rng = np.random.default_rng(0)
        self.keep = 1 - problem.workload.dropout
        self.uniform = np.empty_like(self.outputs[0])
        self.mask = np.empty_like(self.outputs[0])
        self.hidden = np.empty_like(self.outputs[0])

    def loss_and_gradient(self) -> float:
        x, (p, delta) = self.problem.X, (self.outputs[1], self.deltas[1])
        (weight1, bias1), (weight2, _) = self.weights
        np.dot(x, weight1, out=self.outputs[0])
        np.add(self.outputs[0], bias1, out=self.outputs[0])
        np.tanh(self.outputs[0], out=self.outputs[0])
        self.rng.random(out=self.uniform)
        np.less(self.uniform, self.keep, out=self.mask)
        np.divide(self.mask, self.keep, out=self.mask)
        np.multiply(self.outputs[0], self.mask, out=self.hidden)
        np.dot(self.hidden, weight2, out=p)
        np.subtract(p, self.problem.y, out=delta)
        loss = float(np.vdot(delta, delta)) / delta.size
        np.multiply(delta, 2 / delta.size, out=delta)
        np.dot(self.hidden.T, delta, out=self.gradients[1][0])
        np.dot(delta, weight2.T, out=self.deltas[0])
        np.multiply(self.deltas[0], self.mask, out=self.deltas[0])
        self._times_slope("tanh", self.outputs[0], self.slopes[0], self.deltas[0])
        np.dot(x.T, self.deltas[0], out=self.gradients[0][0])
        np.add.reduce(self.deltas[0], axis=0, out=self.gradients[0][1])
        return loss


def prepare(problem: Problem, threads: int) -> Training | Calls:
    if problem.workload.kind == "prediction":
        return prediction(problem)
    if problem.workload.kind == "gradient":
        return Calls(Dropped(problem).loss_and_gradient)
    if problem.workload.dropout:
        raise Unsupported("dropout only for loss and gradient")
    return Training(problem)
