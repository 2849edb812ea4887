"""Relative paths in the config of an earlier run, which are resolved against the folder where it was started."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

from ray_classy.config import dotted
from ray_classy.config.document import Path
from ray_classy.urls import is_url

_KEY = re.compile(
    r"(?:^|_)(?:files?|folders?|paths?|dirs?|roots?|manifests?|shards?|checkpoint|weights|pretrained|classes)\Z"
)
_WILD = re.compile(r"[*?\[{]")


def started_in(facts: Mapping[str, Any]) -> Any:
    """Returns the working directory of a run's last start, from what the run has recorded; None if it has not."""
    starts = facts.get("starts") or [{}]
    return starts[-1].get("cwd")


def resolve_paths(config: dict[str, Any], folder: Any) -> list[str]:
    """Makes relative paths in a run's config absolute where the run was started in another working directory.

    A path stays relative if nothing is there any more, as after the whole project has moved.

    Args:
        config: of the run; is changed.
        folder: the working directory of the run.

    Returns:
        A line for each path that is changed.
    """
    if not isinstance(folder, str) or not os.path.isabs(folder) or _same_folder(folder):
        return []
    lines = []
    for section, step, path in list(relative_paths(config, ())):
        there = os.path.join(folder, section[step])
        if os.path.lexists(_fixed_part(there)):
            section[step] = there
            lines.append(f"{dotted(path)} is {there!r}, as the run was started in {folder!r}")
    return lines


def _same_folder(folder: str) -> bool:
    try:
        return os.path.samefile(folder, os.getcwd())
    except OSError:
        return False


def relative_paths(value: Any, path: Path) -> Iterator[tuple[Any, Any, Path]]:
    """Yields the container, the key and the place of each relative path: a text under a key that names one."""
    items = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    for step, inner in items:
        here = (*path, step)
        if not isinstance(inner, str):
            if here != ("ray",):  # Ray's options hold no path of data
                yield from relative_paths(inner, here)
        elif inner and not is_url(inner) and not os.path.isabs(inner) and not inner.startswith("~"):
            name = next((part for part in reversed(here) if isinstance(part, str)), "")
            if _KEY.search(name):
                yield value, step, here


def _fixed_part(pattern: str) -> str:
    """The folder of a pattern, above its first wildcard or brace, unless a file has that very name."""
    wild = _WILD.search(pattern)
    return pattern if wild is None or os.path.lexists(pattern) else os.path.dirname(pattern[: wild.start()])
