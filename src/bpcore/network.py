"""Networks: layers in a row, a loss, and one flat array of parameters."""

import copy
import itertools
import threading
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bpcore import _core, losses, optimizers, training
from bpcore.checks import (
    as_array,
    as_dtype,
    as_generator,
    as_matrix,
    as_sample_weight,
    check_memory,
    finite_non_negative,
)
from bpcore.errors import ShapeError
from bpcore.layers import Activation, Dense, Dropout, Identity, Layer, Softmax, activation
from bpcore.layers import from_config as layer_from_config
from bpcore.optimizers import Optimizer

if TYPE_CHECKING:
    import os

    from numpy.typing import ArrayLike, DTypeLike

    from bpcore.gradcheck import GradientReport
    from bpcore.history import History


class Network:
    """A feed-forward network: layers in a row, a loss, and their parameters in one flat array.

    Parameters
    ----------
    layers : sequence of Layer or of (name, Layer)
        The first that has widths (`Dense`) says how many inputs there are. A layer belongs to one
        network. Weights that nobody has set or looked at yet are drawn from `rng`.
    loss : str or Loss
        A loss, or its name: mse, mae, huber, bce, bce_logits, cross_entropy, cross_entropy_logits.
        After `Sigmoid` binary cross-entropy, and after `Softmax` cross-entropy, is computed from the
        logits.
    dtype : {"float64", "float32"}
        Of the parameters and of all arithmetic.
    rng : int, numpy.random.Generator or None
        Where weights, the order of batches and dropout are drawn from; None is fresh entropy.
    l2, l1 : float
        Penalties, finite and 0 or more: ``l2/2 * sum(W**2) + l1 * sum(|W|)`` over the weights, not
        the biases, is part of every loss and gradient.

    Attributes
    ----------
    layers : tuple of Layer
        ``net["name"]`` and ``net[0]`` give one of them.
    names : tuple of str
        Given names, and positions ("0", "1", ...) for the others.
    n_in, n_out : int
        The widths of X and of predictions.
    loss : Loss
    dtype : numpy.dtype
    parameters, gradients : ndarray of shape (n_parameters,)
        Each layer's weight in C order, then its bias. Writeable; the layers' arrays are views of
        them.
    rng : numpy.random.Generator
    l2, l1 : float
    optimizer : Optimizer or None
        The one used last; `fit` goes on with it unless given another.
    history : History or None
        Of the last fit, also one that was interrupted.
    metadata : dict
        Anything that JSON can hold; saved with the network.

    Raises
    ------
    ShapeError
        Layers whose widths do not meet.
    ValueError
        No layers, an unknown loss, a layer that already belongs to a network, a name used twice.
    MemoryError
        More parameters than this machine can hold; nothing has been allocated.

    Examples
    --------
    >>> import numpy as np
    >>> import bpcore
    >>> net = bpcore.Network([bpcore.Dense(2, 3), bpcore.Tanh(), bpcore.Dense(3, 1)], rng=0)
    >>> net
    Network(Dense(2, 3), Tanh(), Dense(3, 1), loss=mse, float64, 13 parameters)
    >>> X = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    >>> y = np.array([0.0, 1.0, 1.0, 0.0])
    >>> history = net.fit(X, y, epochs=2000, optimizer=bpcore.Adam(learning_rate=0.01))
    >>> net.predict(X).round(2).ravel()
    array([0., 1., 1., 0.])
    >>> net.check_gradients(X, y).ok
    True
    """

    def __init__(
        self,
        layers: Iterable[Layer | tuple[str, Layer]],
        *,
        loss: "str | losses.Loss" = "mse",
        dtype: "DTypeLike" = "float64",
        rng: Any = None,
        l2: float = 0.0,
        l1: float = 0.0,
    ) -> None:
        self.names, self.layers = _named(layers)
        self.loss = losses.get(loss)
        self.dtype = as_dtype(dtype)
        self.rng = as_generator(rng)
        self.l2 = finite_non_negative(l2, "l2")
        self.l1 = finite_non_negative(l1, "l1")
        self.optimizer: Optimizer | None = None
        self.history: History | None = None
        self.metadata: dict[str, Any] = {}
        self._lock = threading.RLock()
        self._fitting = False
        self.n_in, self.n_out = _widths(self.names, self.layers)
        self._plan = self._make_plan()
        n_parameters = self._plan.n_parameters
        check_memory(
            2 * n_parameters * self.dtype.itemsize, f"a network of {n_parameters:,} parameters"
        )
        self._parameters = np.zeros(n_parameters, self.dtype)
        self._gradients = np.zeros(n_parameters, self.dtype)
        self._bind()

    def _make_plan(self) -> _core.Plan:
        loss = (self.loss.kernel, self.loss.parameter, self.loss.reduction, self.l2, self.l1)
        return _core.Plan(self.dtype.name, self.n_in, [_spec(layer) for layer in self.layers], loss)

    def _bind(self) -> None:
        """Make the layers' arrays views of the flat ones."""
        bound = []
        rows = zip(self.layers, self._views(), _next_activations(self.layers), strict=True)
        try:
            for layer, views, follows in rows:
                if isinstance(layer, Dense):
                    layer._bind(*views, self.rng, follows)
                    bound.append(layer)
        except BaseException:
            for layer in bound:
                layer._release()
            raise

    def _views(self) -> list[tuple[np.ndarray | None, ...]]:
        """Weight, bias, and the gradients of both, for each layer."""
        views: list[tuple[np.ndarray | None, ...]] = []
        start = 0
        for layer in self.layers:
            pairs = []
            if isinstance(layer, Dense):
                middle = start + layer.n_in * layer.n_out
                end = start + layer.n_parameters
                for flat in (self._parameters, self._gradients):
                    weight = flat[start:middle].reshape(layer.n_in, layer.n_out)
                    pairs += [weight, flat[middle:end] if layer.has_bias else None]
                start = end
            views.append(tuple(pairs))
        return views

    # ---- parameters ----------------------------------------------------------------------------

    @property
    def parameters(self) -> np.ndarray:  # noqa: D102 (documented with the class)
        return self._parameters

    @parameters.setter
    def parameters(self, value: "ArrayLike") -> None:
        self._assign(self._parameters, value, "parameters")

    @property
    def gradients(self) -> np.ndarray:  # noqa: D102
        return self._gradients

    @gradients.setter
    def gradients(self, value: "ArrayLike") -> None:
        self._assign(self._gradients, value, "gradients")

    def _assign(self, array: np.ndarray, value: "ArrayLike", argument: str) -> None:
        value = as_array(value, argument, self.dtype)
        if value.shape != array.shape:
            raise ShapeError(f"{argument} has shape {value.shape}, expected {array.shape}")
        array[...] = value

    def parameter_arrays(self) -> dict[str, np.ndarray]:
        """Return the parameters as views by name: "0.weight", "0.bias", or "name.weight", ...

        Examples
        --------
        >>> import bpcore
        >>> net = bpcore.mlp([4, 5, 3])
        >>> {name: array.shape for name, array in net.parameter_arrays().items()}
        {'0.weight': (4, 5), '0.bias': (5,), '2.weight': (5, 3), '2.bias': (3,)}
        """
        return self._arrays(Layer.parameters)

    def gradient_arrays(self) -> dict[str, np.ndarray]:
        """Return the gradients as views by the names of `parameter_arrays`."""
        return self._arrays(Layer.gradients)

    def _arrays(self, method: Any) -> dict[str, np.ndarray]:
        return {
            f"{name}.{kind}": array
            for name, layer in zip(self.names, self.layers, strict=True)
            for kind, array in getattr(layer, method.__name__)().items()
        }

    def __getitem__(self, key: str | int) -> Layer:
        if isinstance(key, str):
            if key not in self.names:
                raise KeyError(f"no layer is named {key!r}; there are {', '.join(self.names)}")
            return self.layers[self.names.index(key)]
        return self.layers[key]

    # ---- inference -----------------------------------------------------------------------------

    def predict(self, X: "ArrayLike", *, out: np.ndarray | None = None) -> np.ndarray:
        """Return the network's outputs; layers that act in training only (`Dropout`) do not act.

        Parameters
        ----------
        X : array_like of shape (n, n_in)
            Rows are samples, in any layout; n may be 0.
        out : ndarray of shape (n, n_out), optional
            Where to put the result: C-contiguous, of the network's dtype.

        Returns
        -------
        ndarray of shape (n, n_out)
            Of the network's dtype; `out` if that is given. A row's result does not depend on the
            others.

        Raises
        ------
        ShapeError, DTypeError, ValueError
            `X` or `out` has the wrong shape or dtype.

        Examples
        --------
        >>> import bpcore
        >>> net = bpcore.Network([bpcore.Dense(2, 1, weight_init=[[1.0], [2.0]])])
        >>> net.predict([[1.0, 1.0], [2.0, 0.0]])
        array([[3.],
               [2.]])
        """
        X = self._inputs(X)
        if out is None:
            out = np.empty((X.shape[0], self.n_out), self.dtype)
        else:
            X = self._check_out(out, X)
        self._plan.predict(self._parameters, X, out)
        return out

    __call__ = predict

    def _inputs(self, X: "ArrayLike") -> np.ndarray:
        X = as_matrix(X, "X", self.n_in)
        return X if X.dtype is self.dtype else self._in_range(X, "X")

    def _in_range(self, array: np.ndarray, argument: str) -> np.ndarray:
        """Refuse finite numbers that the network's dtype cannot hold."""
        if array.dtype.itemsize > self.dtype.itemsize and array.dtype.kind == "f":
            if _core.find_unfit(array, self.dtype.name) is not None:
                return as_array(array, argument, self.dtype)
        return array

    def _check_out(self, out: np.ndarray, X: np.ndarray) -> np.ndarray:
        """Check `out`; return X, copied if it shares memory with it."""
        if not isinstance(out, np.ndarray) or out.dtype != self.dtype:
            got = out.dtype if isinstance(out, np.ndarray) else type(out).__name__
            raise TypeError(f"out must be an array of {self.dtype}, got {got}")
        if out.shape != (X.shape[0], self.n_out):
            raise ShapeError(f"out has shape {out.shape}, expected {(X.shape[0], self.n_out)}")
        if not (out.flags.carray and out.dtype.isnative):
            raise ValueError("out must be C-contiguous, aligned and writeable")
        return X.copy() if np.may_share_memory(X, out) else X

    # ---- one pass at a time --------------------------------------------------------------------

    def forward(self, X: "ArrayLike", *, training: bool = False) -> np.ndarray:
        """Return the network's outputs and keep what `backward` needs.

        Parameters
        ----------
        X : array_like of shape (n, n_in)
        training : bool
            Whether `Dropout` acts.

        Returns
        -------
        ndarray of shape (n, n_out)

        Raises
        ------
        ShapeError, DTypeError, ValueError
            `X` has the wrong shape or dtype.
        RuntimeError
            Another thread is training the network.
        """
        X = self._inputs(X)
        y = np.empty((X.shape[0], self.n_out), self.dtype)
        with self._exclusive():
            self._plan.forward(self._parameters, X, y, training, self._dropout_key(training))
        return y

    def backward(self, dy: "ArrayLike") -> np.ndarray:
        """Set `gradients` and return the gradient at the input of the last `forward`.

        Parameters
        ----------
        dy : array_like of shape (n, n_out)
            The gradient at the output. Penalties have no part in it.

        Returns
        -------
        ndarray of shape (n, n_in)

        Raises
        ------
        RuntimeError
            There was no forward pass yet, or another thread is training the network.
        ShapeError, DTypeError, ValueError
            `dy` has the wrong shape or dtype.

        Examples
        --------
        >>> import bpcore
        >>> net = bpcore.Network([bpcore.Dense(2, 1, weight_init=[[1.0], [2.0]])])
        >>> net.forward([[3.0, 4.0]])
        array([[11.]])
        >>> net.backward([[10.0]])
        array([[10., 20.]])
        >>> net.gradients
        array([30., 40., 10.])
        """
        with self._exclusive():
            n = self._plan.rows_kept
            if n < 0:
                raise RuntimeError(
                    "backward needs the values of a forward pass: call forward first"
                )
            dy = as_array(dy, "dy", self.dtype)
            if dy.shape != (n, self.n_out):
                raise ShapeError(
                    f"dy has shape {dy.shape}, expected {(n, self.n_out)}, as the output of forward"
                )
            dx = np.empty((n, self.n_in), self.dtype)
            self._plan.backward(self._parameters, self._gradients, dy, dx)
        return dx

    def loss_value(
        self, X: "ArrayLike", y: "ArrayLike", *, sample_weight: "ArrayLike | None" = None
    ) -> float:
        """Return the loss, with the penalty; `Dropout` does not act.

        Parameters
        ----------
        X : array_like of shape (n, n_in)
        y : array_like
            The target: shape (n, n_out), or (n,) for one output; class labels for cross-entropy.
        sample_weight : array_like of shape (n,), optional

        Returns
        -------
        float
        """
        return self._plan.loss(self._parameters, *self._data(X, y, sample_weight))

    def loss_and_gradient(
        self,
        X: "ArrayLike",
        y: "ArrayLike",
        *,
        sample_weight: "ArrayLike | None" = None,
        training: bool = False,
        input_gradient: bool = False,
    ) -> tuple[float, np.ndarray] | tuple[float, np.ndarray, np.ndarray]:
        """Return the loss and its derivative by the parameters, penalty included.

        Parameters
        ----------
        X, y, sample_weight
            As for `loss_value`.
        training : bool
            Whether `Dropout` acts.
        input_gradient : bool
            Whether to return the derivative by X too.

        Returns
        -------
        loss : float
        gradient : ndarray of shape (n_parameters,)
            A fresh array; `gradients` holds the same numbers.
        dX : ndarray of shape (n, n_in)
            With `input_gradient`.

        Raises
        ------
        RuntimeError
            Another thread is training the network.

        Examples
        --------
        A step of one's own:

        >>> import bpcore
        >>> net = bpcore.Network([bpcore.Dense(1, 1, weight_init=[[2.0]])])
        >>> loss, gradient = net.loss_and_gradient([[1.0], [3.0]], [1.0, 3.0])
        >>> loss, gradient
        (5.0, array([10.,  4.]))
        >>> bpcore.SGD(learning_rate=0.1).step(net)
        >>> net.parameters
        array([ 1. , -0.4])
        """
        X, y, weight = self._data(X, y, sample_weight)
        dX = np.empty((X.shape[0], self.n_in), self.dtype) if input_gradient else None
        with self._exclusive():
            key = self._dropout_key(training)
            loss = self._plan.loss_and_gradient(
                self._parameters, X, y, weight, self._gradients, dX, training, key
            )
            gradient = self._gradients.copy()
        return (loss, gradient) if dX is None else (loss, gradient, dX)

    def _data(
        self, X: "ArrayLike", y: "ArrayLike", sample_weight: "ArrayLike | None"
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        X = self._inputs(X)
        if X.shape[0] == 0:
            raise ShapeError("X has no rows, so there is no loss")
        y = self._in_range(self.loss.check_target(y, "y", X.shape[0], self.n_out), "y")
        return X, y, as_sample_weight(sample_weight, X.shape[0], self.dtype)

    def _dropout_key(self, training: bool) -> int:
        if training and any(isinstance(layer, Dropout) for layer in self.layers):
            return int(self.rng.integers(2**64, dtype=np.uint64))
        return 0

    def _exclusive(self) -> "_Exclusive":
        return _Exclusive(self._lock)

    # ---- training ------------------------------------------------------------------------------

    def fit(self, X: "ArrayLike", y: "ArrayLike", **keywords: Any) -> "History":  # noqa: D102
        return training.fit(self, X, y, **keywords)

    fit.__doc__ = training.fit.__doc__

    def check_gradients(
        self,
        X: "ArrayLike",
        y: "ArrayLike",
        *,
        sample_weight: "ArrayLike | None" = None,
        parameters: str | int = "all",
        rng: Any = 0,
    ) -> "GradientReport":
        """Compare the gradients with central differences of the loss, in float64.

        Parameters
        ----------
        X, y, sample_weight
            As for `loss_value`.
        parameters : "all", int or "projections"
            Every parameter, a random sample of so many, or random directions (for large networks).
        rng : int, numpy.random.Generator or None
            Where the sample is drawn from.

        Returns
        -------
        GradientReport
            ``report.ok``, ``report.worst_error``, ...; ``print(report)`` explains.
        """
        from bpcore.gradcheck import check_network_gradients

        return check_network_gradients(
            self, X, y, sample_weight=sample_weight, parameters=parameters, rng=rng
        )

    # ---- copies and files ----------------------------------------------------------------------

    def save(self, path: "str | os.PathLike[str]") -> None:
        """Write the network to a safetensors file, with its loss, optimiser state and generator.

        Parameters
        ----------
        path : str or os.PathLike
            Replaced whole or not at all.

        Raises
        ------
        OSError
            The file cannot be written; an older one of that name is as it was.
        ValueError
            A learning rate that is a function cannot be saved, nor can metadata that is not JSON.
        """
        from bpcore.checkpoint import save

        save(self, path)

    def astype(self, dtype: "DTypeLike") -> "Network":
        """Return a copy with parameters of another dtype."""
        state = self.__getstate__()
        state["dtype"] = as_dtype(dtype).name
        return _from_state(copy.deepcopy(state))

    def __copy__(self) -> "Network":
        return copy.deepcopy(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Network":
        return _from_state(copy.deepcopy(self.__getstate__(), memo))

    def __getstate__(self) -> dict[str, Any]:
        optimizer = self.optimizer
        state = None if optimizer is None else optimizer.state(self)
        return {
            "layers": [
                (None if name.isdigit() else name, layer)
                for name, layer in zip(self.names, self.layers, strict=True)
            ],
            "loss": self.loss,
            "dtype": self.dtype.name,
            "rng": self.rng,
            "l2": self.l2,
            "l1": self.l1,
            "gradients": self._gradients,
            "optimizer": optimizer,
            "optimizer_state": None if state is None else (state.slots, state.step),
            "metadata": self.metadata,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        layers = [layer if name is None else (name, layer) for name, layer in state["layers"]]
        arguments = {name: state[name] for name in ("loss", "dtype", "rng", "l2", "l1")}
        Network.__init__(self, layers, **arguments)
        self.gradients = state["gradients"]
        self.metadata = state["metadata"]
        if state["optimizer"] is not None:
            self.optimizer = state["optimizer"]
            self._set_optimizer_state(*state["optimizer_state"])

    def _config(self) -> dict[str, Any]:
        """All but the arrays, as JSON can hold it."""
        return {
            "layers": [
                {"name": None if name.isdigit() else name, **layer.config()}
                for name, layer in zip(self.names, self.layers, strict=True)
            ],
            "loss": self.loss.config(),
            "dtype": self.dtype.name,
            "l2": self.l2,
            "l1": self.l1,
            "optimizer": None if self.optimizer is None else self.optimizer.config(),
            "rng": _plain(self.rng.bit_generator.state),
            "metadata": self.metadata,
        }

    @classmethod
    def _from_config(cls, config: dict[str, Any]) -> "Network":
        """Return a network with the weights that `Layer.from_config` gives: zeros."""
        layers = []
        for entry in config["layers"]:
            name = entry.get("name")
            layer = layer_from_config({key: entry[key] for key in entry if key != "name"})
            layers.append(layer if name is None else (name, layer))
        net = cls(
            layers,
            loss=losses.from_config(config["loss"]),
            dtype=config["dtype"],
            rng=0,
            l2=config["l2"],
            l1=config["l1"],
        )
        net.rng = _generator(config["rng"])
        net.metadata = config["metadata"]
        if config["optimizer"] is not None:
            net.optimizer = optimizers.from_config(config["optimizer"])
        return net

    def _optimizer_tensors(self) -> dict[str, np.ndarray]:
        if self.optimizer is None:
            return {}
        slots = self.optimizer.state(self).slots
        return dict(
            zip((f"optimizer.{name}" for name in self.optimizer.slot_names), slots, strict=True)
        )

    @property
    def _optimizer_step(self) -> int:
        return 0 if self.optimizer is None else self.optimizer.state(self).step

    def _set_optimizer_state(self, slots: Sequence[np.ndarray], step: int) -> None:
        self.optimizer.set_state(self, slots, step)

    # ---- to look at ----------------------------------------------------------------------------

    def summary(self) -> str:
        """Return a table of the layers: name, type, width and parameters.

        Examples
        --------
        >>> import bpcore
        >>> bpcore.mlp([4, 5, 3], output="sigmoid").summary()
        name  layer         output  parameters
        0     Dense(4, 5)   5               25
        1     ReLU()        5                0
        2     Dense(5, 3)   3               18
        3     Sigmoid()     3                0
        loss mse, float64, 4 inputs, 43 parameters
        """
        rows = [("name", "layer", "output", "parameters")]
        width = self.n_in
        for name, layer in zip(self.names, self.layers, strict=True):
            width = layer.n_out if isinstance(layer, Dense) else width
            count = layer.n_parameters if isinstance(layer, Dense) else 0
            rows.append((name, repr(layer), str(width), f"{count:,}"))
        first, second, third, last = (max(len(row[i]) for row in rows) for i in range(4))
        lines = [f"{a:<{first}}  {b:<{second}}  {c:<{third}}  {d:>{last}}" for a, b, c, d in rows]
        lines.append(
            f"loss {self.loss.kernel}, {self.dtype}, {self.n_in:,} inputs, {self._parameters.size:,} parameters"
        )
        return _Text("\n".join(lines))

    def __repr__(self) -> str:
        layers = ", ".join(
            repr(layer) if name.isdigit() else f"{name}={layer!r}"
            for name, layer in zip(self.names, self.layers, strict=True)
        )
        return f"Network({layers}, loss={self.loss.kernel}, {self.dtype}, {self._parameters.size} parameters)"


def mlp(
    widths: Sequence[int],
    *,
    hidden: Any = "relu",
    output: Any = "identity",
    loss: Any = "mse",
    **keywords: Any,
) -> Network:
    """Return a network of dense layers with an activation after each.

    Parameters
    ----------
    widths : sequence of int
        From the inputs to the outputs: at least two.
    hidden, output : str or Activation
        The activation after each hidden layer, and after the last; there "identity" adds no layer.
    loss, **keywords
        As for `Network`.

    Returns
    -------
    Network

    Examples
    --------
    >>> import bpcore
    >>> bpcore.mlp([4, 5, 3], hidden="tanh", output="softmax", loss="cross_entropy")
    Network(Dense(4, 5), Tanh(), Dense(5, 3), Softmax(), loss=cross_entropy, float64, 43 parameters)
    """
    widths = list(widths)
    if len(widths) < 2:
        raise ValueError(f"widths must name the inputs and the outputs at least, got {widths}")
    layers: list[Layer] = []
    for n_in, n_out in itertools.pairwise(widths):
        layers += [Dense(n_in, n_out), copy.copy(activation(hidden))]
    layers[-1] = activation(output)
    if isinstance(layers[-1], Identity):
        layers.pop()
    return Network(layers, loss=loss, **keywords)


class _Text(str):
    """Text that a prompt shows as it prints."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


class _Exclusive:
    """One thread at a time; a second is told, not kept waiting."""

    __slots__ = ("_lock",)

    def __init__(self, lock: Any) -> None:
        self._lock = lock

    def __enter__(self) -> None:
        if not self._lock.acquire(blocking=False):
            raise RuntimeError("another thread is training this network")

    def __exit__(self, *error: object) -> None:
        self._lock.release()


def _from_state(state: dict[str, Any]) -> Network:
    net = Network.__new__(Network)
    net.__setstate__(state)
    return net


def _named(
    layers: Iterable[Layer | tuple[str, Layer]],
) -> tuple[tuple[str, ...], tuple[Layer, ...]]:
    found: dict[str, Layer] = {}
    seen: set[int] = set()
    for position, entry in enumerate(layers):
        name, layer = (
            entry if isinstance(entry, tuple) and len(entry) == 2 else (str(position), entry)
        )
        if not isinstance(layer, Layer):
            raise TypeError(
                f"layer {position} must be a layer or a (name, layer) pair, got {entry!r}"
            )
        if not isinstance(name, str) or not name or (name.isdigit() and name != str(position)):
            raise ValueError(f"a layer's name must be text and not a number, got {name!r}")
        if name in found:
            raise ValueError(f"two layers are named {name!r}")
        if id(layer) in seen:
            raise ValueError(f"{layer!r} is in the network twice; use a copy.deepcopy of it")
        found[name] = layer
        seen.add(id(layer))
    if not found:
        raise ValueError("a network needs at least one layer")
    return tuple(found), tuple(found.values())


def _widths(names: Sequence[str], layers: Sequence[Layer]) -> tuple[int, int]:
    """The widths of input and output, with the layers checked against each other."""
    n_in, before = None, None
    for name, layer in zip(names, layers, strict=True):
        if not isinstance(layer, Dense):
            continue
        here = f"layer {name} ({layer!r})"
        if before is None:
            n_in = layer.n_in
        elif layer.n_in != before[1]:
            raise ShapeError(
                f"{before[0]} gives {before[1]} outputs, but {here} takes {layer.n_in}"
            )
        before = (here, layer.n_out)
    if n_in is None:
        raise ValueError("a network needs at least one Dense layer, which says how wide it is")
    return n_in, before[1]


def _spec(layer: Layer) -> tuple[Any, ...]:
    """The layer as `_core.Plan` wants it."""
    if isinstance(layer, Dense):
        return ("dense", layer.n_in, layer.n_out, layer.has_bias)
    if isinstance(layer, Dropout):
        return ("dropout", layer.p)
    if isinstance(layer, Softmax):
        return ("softmax",)
    return ("activation", layer.kernel, layer.parameter)


def _next_activations(layers: Sequence[Layer]) -> list[str | None]:
    """For each layer the name of the activation that comes before the next dense layer, if any."""
    following: list[str | None] = []
    name: str | None = None
    for layer in reversed(layers):
        following.append(name)
        if isinstance(layer, Activation):
            name = layer.name
        elif isinstance(layer, Dense):
            name = None
    return following[::-1]


def _plain(state: Any) -> Any:
    """A bit generator's state with lists for arrays and ints for NumPy's."""
    if isinstance(state, dict):
        return {key: _plain(value) for key, value in state.items()}
    if isinstance(state, np.ndarray):
        return [int(value) for value in state]
    return int(state) if isinstance(state, np.integer) else state


BIT_GENERATORS = ("PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64")


def _generator(state: dict[str, Any]) -> np.random.Generator:
    if state["bit_generator"] not in BIT_GENERATORS:
        raise ValueError(f"unknown bit generator {state['bit_generator']!r}")
    generator = np.random.Generator(getattr(np.random, state["bit_generator"])(0))
    generator.bit_generator.state = state
    return generator
