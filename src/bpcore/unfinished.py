"""What an interrupted fit leaves behind, so that `fit` with ``resume=True`` can finish it.

An interrupted batch starts again, so where a fit stands is a few numbers; the rows and the dropout
key of that batch are kept if they are drawn. The parameters, the optimiser's state and the
generator belong to the network and stay there.
"""

from dataclasses import dataclass, field
from numbers import Real
from typing import Any

import numpy as np

from bpcore.checks import whole

DTYPES = {name: np.dtype(name) for name in ("float32", "float64", "int64")}
"""Of the arrays that a file can hold."""


class DefaultInt(int):
    """A default that can be told from the same number given."""


class DefaultFloat(float):
    """A default that can be told from the same number given."""


class DefaultText(str):
    """A default that can be told from the same text given."""


def objects(values: list[Any]) -> np.ndarray:
    """Return a column that callbacks filled as an array of objects."""
    array = np.empty(len(values), object)
    array[:] = values
    return array


@dataclass
class Unfinished:
    """Where an interrupted fit stands, what it was asked to do, and what it has recorded.

    Parameters
    ----------
    settings : dict
        The fit's arguments by name, those that a resumed fit must share, and "n", its rows.
    position : dict
        What `_core.Fit.position` says; "told" is the number of epochs that callbacks heard of.
    callbacks : list of dict
        For each callback that has a ``state_dict``: "type" (the name of its class), "told" (the
        number of epochs that it heard of) and "state".
    arrays : dict of ndarray
        "sums" (see `_core.Fit.position`), "order", "held_out", "parameters" (where `on_fit_end`
        changed the network's own), "gradients" (of the last step, where somebody has yet to see
        them), and "column.<name>" for each column of the history.
    """

    settings: dict[str, Any]
    position: dict[str, Any]
    callbacks: list[dict[str, Any]] = field(default_factory=list)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)

    # ---- the arguments of the fit that goes on ---------------------------------------------------

    def argument(self, name: str, value: Any) -> Any:
        """Return an argument as given, or as it was where it is not given."""
        left_out = isinstance(value, DefaultInt | DefaultFloat | DefaultText)
        if left_out or (name == "gradient_clip" and value is None):
            return self.settings[name]
        return value

    def check_epochs(self, epochs: int) -> None:
        """Refuse fewer epochs than have begun."""
        begun = self.position["batch"] > 0 or self.position["drawn"] or self.position["validating"]
        done = self.position["epoch"]
        if epochs < done + begun:
            raise ValueError(
                f"epochs={epochs}, but the interrupted fit has begun {done + begun} epochs"
            )

    def check(self, settings: dict[str, Any]) -> None:
        """Refuse what would be another fit."""
        for name, was in self.settings.items():
            if name not in ("epochs", "optimizer") and settings[name] != was:
                raise ValueError(
                    f"resume=True goes on with {_SHOWN.get(name, name)} {was}, "
                    f"got {settings[name]}; only epochs may differ"
                )

    # ---- files -----------------------------------------------------------------------------------

    def encoded(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Return a description that JSON can hold, and the arrays by name."""
        arrays = {}
        for name, array in self.arrays.items():
            if array.dtype != object:
                arrays[name] = array
            elif all(isinstance(value, Real) for value in array):  # others a file cannot hold
                arrays[name] = array.astype(np.float64)
        callbacks = []
        for i, entry in enumerate(self.callbacks):
            plain = {}
            for name, value in entry["state"].items():
                if isinstance(value, float | np.ndarray):  # JSON knows no infinity
                    arrays[f"callback.{i}.{name}"] = np.asarray(value)
                else:
                    plain[name] = value
            callbacks.append(entry | {"state": plain})
        description = {
            "settings": self.settings,
            "position": self.position,
            "callbacks": callbacks,
            "arrays": {name: [a.dtype.name, list(a.shape)] for name, a in arrays.items()},
        }
        return description, arrays

    @classmethod
    def decoded(
        cls, description: dict[str, Any], arrays: dict[str, np.ndarray], parameters: np.ndarray
    ) -> "Unfinished":
        """Return what `encoded` described; anything else is an exception."""
        made = cls(
            _like(_ABSENT | description["settings"], _SETTINGS),
            _like(description["position"], _POSITION),
            [_like(entry, _CALLBACK) for entry in description["callbacks"]],
        )
        for i, entry in enumerate(made.callbacks):
            start = f"callback.{i}."
            for name in [name for name in arrays if name.startswith(start)]:
                array = arrays.pop(name)
                value = array.copy() if array.ndim else array.item()
                entry["state"][name.removeprefix(start)] = value
        made.arrays = arrays
        made._check_columns()
        made._check_rows()
        for name in ("parameters", "gradients"):
            saved = arrays.get(name, parameters)
            if (saved.shape, saved.dtype) != (parameters.shape, parameters.dtype):
                raise ValueError(f"the {name} of the interrupted fit are not like the network's")
        return made

    def _check_columns(self) -> None:
        """Check the sizes of what the history and the sums are copied from."""
        epoch = self.position["epoch"]
        recorded = epoch + self.position["validating"]
        columns = {"column.loss": recorded, "column.learning_rate": recorded}
        columns |= {"column.validation_loss": epoch, "column.seconds": epoch}
        if self.settings["n_validation"] is None:
            del columns["column.validation_loss"]
        for name, size in (columns | {"sums": 4}).items():
            if self.arrays[name].dtype != np.float64 or self.arrays[name].shape != (size,):
                raise ValueError(f"{name} must hold {size} numbers")
        for name, array in self.arrays.items():
            if name.startswith("column.") and (array.ndim != 1 or array.size > recorded):
                raise ValueError(f"{name} must hold at most {recorded} numbers")

    def _check_rows(self) -> None:
        """Check that there are the rows that are held out, or that are in order."""
        held_out = self.arrays.get("held_out", np.empty(0)).size
        if self.settings["validation_fraction"] and held_out != self.settings["n_validation"]:
            raise ValueError(f"held_out must hold {self.settings['n_validation']} row numbers")
        for name in ("order", "held_out"):
            array = self.arrays.get(name, np.empty(0, np.int64))
            if array.dtype != np.int64 or array.ndim != 1 or array.size > self.settings["n"]:
                raise ValueError(f"{name} must hold row numbers")
            if array.size and not 0 <= array.min() <= array.max() < self.settings["n"]:
                raise ValueError(f"{name} has a row number that is out of range")


_SHOWN = {"n": "the number of rows", "n_validation": "the number of rows of validation_data"}
_NUMBER, _TEXT, _TRUTH = (int, float), (str,), (bool,)
_WHOLE, _NONE = (int,), (type(None),)
_SETTINGS = {
    "n": _WHOLE, "epochs": _WHOLE, "batch_size": _WHOLE, "sampling": _TEXT,
    "gradient_clip": _NUMBER + _NONE, "validation_fraction": _NUMBER, "sample_weight": _TRUTH,
    "n_validation": _WHOLE + _NONE, "class_weight": _TEXT + _NONE, "optimizer": _TEXT,
}  # fmt: skip
_ABSENT = {"class_weight": None}  # from older files
_POSITION = {
    "epoch": _WHOLE, "batch": _WHOLE, "drawn": _TRUTH, "validating": _TRUTH,
    "dropout_key": _WHOLE, "told": _WHOLE, "first_epoch": _WHOLE,
}  # fmt: skip
_CALLBACK = {"type": _TEXT, "told": _WHOLE, "state": (dict,)}
_LIMIT = 2**53


def _like(value: Any, types: dict[str, tuple[type, ...]]) -> dict[str, Any]:
    """Return a dict that has entries of these types and no others."""
    if not isinstance(value, dict) or value.keys() != types.keys():
        raise ValueError(f"expected the entries {', '.join(types)}")
    for name, allowed in types.items():
        if type(value[name]) not in allowed:
            raise ValueError(f"{name} must not be {value[name]!a}")
        if type(value[name]) is int:
            limit = 2**64 if name == "dropout_key" else _LIMIT
            if whole(value[name], name) >= limit:
                raise ValueError(f"{name} is too large: {value[name]}")
    return dict(value)
