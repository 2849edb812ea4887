"""Applies values from the command line to a config."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from ray_classy.config.document import MOST_LEVELS, Config, Mark, Path, dotted, too_deep
from ray_classy.config.text import check_text
from ray_classy.config.yaml_text import parse_yaml, plain_value
from ray_classy.errors import ConfigError

_MOST_SHOWN = 200
"""Characters of an override in a message."""


def apply_overrides(config: Mapping[str, Any], overrides: Iterable[str]) -> Config:
    """Returns a new config with `key.path=value` overrides applied in order.

    Args:
        config: the config to start from; it is not changed.
        overrides: each a path of keys and list positions joined by dots, `=`, and a value: a list, a mapping or a
            quoted text in YAML (`dataset.train.transforms.0.size=[32, 32]`), a number or word as in YAML
            (`optimizer.lr=1e-3`, `seed=null`), or else a text, which is all that follows the `=`. There are no
            comments. Missing sections on the way are created.

    Raises:
        ConfigError: an override has no `=`, its value cannot be read, or its path leads through a value that is not a
            section.
    """
    values = copy.deepcopy(dict(config))
    marks = dict(getattr(config, "marks", {}))
    for override in overrides:
        path_text, equals, value_text = override.partition("=")
        short = override if len(override) <= _MOST_SHOWN else f"{override[:_MOST_SHOWN]}..."
        origin = f"override {short!r}"
        if not equals or not path_text.strip():
            raise ConfigError(f"{origin}: must read key.path=value, for example optimizer.lr=0.01")
        value = _value(value_text, origin)
        check_text(value, origin)
        if path_text.strip().startswith("x-"):
            raise ConfigError(
                f"{origin}: a key that begins with `x-` holds what other places of the file repeat (`*anchor`), and "
                f"each of these has its own copy by now: override the keys there"
            )
        path, created = _put(values, path_text.strip().split("."), value, origin)
        for old in [old for old in marks if old[: len(path)] == path]:
            del marks[old]
        marks |= dict.fromkeys([*created, path], Mark(origin))
    return Config(values, getattr(config, "file", None), marks)


def override_texts(values: Mapping[str, Any]) -> list[str]:
    """Returns overrides, as `apply_overrides` takes them, of values by dotted keys."""
    return [f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in values.items()]


def _value(text: str, origin: str) -> Any:
    """The value of an override."""
    stripped = text.strip()
    try:
        if stripped[:1] not in ("[", "{", '"', "'"):
            value = plain_value(stripped)
            return text if isinstance(value, str) else value
        # A `#` would begin a comment: the parser gets another character in its place.
        sign = next(sign for sign in map(chr, range(0xE000, 0xF8FF)) if sign not in text)
        value, _ = parse_yaml(stripped.replace("#", sign), origin, lines=False)
        return _replaced(value, sign, "#")
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(f"{origin}: {error}") from None


def _replaced(value: Any, old: str, new: str) -> Any:
    if isinstance(value, str):
        return value.replace(old, new)
    if isinstance(value, list):
        return [_replaced(item, old, new) for item in value]
    if isinstance(value, dict):
        return {_replaced(key, old, new): _replaced(item, old, new) for key, item in value.items()}
    return value


def _put(values: dict[str, Any], words: list[str], value: Any, origin: str) -> tuple[Path, list[Path]]:
    """Sets the value; returns its path, with list positions as numbers, and those of the sections made on the way."""
    if not all(words):
        raise ConfigError(f"{origin}: the path has an empty part; write it as optimizer.lr=0.01")
    if len(words) > MOST_LEVELS:
        raise too_deep(origin)
    path: Path = ()
    created: list[Path] = []
    place: Any = values
    for depth, word in enumerate(words):
        last = depth == len(words) - 1
        if isinstance(place, list):
            if not re.fullmatch("[0-9]{1,9}", word) or int(word) >= len(place):
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
