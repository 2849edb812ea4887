"""`ray-classy list model PATTERN`: the networks here, in torchvision and in timm."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any

from ray_classy.cli.arguments import UsageError
from ray_classy.errors import UnavailableError
from ray_classy.models import torchvision_model
from ray_classy.models.classy_model import MODEL_REGISTRY
from ray_classy.models.preprocessing import Preprocessing
from ray_classy.models.pretrained import require
from ray_classy.registry import nearest

_WIDTH = 110


def list_networks(pattern: str, pretrained: bool) -> str:
    """Lists the networks whose names a pattern matches, and describes those that have exactly that name.

    Args:
        pattern: a part of the name, or a shell pattern for all of it (`convnext*`).
        pretrained: only those with pretrained weights.

    Raises:
        UsageError: there is none.
    """
    lines: list[str] = []
    for title, names, describe in _libraries(pretrained):
        found = [name for name in names if _matches(name, pattern)]
        if found:
            lines += [title, *describe(found, pattern), ""]
    hint = _timm_hint()
    if not lines:
        raise UsageError(_unknown(pattern, pretrained) + (f". {hint}" if hint else ""))
    return "\n".join([*lines, hint] if hint else lines[:-1])


def _matches(name: str, pattern: str) -> bool:
    return fnmatchcase(name, pattern) if any(mark in pattern for mark in "*?[") else pattern.lower() in name.lower()


def _libraries(pretrained: bool) -> Iterator[tuple[str, list[str], Any]]:
    """Yields for each library a line with the config of its networks, their names, and what describes some of them."""
    if not pretrained:
        own = [name for name in sorted(MODEL_REGISTRY) if name not in ("timm", "torchvision")]
        yield "ray_classy, {name: NAME}; their keys: ray-classy list model NAME", own, _plain
    weights = ", weights: DEFAULT" if pretrained else ""
    names = torchvision_model.names()
    yield (
        f"torchvision, {{name: torchvision, model: NAME{weights}}}",
        names,
        _of_torchvision if pretrained else _described,
    )
    if _timm_hint():
        return
    from timm.models import list_models

    weights = ", pretrained: true" if pretrained else ""
    yield f"timm, {{name: timm, model: NAME{weights}}}", list_models(pretrained=pretrained), _described_by_timm


def _timm_hint() -> str:
    try:
        require("timm", "timm")
    except UnavailableError as error:
        return f"{error}; it has more than 1,000 further networks"
    return ""


def _plain(names: list[str], pattern: str) -> list[str]:
    return textwrap.wrap(", ".join(names), _WIDTH, initial_indent="  ", subsequent_indent="  ")


def _of_torchvision(names: list[str], pattern: str) -> Iterator[str]:
    """Yields a line for each pretrained file of weights: size, and accuracy on ImageNet."""
    width = max(map(len, names))
    for name in names:
        entries = torchvision_model.weights_of(name)
        for key, entry in entries.items():
            if key == "DEFAULT":
                continue
            default = " (DEFAULT)" if entry == entries["DEFAULT"] else ""
            accuracy = entry.meta["_metrics"].get("ImageNet-1K", {}).get("acc@1")
            measured = f", {accuracy:.1f} % top-1 on ImageNet" if accuracy is not None else ""
            millions = f"{entry.meta['num_params'] / 1e6:.1f} M parameters"
            yield f"  {name:<{width}}  {key}{default}: {millions}{measured}"


def _described(names: list[str], pattern: str) -> Iterator[str]:
    yield from _plain(names, pattern)
    if pattern in names:
        found = torchvision_model.TorchvisionModel.preprocessing({"model": pattern})
        yield from _about(
            pattern, torchvision_model.options_of(pattern), [*torchvision_model.weights_of(pattern)], found
        )


def _described_by_timm(names: list[str], pattern: str) -> Iterator[str]:
    yield from _plain(names, pattern)
    if pattern in names:
        from timm.models import list_models

        from ray_classy.models import timm_model

        found = timm_model.TimmModel.preprocessing({"model": pattern})
        tags = list_models(f"{pattern.partition('.')[0]}.*", pretrained=True)
        yield from _about(pattern, timm_model.options_of(pattern), tags, found)


def _about(name: str, keys: Any, weights: list[str], found: Preprocessing) -> Iterator[str]:
    """Yields the options, weights and images of a network."""
    options = "any that the network takes" if keys is None else ", ".join(sorted(keys)) or "none"
    height, width = found.size
    shape = f"to {found.resize} x {found.resize}" if found.squash else f"to {found.resize} on the shorter side"
    for label, text in (
        (f"options of {name}", options),
        ("weights", ", ".join(weights) or "none"),
        ("images", f"{height} x {width}, {found.interpolation}; in testing the centre after resizing {shape}"),
    ):
        yield from textwrap.wrap(f"{label}: {text}", _WIDTH, initial_indent="  ", subsequent_indent="    ")


def _unknown(pattern: str, pretrained: bool) -> str:
    names = {name: None for _, names, _ in _libraries(pretrained) for name in names}
    near = nearest(pattern, list(names))
    what = "no network with pretrained weights" if pretrained else "unknown model: no network"
    return f"{what} has {pattern!r} in its name" + (f": did you mean {near}?" if near else "")
