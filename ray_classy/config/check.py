"""Checks a whole config against its schema and reports all problems at once."""

from __future__ import annotations

import contextlib
import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ray_classy.config.document import Path, dotted, mark_of
from ray_classy.config.schema import element_of, is_list, is_mapping, is_structured, union_members
from ray_classy.config.values import mismatch
from ray_classy.config.wording import article, expectation, shown
from ray_classy.docstrings import argument_docs
from ray_classy.errors import ConfigError, RayClassyError, UnknownComponentError
from ray_classy.redact import is_secret
from ray_classy.registry import (
    REQUIRED,
    ByName,
    Key,
    Keys,
    Registry,
    config_keys,
    former_keys,
    further_keys,
    named_component,
    nearest,
    registry_of,
)

_BALANCED: Any = Literal["balanced"]
_MOST_LISTED = 16  # names in one message
_MOST_TAKERS = 3
_LEAST_LETTERS = 4  # of a key that is the start of another
_SLIP = 0.9  # so alike are a key and what was meant, such as the plural, whoever else takes the key


@dataclass(frozen=True)
class Problem:
    """One mistake in a config.

    Attributes:
        path: where, from the top of the config.
        message: what is wrong, what was expected, and what to write.
    """

    path: Path
    message: str


def check_config(config: Mapping[str, Any], schema: Keys | Registry, *, sections: Keys | None = None) -> None:
    """Raises one error that lists all problems of the config; returns if there are none.

    Args:
        config: a `Config` from `load_config`, whose lines the errors name, or any mapping.
        schema: the keys of the config; or a registry, when the config is that of one of its components.
        sections: keys that the top level may have in addition to those of the schema.

    Raises:
        ConfigError: one line for each problem: file and line, dotted path, what is wrong and how to correct it.
    """
    raise_problems(problems_in(config, schema, sections=sections), config)


def problems_in(
    config: Any, schema: Keys | Registry, path: Path = (), *, sections: Keys | None = None
) -> list[Problem]:
    """The problems of the config, none for a good one; arguments as for `check_config`, `path` is where it stands."""
    return _walked(config, schema, path, sections).problems()


def check_component(registry: Registry, config: Any, path: Path = ()) -> list[Problem]:
    """The problems of one component's config, `{name: ..., ...}`, that stands at `path`."""
    return problems_in(config, registry, path)


def former_keys_used(config: Any, schema: Keys | Registry, *, sections: Keys | None = None) -> list[tuple[Path, str]]:
    """Returns the path of each key without effect, and the name of the class that accepts it."""
    return _walked(config, schema, (), sections).former


def raise_problems(problems: list[Problem], config: Any) -> None:
    """Raises a ConfigError that lists the problems in the order of the lines in `config`, unless there are none."""
    if not problems:
        return
    problems = [Problem(one.path, one.message + _slip(config, one.path)) for one in problems]
    marked = [(mark_of(config, problem.path), problem) for problem in problems]
    marked.sort(key=lambda pair: (pair[0].line is None, pair[0].line or 0))
    raise ConfigError(
        "\n".join(": ".join(filter(None, (str(mark), dotted(one.path), one.message))) for mark, one in marked)
    )


def _slip(config: Any, path: Path) -> str:
    """Says why a key has its value in it: YAML reads `{CPU:1}` as the key `CPU:1` with the value null."""
    value, section = _at(config, path), _at(config, path[:-1])
    found = dict(value) if isinstance(value, Mapping) else {}
    if isinstance(section, Mapping):
        found |= {key: one for key, one in section.items() if path[-1:] in ((key,), (str(key).partition(":")[0],))}
    slips = any(one is None and re.fullmatch(r"\w+:\S+", str(key)) for key, one in found.items())
    return "; a space is missing after the colon" if slips else ""


def _at(config: Any, path: Path) -> Any:
    """The value at a path; None if there is none."""
    for step in path:
        try:
            config = config[step]
        except (KeyError, IndexError, TypeError):
            return None
    return config


