"""What scikit-learn's parameters of a multi-layer perceptron are in bpcore's terms.

Layers, starting weights, loss and optimiser. Nothing here needs scikit-learn.
"""

import copy
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bpcore import layers, losses, optimizers
from bpcore.checks import choose, fraction, units
from bpcore.layers import ACTIVATIONS, Activation, Dense, Dropout, Identity
from bpcore.losses import LOSSES, Huber, Loss
from bpcore.network import Network
from bpcore.optimizers import OPTIMIZERS, SGD, Optimizer

if TYPE_CHECKING:
    from numpy.random import RandomState

LOGISTIC = "logistic"
"""What scikit-learn calls the activation that is "sigmoid" here."""


@dataclass(frozen=True)
class Head:
    """What a network ends in, and how its loss is reported.

    Parameters
    ----------
    loss : Loss
    output : Activation
    name : str
        What scikit-learn calls the latter.
    scale : float
        What bpcore's loss is multiplied by to get the one reported.
    """

    loss: Loss
    output: Activation
    name: str
    scale: float = 1.0


def hidden_widths(hidden_layer_sizes: Any) -> list[int]:
    """Return the widths of the hidden layers; one number is one layer."""
    if not isinstance(hidden_layer_sizes, Iterable):
        hidden_layer_sizes = [hidden_layer_sizes]
    return [units(size, f"hidden_layer_sizes[{i}]") for i, size in enumerate(hidden_layer_sizes)]


def each_hidden(value: Any, name: str, n_hidden: int) -> list[Any]:
    """Return a value for each hidden layer, from one for all of them or a list."""
    if not isinstance(value, list | tuple | np.ndarray):
        return [value] * n_hidden
    if len(value) != n_hidden:
        raise ValueError(f"{name} has {len(value)} entries, but there are {n_hidden} hidden layers")
    return list(value)


def activation(spec: Any, name: str) -> Activation:
    """Return a new activation from a name, scikit-learn's "logistic" included, or an object."""
    if isinstance(spec, str):
        choose(spec, [LOGISTIC, *ACTIVATIONS], name)
        return layers.activation("sigmoid" if spec == LOGISTIC else spec)
    return copy.copy(layers.activation(spec))


def hidden_activations(spec: Any, n_hidden: int) -> list[Activation]:
    """Return the activation after each hidden layer."""
    return [activation(entry, "activation") for entry in each_hidden(spec, "activation", n_hidden)]


def dropouts(p: Any, n_hidden: int) -> list[float]:
    """Return the share of units dropped after each hidden layer."""
    return [fraction(entry, "dropout") for entry in each_hidden(p, "dropout", n_hidden)]


def starting_weights(
    widths: Sequence[int], after: Sequence[Activation], random_state: "RandomState"
) -> list[np.ndarray]:
    """Draw weights and biases, layer by layer, uniformly within Glorot's bound.

    The bound is ``sqrt(6 / (n_in + n_out))``, and ``sqrt(2 / (n_in + n_out))`` before a logistic
    activation [1]_. The draws, and so the numbers, are those of scikit-learn, whose output layer
    has the bound of the hidden ones.

    Parameters
    ----------
    widths : sequence of int
        From the inputs to the outputs.
    after : sequence of Activation
        What follows each layer; for those that are left the last one counts, if any.
    random_state : numpy.random.RandomState

    References
    ----------
    .. [1] X. Glorot and Y. Bengio, "Understanding the difficulty of training deep feedforward
       neural networks", AISTATS 2010.
    """
    arrays = []
    for i, (n_in, n_out) in enumerate(itertools.pairwise(widths)):
        name = after[min(i, len(after) - 1)].name if after else None
        factor = 2.0 if name == "sigmoid" else 6.0
        bound = np.sqrt(factor / (n_in + n_out))
        arrays.append(random_state.uniform(-bound, bound, (n_in, n_out)))
        arrays.append(random_state.uniform(-bound, bound, n_out))
    return arrays


def network(
    weights: Sequence[np.ndarray],
    hidden: Sequence[Activation],
    dropout: Sequence[float],
    output: Activation,
    **keywords: Any,
) -> Network:
    """Return a network with these weights and biases; `keywords` are those of `Network`."""
    stack: list[layers.Layer] = []
    pairs = list(zip(weights[::2], weights[1::2], strict=True))
    for i, (weight, bias) in enumerate(pairs):
        stack.append(Dense(*weight.shape, weight_init=weight, bias_init=bias))
        if i < len(hidden):
            stack.append(hidden[i])
            if dropout[i]:
                stack.append(Dropout(dropout[i]))
    if not isinstance(output, Identity):
        stack.append(output)
    return Network(stack, **keywords)


def half_squared_error(dtype: np.dtype) -> Loss:
    """Return scikit-learn's "squared_error", ``d**2 / 2``: Huber's loss that never turns linear."""
    return Huber(delta=float(np.finfo(dtype).max))


def takes_all_rows(solver: Any) -> bool:
    """Return whether a solver knows only steps of all rows, as least squares do."""
    kind = OPTIMIZERS.get(solver) if isinstance(solver, str) else solver
    return getattr(kind, "takes_all_rows", False)


def loss_object(spec: Any, own: Sequence[str]) -> Loss:
    """Return a loss from a name of bpcore's or an object; `own` are further names, for messages."""
    if isinstance(spec, str) and spec not in LOSSES:
        usable = [name for name in LOSSES if not _is_on_another_scale(losses.get(name))]
        choose(spec, [*own, *(name for name in usable if name not in own)], "loss")
    loss = copy.copy(losses.get(spec))
    if _is_on_another_scale(loss):
        raise ValueError(
            f"loss {loss!r} takes logits, or logs, but an estimator's outputs are neither: use "
            f"{type(loss).__name__}() and the output activation"
        )
    return loss


def _is_on_another_scale(loss: Loss) -> bool:
    """Return whether a loss takes logits, or logs, of predictions."""
    return any(getattr(loss, argument) for argument in loss.scales)


def optimizer(solver: Any, settings: dict[str, Any]) -> Optimizer:
    """Return a new optimiser from a name or an object.

    Parameters
    ----------
    solver : str or Optimizer
        An object is copied, so that the parameter of the estimator stays as it was.
    settings : dict
        Arguments by name; an optimiser that is given by name gets those that it takes.
    """
    if not isinstance(solver, str):
        return copy.copy(optimizers.get(solver))
    choose(solver, ["lbfgs", *OPTIMIZERS], "solver")
    kind = OPTIMIZERS[solver]
    if kind is SGD and not settings["momentum"]:
        settings = settings | {"nesterov": False}
    return kind(**{name: settings[name] for name in kind._arguments() if name in settings})


class LayerArrays(list[np.ndarray]):
    """The weights, or biases, of a network's layers; assigning to one copies into the network."""

    def __setitem__(self, index: Any, value: Any) -> None:
        """Copy into the array that is there."""
        if isinstance(index, slice):
            raise TypeError("assign to one array at a time, or to all by the estimator's attribute")
        array, value = self[index], np.asarray(value)
        if value.shape != array.shape:
            raise ValueError(f"array {index} has shape {value.shape}, expected {array.shape}")
        array[...] = value

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as a plain list: a copy belongs to no network."""
        return list, (list(self),)
