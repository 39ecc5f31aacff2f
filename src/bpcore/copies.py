"""What a network consists of: its copies, its pickles, and what a file holds of it."""

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bpcore import losses, optimizers
from bpcore.checks import as_dtype
from bpcore.generators import generator_from, plain_state
from bpcore.layers import Layer
from bpcore.layers import from_config as layer_from_config

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

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
    """The part of `Network` that copies it, and takes it apart for files; see there."""

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