def component_keys(cls: type) -> Keys | None:
    """Returns the keys that a config of the class may have besides `name`; None if they are unknown."""
    try:
        keys = config_keys(cls)
    except (TypeError, ValueError):  # a constructor written in C, without a signature
        return None
    # torchvision annotates `value` as a float, documents and accepts more.
    if keys is not None and cls.__module__.startswith("torchvision.") and cls.__name__ == "RandomErasing":
        keys = {**keys, "value": Key(float | list[float] | str, 0.0)}
    if keys is not None and cls.__module__ == "torch.nn.modules.loss":  # a task counts the rows of the classes
        counted = {name: keys[name] for name in ("weight", "pos_weight") if name in keys}
        keys = keys | {name: key._replace(annotation=key.annotation | _BALANCED) for name, key in counted.items()}
    if keys is None:
        return None
    docs = argument_docs(cls)
    return {
        name: key if key.doc or name not in docs else key._replace(doc=docs[name])
        for name, key in keys.items()
        if name != "name"
    }


def takes_any_key(cls: type) -> bool:
    """Whether the config goes to a constructor with `**kwargs` (torch's own only refuse what lands there)."""
    if any("config_keys" in vars(base) for base in cls.__mro__):
        return False
    constructor: Any = cls.__init__  # type: ignore[misc]
    code = getattr(constructor, "__code__", None)
    has_kwargs = bool(code and code.co_flags & 0x08)
    return has_kwargs and not str(constructor.__module__).startswith(("torch.", "torchvision."))


@dataclass(frozen=True)
class _UnknownKey:
    """An unknown key, reported when all sections are known, because it may belong in one of them."""

    path: Path
    known: list[str]
    owner: str
    registry: Registry | None


def _walked(config: Any, schema: Keys | Registry, path: Path, sections: Keys | None) -> _Walk:
    walk = _Walk()
    if isinstance(schema, Registry):
        walk.component(schema, config, path, sections or {})
    else:
        walk.value(config, {**schema, **(sections or {})}, path)
    return walk


