"""Networks: layers in a row, a loss, and one flat array of parameters."""

import copy
import itertools
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bpcore import _core, losses, optimizers, training
from bpcore.architecture import Text, named_layers, next_activations, spec, table, widths
from bpcore.checks import as_array, as_dtype, as_generator, check_memory, finite_non_negative
from bpcore.copies import BUILT_IN, Copies
from bpcore.errors import ShapeError
from bpcore.layers import Dense, Identity, Layer, activation
from bpcore.optimizers import Optimizer
from bpcore.passes import Exclusive, Passes
from bpcore.pictures import Pictures

if TYPE_CHECKING:
    import os

    from numpy.typing import ArrayLike, DTypeLike

    from bpcore.gradcheck import GradientReport
    from bpcore.healthreport import HealthReport
    from bpcore.history import History
    from bpcore.unfinished import Unfinished


class Network(Passes, Copies, Pictures):
    """A feed-forward network: layers in a row, a loss, and their parameters in one flat array.

    Parameters
    ----------
    layers : sequence of Layer or of (name, Layer)
        The first that has widths (`Dense`) says how many inputs there are. A layer belongs to one
        network. Weights that nobody has set or looked at yet are drawn from `rng`.
    loss : str or Loss
        A loss, or its name: mse, mae, huber, quantile, bce, bce_logits, cross_entropy,
        cross_entropy_logits, poisson, poisson_log. After `Sigmoid` binary cross-entropy, after
        `Softmax` cross-entropy and after `Exp` the Poisson loss is computed from what goes into
        that layer. A loss of your own is a `CustomLoss`.
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
    >>> net.check_gradients(X, y).ok
    True
    >>> history = net.fit(X, y, epochs=2000, optimizer=bpcore.Adam(learning_rate=0.01))
    >>> (net.predict(X).ravel() > 0.5).tolist()
    [False, True, True, False]
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
        self.names, self.layers = named_layers(layers)
        self.loss = losses.get(loss)
        self.dtype = as_dtype(dtype)
        self.rng = rng
        self.l2 = finite_non_negative(l2, "l2")
        self.l1 = finite_non_negative(l1, "l1")
        self.optimizer: Optimizer | None = None
        self.history: History | None = None
        self.metadata: dict[str, Any] = {}
        self._interrupted: Unfinished | None = None
        self._exclusive = Exclusive()
        self._unwatched = 0.0  # seconds of training until a fit looks at the health again
        self.n_in, self.n_out = widths(self.names, self.layers)
        self._plan = self._make_plan()
        n_parameters = self._plan.n_parameters
        check_memory(
            2 * n_parameters * self.dtype.itemsize, f"a network of {n_parameters:,} parameters"
        )
        self._parameters = np.zeros(n_parameters, self.dtype)
        self._gradients = np.zeros(n_parameters, self.dtype)
        self._bind()

    def _begin(self, layers: Iterable[Layer | tuple[str, Layer]], **arguments: Any) -> None:
        """Start from layers, whatever the ``__init__`` of a subclass takes."""
        Network.__init__(self, layers, **arguments)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in BUILT_IN and name in self.__dict__:  # it would not change what C computes
            raise AttributeError(f"{name} is built into a network; make another network instead")
        if name == "rng":
            value = as_generator(value)
        elif name == "optimizer" and value is not None:
            value = optimizers.get(value)
        super().__setattr__(name, value)

    def _make_plan(self, dtype: str | None = None) -> _core.Plan:
        loss = (self.loss.kernel, self.loss.parameter, self.loss.reduction, self.l2, self.l1)
        called = self.loss if self.loss.calls_python else None
        layers = [spec(layer) for layer in self.layers]
        return _core.Plan(dtype or self.dtype.name, self.n_in, layers, loss, called)

    def _bind(self) -> None:
        """Make the layers' arrays views of the flat ones."""
        bound = []
        rows = zip(self.layers, self._views(), next_activations(self.layers), strict=True)
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
        with self._exclusive:
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

    # ---- training ------------------------------------------------------------------------------

    fit = training.fit

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
        X : array_like of shape (n, n_in)
            The batch; its gradient is checked too, as "input".
        y : array_like
            The target, as for `loss_value`.
        sample_weight : array_like of shape (n,), optional
        parameters : "all", int or "projections"
            Every parameter, a random sample of so many, or random directions (for large networks).
        rng : int, numpy.random.Generator or None
            Where the sample, or the directions, are drawn from.

        Returns
        -------
        GradientReport
            ``report.ok``, ``report.worst_error``, ...; ``print(report)`` explains.

        Raises
        ------
        ShapeError, DTypeError, ValueError
            As `loss_value`.

        Examples
        --------
        >>> import numpy as np
        >>> import bpcore
        >>> rng = np.random.default_rng(1)
        >>> X, y = rng.normal(size=(8, 4)), rng.normal(size=(8, 3))
        >>> report = bpcore.mlp([4, 5, 3], hidden="tanh", rng=1).check_gradients(X, y)
        >>> report.ok, report.n_checked, report.n_kinks
        (True, 75, 0)
        """
        from bpcore.gradcheck import check_network_gradients

        return check_network_gradients(
            self, X, y, sample_weight=sample_weight, parameters=parameters, rng=rng
        )

    def health(
        self,
        X: "ArrayLike",
        y: "ArrayLike | None" = None,
        *,
        sample_weight: "ArrayLike | None" = None,
    ) -> "HealthReport":
        """Look at the inputs, at what the layers make of them, and at what comes back.

        Nothing changes: not the gradients, nor the generator, nor what `forward` kept.

        Parameters
        ----------
        X : array_like of shape (n, n_in)
            One row at least; a few hundred rows of the training data tell enough.
        y : array_like, optional
            The target. Without it nothing is said about gradients, updates and the loss, and units
            are complained about even if the network has learnt with them.
        sample_weight : array_like of shape (n,), optional

        Returns
        -------
        HealthReport
            ``print(report)``, ``report.ok``, ``report.layers["0"].dead``, ...

        Raises
        ------
        ShapeError, DTypeError, ValueError
            An argument is not what it should be.

        Examples
        --------
        >>> import numpy as np
        >>> import bpcore
        >>> net = bpcore.Network(
        ...     [bpcore.Dense(1, 2, weight_init=[[1.0, 1.0]], bias_init=[0.0, -9.0]), bpcore.ReLU()]
        ... )
        >>> print(net.health([[-1.0], [0.0], [1.0]]))
        Health on 3 rows: 1 found wrong.
        50% of the units of layer 1 (ReLU) are dead: they are flat on every row looked
        at, so their weights no longer learn. Start again with a new network,
        weight_init='he_normal' with zero biases and a smaller learning_rate
        0 of 1 inputs unscaled.
        <BLANKLINE>
        layer      kind       units   dead   flat     mean      std gradient   update
        0          Dense          2                   -4.5      4.6
        1          ReLU           2   50 %            0.17     0.37
        """
        from bpcore.health import report
        from bpcore.healthfigures import Rows

        if y is not None:
            return report(self, Rows(*self._plain_data(X, y, sample_weight)))
        X = self._inputs(X)
        if X.shape[0] == 0:
            raise ShapeError("X has no rows")
        return report(self, Rows(as_array(X, "X", self.dtype)))

    # ---- files ---------------------------------------------------------------------------------

    def save(self, path: "str | os.PathLike[str]") -> None:
        """Write the network to a safetensors file, with its loss, optimiser state and generator.

        If its last fit was interrupted, or a callback of a fit saves it, the file also holds what
        ``fit(..., resume=True)`` needs to finish that fit.

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

    # ---- to look at ----------------------------------------------------------------------------

    def summary(self) -> str:
        """Return a table of the layers: name, type, width, parameters, and names of their arrays.

        Examples
        --------
        >>> import bpcore
        >>> bpcore.mlp([4, 5, 3], output="sigmoid").summary()
        name  layer        output  parameters  arrays
        0     Dense(4, 5)  5               25  0.weight (4, 5), 0.bias (5,)
        1     ReLU()       5                0
        2     Dense(5, 3)  3               18  2.weight (5, 3), 2.bias (3,)
        3     Sigmoid()    3                0
        loss mse, float64, 4 inputs, 43 parameters
        """
        total = f"{self.n_in:,} inputs, {self._parameters.size:,} parameters"
        text = table(self.names, self.layers, self.n_in)
        return Text(f"{text}\nloss {self.loss.label}, {self.dtype}, {total}")

    def __repr__(self) -> str:
        layers = ", ".join(
            repr(layer) if name.isdigit() else f"{name}={layer!r}"
            for name, layer in zip(self.names, self.layers, strict=True)
        )
        n_parameters = self._parameters.size
        return f"Network({layers}, loss={self.loss.label}, {self.dtype}, {n_parameters} parameters)"


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
