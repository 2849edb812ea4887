"""What differs between two configs."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from ray_classy.config.document import dotted
from ray_classy.redact import redacted_values

_MOST_SHOWN = 20


def changed_lines(before: Mapping[str, Any], now: Mapping[str, Any], free: Collection[str] = ()) -> list[str]:
    """Returns an indented line for each value that differs; after twenty of them "...".

    Secrets are not compared, as no record has them.

    Args:
        before, now: plain configs, or mappings of dotted names.
        free: dotted names of values and sections that may differ.
    """
    old, new = flat(redacted_values(before)), flat(redacted_values(now))
    lines = [
        f"  {name}: {old.get(name, '(nothing)')} -> {new.get(name, '(nothing)')}"
        for name in [*new, *(name for name in old if name not in new)]
        if old.get(name) != new.get(name) and not any(name == one or name.startswith(f"{one}.") for one in free)
    ]
    return lines if len(lines) <= _MOST_SHOWN else [*lines[:_MOST_SHOWN], "  ..."]


def flat(value: Any, path: tuple[str | int, ...] = ()) -> dict[str, Any]:
    """Returns the values of a nested config by dotted name."""
    items: Any = ()
    if isinstance(value, Mapping):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    else:
        return {dotted(path): value}
    found: dict[str, Any] = {}
    for step, inner in items:
        found.update(flat(inner, (*path, step)))
    return found
