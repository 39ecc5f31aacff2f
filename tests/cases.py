"""The table that drives the numeric tests: which parts, in which sizes, on which data."""

from typing import NamedTuple

import numpy as np
import reference

ACTIVATIONS = (*reference.ACTIVATIONS, "softmax")
WIDTHS = (*range(1, 18), 33, 65)  # around every vector width and register tile, and their tails
ROWS = (1, 7, 32, 100, 1000)


class Head(NamedTuple):
    """What follows a network's last dense layer, and its loss."""

    activations: tuple[str, ...]
    loss: str

    def __str__(self):
        return "+".join((*self.activations, self.loss))


HEADS = [
    Head(("identity",), "mse"),
    Head(("identity",), "mae"),
    Head(("identity",), "huber"),
    Head((), "huber"),
    Head(("sigmoid",), "bce"),  # fused
    Head(("sigmoid", "identity"), "bce"),  # not fused
    Head(("identity",), "bce_logits"),
    Head(("softmax",), "cross_entropy"),  # fused
    Head(("softmax", "identity"), "cross_entropy"),  # not fused
    Head((), "cross_entropy_logits"),
    Head(("softmax",), "bce"),
    Head(("identity",), "quantile"),
    Head(("exp",), "poisson"),  # fused
    Head(("exp", "identity"), "poisson"),  # not fused
    Head(("softplus",), "poisson"),
    Head((), "poisson_log"),
    *(Head((name,), "mse") for name in ACTIVATIONS if name != "identity"),
]


def inputs(rng, n, k, dtype):
    return rng.uniform(-2, 2, (n, k)).astype(dtype)


def targets(rng, loss, n, k, dtype, labels=False):
    """Targets that the loss takes: probabilities, distributions, labels, counts, any numbers."""
    if loss in reference.TAKES_LABELS:
        if labels:
            return rng.integers(0, k, n)
        t = rng.uniform(0.1, 1, (n, k))
        t[::2] = np.eye(k)[rng.integers(0, k, len(t[::2]))]  # every other row is one class
        return (t / t.sum(axis=1, keepdims=True)).astype(dtype)
    if loss in ("bce", "bce_logits"):
        t = rng.uniform(0, 1, (n, k))
        t[::2] = np.round(t[::2])
        return t.astype(dtype)
    if loss in ("poisson", "poisson_log"):
        t = rng.uniform(0, 4, (n, k))
        t[::2] = np.floor(t[::2])
        return t.astype(dtype)
    return rng.normal(0, 1.5, (n, k)).astype(dtype)


def weights(rng, n, dtype):
    """Sample weights, some of them zero."""
    w = rng.uniform(0.1, 3, n)
    w[1::5] = 0
    return w.astype(dtype)
