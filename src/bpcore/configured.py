"""The base of all small objects that their constructor's arguments describe completely."""

import inspect
from collections.abc import Callable
from typing import Any, ClassVar, Self

from bpcore.checks import choose


class Configured:
    """An object whose arguments are its attributes, so that it can be printed, saved and found.

    Direct subclasses are families (layers, losses, ...). Their subclasses are registered in the
    family by class name and, if they have one of their own, by `name`: defining a class is all it
    takes to make it known. An abstract one (``class Activation(Layer, abstract=True)``) is not
    registered itself.
    """

    family: ClassVar[str] = "object"
    """What messages call a member of the family."""
    types: ClassVar[dict[str, type[Self]]]
    """Class name -> class, for `from_config`."""
    names: ClassVar[dict[str, Callable[[], Self]]]
    """Name -> what makes one, for `get`."""
    transient: ClassVar[frozenset[str]] = frozenset()
    """Arguments that only matter at construction and are not part of `config`."""

    def __init_subclass__(cls, abstract: bool = False, **keywords: Any) -> None:
        """Register the subclass."""
        super().__init_subclass__(**keywords)
        if Configured in cls.__bases__:
            cls.types, cls.names = {}, {}
            return
        if abstract:
            return
        cls.types[cls.__name__] = cls
        if "name" in vars(cls):
            cls.names[cls.name] = cls

    fixed: ClassVar[bool] = False
    """Whether arguments cannot be changed after construction, as C is told of them once."""

    def __setattr__(self, name: str, value: Any) -> None:
        settled = self.fixed and name[0] != "_" and name in vars(self)
        if settled and name in {"parameter", *self._arguments()}:
            kind = type(self).__name__
            raise AttributeError(f"{name} of {kind} is fixed; make another {kind} instead")
        super().__setattr__(name, value)

    @classmethod
    def get(cls, spec: Any) -> Self:
        """Return the object that `spec` stands for: a name, a class, or an object already."""
        if isinstance(spec, cls):
            return spec
        if isinstance(spec, type) and issubclass(spec, cls):
            return spec()
        if isinstance(spec, str):
            return cls.names[choose(spec, cls.names, cls.family)]()
        raise TypeError(
            f"{cls.family} must be a name or an object, got {spec!r} ({type(spec).__name__})"
        )

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Return a new object like the one whose `config` this was; the reverse of `config`."""
        if not isinstance(config, dict) or "type" not in config:
            raise ValueError(f"expected a {cls.family} as a dict with 'type', got {config!r}")
        arguments = {key: value for key, value in config.items() if key != "type"}
        kind = cls.types[choose(config["type"], cls.types, cls.family)]
        known = kind._arguments()
        for key in arguments:
            if key not in known:
                raise ValueError(f"{kind.__name__} has no argument {key!r}")
        for key, parameter in known.items():
            if parameter.default is parameter.empty and key not in arguments:
                raise ValueError(f"{kind.__name__} lacks its argument {key!r}")
        return kind._restored(arguments)

    def config(self) -> dict[str, Any]:
        """Return a dict that JSON can hold: the type's name and its arguments."""
        arguments = {key: getattr(self, key) for key in self._arguments()}
        return {"type": type(self).__name__} | arguments

    def __repr__(self) -> str:
        """Return the call that makes such an object, without what is as by default."""
        shown = []
        for key, parameter in self._arguments().items():
            value = getattr(self, key)
            if parameter.default is parameter.empty:
                shown.append(repr(value))
            elif value != parameter.default:
                shown.append(f"{key}={value!r}")
        return f"{type(self).__name__}({', '.join(shown)})"

    @classmethod
    def _arguments(cls) -> dict[str, inspect.Parameter]:
        if cls.__init__ is object.__init__:
            return {}
        parameters = inspect.signature(cls).parameters
        return {key: value for key, value in parameters.items() if key not in cls.transient}

    @classmethod
    def _restored(cls, arguments: dict[str, Any]) -> Self:
        return cls(**arguments)
