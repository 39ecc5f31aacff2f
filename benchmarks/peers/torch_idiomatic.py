"""PyTorch as its tutorials write it: modules, autograd and an optimiser."""

import numpy as np
import torch

from benchmarks.peers import Calls, Unsupported
from benchmarks.workloads import Problem, Weights

TITLE = "PyTorch"

ACTIVATIONS = {"relu": torch.nn.ReLU, "tanh": torch.nn.Tanh, "sigmoid": torch.nn.Sigmoid}


def version() -> str:
    return torch.__version__


class Training:
    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        workload = self.workload = problem.workload
        self.X = torch.from_numpy(problem.X)
        self.y = torch.from_numpy(problem.y if problem.labels is None else problem.labels)
        layers: list[torch.nn.Module] = []
        for layer, (weight, _) in enumerate(problem.weights):
            layers.append(torch.nn.Linear(*weight.shape, dtype=self.X.dtype))
            kind = workload.activation(layer)
            last = layer == len(problem.weights) - 1
            fused = last and workload.loss != "mse" and workload.kind == "training"
            if kind != "identity" and not fused:
                layers.append(ACTIVATIONS[kind]())
        self.net = torch.nn.Sequential(*layers)
        self.linear = [layer for layer in layers if isinstance(layer, torch.nn.Linear)]
        self.loss = {
            "mse": torch.nn.MSELoss,
            "bce": torch.nn.BCEWithLogitsLoss,
            "cross_entropy": torch.nn.CrossEntropyLoss,
        }[workload.loss]()
        self.reset()

    @torch.no_grad()
    def reset(self) -> None:
        for layer, (weight, bias) in zip(self.linear, self.problem.weights, strict=True):
            layer.weight.copy_(torch.from_numpy(weight).T)
            layer.bias.copy_(torch.from_numpy(bias))
        kind, more = {
            "sgd": (torch.optim.SGD, {}),
            "adam": (torch.optim.Adam, {"fused": True}),
        }[self.workload.optimizer]
        self.optimizer = kind(self.net.parameters(), lr=self.workload.learning_rate, **more)

    def run(self, n: int) -> None:
        for _ in range(n):
            for rows in self.problem.batches:
                self.optimizer.zero_grad()
                self.loss(self.net(self.X[rows]), self.y[rows]).backward()
                self.optimizer.step()

    def result(self) -> Weights:
        return [
            (layer.weight.detach().numpy().T, layer.bias.detach().numpy()) for layer in self.linear
        ]


def prediction(problem: Problem) -> Calls:
    net = Training(problem).net.eval()

    @torch.inference_mode()
    def predict() -> np.ndarray:
        return net(torch.from_numpy(problem.X)).numpy()

    return Calls(predict)


def prepare(problem: Problem, threads: int) -> Training | Calls:
    torch.set_num_threads(threads)
    if problem.workload.kind == "prediction":
        return prediction(problem)
    if problem.workload.kind == "gradient" or problem.workload.dropout:
        raise Unsupported("no dropout")
    if problem.workload.name.startswith("S") or problem.workload.name == "W8":
        raise Unsupported("left out for the time it takes")
    return Training(problem)
