"""Named components: how they are registered, found by name, described and built from a config."""

from __future__ import annotations

import contextlib
import copy
import difflib
import enum
import importlib
import inspect
import typing
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Generic, NamedTuple, TypeVar

from ray_classy.docstrings import argument_docs
from ray_classy.errors import ArgumentNameError, ConfigError, RegistrationError, UnknownComponentError

T = TypeVar("T")


class _Required(enum.Enum):
    """The default of a key that has none (an enum, so that it survives pickling and copying as itself)."""

    REQUIRED = "required"

    def __repr__(self) -> str:
        return "REQUIRED"


REQUIRED = _Required.REQUIRED


class Key(NamedTuple):
    """One key of a component's config.

    Attributes:
        annotation: the type a value must have. A component base class (`ClassyLoss`, say) means the *config* of
            such a component; it may appear inside `list[...]`, `dict[str, ...]` and `... | None`.
        default: the value when the key is absent, or `REQUIRED`.
        doc: what the value means, for schemas and listings. Empty takes what the docstring of the component's class
            says about an argument of the key's name.
    """

    annotation: Any = Any
    default: Any = REQUIRED
    doc: str = ""


Keys = dict[str, Key]
"""The keys of a config section by name. As an annotation it means a mapping with exactly these keys."""


class ByName(NamedTuple):
    """An annotation: a mapping from a component's name to its arguments (`meters: {accuracy: {topk: [1]}}`).

    The key is another name than the component's if its arguments have a `name` (`{f1_micro: {name: f1, average:
    micro}}`), or if something stands before a slash in it (`{colour/accuracy: {topk: [1]}}`).
    """

    base: type


def named_component(key: Any, arguments: Mapping[str, Any]) -> Any:
    """Returns the name of the component that an entry of a `ByName` mapping is for."""
    return arguments.get("name", key.rpartition("/")[2] if isinstance(key, str) else key)


def signature_keys(function: Callable, *, skip: frozenset[str] = frozenset()) -> Keys:
    """The config keys that a constructor's signature describes: names, annotations, defaults and documentation.

    `*args` and `**kwargs` are passed over; an annotation that cannot be resolved is `Any`.
    """
    target = function.__init__ if inspect.isclass(function) else function
    try:
        hints = typing.get_type_hints(target)
    except Exception:
        hints = {}
    docs = argument_docs(function) if inspect.isclass(function) else {}
    keys: Keys = {}
    for name, parameter in list(inspect.signature(target).parameters.items()):
        if name == "self" or name in skip:
            continue
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
            continue
        default = REQUIRED if parameter.default is parameter.empty else parameter.default
        annotation = hints.get(name, Any)
        if default is None and annotation is not Any:
            annotation = annotation | None
        keys[name] = Key(annotation, default, docs.get(name, ""))
    return keys


def config_keys(cls: type) -> Keys | None:
    """Returns the keys that `cls.from_config` reads (besides `name`); None if they are unknown.

    A class whose config differs from its constructor defines a classmethod `config_keys()`. A class that
    overrides `from_config` without defining it may read any keys: for it the answer is None, and its config is not
    checked by name.
    """
    for base in cls.__mro__:
        if "config_keys" in vars(base):
            return cls.config_keys()  # type: ignore[attr-defined]
        if "from_config" in vars(base):
            method: Any = vars(base)["from_config"]
            if getattr(getattr(method, "__func__", method), "reads_signature", False):
                continue
            return None
    return signature_keys(cls)


def further_keys(cls: type) -> tuple[Callable[[Any], Keys | None] | None, str]:
    """Returns what gives the keys that depend on the value of another key, and the name of that key.

    A class with such keys has a classmethod `keys_for(value)` and an attribute `KEYS_DEPEND_ON`, the name of that key.
    `keys_for` returns None if any key may be given, and raises a RayClassyError if the value is wrong. The component
    knows their defaults itself: these are not filled in.
    """
    return getattr(cls, "keys_for", None), getattr(cls, "KEYS_DEPEND_ON", "")


def former_keys(cls: type) -> frozenset[str]:
    """Returns the keys of Classy Vision's configs that are accepted without effect."""
    names = frozenset(getattr(cls, "FORMER_KEYS", ()))
    if not names:
        return names
    try:
        return names - signature_keys(cls).keys()  # a subclass may have an argument of that name
    except (TypeError, ValueError):
        return names


def constructor_arguments(cls: type, config: Mapping[str, Any]) -> dict[str, Any]:
    """A deep copy of `config` without `name` and without the class's former keys."""
    dropped = former_keys(cls) | {"name"}
    return {key: copy.deepcopy(value) for key, value in config.items() if key not in dropped}


