"""PyTorch with gradients written by hand, into arrays allocated beforehand, without autograd.

Weights lie as (n_in, n_out) or as (n_out, n_in), whichever is faster.
"""

import numpy as np
import torch

from benchmarks.peers import Calls, Task, Unsupported, fastest
from benchmarks.workloads import Problem, Weights

TITLE = "PyTorch by hand"
LARGEST = 1_000_000  # parameters; beyond, the order makes no difference and trying takes long

aten = torch.ops.aten


def version() -> str:
    return torch.__version__


class Training:
    def __init__(self, problem: Problem, out_major: bool = False) -> None:
        self.problem, self.out_major = problem, out_major
        self.note = "out-major" if out_major else "in-major"
        workload = self.workload = problem.workload
        X, y = torch.from_numpy(problem.X), torch.from_numpy(problem.y)
        self.batches = [(X[rows], X[rows].T, y[rows]) for rows in problem.batches]
        size = workload.n_parameters
        self.parameters, self.gradient, self.m, self.v = torch.zeros((4, size), dtype=X.dtype)
        self.weights = self._views(self.parameters)
        self.gradients = self._views(self.gradient)
        widths = workload.widths[1:]
        self.outputs = [torch.empty((workload.batch, n), dtype=X.dtype) for n in widths]
        self.transposed = [output.T for output in self.outputs]
        self.deltas = [torch.empty_like(output) for output in self.outputs]
        self.n_steps = torch.zeros((), dtype=torch.float32)
        self.reset()

    def _views(self, flat: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
        views, start = [], 0
        for weight, bias in self.problem.weights:
            middle, end = start + weight.size, start + weight.size + bias.size
            n_in, n_out = weight.shape
            view = flat[start:middle]
            view = view.reshape(n_out, n_in).T if self.out_major else view.reshape(n_in, n_out)
            views.append((view, flat[middle:end]))
            start = end
        return views

    def reset(self) -> None:
        for array in (self.m, self.v, self.n_steps):
            array.zero_()
        for ours, given in zip(self.weights, self.problem.weights, strict=True):
            for array, value in zip(ours, given, strict=True):
                array.copy_(torch.from_numpy(value))

    @torch.inference_mode()
    def run(self, n: int) -> None:
        adam = self.workload.optimizer == "adam"
        for _ in range(n):
            for x, xT, y in self.batches:
                self._backward(xT, y, self.forward(x), update=not adam)
                if adam:
                    self._adam()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer, (weight, bias) in enumerate(self.weights):
            z = self.outputs[layer]
            torch.addmm(bias, x, weight, out=z)
            kind = self.workload.activation(layer)
            if kind == "relu":
                z.relu_()
            elif kind == "tanh":
                z.tanh_()
            elif kind == "sigmoid":
                z.sigmoid_()
            elif kind == "softmax":
                torch.softmax(z, 1, out=z)
            x = z
        return x

    def _times_slope(self, kind: str, delta: torch.Tensor, y: torch.Tensor) -> None:
        if kind == "relu":
            aten.threshold_backward.grad_input(delta, y, 0, grad_input=delta)
        elif kind == "tanh":
            aten.tanh_backward.grad_input(delta, y, grad_input=delta)
        elif kind == "sigmoid":
            aten.sigmoid_backward.grad_input(delta, y, grad_input=delta)

    def _backward(self, xT: torch.Tensor, y: torch.Tensor, p: torch.Tensor, update: bool) -> None:
        workload, last = self.workload, len(self.weights) - 1
        delta = self.deltas[last]
        torch.sub(p, y, out=delta)
        scale = 1 / len(y)
        if workload.loss == "mse":
            scale *= 2 / workload.widths[-1]
            self._times_slope(workload.output, delta, p)
        delta.mul_(scale)
        for layer in range(last, -1, -1):
            below = self.transposed[layer - 1] if layer else xT
            weight, bias = self.weights[layer]
            if layer:
                passed = self.deltas[layer - 1]
                torch.mm(delta, weight.T, out=passed)
                self._times_slope(workload.hidden, passed, self.outputs[layer - 1])
            if update:  # plain SGD: the gradient goes straight into the weights
                weight.addmm_(below, delta, alpha=-workload.learning_rate)
                bias.sub_(delta.sum(0), alpha=workload.learning_rate)
            else:
                weight_gradient, bias_gradient = self.gradients[layer]
                torch.mm(below, delta, out=weight_gradient)
                torch.sum(delta, 0, out=bias_gradient)
            if layer:
                delta = passed

    def _adam(self) -> None:
        self.n_steps += 1
        torch._fused_adam_(
            [self.parameters],
            [self.gradient],
            [self.m],
            [self.v],
            [],
            [self.n_steps],
            lr=self.workload.learning_rate,
            beta1=0.9,
            beta2=0.999,
            weight_decay=0.0,
            eps=1e-8,
            amsgrad=False,
            maximize=False,
        )

    def result(self) -> Weights:
        return [(weight.numpy(), bias.numpy()) for weight, bias in self.weights]


def prediction(problem: Problem) -> Calls:
    """All layers but the last write into tensors made beforehand; the last too with out=."""
    task = Training(problem)
    out = np.empty_like(problem.y)
    given = torch.from_numpy(out) if problem.workload.out else None

    @torch.inference_mode()
    def predict() -> np.ndarray:
        task.outputs[-1] = (
            torch.empty(out.shape, dtype=task.outputs[-1].dtype) if given is None else given
        )
        return task.forward(torch.from_numpy(problem.X)).numpy()

    return Calls(predict)


class Dropped(Training):
    """The loss and gradient of a network with one hidden layer and dropout after it."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.mask = torch.empty_like(self.outputs[0])
        self.hidden = torch.empty_like(self.outputs[0])
        self.square = torch.empty_like(self.outputs[1])

    @torch.inference_mode()
    def loss_and_gradient(self) -> float:
        (x, xT, y), (first, p), (below, delta) = self.batches[0], self.outputs, self.deltas
        (weight1, bias1), (weight2, _) = self.weights
        keep = 1 - self.workload.dropout
        torch.addmm(bias1, x, weight1, out=first)
        first.tanh_()
        self.mask.bernoulli_(keep).div_(keep)
        torch.mul(first, self.mask, out=self.hidden)
        torch.mm(self.hidden, weight2, out=p)
        torch.sub(p, y, out=delta)
        loss = float(torch.mul(delta, delta, out=self.square).mean())
        delta.mul_(2 / delta.numel())
        torch.mm(self.hidden.T, delta, out=self.gradients[1][0])
        torch.mm(delta, weight2.T, out=below)
        below.mul_(self.mask)
        self._times_slope("tanh", below, first)
        torch.mm(xT, below, out=self.gradients[0][0])
        torch.sum(below, 0, out=self.gradients[0][1])
        return loss


def prepare(problem: Problem, threads: int) -> Task | Calls:
    torch.set_num_threads(threads)
    if problem.workload.kind == "prediction":
        return prediction(problem)
    if problem.workload.kind == "gradient":
        return Calls(Dropped(problem).loss_and_gradient)
    if problem.workload.dropout:
        raise Unsupported("dropout only for loss and gradient")
    if problem.workload.n_parameters > LARGEST:
        return Training(problem)
    return fastest([Training(problem, out_major) for out_major in (False, True)], threads)
