"""The JSON schema of a config (draft 2020-12), made of the keys by which configs are checked."""

from __future__ import annotations

import enum
import json
import math
import numbers
import os
import re
import typing
from collections.abc import Mapping
from typing import Any

from ray_classy.config.check import component_keys, takes_any_key
from ray_classy.config.schema import element_of, is_fixed, is_list, is_mapping, union_members
from ray_classy.config.wording import article
from ray_classy.docstrings import for_configs, summary
from ray_classy.redact import is_secret
from ray_classy.registry import REQUIRED, ByName, Key, Keys, Registry, former_keys, further_keys, registry_of

Schema = dict[str, Any]

DRAFT = "https://json-schema.org/draft/2020-12/schema"
_SCALARS: dict[Any, str] = {
    bool: "boolean",
    int: "integer",
    numbers.Integral: "integer",
    float: "number",
    complex: "number",
    numbers.Number: "number",
    numbers.Real: "number",
    str: "string",
    bytes: "string",
    None: "null",
    type(None): "null",
}
_LISTS = ("categories", "values", "grid_search")
"""The keys under which a search node has the values to choose from."""
_SEARCHED: Schema = {"anyOf": [{"required": ["search"]}, {"required": ["grid_search"]}]}


def json_schema(registry: Registry, sections: Keys, domains: Mapping[str, Keys]) -> Schema:
    """Returns the JSON schema of the configs of a registry's components, which hold all other components.

    `$defs` has each kind of component (`loss`), each component (`loss.barron`), each kind of search node
    (`search.uniform`), and the names that a kind has unless a config has `imports` (`known.loss`).

    Args:
        registry: of tasks.
        sections: keys that every config may have; in them no value is searched.
        domains: the keys of each kind of search node.
    """
    writer = _Writer(sections)
    whole = writer.kind(registry, searched=False)
    known = writer.known_kind(registry)
    return {
        "$schema": DRAFT,
        "title": f"config of {article(registry.kind)}",
        **whole,
        "if": {"required": ["imports"], "properties": {"imports": {"type": "array", "minItems": 1}}},
        "else": known,
        "$defs": dict(sorted({**writer.defs, **_search_defs(domains)}.items())),
    }


