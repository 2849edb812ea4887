"""Reads lists of labels that are written as text, as pandas writes them into CSV: `['cat', 'dog']`."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable
from typing import Any

from ray_classy.errors import DataError

_MOST_LETTERS = 10_000


def list_of_text(text: str | None) -> list[Any] | None:
    """Returns the list of strings, or of integers, that a text is; None if it is none.

    Args:
        text: in JSON or as Python writes lists: `["cat", "dog"]`, `['cat', 'dog']`, `[3, 7]`, `[]`.
    """
    if text is None or len(text) > _MOST_LETTERS or not (text.startswith("[") and text.endswith("]")):
        return None
    for parse in (json.loads, ast.literal_eval):
        try:
            found = parse(text)
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            continue
        if isinstance(found, list) and {type(label) for label in found} in ({str}, {int}, set()):
            return found
    return None


def lists_of_texts(texts: Any, column: Any, place: Callable[[int], str]) -> Any:
    """Converts texts to lists of labels, an Arrow array; null stays null.

    Args:
        texts: an Arrow column of strings.
        column: its name, in errors.
        place: names a row in errors.

    Raises:
        DataError: a text is not a list of strings or integers, or some lists have strings and others integers.
    """
    import pyarrow as pa

    lists: list[list[Any] | None] = []
    kinds: set[type] = set()
    for row, text in enumerate(texts.to_pylist()):
        found = list_of_text(text)
        kinds |= {type(label) for label in found or ()}
        if (found is None and text is not None) or len(kinds) > 1:
            raise DataError(
                f"{place(row)}: {text[:60]!r} in column {column!r} is not like the lists of labels before it: "
                f"write all as ['cat', 'dog'], or all as texts with a separator (`label_separator`)"
            )
        lists.append(found)
    return pa.array(lists, pa.large_list(pa.int64() if kinds == {int} else pa.large_string()))