def construct(cls: type[T], config: Mapping[str, Any]) -> T:
    """Builds a component with the config's keys as the constructor's arguments.

    Raises:
        ArgumentNameError: the config lacks one that the constructor requires, or has one that it does not take.
    """
    return construct_from(cls, constructor_arguments(cls, config), config.get("name", cls.__name__))


def construct_from(cls: type[T], arguments: Mapping[str, Any], name: str) -> T:
    """Builds an object with arguments of its constructor.

    Args:
        cls: the class.
        arguments: by name.
        name: what a config calls the class, for messages.

    Raises:
        ArgumentNameError: as for `construct`.
    """
    own = cls.__init__ is not object.__init__
    parameters = list(inspect.signature(cls.__init__).parameters.values())[1:] if own else []
    named = [one for one in parameters if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)]
    missing = [one.name for one in named if one.default is one.empty and one.name not in arguments]
    if missing:
        lacks = ", ".join(f"`{key}`" for key in missing)
        raise ArgumentNameError(f"the config of {name!r} has no {lacks}, which it requires")
    known = [one.name for one in named]
    if not any(one.kind is one.VAR_KEYWORD for one in parameters):
        for key in arguments:
            if key not in known:
                near = nearest(str(key), known)
                hint = f"did you mean {near}?" if near else f"it takes {', '.join(known) or 'none'}"
                raise ArgumentNameError(f"{name!r} has no argument {key!r}: {hint}")
    return cls(**arguments)


def reads_signature(method: T) -> T:
    """Marks a `from_config` that passes the config's keys to the constructor as they are."""
    target: Any = getattr(method, "__func__", method)
    target.reads_signature = True
    return method


