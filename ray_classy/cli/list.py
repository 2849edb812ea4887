"""`ray-classy list`."""

from __future__ import annotations

import argparse
import importlib
import textwrap
from collections.abc import Iterator
from typing import Any

from ray_classy.cli.arguments import UsageError
from ray_classy.cli.output import Answer
from ray_classy.config.check import component_keys
from ray_classy.config.wording import expectation, shown
from ray_classy.errors import UnknownComponentError
from ray_classy.registry import REQUIRED, Key, Keys, Registry, former_keys, nearest

_WIDTH = 110
KINDS = {
    "dataset": "ray_classy.dataset.classy_dataset",
    "head": "ray_classy.heads.classy_head",
    "hook": "ray_classy.hooks.classy_hook",
    "loss": "ray_classy.losses.classy_loss",
    "meter": "ray_classy.meters.classy_meter",
    "model": "ray_classy.models.classy_model",
    "optimizer": "ray_classy.optim.classy_optimizer",
    "param_scheduler": "ray_classy.optim.param_scheduler.classy_vision_param_scheduler",
    "sampling": "ray_classy.dataset.sampling.classy_sampling",
    "scheduler": "ray_classy.tune.parts",
    "search_alg": "ray_classy.tune.parts",
    "task": "ray_classy.tasks.classy_task",
    "transform": "ray_classy.dataset.transforms.classy_transform",
}
"""The kinds of components, and the modules that define their registries."""


def list_components(arguments: argparse.Namespace) -> Answer:
    """Lists the kinds of components, the components of a kind with their keys, or one of them.

    Of models it also finds those of torchvision and timm: see `list_networks`.

    Raises:
        UsageError: there is no such kind, or no such component.
    """
    words = arguments.words
    if not words:
        return Answer("\n".join(_kinds()))
    if len(words) > 2:
        raise UsageError(f"list takes a kind and a name, not {' '.join(words[2:])!r} beside them")
    registry = _registry(words[0])
    if arguments.pretrained and (words[0] != "model" or len(words) == 1):
        raise UsageError("--pretrained is for networks: ray-classy list model PATTERN --pretrained")
    if words[0] == "model" and len(words) == 2 and (arguments.pretrained or words[1] not in registry):
        from ray_classy.cli.list_networks import list_networks

        return Answer(list_networks(words[1], arguments.pretrained))
    if len(words) == 2:
        try:
            return Answer("\n".join(_block(words[1], registry.find(words[1]))))
        except UnknownComponentError as error:
            raise UsageError(str(error)) from None
    return Answer("\n".join(_components(registry)))


def _registry(kind: str) -> Registry:
    if kind not in KINDS:
        near = nearest(kind, list(KINDS))
        hint = f"did you mean {near}? The" if near else "the"
        raise UsageError(f"there is no kind {kind!r}: {hint} kinds are {', '.join(KINDS)}")
    importlib.import_module(KINDS[kind])
    return Registry.all[kind]


def _kinds() -> Iterator[str]:
    for kind in KINDS:
        yield from _wrapped(f"{kind:<16} ", sorted(_registry(kind)), " " * 17)
    yield ""
    yield "`ray-classy list KIND` shows their keys, `ray-classy list KIND NAME` those of one"
    yield "`ray-classy list model PATTERN` finds networks, also those of torchvision and timm"


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
