"""Reads the names of classes from a file."""

from __future__ import annotations

import json
from typing import Any

from ray_classy.dataset.class_match import check_class_names
from ray_classy.errors import DataError
from ray_classy.urls import expanded, read_bytes, shown, split_query

AS_IN_TRAIN = "as in train"
"""A value of `classes` in `dataset.test`: the classes of the train dataset."""
_MOST_BYTES = 64 << 20
_LONGEST = 1000


def read_classes(file: str) -> list[str]:
    """Reads the names of classes in the order of their targets: a name on each line, or a JSON list (`.json`).

    Spaces around names, and empty lines at the end, do not count.

    Args:
        file: path or URL.

    Raises:
        DataError: the file cannot be read, is not UTF-8 text, has no names or an empty one, or a name twice; the
            message names file and line.
    """
    path = expanded(file)
    content = read_bytes(path, most=_MOST_BYTES)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(f"{shown(path)}, line {line}: not UTF-8 text: save it as UTF-8") from None
    if split_query(path)[0].lower().endswith(".json"):
        names = _json_list(shown(path), text)
        check_class_names(names, f"{shown(path)}")
        return names
    lines = text.split("\n")
    while lines and not lines[-1].strip():
        lines.pop()
    names = [line.strip() for line in lines]
    if not names:
        raise DataError(f"{shown(path)} is empty: write the name of a class on each line, in the order of the targets")
    seen: dict[str, int] = {}
    for number, name in enumerate(names, 1):
        if not name:
            raise DataError(f"{shown(path)}, line {number}: no name: remove the line, or write the name of the class")
        if len(name) > _LONGEST:
            raise DataError(
                f"{shown(path)}, line {number}: {len(name):,} characters are no name of a class: name another file"
            )
        before = seen.setdefault(name, number)
        if before != number:
            raise DataError(
                f"{shown(path)}, line {number}: the class {name!r} is there twice, first in line {before}: each class "
                f"has one name and one target"
            )
    check_class_names(names, shown(path))
    return names


def _json_list(file: str, text: str) -> list[Any]:
    try:
        names = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file}: not JSON ({error})") from None
    if not isinstance(names, list) or not names:
        raise DataError(f'{file}: expected a list of names of classes, such as ["cat", "dog"]')
    return names
