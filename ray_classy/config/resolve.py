"""Writes out every default of a config."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from ray_classy.config.check import component_keys, problems_in
from ray_classy.config.schema import element_of, is_list, is_mapping, is_structured, union_members
from ray_classy.errors import UnknownComponentError
from ray_classy.registry import REQUIRED, ByName, Key, Keys, Registry, named_component, registry_of


def resolve(config: Mapping[str, Any], schema: Keys | Registry, *, sections: Keys | None = None) -> dict[str, Any]:
    """Copies a checked config and fills in all defaults, also those of its components.

    Args:
        config, schema, sections: as for `check_config`.

    Returns:
        `name` first, the given keys in their order, then the defaults in the order of the schema. A default that JSON
        cannot carry (an enum, a tensor, a function) is left out.
    """
    if isinstance(schema, Registry):
        return _component(schema, config, sections or {})
    return _section(config, {**schema, **(sections or {})})


def _component(registry: Registry, config: Mapping[str, Any], sections: Keys) -> dict[str, Any]:
    arguments = {key: value for key, value in config.items() if key != "name"}
    return {"name": config["name"], **_arguments(registry, config["name"], arguments, sections)}


def _arguments(registry: Registry, name: str, arguments: Mapping[str, Any], sections: Keys) -> dict[str, Any]:
    try:
        keys = component_keys(registry.find(name))
    except UnknownComponentError:
        keys = None
    return _section(arguments, {**(keys or {}), **sections})


def _section(values: Mapping[str, Any], keys: Keys) -> dict[str, Any]:
    first = [name for name in values if name == "name"]
    order = first + [name for name in values if name != "name"]
    resolved = {name: _value(values[name], keys.get(name, Key()).annotation) for name in order}
    for name, key in keys.items():
        if name not in values and key.default is not REQUIRED and _is_plain(key.default):
            resolved[name] = _value(key.default, key.annotation)
    return resolved


def _value(value: Any, annotation: Any) -> Any:
    annotation = _alternative(value, annotation)
    registry = registry_of(annotation)
    if isinstance(value, Mapping):
        if registry is not None and isinstance(value.get("name"), str):
            return _component(registry, value, {})
        if isinstance(annotation, dict):
            return _section(value, annotation)
        if isinstance(annotation, ByName):
            registry = registry_of(annotation.base)
            assert registry is not None
            return {name: _arguments(registry, _kind(name, inner), inner, {}) for name, inner in value.items()}
        element = element_of(annotation) if is_mapping(annotation) else Any
        return {name: _value(inner, element) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        element = element_of(annotation) if is_list(annotation) else Any
        return [_value(inner, element) for inner in value]
    return copy.deepcopy(value)


def _kind(name: str, arguments: Any) -> Any:
    return named_component(name, arguments) if isinstance(arguments, Mapping) else name


def _alternative(value: Any, annotation: Any) -> Any:
    """The member of a union that the value was written for."""
    members = union_members(annotation)
    if len(members) == 1:
        return annotation
    structured = [member for member in members if is_structured(member)]
    return next((member for member in structured if not problems_in({"it": value}, {"it": Key(member)})), Any)


def _is_plain(value: Any) -> bool:
    if type(value) in (list, tuple):
        return all(_is_plain(item) for item in value)
    if type(value) is dict:
        return all(type(key) is str and _is_plain(item) for key, item in value.items())
    return value is None or type(value) in (bool, int, float, str)
