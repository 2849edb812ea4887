"""Declares the options of a task once: the attribute, the key of the config, its type, default and check.

    class MyTask(ClassificationTask):
        ema_decay: float = option(0.99, share, key="ema")

makes `task.ema_decay`, checked whenever it is set, and the config key `ema`, which `from_config` passes to `set_ema`
(or, if there is no such method, assigns) and which `task.config` follows. A group of options is a frozen dataclass:
`group: Group = option(Group())` makes a section of the config whose keys, types and defaults are the fields of the
dataclass; `from_config` passes the fields that the section has to `set_group`.
"""

from __future__ import annotations

import copy
import dataclasses
import enum
import inspect
import sys
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

from ray_classy.config import Problem
from ray_classy.docstrings import argument_docs
from ray_classy.errors import ComponentError, RayClassyError
from ray_classy.registry import REQUIRED, Key, Keys, config_keys

Check = Callable[[str, Any], Any]
"""Returns the value it is given with the option's name, or raises `ComponentError`."""


class Option:
    """A data descriptor for one option; see `option`."""

    def __init__(self, default: Any, check: Check | None, key: str | None, required: bool) -> None:
        self.default = default
        self.required = required
        self.key = key or ""
        self._check = check
        self._changes_in_place = isinstance(default, list | dict)

    def __set_name__(self, owner: type, name: str) -> None:
        self.owner, self.name, self.key = owner, name, self.key or name

    def __get__(self, task: Any, owner: type | None = None) -> Any:
        if task is None:
            return self
        values = task.__dict__  # steps read options: this is their shortest way
        if self._changes_in_place and self.name not in values:
            values[self.name] = copy.deepcopy(self.default)
        return values.get(self.name, self.default)

    def __set__(self, task: Any, value: Any) -> None:
        assume(task, self.name, self.check(value))
        self._note(task)

    def check(self, value: Any) -> Any:
        """Returns the value if the option allows it.

        Raises:
            ComponentError: it does not.
        """
        return value if self._check is None else self._check(self.key, value)

    def schema(self) -> Key:
        """Returns the type, the default and the documentation of the option's key in a config."""
        doc = argument_docs(self.owner).get(self.name, "")
        if self.is_section:
            return Key(section_keys(type(self.default)), {}, doc)
        return Key(self._annotation(), REQUIRED if self.required else self.default, doc)

    def _annotation(self) -> Any:
        """Returns the type that the option is annotated with; `Any` if it has none, or one that cannot be resolved."""

        def annotated() -> None: ...

        try:
            annotated.__annotations__ = {self.name: inspect.get_annotations(self.owner)[self.name]}
            module = vars(sys.modules[self.owner.__module__])
            return typing.get_type_hints(annotated, dict(vars(self.owner)), module)[self.name]
        except Exception:  # a name that is imported for type checkers only, say
            return Any

    @property
    def is_section(self) -> bool:
        """Whether the option is a group of options."""
        return dataclasses.is_dataclass(self.default)

    def set_from(self, task: Any, config: Mapping[str, Any]) -> None:
        """Calls the option's setter on `task` with the value in a config, or with the default.

        The setter of a section is called with the fields that the config has. That of an option whose default is None
        is called only if the config has a value. An option without a setter is assigned.
        """
        value = config.get(self.key)
        if self.is_section:
            group = type(self.default)
            setter = getattr(task, f"set_{self.name}", None)
            if setter is not None:
                setter(**_arguments(group, value))
            else:
                setattr(task, self.name, from_section(group, value))
            return
        if value is None and self.default is None:
            return
        value = value if self.key in config else copy.deepcopy(self.default)
        setter = getattr(task, f"set_{self.key}", None)
        if setter is not None:
            setter(value)
        else:
            setattr(task, self.name, value)

    def _note(self, task: Any) -> None:
        """Keeps `task.config` in step."""
        config = task.built_from
        if config is None:
            return
        value = getattr(task, self.name)
        value, default = (to_section(value), {}) if self.is_section else (value, self.default)
        if value == config.get(self.key, default):
            return
        if self.key in (config_keys(type(task)) or {}):
            config[self.key] = value
        else:
            task._parts_built = None  # no config of this class can say so


def option(default: Any, check: Check | None = None, *, key: str | None = None, required: bool = False) -> Any:
    """Declares an option of a task in its class body, after an annotation.

    Args:
        default: the value until another is set; an instance of a frozen dataclass declares a section.
        check: is called with the key and each value that is set.
        key: name in the config; None for the name of the attribute. The setter is called `set_<key>`.
        required: whether a config must have the key.
    """
    return Option(default, check, key, required)


def assume(task: Any, name: str, value: Any) -> None:
    """Sets an option without changing `task.config`: something a process found out, not a user's choice.

    Args:
        task: has the option, or an attribute of the name.
        name: of the attribute.
        value: to be set.
    """
    vars(task)[name] = value