class _Writer:
    """Writes definitions.

    Args:
        sections: keys that components of the first kind may have besides their own.
    """

    def __init__(self, sections: Keys) -> None:
        self.defs: dict[str, Schema] = {}
        self._sections = sections

    def kind(self, registry: Registry, searched: bool) -> Schema:
        """Returns a reference to the definition of a kind of component, which is written if it is missing."""
        kind = registry.kind
        if kind not in self.defs:
            is_whole = not self.defs
            self.defs[kind] = {}  # a component may hold others of its kind
            names = registry.names()
            chosen = [
                {
                    "if": {"required": ["name"], "properties": {"name": {"const": name}}},
                    "then": self._component(registry, name, is_whole, searched or is_whole),
                }
                for name in names
            ]
            text = f"Chooses the {kind}."
            properties = {"name": {"description": text, "anyOf": [{"enum": names}, {"type": "string"}]}}
            body = {"required": ["name"], "properties": properties, "allOf": chosen}
            self.defs[kind] = {"title": kind, "type": "object", **(_or_search(body) if searched else body)}
        return _reference(kind)

    def known_kind(self, registry: Registry) -> Schema:
        """Returns a reference to the definition of the names that components of a kind, and those in them, have."""
        title = f"known.{registry.kind}"
        if title not in self.defs:
            self.defs[title] = {}
            within: dict[str, list[Schema]] = {key: [{"items": _reference(title)}] for key in _LISTS}
            within["name"] = [{"enum": registry.names()}]
            for name in registry.names():
                for key, entry in (component_keys(registry.find(name)) or {}).items():
                    known = self._known(entry.annotation)
                    if known and known not in within.setdefault(key, []):
                        within[key].append(known)
            properties = {key: all_of[0] if len(all_of) == 1 else {"allOf": all_of} for key, all_of in within.items()}
            self.defs[title] = {"properties": {key: value for key, value in properties.items() if value}}
        return _reference(title)

    def _known(self, annotation: Any) -> Schema:
        """Returns what values of a type may have as names of components; empty if they hold none."""
        if not _has_components(annotation):
            return {}
        registry = registry_of(annotation)
        if registry is not None:
            return self.known_kind(registry)
        if isinstance(annotation, dict):
            inner = {key: self._known(entry.annotation) for key, entry in annotation.items()}
            return {"properties": {key: known for key, known in inner.items() if known}}
        if isinstance(annotation, ByName):
            registry = registry_of(annotation.base)
            assert registry is not None
            known, named = self.known_kind(registry), {"required": ["name"]}
            by_key = {"patternProperties": {_key_of(name): known for name in registry.names()}}
            return {"if": _SEARCHED, "else": {**by_key, "additionalProperties": {**named, **known}}}
        if is_list(annotation):
            return {"items": self._known(element_of(annotation))}
        if is_mapping(annotation):
            return {"additionalProperties": self._known(element_of(annotation))}
        merged: Schema = {}
        for member in union_members(annotation):
            merged |= self._known(member)
        return merged

    def _component(self, registry: Registry, name: str, is_whole: bool, searched: bool) -> Schema:
        cls = registry.find(name)
        keys = component_keys(cls)
        title = f"{registry.kind}.{name}"
        if title not in self.defs:
            body = self.section(keys or {}, searched)
            if is_whole:
                body["properties"] = {
                    **self.section(self._sections, searched=False)["properties"],
                    **body["properties"],
                }
                body["patternProperties"] = {"^x-": True}
            former = {key: {"description": "Has no effect.", "deprecated": True} for key in sorted(former_keys(cls))}
            body["properties"] = {"name": {"const": name}, **former, **body["properties"]}
            if keys is None or takes_any_key(cls) or further_keys(cls)[0] is not None:
                body["additionalProperties"] = True
            text = summary(cls)
            self.defs[title] = {"title": name, **({"description": text} if text else {}), **body}
        return _reference(title)

    def section(self, keys: Keys, searched: bool) -> Schema:
        """Returns the schema of a mapping with exactly these keys."""
        required = [name for name, key in keys.items() if key.default is REQUIRED]
        return {
            "type": "object",
            **({"required": required} if required else {}),
            "properties": {
                name: self.key(key._replace(default=REQUIRED) if is_secret(name) else key, searched)
                for name, key in keys.items()
            },
            "additionalProperties": False,
        }

    def key(self, key: Key, searched: bool) -> Schema:
        """Returns the schema of the values of a key."""
        members = list(union_members(key.annotation))
        if key.default is None and key.annotation is not Any:
            members.append(None)
        schema = self.union(members, searched)
        if key.doc:
            schema = {"description": for_configs(key.doc), **schema}
        default = _plain(key.default)
        return schema if default is REQUIRED else {**schema, "default": default}

    def value(self, annotation: Any, searched: bool) -> Schema:
        """Returns the schema of the values of a type; of any value if a config cannot say which are right."""
        return self.union(union_members(annotation), searched)

    def union(self, members: list[Any], searched: bool) -> Schema:
        """Returns the schema of values that have one of several types."""
        types = {_SCALARS[member] for member in members if _is_scalar(member)}
        if "number" in types:
            types.discard("integer")
        schemas = [self._one(member, searched) for member in members if not _is_scalar(member)]
        if {} in schemas:
            return {}
        if types:
            schemas.append({"type": types.pop() if len(types) == 1 else sorted(types)})
        if searched and len(schemas) == 1 and schemas[0].get("type") == "object":
            return {"type": "object", **_or_search(schemas[0])}
        if searched and not any(registry_of(member) for member in members):
            schemas.append(_reference("search"))
        distinct = [schema for index, schema in enumerate(schemas) if schema not in schemas[:index]]
        return {**distinct[0]} if len(distinct) == 1 else {"anyOf": distinct}

    def _one(self, annotation: Any, searched: bool) -> Schema:
        registry = registry_of(annotation)
        if registry is not None:
            return self.kind(registry, searched)
        if isinstance(annotation, dict):
            return self.section(annotation, searched)
        if isinstance(annotation, ByName):
            return self._by_name(annotation, searched)
        if typing.get_origin(annotation) is typing.Literal:
            return {"enum": list(typing.get_args(annotation))}
        if is_fixed(annotation):
            parts = [self.value(one, searched) for one in typing.get_args(annotation)]
            return {"type": "array", "prefixItems": parts, "items": False, "minItems": len(parts)}
        if is_list(annotation):
            return {"type": "array", "items": self.value(element_of(annotation), searched)}
        if is_mapping(annotation):
            return {"type": "object", "additionalProperties": self.value(element_of(annotation), searched)}
        return _of_class(annotation)

    def _by_name(self, annotation: ByName, searched: bool) -> Schema:
        registry = registry_of(annotation.base)
        assert registry is not None
        named = {"required": ["name"]}
        kind = self.kind(registry, searched)
        components: dict[str, Schema] = {}
        for name in registry.names():
            components[name] = {"if": named, "then": kind, "else": self._component(registry, name, False, searched)}
        others = {_key_of(name): schema for name, schema in components.items()}
        rest = {"if": named, "then": kind}
        return {"type": "object", "properties": components, "patternProperties": others, "additionalProperties": rest}