class Registry(Mapping[str, type[T]], Generic[T]):
    """The components of one kind by name; a read-only mapping from name to class.

    The components of this package are declared as "module:Class", and a module is imported when its component is first
    looked up. Listing the names and testing for one (`in`) import nothing. `register` adds users' classes.

    Args:
        kind: what is registered here, as users call it ("loss", "model", ...).
        components: maps names to this package's classes, as "module:Class".
        fallback: finds classes of torch or torchvision: a function, or "module:function", that takes a name that is not
            registered and returns a class or None.
        fallback_names: returns the names that `fallback` knows, for listings and suggestions.
        unique_class_names: refuse two classes with the same `__name__`.
        reserves_fallback: refuse names that `fallback_names` returns.
        any_base: register classes of any base.

    `base` is the class that registered ones must derive from; it is set by the module that defines it.
    """

    all: typing.ClassVar[dict[str, Registry[Any]]] = {}

    def __init__(
        self,
        kind: str,
        components: Mapping[str, str] = MappingProxyType({}),
        fallback: Callable[[str], type | None] | str | None = None,
        fallback_names: Callable[[], list[str]] | str | None = None,
        unique_class_names: bool = False,
        reserves_fallback: bool = False,
        any_base: bool = False,
    ) -> None:
        self.kind = kind
        self.base: type[T] | None = None
        self._places = dict(components)
        self._classes: dict[str, type[T]] = {}
        self._fallback = fallback
        self._fallback_names = fallback_names
        self._unique_class_names = unique_class_names
        self._reserves_fallback = reserves_fallback
        self._any_base = any_base
        Registry.all[kind] = self

    def __reduce__(self) -> Any:  # `register_model`, pickled with a user's function, must not carry a second registry
        if self.base is None or Registry.all.get(self.kind) is not self:
            return super().__reduce__()
        return _registry_at, (self.base.__module__, self.kind)

    def __getitem__(self, name: str) -> type[T]:
        if not isinstance(name, str):
            raise KeyError(name)
        if name not in self._classes and name in self._places:
            self._classes.setdefault(name, _import(self._places[name]))
        return self._classes[name]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and (name in self._classes or name in self._places)

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys([*self._places, *self._classes]))

    def __len__(self) -> int:
        return len(self._places.keys() | self._classes.keys())

    def register(self, name: str, bypass_checks: bool = False) -> Callable[[type], type]:
        """Registers the decorated class under `name`.

        Args:
            name: the value of `name` in a config that chooses the class.
            bypass_checks: replace a class already registered under the name, and accept a class of any base.

        Raises:
            RegistrationError: the name belongs to another class, or the class has the wrong base.
        """

        def decorate(cls: type) -> type:
            if self._places.get(name) == _place(cls):
                # A user's class that replaced this one before its module was imported stays.
                self._classes.setdefault(name, cls)
                return cls
            if not bypass_checks:
                self._check(name, cls)
            self._classes[name] = cls
            return cls

        return decorate

    def _check(self, name: str, cls: type) -> None:
        problem = self._conflict(name, cls)
        if problem:
            raise RegistrationError(f"cannot register {cls.__qualname__} as {self.kind} {name!r}: {problem}")

    def _conflict(self, name: str, cls: type) -> str | None:
        """Returns why the class cannot have the name; None if it can."""
        places = {**self._places, **{known: _place(other) for known, other in self._classes.items()}}
        if name in places:
            module, _, class_name = places[name].partition(":")
            # The same class again is no conflict: a module run as a script and then imported defines it twice, and so
            # does a notebook cell that is run twice.
            again = class_name == cls.__qualname__ and (module != cls.__module__ or module == "__main__")
            if not again:
                return f"the name belongs to {module}.{class_name}; choose another name"
        elif self._reserves_fallback and name in _import(self._fallback_names)():
            return "torch or torchvision has a class of that name; choose another name"
        if self.base is not None and not self._any_base and not (isinstance(cls, type) and issubclass(cls, self.base)):
            return f"it must derive from {self.base.__name__}"
        if self._unique_class_names and name not in places:
            for other, place in places.items():
                module, _, class_name = place.partition(":")
                if class_name.rpartition(".")[2] == cls.__name__:
                    return f"{other!r} is a class of the same name ({module}); rename the class"
        return None

    def names(self) -> list[str]:
        """Returns all names that `find` knows: the registered ones, then those of the fallback."""
        return sorted(self) + (sorted(_import(self._fallback_names)()) if self._fallback_names else [])

    def find(self, name: str) -> type[T]:
        """The class of that name.

        Raises:
            UnknownComponentError: there is none; the message names the nearest ones.
        """
        if name in self:
            return self[name]
        found = _import(self._fallback)(name) if self._fallback and isinstance(name, str) else None
        if found is None:
            raise UnknownComponentError(self.unknown(name))
        return found

    def unknown(self, name: Any) -> str:
        """Returns the message for a name that is not registered."""
        near = nearest(str(name), self.names())
        known = f"did you mean {near}?" if near else f"known: {', '.join(sorted(self))}"
        return (
            f"unknown {self.kind} {name!r}: {known} "
            f"(a class of your own: decorate it with @register_{self.kind} and name its module under `imports:`)"
        )

    def named_class(self, config: Mapping[str, Any]) -> type[T]:
        """The class that `config["name"]` chooses.

        Raises:
            ConfigError: the config is not a mapping, or has no name.
            UnknownComponentError: no class has that name.
        """
        if not isinstance(config, Mapping):
            raise ConfigError(f"the config of a {self.kind} must be a mapping with a `name`, not {config!r}")
        if "name" not in config:
            raise UnknownComponentError(f"the config of a {self.kind} needs a `name`: {dict(config)!r} has none")
        return self.find(config["name"])


def _import(place: Any) -> Any:
    """The class or function at a place, "module:name"; anything but a string is returned as it is."""
    if not isinstance(place, str):
        return place
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)


def _place(cls: type) -> str:
    return f"{cls.__module__}:{cls.__qualname__}"


def _registry_at(module: str, kind: str) -> Registry:
    """The registry of a kind, after the import of the module that defines it; unpickles registries."""
    importlib.import_module(module)
    return Registry.all[kind]


@contextlib.contextmanager
def registrations_restored() -> Iterator[None]:
    """Undoes, at the end of the block, what it registered in the place of other classes; new names stay."""
    before = {kind: dict(registry._classes) for kind, registry in Registry.all.items()}
    try:
        yield
    finally:
        for kind, registry in Registry.all.items():
            classes = before.get(kind, {})
            for name in registry._places.keys() - classes.keys():  # these come from their modules again
                registry._classes.pop(name, None)
            registry._classes.update(classes)


def nearest(word: str, known: list[str]) -> str:
    """The known words closest to `word`, quoted and joined for a message; empty if none is close."""
    lowered = {name.lower(): name for name in reversed(known)}  # of two that differ in case the first is meant
    found = difflib.get_close_matches(word.lower(), list(lowered), n=3, cutoff=0.6)
    return " or ".join(repr(lowered[name]) for name in found)


def registry_of(annotation: Any) -> Registry | None:
    """The registry whose components derive from `annotation`, if that is a component base class."""
    for registry in Registry.all.values():
        if registry.base is not None and annotation is registry.base:
            return registry
    return None
