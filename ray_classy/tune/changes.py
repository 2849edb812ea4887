"""Whether a sweep that is gone on with is still the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ray_classy.config import dotted
from ray_classy.errors import RunFolderError

_FREE_TO_CHANGE = {"ray", "tune.max_concurrent_trials", "tune.time_budget_s", "tune.reuse_actors"}


def refuse_changes(before: Mapping[str, Any], now: Mapping[str, Any], path: str) -> None:
    """Refuses to go on with a sweep of something else.

    Raises:
        RunFolderError: the message says what changed.
    """
    old, new = (_flat(described) for described in (before, now))
    changed = []
    for name in [*new, *(name for name in old if name not in new)]:
        if any(name == free or name.startswith(f"{free}.") for free in _FREE_TO_CHANGE):
            continue
        if old.get(name) != new.get(name):
            was = old.get(name, "(nothing)")
            now_is = new.get(name, "(nothing)")
            changed.append(f"  {name}: {was} -> {now_is}")
    if changed:
        more = ["  ..."] if len(changed) > 20 else []
        raise RunFolderError(
            "\n".join(
                [
                    f"the sweep {path!r} is of another config; what changed:",
                    *changed[:20],
                    *more,
                    "Leave the config out to go on with the sweep's own (--resume RUN), add samples or epochs with "
                    "--extend RUN, or give the new sweep another name",
                ]
            )
        )


def _flat(value: Any, path: tuple[str | int, ...] = ()) -> dict[str, Any]:
    items: Any = ()
    if isinstance(value, Mapping):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    else:
        return {dotted(path): value}
    found: dict[str, Any] = {}
    for step, inner in items:
        found.update(_flat(inner, (*path, step)))
    return found