def _key_of(name: str) -> str:
    """A pattern for the keys of a `ByName` mapping that stand for a component: its name, perhaps after a slash."""
    return f"^(.*/)?{re.escape(name)}$"


def _or_search(schema: Schema) -> Schema:
    """Returns the schema of an object that is as in `schema`, or a search node in its place."""
    return {"if": _SEARCHED, "then": _reference("search"), "else": schema}


def _reference(title: str) -> Schema:
    return {"$ref": f"#/$defs/{title}"}


def _search_defs(domains: Mapping[str, Keys]) -> dict[str, Schema]:
    """Returns the definitions of search nodes, which take the place of values in the config of a sweep."""
    writer = _Writer({})
    defs: dict[str, Schema] = {}
    for name, keys in domains.items():
        body = writer.section(keys, searched=False)
        body["properties"] = {"search": {"const": name}, **body["properties"]}
        defs[f"search.{name}"] = {"title": name, **body}
    chosen = [
        {"if": {"properties": {"search": {"const": name}}}, "then": _reference(f"search.{name}")} for name in domains
    ]
    grid = {"required": ["grid_search"], "properties": {"grid_search": {"type": "array"}}}
    node = {"required": ["search"], "properties": {"search": {"enum": list(domains)}}, "allOf": chosen}
    text = "Takes the place of a value in the config of a sweep."
    start = {"title": "search", "description": text, "type": "object"}
    rays = {**grid, "additionalProperties": False}
    defs["search"] = {**start, "if": {"required": ["grid_search"]}, "then": rays, "else": node}
    return defs


def _is_scalar(annotation: Any) -> bool:
    return annotation is None or (isinstance(annotation, type) and annotation in _SCALARS)


def _has_components(annotation: Any) -> bool:
    """Whether values of the type hold configs of components."""
    if isinstance(annotation, dict):
        return any(_has_components(key.annotation) for key in annotation.values())
    if isinstance(annotation, ByName) or registry_of(annotation) is not None:
        return True
    return any(_has_components(argument) for argument in typing.get_args(annotation))


def _of_class(annotation: Any) -> Schema:
    """The schema of the values that represent an object of a class in a config."""
    if not isinstance(annotation, type):
        return {}
    if issubclass(annotation, enum.Enum):
        values = [member.value for member in annotation if isinstance(member.value, str | int)]
        names = [*annotation.__members__, *(name.lower() for name in annotation.__members__)]
        return {"enum": list(dict.fromkeys([*values, *names]))}
    if issubclass(annotation, os.PathLike):
        return {"type": "string"}
    if annotation.__module__ == "torch":
        of_torch = {"Tensor": ["number", "array"], "dtype": "string", "device": ["string", "integer"]}
        return {"type": of_torch[annotation.__name__]} if annotation.__name__ in of_torch else {}
    return {}


def _plain(value: Any) -> Any:
    """A default as JSON has it; `REQUIRED` for one that JSON cannot have."""
    if isinstance(value, enum.Enum) and value is not REQUIRED:
        return value.value if isinstance(value.value, str) else value.name.lower()
    if isinstance(value, float) and not math.isfinite(value):
        return REQUIRED
    try:
        return json.loads(json.dumps(value))
    except (TypeError, ValueError):
        return REQUIRED
