"""Text that no value of a config may have."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from ray_classy.config.document import Path, dotted
from ray_classy.errors import ConfigError
from ray_classy.printable import printable

_VARIABLE = re.compile(r"\$\{[^{}]*\}")
_SURROGATE = re.compile("[\ud800-\udfff]")


def check_text(value: Any, place: str | Callable[[Path], object], path: Path = ()) -> None:
    """Refuses text in a config that cannot be recorded, or that would not mean what it looks like.

    Args:
        value: a config, or a value in one.
        place: the origin of all values, or gives the file and line of each.
        path: of the value.

    Raises:
        ConfigError: a text is not Unicode, or has a variable that nothing replaces.
    """
    if isinstance(value, str):
        _check(value, place, path)
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            _check(str(key), place, (*path, key))
            check_text(inner, place, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            check_text(inner, place, (*path, index))


def _check(text: str, place: str | Callable[[Path], object], path: Path) -> None:
    if found := _SURROGATE.search(text):
        byte = ord(found[0]) - 0xDC00
        what = f"the byte 0x{byte:02X}, which is not UTF-8" if 0x80 <= byte <= 0xFF else "a surrogate"
        raise ConfigError(
            f"{_at(place, path)}: {printable(text)[:80]!r} has {what}, and cannot be recorded: rename the file, or "
            f"give a link to it with another name"
        )
    if found := _VARIABLE.search(text):
        raise ConfigError(
            f"{_at(place, path)}: {found[0]} is not replaced by a variable: a value is what is written. Write it out, "
            f"or give it on the command line, where the shell replaces variables: "
            f'{dotted(path) or "key"}="{found[0]}"'
        )


def _at(place: str | Callable[[Path], object], path: Path) -> str:
    where = place if isinstance(place, str) else str(place(path))
    return printable(": ".join(filter(None, (where, dotted(path)))))
