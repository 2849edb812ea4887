"""Describes annotations and values in messages."""

from __future__ import annotations

import enum
import json
import numbers
import os
import typing
from typing import Any

from ray_classy.config.schema import element_of, is_fixed, is_list, is_mapping, union_members
from ray_classy.registry import ByName, registry_of

_WORDS: dict[Any, tuple[str, str]] = {
    Any: ("anything", "values"),
    bool: ("true or false", "true or false values"),
    int: ("an integer", "integers"),
    numbers.Integral: ("an integer", "integers"),
    float: ("a number", "numbers"),
    complex: ("a number", "numbers"),
    numbers.Number: ("a number", "numbers"),
    numbers.Real: ("a number", "numbers"),
    str: ("a string", "strings"),
    bytes: ("a string", "strings"),
    os.PathLike: ("a path", "paths"),
    type(None): ("null", "nulls"),
    None: ("null", "nulls"),
}
_ANY_NUMBER = (float, complex, numbers.Number, numbers.Real)


def expectation(annotation: Any, many: bool = False) -> str:
    """Describes the values of a type: "an integer", "a list of numbers", "one of 'a', 'b'" ...

    Args:
        annotation: the type.
        many: the plural, as it follows "a list of".
    """
    members = union_members(annotation)
    if len(members) > 1:
        return _either(members, many)
    words = _of_class(annotation)
    if words is not None:
        return words[many]
    registry = registry_of(annotation)
    if registry is not None:
        return f"{registry.kind} configs" if many else f"{article(registry.kind)} config"
    if isinstance(annotation, ByName):
        kind = getattr(registry_of(annotation.base), "kind", "component")
        return f"{'mappings' if many else 'a mapping'} from {kind} names to their arguments"
    values = allowed_values(annotation)
    if values is not None:
        listed = ", ".join(shown(value) for value in values)
        return listed if len(values) == 1 else f"{'values out' if many else 'one'} of {listed}"
    if isinstance(annotation, dict):
        return "mappings" if many else "a mapping"
    if is_list(annotation):
        return _list(annotation, many)
    if is_mapping(annotation):
        inner = element_of(annotation)
        to = "" if inner is Any else f" from names to {expectation(inner, many=True)}"
        return f"{'mappings' if many else 'a mapping'}{to}"
    name = getattr(annotation, "__name__", None) or str(annotation)
    return f"{name} values" if many else article(name)


def _of_class(annotation: Any) -> tuple[str, str] | None:
    try:
        if annotation in _WORDS:
            return _WORDS[annotation]
    except TypeError:  # unhashable, such as a section
        return None
    if isinstance(annotation, type):
        if issubclass(annotation, os.PathLike):
            return _WORDS[os.PathLike]
        if annotation.__module__ == "torch" and annotation.__name__ == "Tensor":
            return "a number or a (nested) list of numbers", "numbers or lists of numbers"
        if annotation.__module__ == "torch" and annotation.__name__ == "dtype":
            return "the name of a dtype, such as 'float32'", "names of dtypes"
    return None


def _either(members: list[Any], many: bool) -> str:
    """The alternatives once each; null last; an integer goes without saying where any number will do."""
    if any(isinstance(member, type) and member in _ANY_NUMBER for member in members):
        members = [member for member in members if member is not int]
    members = sorted(members, key=lambda member: member in (None, type(None)))
    texts = list(dict.fromkeys(expectation(member, many) for member in members))
    return " or ".join([", ".join(texts[:-1]), texts[-1]]) if len(texts) > 1 else texts[0]


def _list(annotation: Any, many: bool) -> str:
    start = "lists" if many else "a list"
    arguments = typing.get_args(annotation)
    if is_fixed(annotation):
        if element_of(annotation) is Any:
            return f"{start} of " + " and ".join(expectation(argument) for argument in arguments)
        if len(arguments) > 1:
            return f"{start} of {len(arguments)} {expectation(arguments[0], many=True)}"
    inner = element_of(annotation)
    return start if inner is Any else f"{start} of {expectation(inner, many=True)}"


def allowed_values(annotation: Any) -> list[Any] | None:
    """The values of a Literal or an enum (its members' names where their values are no plain ones); None for others."""
    if typing.get_origin(annotation) is typing.Literal:
        return list(typing.get_args(annotation))
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        plain = all(isinstance(member.value, str | int) for member in annotation)
        return [member.value if plain else member.name for member in annotation]
    return None


def shown(value: Any, most: int = 60) -> str:
    """Writes a value as in a config file, cut to a readable length."""
    if isinstance(value, enum.Enum):
        value = value.value if isinstance(value.value, str) else value.name.lower()
    if isinstance(value, str):
        text = repr(value)
    else:
        try:
            text = json.dumps(value)
        except (TypeError, ValueError, RecursionError):
            text = repr(value)
    return text if len(text) <= most else text[: most - 3] + "..."


def article(word: str) -> str:
    """Puts "a" or "an" before a word."""
    return f"{'an' if word[:1].lower() in 'aeiou' else 'a'} {word}"
