"""Converts labels, integers or names, to class indices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ray_classy.errors import DataError
from ray_classy.registry import nearest

_INTEGER = r"^[+-]?\d+$"
_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"


def class_targets(
    parts: Sequence[Any],
    sources: Sequence[str],
    column: str,
    classes: Sequence[str] | None,
    place: Callable[[int, int], str] | None = None,
) -> tuple[np.ndarray, list[str] | None]:
    """Returns the targets of all rows, shape (rows,), int64, and the names of the classes in target order, if any.

    Args:
        parts: Arrow columns of labels, one per file.
        sources: the files.
        column: name of the column in errors.
        classes: class names in the order of their targets; None sorts string labels, and uses integers as targets.
        place: names row `row` of part `part` in errors; by default "FILE, row ROW".

    Raises:
        DataError: a label is missing, of the wrong type, or not one of the classes; the message names file and row.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    place = place or (lambda part, row: f"{sources[part]}, row {row}")
    columns = []
    for number, values in enumerate(parts):
        if pa.types.is_dictionary(values.type):
            values = pc.cast(values, values.type.value_type)
        if values.null_count:
            row = pc.index(pc.is_null(values), True).as_py()
            raise DataError(f"{place(number, row)}: no label (null in column {column!r}); fill it in or remove the row")
        columns.append(values)
    kinds: dict[str, str] = {}
    for values, source in zip(columns, sources, strict=True):
        kinds.setdefault("string" if is_string(values.type) else str(values.type), source)
    strings = kinds.keys() == {"string"}
    if not strings and not all(pa.types.is_integer(part.type) or pa.types.is_boolean(part.type) for part in columns):
        held = " and ".join(f"{kind} ({kinds[kind]})" for kind in sorted(kinds))
        raise DataError(f"column {column!r} holds {held}: labels must be integers or strings, the same in all files")
    names = list(classes) if classes is not None else None
    if strings and names is None:
        names = sorted({name for part in columns for name in pc.unique(part).to_pylist()})
    targets = []
    for number, part in enumerate(columns):
        if strings:
            found = pc.index_in(part, value_set=pa.array(names, part.type))
            numbers = pc.fill_null(found, -1).to_numpy().astype(np.int64)
        else:
            numbers = pc.cast(part, pa.int64()).to_numpy()
        bad = (numbers < 0) if names is None else (numbers < 0) | (numbers >= len(names))
        if bad.any():
            label = part[int(bad.argmax())].as_py()
            raise DataError(f"{place(number, int(bad.argmax()))}: label {label!r} {_why_no_class(label, names)}")
        targets.append(numbers)
    return np.concatenate(targets), names


def typed_labels(texts: Any, classes: Sequence[str] | None, place: Callable[[int], str]) -> Any:
    """Converts the labels of a file of text to integers, or leaves them as names.

    They are names if `classes` lists them all, else integers if all look like integers, else names.

    Args:
        texts: an Arrow column of strings.
        classes: class names; None if none are given.
        place: names a row in errors.

    Raises:
        DataError: no classes are given, and only some labels are integers.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    found = pc.unique(texts).drop_null()
    if classes is not None and set(found.to_pylist()) <= set(classes):
        return texts
    if pc.all(pc.match_substring_regex(found, _INTEGER), min_count=0).as_py():
        return pc.cast(pc.replace_substring_regex(texts, r"^\+", ""), pa.int64())
    if classes is None:
        numbers = pc.match_substring_regex(texts, _NUMBER)
        number, name = (pc.index(numbers, value).as_py() for value in (True, False))
        if name < 0:
            row = pc.index(pc.match_substring_regex(texts, _INTEGER), False).as_py()
            raise DataError(
                f"{place(row)}: label {texts[row].as_py()!r} is not an integer; number the classes from 0, or "
                f"name them all in `classes`"
            )
        if number >= 0:
            raise DataError(
                f"labels are of mixed types, numbers and names: {place(number)} has {texts[number].as_py()!r}, "
                f"{place(name)} has {texts[name].as_py()!r}; correct them, or if all are names list them in `classes`"
            )
    return texts


def is_string(kind: Any) -> bool:
    """Whether an Arrow type holds strings."""
    import pyarrow as pa

    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def _why_no_class(label: Any, names: list[str] | None) -> str:
    if names is None:
        return "is negative: class indices count from 0"
    if isinstance(label, str):
        near = nearest(label, names)
        return "is not among the classes" + (f": did you mean {near}?" if near else f" {', '.join(names[:5])}, ...")
    return f"is not a class: `classes` lists {len(names)}, numbered from 0"
