"""Applies values from the command line to a config."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any

from ray_classy.config.document import Config, Mark, Path, dotted
from ray_classy.config.yaml_text import parse_yaml
from ray_classy.errors import ConfigError


def apply_overrides(config: Mapping[str, Any], overrides: Iterable[str]) -> Config:
    """Returns a new config with `key.path=value` overrides applied in order.

    Args:
        config: the config to start from; it is not changed.
        overrides: each a path of keys and list positions joined by dots, `=`, and a value in YAML
            (`optimizer.lr=1e-3`, `dataset.train.transforms.0.size=[32, 32]`). Missing sections on the way are created.

    Raises:
        ConfigError: an override has no `=`, its value is not YAML, or its path leads through a value that is not a
            section.
    """
    values = copy.deepcopy(dict(config))
    marks = dict(getattr(config, "marks", {}))
    for override in overrides:
        path_text, equals, value_text = override.partition("=")
        origin = f"override {override!r}"
        if not equals or not path_text.strip():
            raise ConfigError(f"{origin}: must read key.path=value, for example optimizer.lr=0.01")
        try:
            value, _ = parse_yaml(value_text, origin)
        except ConfigError as error:
            quoted = f"'{path_text}=\"...\"'"
            raise ConfigError(f"{error}; put text with special characters in quotes: {quoted}") from None
        path, created = _put(values, path_text.strip().split("."), value, origin)
        for old in [old for old in marks if old[: len(path)] == path]:
            del marks[old]
        marks |= dict.fromkeys([*created, path], Mark(origin))
    return Config(values, getattr(config, "file", None), marks)


def _put(values: dict[str, Any], words: list[str], value: Any, origin: str) -> tuple[Path, list[Path]]:
    """Sets the value; returns its path, with list positions as numbers, and those of the sections made on the way."""
    if not all(words):
        raise ConfigError(f"{origin}: the path has an empty part; write it as optimizer.lr=0.01")
    path: Path = ()
    created: list[Path] = []
    place: Any = values
    for depth, word in enumerate(words):
        last = depth == len(words) - 1
        if isinstance(place, list):
            if not word.isascii() or not word.isdigit() or int(word) >= len(place):
                has = f"positions 0 to {len(place) - 1}" if place else "no elements"
                raise ConfigError(f"{origin}: {dotted(path)} is a list with {has}; {word!r} is none of them")
            step: str | int = int(word)
        elif isinstance(place, dict):
            step = word
        else:
            raise ConfigError(
                f"{origin}: {dotted(path)} is {place!r}, not a section, so it has no {word!r}; "
                f"set the whole: {dotted(path)}={{{word}: ...}}"
            )
        path = (*path, step)
        if last:
            place[step] = value
        else:
            # A section that is absent or left empty (null) is created; a wrong one is found by the check.
            if isinstance(place, dict) and place.get(step) is None:
                place[step] = {}
                created.append(path)
            place = place[step]
    return path, created