class _Walk:
    """Compares a config with its schema, in one pass."""

    def __init__(self) -> None:
        self.found: list[Problem | _UnknownKey] = []
        self.former: list[tuple[Path, str]] = []
        self.sections: list[tuple[Path, list[str]]] = []

    def problems(self) -> list[Problem]:
        return [self._unknown(one) if isinstance(one, _UnknownKey) else one for one in self.found]

    def add(self, path: Path, message: str) -> None:
        self.found.append(Problem(path, message))

    def value(self, value: Any, annotation: Any, path: Path) -> None:
        """Checks any value against any annotation."""
        registry = registry_of(annotation)
        if not is_structured(annotation):
            wrong = mismatch(value, annotation)
            if wrong and is_secret(str(path[-1] if path else "")):
                wrong = f"expected {expectation(annotation)}"
            if wrong:
                self.add(path, wrong)
        elif len(union_members(annotation)) > 1:
            self._union(value, annotation, path)
        elif registry is not None:
            self.component(registry, value, path)
        elif not _has_shape(value, annotation):
            self.add(path, f"expected {expectation(annotation)}, not {shown(value)}{_form(value, annotation)}")
        elif isinstance(annotation, dict):
            self._section(value, annotation, path, dotted(path) or "the config")
        elif isinstance(annotation, ByName):
            self._by_name(value, annotation, path)
        else:
            items = enumerate(value) if is_list(annotation) else value.items()
            for step, item in items:
                self.value(item, element_of(annotation), (*path, step))

    def component(self, registry: Registry, config: Any, path: Path, sections: Keys | None = None) -> None:
        """`{name: ..., arguments ...}`; `sections` are keys that may stand there whatever the component."""
        kind = registry.kind
        self.sections.append((path, ["name"]))
        if not isinstance(config, Mapping):
            form = _form(config, registry.base)
            self.add(path, f"expected {article(kind)} config, a mapping with a `name`, not {shown(config)}{form}")
        elif "name" not in config:
            self.add((*path, "name"), f"missing; it chooses the {kind} ({_listed(sorted(registry))})")
        elif not isinstance(config["name"], str):
            self.add((*path, "name"), f"expected the name of {article(kind)}, not {shown(config['name'])}")
        else:
            arguments = {key: value for key, value in config.items() if key != "name"}
            self._named(registry, config["name"], arguments, path, (*path, "name"), sections or {})

    def _by_name(self, value: Mapping[str, Any], annotation: ByName, path: Path) -> None:
        registry = registry_of(annotation.base)
        assert registry is not None, f"ByName({annotation.base!r}) is of no component base class"
        for name, arguments in value.items():
            here = (*path, name)
            if isinstance(arguments, Mapping):
                given = {key: value for key, value in arguments.items() if key != "name"}
                kind, at = named_component(name, arguments), (*here, "name") if "name" in arguments else here
                self._named(registry, kind, given, here, at, {})
            else:
                self.add(here, f"expected a mapping of arguments, not {shown(arguments)}; write {name}: {{}} for none")

    def _named(
        self, registry: Registry, name: Any, arguments: dict, path: Path, name_path: Path, sections: Keys
    ) -> None:
        try:
            cls = registry.find(name)
        except UnknownComponentError as error:
            self.add(name_path, str(error))
            return
        keys = component_keys(cls)
        further, of = further_keys(cls)
        if keys is not None and further is not None and of in arguments:
            try:
                more = further(arguments[of])
            except RayClassyError as error:
                self.add((*path, of), str(error))
                more = None
            keys = {**(dict.fromkeys(arguments, Key()) if more is None else more), **keys}
        if keys is None:  # the class reads what it likes; of the rest only the shared sections are known
            given = {key: value for key, value in arguments.items() if key in sections}
            self._section(given, sections, path, name)
        else:
            self._section(arguments, {**keys, **sections}, path, name, cls, registry)

    def _section(
        self,
        values: Mapping,
        keys: Keys,
        path: Path,
        owner: str,
        cls: type | None = None,
        registry: Registry | None = None,
    ) -> None:
        former = former_keys(cls) if cls else frozenset()
        self.sections.append((path, list(keys)))
        for name, value in values.items():
            here = (*path, name)
            key = keys.get(name)
            if key is not None:
                if not _is_default(value, key.default):
                    self.value(value, key.annotation, here)
            elif name in former and cls is not None:
                self.former.append((here, cls.__name__))
            elif cls is None or not takes_any_key(cls):
                self.found.append(_UnknownKey(here, list(keys), owner, registry))
        for name, key in keys.items():
            if name in values:
                continue
            if key.default is REQUIRED:
                self.add((*path, name), f"missing; {owner} requires it: {expectation(key.annotation)}")
            elif isinstance(key.annotation, dict):  # an absent section is still one where a stray key may belong
                self.sections.append(((*path, name), list(key.annotation)))
            elif any(registry_of(member) is not None for member in union_members(key.annotation)):
                self.sections.append(((*path, name), ["name"]))

    def _union(self, value: Any, annotation: Any, path: Path) -> None:
        members = union_members(annotation)
        if any(not is_structured(member) and mismatch(value, member) is None for member in members):
            return
        # Of the alternatives that have the value's shape, the one that fits best was meant.
        tries: list[_Walk] = []
        for member in members:
            if is_structured(member) and _has_shape(value, member):
                tries.append(_Walk())
                tries[-1].value(value, member, path)
        if not tries:
            self.add(path, f"expected {expectation(annotation)}, not {shown(value)}{_form(value, annotation)}")
            return
        best = min(tries, key=lambda one: len(one.found))
        self.found += best.found
        self.former += best.former
        self.sections += best.sections

    def _unknown(self, one: _UnknownKey) -> Problem:
        key, section = str(one.path[-1]), one.path[:-1]
        elsewhere = [path for path, names in self.sections if one.path[-1] in names and path != section]
        below = [path for path in elsewhere if path[: len(section)] == section]
        elsewhere = below or ([] if key == "name" else elsewhere)  # each component has a name
        is_slip = bool(difflib.get_close_matches(key, one.known, cutoff=_SLIP))
        others = [] if elsewhere or is_slip or one.registry is None else _takers(one.registry, key)
        like: list[str] = []
        if not (others or elsewhere or is_slip or _longer(key, one.known) or _abbreviated(key, one.known)):
            like = [f"`{dotted((*path, name))}`" for path, names in self.sections for name in _longer(key, names)]
        near = "" if others or like else nearest(key, one.known) or _abbreviated(key, one.known)
        advice = f"; did you mean {near}?" if near else ""
        if others and one.registry is not None:
            advice = f"; of the {one.registry.kind}s, {', '.join(others)} {'take' if len(others) > 1 else 'takes'} it"
        if like:
            advice = f"; did you mean {' or '.join(list(dict.fromkeys(like))[:2])}?"
        if elsewhere:
            places = [f"under `{dotted(path)}`" if path else "at the top level" for path in elsewhere]
            advice += f"; it belongs {' or '.join(list(dict.fromkeys(places))[:2])}"
        takes = f"{one.owner} takes {_listed(one.known)}" if one.known else f"{one.owner} takes no keys"
        return Problem(one.path, f"unknown key{advice} ({takes})")


