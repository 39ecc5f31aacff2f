"""JAX: many epochs in one compiled call, each a scan over batches, parameters donated."""

import os
from functools import partial
from typing import Any

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.peers import Calls, Unsupported
from benchmarks.workloads import Problem, Weights, Workload

jax.config.update("jax_enable_x64", True)

TITLE = "JAX"


def version() -> str:
    return jax.__version__


ACTIVATIONS = {
    "identity": lambda z: z,
    "sigmoid": jax.nn.sigmoid,
    "tanh": jnp.tanh,
    "relu": jax.nn.relu,
}


def forward(workload: Workload, weights: Any, x: Any) -> Any:
    """The output before its activation."""
    for layer, (weight, bias) in enumerate(weights):
        z = x @ weight + bias
        if layer < len(weights) - 1:
            x = ACTIVATIONS[workload.hidden](z)
    return z


def batch_loss(workload: Workload, weights: Any, x: Any, y: Any) -> Any:
    z = forward(workload, weights, x)
    if workload.loss == "cross_entropy":
        return -(jax.nn.log_softmax(z) * y).sum(axis=1).mean()
    if workload.loss == "bce":
        return (jnp.logaddexp(0, z) - y * z).mean()
    return jnp.square(ACTIVATIONS[workload.output](z) - y).mean()


def sgd(workload: Workload, weights: Any, slots: Any, gradient: Any) -> tuple[Any, Any]:
    new = jax.tree.map(lambda w, g: w - workload.learning_rate * g, weights, gradient)
    return new, slots


def adam(workload: Workload, weights: Any, slots: Any, gradient: Any) -> tuple[Any, Any]:
    m, v, step = slots
    step = step + 1
    dtype = weights[0][0].dtype
    correction = jnp.sqrt(1 - jnp.power(jnp.asarray(0.999, dtype), step))
    rate = workload.learning_rate * correction / (1 - jnp.power(jnp.asarray(0.9, dtype), step))
    m = jax.tree.map(lambda a, g: 0.9 * a + 0.1 * g, m, gradient)
    v = jax.tree.map(lambda a, g: 0.999 * a + 0.001 * g * g, v, gradient)
    new = jax.tree.map(
        lambda w, a, b: w - rate * a / (jnp.sqrt(b) + 1e-8 * correction), weights, m, v
    )
    return new, (m, v, step)


@partial(jax.jit, static_argnums=0, donate_argnums=(2, 3))
def train(workload: Workload, epochs: Any, weights: Any, slots: Any, X: Any, y: Any) -> Any:
    step = {"sgd": sgd, "adam": adam}[workload.optimizer]

    def update(state: Any, rows: Any) -> tuple[Any, None]:
        gradient = jax.grad(partial(batch_loss, workload))(state[0], *rows)
        return step(workload, *state, gradient), None

    def epoch(_: Any, state: Any) -> Any:
        if len(X) == 1:
            return update(state, (X[0], y[0]))[0]
        return jax.lax.scan(update, state, (X, y))[0]

    return jax.lax.fori_loop(0, epochs, epoch, (weights, slots))


class Training:
    def __init__(self, problem: Problem) -> None:
        workload = self.workload = problem.workload
        self.problem = problem
        shape = (workload.updates, workload.batch, -1)
        self.X = jnp.asarray(problem.X.reshape(shape))
        self.y = jnp.asarray(problem.y.reshape(shape))
        self.reset()

    def reset(self) -> None:
        self.weights = jax.tree.map(jnp.array, self.problem.copied_weights())
        self.slots: Any = ()
        if self.workload.optimizer == "adam":
            zeros = jax.tree.map(jnp.zeros_like, self.weights)
            self.slots = (zeros, jax.tree.map(jnp.copy, zeros), jnp.zeros((), self.problem.dtype))

    def run(self, n: int) -> None:
        self.weights, self.slots = train(self.workload, n, self.weights, self.slots, self.X, self.y)
        jax.block_until_ready(self.weights)

    def result(self) -> Weights:
        return [(np.asarray(weight), np.asarray(bias)) for weight, bias in self.weights]


def prediction(problem: Problem) -> Calls:
    workload, X = problem.workload, problem.X
    weights = jax.tree.map(jnp.array, problem.weights)
    compiled = jax.jit(
        lambda weights, x: ACTIVATIONS[workload.output](forward(workload, weights, x))
    )
    return Calls(lambda: np.asarray(compiled(weights, X)))


def gradient(problem: Problem) -> Calls:
    """The random bits are drawn in the same compiled call."""
    keep = 1 - problem.workload.dropout
    (weight1, bias1), (weight2, _) = problem.weights
    weights = jax.tree.map(jnp.array, (weight1, bias1, weight2))
    X, y = jnp.asarray(problem.X), jnp.asarray(problem.y)

    def dropped_loss(weights: Any, mask: Any) -> Any:
        hidden = jnp.tanh(X @ weights[0] + weights[1])
        return jnp.square((hidden * mask) @ weights[2] - y).mean()

    @jax.jit
    def loss_and_gradient(weights: Any, key: Any) -> Any:
        key, use = jax.random.split(key)
        mask = jax.random.bernoulli(use, keep, (len(X), weight1.shape[1])) / keep
        return *jax.value_and_grad(dropped_loss)(weights, mask), key

    key = jax.random.key(0)

    def call() -> float:
        nonlocal key
        loss, _, key = loss_and_gradient(weights, key)
        return float(loss)

    return Calls(call)


def prepare(problem: Problem, threads: int) -> Training | Calls:
    workload = problem.workload
    if workload.kind != "training":
        return {"prediction": prediction, "gradient": gradient}[workload.kind](problem)
    if workload.dropout:
        raise Unsupported("dropout only for loss and gradient")
    if workload.rows % workload.batch:
        raise Unsupported("a scan needs whole batches")
    return Training(problem)
