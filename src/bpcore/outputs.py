"""What a network's outputs mean: classes, or quantities. Plots and the report ask here."""

from typing import TYPE_CHECKING

import numpy as np

from bpcore.layers import Sigmoid, Softmax

if TYPE_CHECKING:
    from bpcore.network import Network


def task_of(net: "Network", y: np.ndarray) -> str:
    """Say what a network does.

    Parameters
    ----------
    net : Network
    y : ndarray
        Its target, as the kernels take it: labels (n,), or numbers (n, n_out).

    Returns
    -------
    {"classes", "binary", "labels", "quantity"}
        One of several classes; one of two, by a single output; several yes-or-no answers; numbers.
    """
    last = net.layers[-1]
    if y.dtype.kind != "f" or net.loss.name == "cross_entropy":
        return "classes"
    if isinstance(last, Softmax) and net.n_out > 1:
        return "classes"
    yes_or_no = isinstance(last, Sigmoid) and bool(((y == 0) | (y == 1)).all())
    if net.loss.name == "bce" or yes_or_no:
        return "binary" if net.n_out == 1 else "labels"
    return "quantity"


def is_logit(net: "Network") -> bool:
    """Whether "yes" means an output above 0, not above 0.5."""
    return net.loss.kernel == "bce_logits"


def predicted(net: "Network", task: str, outputs: np.ndarray) -> np.ndarray:
    """Return class labels, 0 or 1 for each output, or the numbers, of outputs (..., n_out)."""
    if task == "classes":
        return outputs.argmax(axis=-1)
    if task == "quantity":
        return outputs
    yes = (outputs > (0.0 if is_logit(net) else 0.5)).astype(np.int64)
    return yes[..., 0] if task == "binary" else yes


def wanted(task: str, y: np.ndarray) -> np.ndarray:
    """Return a target in the form of `predicted`."""
    if task == "quantity":
        return y
    if y.dtype.kind != "f":
        return y.ravel()
    if task == "classes":
        return y.argmax(axis=1)
    yes = (y > 0.5).astype(np.int64)
    return yes[:, 0] if task == "binary" else yes