def _takers(registry: Registry, key: str) -> list[str]:
    """The first components of a registry that have a key."""
    found = []
    for name in registry:
        with contextlib.suppress(Exception):  # of a module that cannot be imported here
            if key in (component_keys(registry[name]) or {}):
                found.append(name)
    return found[:_MOST_TAKERS]


def _form(value: Any, annotation: Any) -> str:
    """Says how to write what is given as a component's name alone, or which keys a section has; else empty."""
    for member in union_members(annotation):
        if isinstance(member, dict):
            return f"; its keys are {_listed(list(member))}"
        if isinstance(member, ByName):
            base, form = member.base, "{{{}: {{}}}}"
        elif is_list(member):
            base, form = element_of(member), "[{{name: {}}}]"
        else:
            base, form = member, "{{name: {}}}"
        registry = registry_of(base)
        if registry is not None and isinstance(value, str) and value in registry.names():
            return f"; write {form.format(value)}"
    return ""


def _has_shape(value: Any, annotation: Any) -> bool:
    """Whether the value is a mapping or a list where the annotation requires one."""
    if isinstance(annotation, dict | ByName) or registry_of(annotation) is not None or is_mapping(annotation):
        return isinstance(value, Mapping)
    return isinstance(value, list | tuple)


def _is_default(value: Any, default: Any) -> bool:
    """A default is right by definition, whatever the annotation says (`None` for a section, above all)."""
    try:
        return value is default or (type(value) is type(default) and bool(value == default))
    except Exception:  # tensors and the like have no single answer
        return False


def _abbreviated(key: str, known: list[str]) -> str:
    """The known keys of which `key` is short, or which are short for it: lr and learning_rate, end and end_value."""
    return " or ".join(map(repr, _longer(key, known)))


def _longer(key: str, known: list[str]) -> list[str]:
    plain = key.replace("_", "").lower()
    longer = [name for name in known if len(plain) >= _LEAST_LETTERS and name.replace("_", "").startswith(plain)]
    if longer:
        return longer
    pairs = [(name, {_initials(name), *(name[:at] for at in range(len(name)) if name[at] == "_")}) for name in known]
    return [name for name, short in pairs if key and (key in short or name == _initials(key))]


def _initials(name: str) -> str:
    return "".join(word[:1] for word in name.split("_")) if "_" in name else ""


def _listed(names: list[str]) -> str:
    return ", ".join(names[:_MOST_LISTED]) + (", ..." if len(names) > _MOST_LISTED else "")
