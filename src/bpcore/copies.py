"""What a network consists of: copies, pickles, what a file holds of it, and weights for others."""

import copy
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bpcore import losses, optimizers
from bpcore.checks import as_dtype
from bpcore.generators import generator_from, plain_state
from bpcore.layers import Layer
from bpcore.layers import from_config as layer_from_config

if TYPE_CHECKING:
    import os

    from numpy.typing import ArrayLike, DTypeLike

    from bpcore.network import Network
    from bpcore.optimizers import Optimizer
    from bpcore.passes import Exclusive
    from bpcore.unfinished import Unfinished

BUILT_IN = frozenset({"names", "layers", "loss", "dtype", "l2", "l1", "n_in", "n_out"})
ATTRIBUTES = BUILT_IN | {
    *("rng", "optimizer", "history", "metadata"),
    *("_exclusive", "_plan", "_parameters", "_gradients", "_interrupted", "_unwatched"),
}


class Copies:
    """The part of `Network` that copies it, and takes it apart for files and others; see there."""

    layers: tuple[Layer, ...]
    names: tuple[str, ...]
    loss: losses.Loss
    dtype: np.dtype
    l2: float
    l1: float
    rng: "np.random.Generator"  # quoted: importing numpy.random takes 10 ms
    optimizer: "Optimizer | None"
    metadata: dict[str, Any]
    _gradients: np.ndarray
    _exclusive: "Exclusive"
    _interrupted: "Unfinished | None"

    def astype(self, dtype: "DTypeLike") -> "Network":
        """Return a copy with parameters of another dtype."""
        return self._copied({}, dtype=as_dtype(dtype).name, unfinished=None)

    def load_weights(
        self,
        weights: "Mapping[str, ArrayLike] | Sequence[ArrayLike] | str | os.PathLike[str]",
        *,
        layout: str = "auto",
    ) -> None:
        """Take the weights and biases of another network: of PyTorch, Keras, bpcore or a file.

        Parameters
        ----------
        weights : mapping of str to array_like, list of array_like, str or os.PathLike
            A ``state_dict()`` of PyTorch; ``{v.path: v.numpy() for v in model.weights}`` or
            ``model.get_weights()`` of Keras; what `get_weights` returned; or the path of a
            safetensors file of a dict, or of a network that `save` wrote. Names that are those of
            `parameter_arrays`, as `summary` prints them, go by name, in any order. Other names do
            not count: then there must be an array for each of the network's, in order, each of a
            shape that fits. A mixture goes in order too, if that puts no array elsewhere than its
            name says, or if all are numbered as in a Sequential of PyTorch. In a file names must
            be the network's, as files keep no order.
        layout : {"auto", "in_out", "out_in"}
            "in_out": weights of shape (n_in, n_out), as here and in Keras; "out_in": their
            transposes, as in PyTorch. "auto": whichever fits; square weights are as the others are,
            and refused if none tells.

        Raises
        ------
        ShapeError, DTypeError, ValueError, TypeError
            Too many arrays or too few, names of the network in another order among names that it
            does not have, a shape that does not fit, values that are not finite or
            are no real numbers, only square weights without `layout`; nothing has changed.
        ModelFileError, OSError
            The file cannot be read; nothing has changed.
        RuntimeError
            Another thread is training the network.

        Examples
        --------
        >>> import numpy as np
        >>> import bpcore
        >>> net = bpcore.mlp([3, 2, 1])
        >>> state_dict = {
        ...     "hidden.weight": np.ones((2, 3)), "hidden.bias": np.zeros(2),
        ...     "output.weight": np.ones((1, 2)), "output.bias": np.zeros(1),
        ... }
        >>> net.load_weights(state_dict)
        >>> net.predict([[1.0, 2.0, 3.0]])
        array([[12.]])
        """
        from bpcore.weights import load_weights

        load_weights(self, weights, layout)

    def get_weights(self, *, layout: str = "in_out") -> dict[str, np.ndarray]:
        """Return copies of weights and biases by the names of `parameter_arrays`.

        Parameters
        ----------
        layout : {"in_out", "out_in"}
            "in_out": weights of shape (n_in, n_out), as here and in Keras; "out_in": their
            transposes, as in PyTorch.

        Returns
        -------
        dict of str to ndarray
            In C order; the network does not see changes to them.

        Examples
        --------
        For a ``torch.nn.Sequential`` of the same layers, whose names are the same,
        ``module.load_state_dict({name: torch.from_numpy(array) for name, array in ...})``.

        >>> import bpcore
        >>> net = bpcore.mlp([4, 5, 3])
        >>> {name: array.shape for name, array in net.get_weights(layout="out_in").items()}
        {'0.weight': (5, 4), '0.bias': (5,), '2.weight': (3, 5), '2.bias': (3,)}
        """
        from bpcore.weights import get_weights

        return get_weights(self, layout)

    def __copy__(self) -> "Network":
        return copy.deepcopy(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Network":
        return self._copied(memo)

    def _copied(self, memo: dict[int, Any], **changes: Any) -> "Network":
        net = memo[id(self)] = type(self).__new__(type(self))
        net.__setstate__(copy.deepcopy(self.__getstate__() | changes, memo))
        return net

    def __getstate__(self) -> dict[str, Any]:
        with self._exclusive:  # not between a step and its count
            return self._state()

    def _state(self) -> dict[str, Any]:
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
            "optimizer_state": None if state is None else (state.slots, state.step, state.epoch),
            "unfinished": self._unfinished,
            "metadata": self.metadata,
            "others": {key: self.__dict__[key] for key in self.__dict__.keys() - ATTRIBUTES},
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        layers = [layer if name is None else (name, layer) for name, layer in state["layers"]]
        arguments = {name: state[name] for name in ("loss", "dtype", "rng", "l2", "l1")}
        self._begin(layers, **arguments)
        self.gradients = state["gradients"]
        self.metadata = state["metadata"]
        self.__dict__.update(state["others"])
        if state["optimizer"] is not None:
            self.optimizer = state["optimizer"]
            self._set_optimizer_state(*state["optimizer_state"])
        self._interrupted = state.get("unfinished")  # an older pickle has none

    @property
    def _unfinished(self) -> "Unfinished | None":
        """What `fit` needs to finish the fit that is under way or was interrupted."""
        run = self._exclusive.run
        return self._interrupted if run is None else run.unfinished()

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
            "rng": plain_state(self.rng.bit_generator.state),
            "metadata": self.metadata,
        }

    @classmethod
    def _from_config(cls, config: dict[str, Any], loss: losses.Loss | None = None) -> "Network":
        """Return a network with the weights that `Layer.from_config` gives: zeros.

        `loss` is one to use instead of that of the config.
        """
        layers = []
        for entry in config["layers"]:
            name = entry.get("name")
            layer = layer_from_config({key: entry[key] for key in entry if key != "name"})
            layers.append(layer if name is None else (name, layer))
        net = cls(
            layers,
            loss=losses.from_config(config["loss"]) if loss is None else loss,
            dtype=config["dtype"],
            rng=0,
            l2=config["l2"],
            l1=config["l1"],
        )
        net.rng = generator_from(config["rng"])
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

    @property
    def _optimizer_epoch(self) -> int:
        return 0 if self.optimizer is None else self.optimizer.state(self).epoch

    def _set_optimizer_state(self, slots: Sequence[np.ndarray], step: int, epoch: int = 0) -> None:
        self.optimizer.set_state(self, slots, step, epoch)