def options_of(cls: type) -> dict[str, Option]:
    """Returns the options of a task class by key, those of its bases first."""
    declared = (value for base in reversed(cls.__mro__) for value in vars(base).values())
    return {one.key: one for one in declared if isinstance(one, Option)}


def option_keys(cls: type) -> Keys:
    """Returns the config keys of a task class's options."""
    return {key: one.schema() for key, one in options_of(cls).items()}


def option_problems(cls: type, config: Mapping[str, Any]) -> Iterator[Problem]:
    """Yields what the options' checks say of the plain values in a config."""
    for key, one in options_of(cls).items():
        if key not in config:
            continue
        try:
            if one.is_section:
                from_section(type(one.default), config[key])
            else:
                one.check(config[key])
        except (RayClassyError, TypeError, ValueError, KeyError) as error:
            yield Problem((key,), str(error).removeprefix(f"{key} "))


def section_setter(name: str, group: type, doc: str) -> Callable[..., Any]:
    """Makes the setter of a section: its arguments are the fields of the dataclass; it returns the task.

    Args:
        name: of the attribute.
        group: the dataclass.
        doc: docstring of the setter; that of the dataclass is appended.
    """

    def set_section(self: Any, *args: Any, **kwargs: Any) -> Any:
        setattr(self, name, group(*args, **kwargs))
        return self

    this = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    set_section.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [this, *inspect.signature(group).parameters.values()]
    )
    set_section.__name__ = f"set_{name}"
    set_section.__doc__ = f"{doc}\n\n{inspect.getdoc(group)}"
    return set_section


class SectionField:
    """An attribute of a task that reads and sets one field of a section; see `section_setter`.

    Args:
        section: name of the option that is the section.
        field: name of the field; None for the name of the attribute.
    """

    def __init__(self, section: str, field: str | None = None) -> None:
        self._section, self._field = section, field

    def __set_name__(self, owner: type, name: str) -> None:
        self._field = self._field or name

    def __get__(self, task: Any, owner: type | None = None) -> Any:
        return self if task is None else getattr(getattr(task, self._section), self._field or "")

    def __set__(self, task: Any, value: Any) -> None:
        section = getattr(task, self._section)
        setattr(task, self._section, dataclasses.replace(section, **{self._field or "": value}))


# -- sections: a dataclass and its form in a config -------------------------------------------------------------------


def section_keys(group: type) -> Keys:
    """Returns the config keys of a dataclass: an enum is written by the names of its members, in small letters."""
    hints, docs = typing.get_type_hints(group), argument_docs(group)
    keys: Keys = {}
    for field in dataclasses.fields(group):
        annotation = hints[field.name]
        if _is_enum(annotation):
            annotation = Literal[tuple(member.lower() for member in annotation.__members__)]
        required = field.default is dataclasses.MISSING
        default = REQUIRED if required else _to_plain(field.default)
        keys[_key(field)] = Key(annotation, default, docs.get(field.name, ""))
    return keys


def from_section(group: type, section: Mapping[str, Any] | None) -> Any:
    """Builds a dataclass from a section of a config; None is an empty section.

    Raises:
        ComponentError: the section is not a mapping, or has another key, or an impossible value.
    """
    return group(**_arguments(group, section))


def _arguments(group: type, section: Mapping[str, Any] | None) -> dict[str, Any]:
    """Returns the fields that a section of a config has, as arguments of the dataclass."""
    hints, fields = typing.get_type_hints(group), {_key(field): field for field in dataclasses.fields(group)}
    section = {} if section is None else section
    if not isinstance(section, Mapping):
        raise ComponentError(f"must be a mapping with keys among {', '.join(fields)}, not {section!r}")
    unknown = sorted(map(str, section.keys() - fields.keys()))
    if unknown:
        raise ComponentError(f"no key {unknown[0]!r}: the keys are {', '.join(fields)}")
    return {fields[key].name: _member(key, hints[fields[key].name], value) for key, value in section.items()}


def _member(key: str, annotation: Any, value: Any) -> Any:
    """Returns the member that a config names, if the annotation is an enum; else the value as it is."""
    if not _is_enum(annotation) or isinstance(value, annotation):
        return value
    members = {name.lower(): member for name, member in annotation.__members__.items()}
    if not isinstance(value, str) or value.lower() not in members:
        raise ComponentError(f"{key} must be one of {', '.join(members)}, not {value!r}")
    return members[value.lower()]


def to_section(value: Any) -> dict[str, Any]:
    """Returns a dataclass as a section of a config, without the keys that have their default."""
    fields = [field for field in dataclasses.fields(value) if getattr(value, field.name) != field.default]
    return {_key(field): _to_plain(getattr(value, field.name)) for field in fields}


def _key(field: dataclasses.Field[Any]) -> str:
    return field.metadata.get("key", field.name)


def _is_enum(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, enum.Enum)


def _to_plain(value: Any) -> Any:
    return value.name.lower() if isinstance(value, enum.Enum) else value
