"""The gradient check on hundreds of functions whose gradients are known, right and seeded wrong."""

import numpy as np
import pytest

from bpcore import check_gradients

SEEDS = range(40)


def quadratic(rng, x):
    A = rng.normal(size=(x.size, x.size))
    b = rng.normal(size=x.size)

    def f(x):
        return x.ravel() @ A @ x.ravel() + b @ x.ravel()

    return f, lambda x: ((A + A.T) @ x.ravel() + b).reshape(x.shape)


def waves(rng, x):
    """Sines whose wavelength lies far from the scale of x."""
    k = 10.0 ** rng.uniform(-2, 4, x.shape)
    phase = rng.uniform(0, 6, x.shape)
    return (
        lambda x: np.sum(np.sin(k * x + phase) / k),
        lambda x: np.cos(k * x + phase),
    )


def log_sum_exp(rng, x):
    c = rng.normal(0, 3, x.shape)

    def f(x):
        top = (c * x).max()
        return top + np.log(np.exp(c * x - top).sum())

    def gradient(x):
        e = np.exp(c * x - (c * x).max())
        return c * e / e.sum()

    return f, gradient


def product(rng, x):
    c = rng.uniform(0.5, 2, x.shape) * (1 + np.abs(x))

    def gradient(x):
        return np.prod(1 + x / c) / (1 + x / c) / c

    return lambda x: np.prod(1 + x / c), gradient


def norm(rng, x):
    c = rng.normal(size=x.shape)
    return (
        lambda x: np.sqrt(np.sum((x - c) ** 2)),
        lambda x: (x - c) / np.sqrt(np.sum((x - c) ** 2)),
    )


def edge_of_domain(rng, x):
    """Logarithms and roots a short way from where they end."""
    gap = 10.0 ** rng.uniform(-6, 0, x.shape)
    edge = x - gap
    w = rng.normal(size=x.shape)
    return (
        lambda x: np.sum(w * np.log(x - edge) + np.sqrt(x - edge)),
        lambda x: w / (x - edge) + 0.5 / np.sqrt(x - edge),
    )


def sharp_sigmoids(rng, x):
    """Some of them saturated beyond what a difference can see."""
    k = 10.0 ** rng.uniform(-1, 3, x.shape)
    c = rng.normal(size=x.shape)

    def gradient(x):
        s = 0.5 + 0.5 * np.tanh(0.5 * k * (x - c))
        return k * s * (1 - s)

    return lambda x: np.sum(0.5 + 0.5 * np.tanh(0.5 * k * (x - c))), gradient


def kinks(rng, x):
    """Absolute values and maxima, with kinks at, near and far from x."""
    near = 10.0 ** rng.uniform(-8, 1, x.shape) * rng.choice([-1, 0, 1], x.shape)
    c = x + near
    w = rng.normal(size=x.shape)
    return (
        lambda x: np.sum(np.abs(x - c) + w * np.maximum(x - c, 0) + w * x**2),
        lambda x: np.sign(x - c) + w * (x > c) + 2 * w * x,
    )


def many_kinks(rng, x):
    """A ReLU network of many rows: kinks lie so close that only short steps miss them."""
    rows = int(rng.integers(50, 2000))
    A = rng.normal(size=(rows, x.size))
    b = rng.normal(size=rows)

    def gradient(x):
        z = A @ x.ravel() + b
        return (2 * np.maximum(z, 0) @ A / rows + (z > 0) @ A / rows).reshape(x.shape)

    def f(x):
        a = np.maximum(A @ x.ravel() + b, 0)
        return np.mean(a**2 + a)

    return f, gradient


def single_precision(rng, x):
    """Computed in float32, so that only three or four digits of a slope can be seen."""
    c = rng.normal(size=x.shape).astype(np.float32)

    def f(x):
        return np.sum(np.tanh(c * x.astype(np.float32)))

    def gradient(x):
        return c * (1 - np.tanh(c * x.astype(np.float32)) ** 2)

    return f, gradient


def offset(rng, x):
    """A small function on a large constant: rounding hides much of the slope."""
    big = 10.0 ** rng.uniform(0, 8)
    f, gradient = waves(rng, x)
    return lambda x: big + f(x), gradient


def cancellation(rng, x):
    """Large numbers inside that nearly cancel: the rounding is not that of the value."""
    big = 10.0 ** rng.uniform(0, 6)
    return (
        lambda x: np.sum((np.sin(x) + big) ** 2 - (big**2 + 2 * big * np.sin(x))),
        lambda x: 2 * np.sin(x) * np.cos(x),
    )


def perceptron(rng, x):
    A = rng.normal(size=(x.size, 7))
    v = rng.normal(size=7)
    target = rng.normal()

    def f(x):
        return (np.tanh(x.ravel() @ A) @ v - target) ** 2

    def gradient(x):
        h = np.tanh(x.ravel() @ A)
        return (2 * (h @ v - target) * A @ (v * (1 - h**2))).reshape(x.shape)

    return f, gradient


FAMILIES = [
    quadratic,
    waves,
    log_sum_exp,
    product,
    norm,
    edge_of_domain,
    sharp_sigmoids,
    kinks,
    many_kinks,
    single_precision,
    offset,
    cancellation,
    perceptron,
]


def case(family, seed):
    """A function of the family, its gradient, and a point, at random scales."""
    rng = np.random.default_rng([seed, FAMILIES.index(family)])
    shape = [(), (1,), (5,), (3, 4), (2, 3, 2), (4, 4)][rng.integers(6)]
    x = np.asarray(rng.normal(size=shape))
    if rng.random() < 0.3:
        x = np.where(rng.random(shape) < 0.3, 0.0, x)
    f, gradient = family(rng, x)
    if family is not single_precision:
        scale = 10.0 ** rng.uniform(-12, 12)
        return (lambda x: scale * f(x)), (lambda x: scale * gradient(x)), x
    return f, gradient, x


@pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f.__name__)
def test_right_gradients_are_never_called_wrong(family):
    for seed in SEEDS:
        f, gradient, x = case(family, seed)
        report = check_gradients(f, gradient, x)
        assert report.n_wrong == 0, f"seed {seed}\n{report}"
