"""`ray-classy list`."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Iterator
from typing import Any

import ray_classy.tasks  # noqa: F401  # registers the components of every kind
from ray_classy.cli.arguments import UsageError
from ray_classy.cli.output import Answer
from ray_classy.config.check import component_keys
from ray_classy.config.wording import expectation, shown
from ray_classy.errors import UnknownComponentError
from ray_classy.registry import REQUIRED, Key, Keys, Registry, former_keys, nearest

_WIDTH = 110


def listing(arguments: argparse.Namespace) -> Answer:
    """The kinds of components; the components of a kind with their keys; or one of them.

    Raises:
        UsageError: there is no such kind, or no such component.
    """
    words = arguments.words
    if not words or words[0] not in Registry.all:  # those of sweeps, with which Ray is imported: seconds
        import ray_classy.tune.parts  # noqa: F401
    kinds = {kind: registry for kind, registry in sorted(Registry.all.items()) if registry.base is not None}
    if not words:
        return Answer("\n".join(_kinds(kinds)))
    if len(words) > 2:
        raise UsageError(f"list takes a kind and a name, not {' '.join(words[2:])!r} beside them")
    if words[0] not in kinds:
        near = nearest(words[0], list(kinds))
        hint = f"did you mean {near}? The" if near else "the"
        raise UsageError(f"there is no kind {words[0]!r}: {hint} kinds are {', '.join(kinds)}")
    registry = kinds[words[0]]
    if len(words) == 2:
        try:
            return Answer("\n".join(_block(words[1], registry.find(words[1]))))
        except UnknownComponentError as error:
            raise UsageError(str(error)) from None
    return Answer("\n".join(_components(registry)))


def _kinds(kinds: dict[str, Registry]) -> Iterator[str]:
    for kind, registry in kinds.items():
        yield from _wrapped(f"{kind:<16} ", sorted(registry), " " * 17)
    yield ""
    yield "`ray-classy list KIND` shows their keys, `ray-classy list KIND NAME` those of one"


def _components(registry: Registry) -> Iterator[str]:
    for name in sorted(registry):
        yield from _block(name, registry[name])
        yield ""
    others = [name for name in registry.names() if name not in registry]
    if others:
        yield f"also, from torch or torchvision (`ray-classy list {registry.kind} NAME` shows the keys):"
        yield from _wrapped("  ", others, "  ")


def _wrapped(first: str, names: list[str], indent: str) -> list[str]:
    return textwrap.wrap(", ".join(names), _WIDTH, initial_indent=first, subsequent_indent=indent)


def _block(name: str, cls: type) -> Iterator[str]:
    about = (cls.__doc__ or "").strip().split("\n\n")[0]
    about = " ".join(about.split()) if about and "TorchvisionTransform" not in str(cls.__mro__) else ""
    yield from textwrap.wrap(f"{name}: {about}" if about else name, _WIDTH, subsequent_indent="    ")
    keys = component_keys(cls)
    if keys is None:
        yield "    keys: those that its own from_config reads"
        return
    yield from _key_lines(keys, "    ")
    former = sorted(former_keys(cls))
    if former:
        yield f"    accepted without effect: {', '.join(former)}"


def _key_lines(keys: Keys, indent: str) -> Iterator[str]:
    width = max((len(name) for name in keys), default=0)
    for name, key in keys.items():
        if isinstance(key.annotation, dict):
            yield f"{indent}{name}:"
            yield from _key_lines(key.annotation, indent + "    ")
        else:
            yield f"{indent}{name:<{width}}  {_type(key)}{_default(key)}"


def _type(key: Key) -> str:
    return "anything" if key.annotation is Any else expectation(key.annotation)


def _default(key: Key) -> str:
    if key.default is REQUIRED:
        return "; required"
    return f"; default {shown(key.default)}"
