"""The config document: a dict that remembers the file and line of everything in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from ray_classy.errors import ConfigError

Path = tuple[str | int, ...]
"""Where a value stands in a config: keys and list positions from the top."""

MOST_LEVELS = 64
"""Levels of nesting; a config has about ten. Code that walks through a config may recurse."""


class Mark(NamedTuple):
    """The place where a value was written; prints as `file:line`.

    Attributes:
        file: path of the file, or another source of the value (an override); None if unknown.
        line: counted from 1; None if the source has no lines.
    """

    file: str | None
    line: int | None = None

    def __str__(self) -> str:
        name = self.file or "config"
        return name if self.line is None else f"{name}:{self.line}"


class Config(dict[str, Any]):
    """A plain dict of plain values, with its origin.

    Attributes:
        file: the file it was read from, or None.
        marks: the origin of each value by its path; `()` is the whole document.
    """

    def __init__(
        self,
        values: Mapping[str, Any] | Iterable[tuple[str, Any]] = (),
        file: str | None = None,
        marks: dict[Path, Mark] | None = None,
    ) -> None:
        super().__init__(values)
        self.file = file
        self.marks: dict[Path, Mark] = {} if marks is None else marks


def search_node(value: Any, path: Path = ()) -> Path | None:
    """Returns the path of the first search node, a mapping with the key `search`; None if there is none."""
    if isinstance(value, Mapping) and "search" in value:
        return path
    items: Any = ()
    if isinstance(value, Mapping):
        items = value.items()
    elif isinstance(value, list | tuple):
        items = enumerate(value)
    found = (search_node(inner, (*path, step)) for step, inner in items)
    return next((place for place in found if place is not None), None)


def mark_of(config: Any, path: Path) -> Mark:
    """Returns the origin of the value at `path`, or of the nearest section around it that has one."""
    marks = getattr(config, "marks", {})
    for length in range(len(path), -1, -1):
        if path[:length] in marks:
            return marks[path[:length]]
    return Mark(getattr(config, "file", None))


def too_deep(where: str) -> ConfigError:
    """The error for a config with too many levels, at a place that is printed first."""
    return ConfigError(f"{where}: nested too deeply; a config is a few levels deep, and at most {MOST_LEVELS}")


def dotted(path: Path) -> str:
    """Writes a path as users do: `dataset.train.transforms.0.name`."""
    return ".".join(str(part) for part in path)
