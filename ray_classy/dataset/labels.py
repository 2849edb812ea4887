"""Converts labels, integers or names, to class indices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ray_classy.dataset.class_match import check_class_names, class_map, few, mapped, numbers_of, share_a_name
from ray_classy.errors import DataError
from ray_classy.registry import nearest

_INTEGER = r"^[+-]?\d+$"
_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"


IGNORED = (-1, -100)
"""Negative labels that datasets pass on, because a loss can ignore them (`ignore_index`)."""
_INT64 = 2**63


class Labels(NamedTuple):
    """The labels of a dataset.

    Attributes:
        targets: of all rows, shape (rows,), int64.
        classes: names in the order of their targets; None if labels are integers without names.
        by_label: targets by label; None if labels are the targets.
        remarks: how labels were read, where they could be read in two ways.
    """

    targets: np.ndarray
    classes: list[str] | None
    by_label: dict[Any, int] | None
    remarks: Sequence[str] = ()


def class_targets(
    parts: Sequence[Any],
    sources: Sequence[str],
    column: str,
    classes: Sequence[str] | None,
    place: Callable[[int, int], str] | None = None,
    named: Sequence[list[str] | None] = (),
) -> Labels:
    """Converts the labels of all rows to class indices.

    Integer labels are class indices, or, if all of `classes` are integers ("0", "1", "10"), the names of classes.

    Args:
        parts: Arrow columns of labels, one per file.
        sources: the files.
        column: name of the column in errors.
        classes: class names in the order of their targets; None sorts string labels, and uses integers as targets.
        place: names row `row` of part `part` in errors; by default "FILE, row ROW".
        named: the names that the files themselves give to integer labels, by part; empty if none does.

    Raises:
        DataError: a label is missing, of the wrong type, or not one of the classes; the message names file and row.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    place = place or (lambda part, row: f"{sources[part]}, row {row}")
    if classes is not None:
        check_class_names(classes, "`classes`")
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
    if kinds.keys() == {"string"}:
        labels = _of_strings(columns, column, classes, place)
        return labels._replace(remarks=_two_readings(labels.targets, classes))
    if not all(pa.types.is_integer(part.type) or pa.types.is_boolean(part.type) for part in columns):
        held = " and ".join(f"{kind} ({kinds[kind]})" for kind in sorted(kinds))
        raise DataError(f"column {column!r} holds {held}: labels must be integers or strings, the same in all files")
    return _of_integers(
        [_int64(part, number, place) for number, part in enumerate(columns)], sources, classes, place, named
    )


def targets_of(classes: Sequence[str]) -> dict[Any, int]:
    """Returns the targets of all labels that `classes` allows, names or integers, as `class_targets` converts them."""
    check_class_names(classes, "`classes`")
    numbers = numbers_of(classes) or {target: target for target in range(len(classes))}
    return {**{name: target for target, name in enumerate(classes)}, **numbers, **{label: label for label in IGNORED}}


def _of_strings(
    parts: list[Any], column: str, classes: Sequence[str] | None, place: Callable[[int, int], str]
) -> Labels:
    import pyarrow as pa
    import pyarrow.compute as pc

    for number, part in enumerate(parts):
        empty = pc.index(pc.equal(pc.utf8_trim_whitespace(part), ""), True).as_py()
        if empty >= 0:
            raise DataError(
                f"{place(number, empty)}: no label (empty text in column {column!r}); fill it in or remove the row"
            )
    names = sorted({name for part in parts for name in pc.unique(part).to_pylist()}) if classes is None else [*classes]
    if classes is None:
        check_class_names(names, f"labels of column {column!r}, sorted")
    targets = []
    for number, part in enumerate(parts):
        found = pc.index_in(part, value_set=pa.array(names, part.type))
        if found.null_count:
            row = pc.index(pc.is_null(found), True).as_py()
            label = part[row].as_py()
            near = nearest(label, names)
            hint = f": did you mean {near}?" if near else f" {few(names)}"
            raise DataError(f"{place(number, row)}: label {label!r} is not among the classes{hint}")
        targets.append(found.to_numpy().astype(np.int64))
    return Labels(np.concatenate(targets), names, {name: target for target, name in enumerate(names)})


def _of_integers(
    parts: list[np.ndarray],
    sources: Sequence[str],
    classes: Sequence[str] | None,
    place: Callable[[int, int], str],
    named: Sequence[list[str] | None],
) -> Labels:
    own, source = _agreed(named, sources)
    names = list(classes) if classes is not None else own
    remarks: list[str] = []
    numbers = None if classes is None or own is not None else numbers_of(classes)
    targets = []
    for number, part in enumerate(parts):
        if numbers is not None:
            wrong = ~np.isin(part, list(numbers))
        else:
            known = own if own is not None else names
            wrong = part < 0 if known is None else (part < 0) | (part >= len(known))
        wrong &= ~np.isin(part, IGNORED)
        if wrong.any():
            row = int(wrong.argmax())
            raise DataError(f"{place(number, row)}: label {part[row]} {_why_no_class(names, own, numbers)}")
        targets.append(part)
    by_label = numbers or {}
    if own is not None and classes is not None and len(own) == len(classes) and not share_a_name(own, classes):
        remarks.append(
            f"`classes` renames the classes of {source} in their order: {own[0]} is {classes[0]}, ..., {own[-1]} is "
            f"{classes[-1]}"
        )
    elif own is not None and classes is not None:
        try:
            by_label = class_map(own, classes, sides=("in `classes`", f"in {source}"))
        except DataError as error:
            raise DataError(f"`classes` lacks names that {source} gives to its labels: {error}") from None
    together = mapped(np.concatenate(targets), by_label)
    remarks += _two_readings(together, classes if own is None else None)
    if not any(label != target for label, target in by_label.items()):
        return Labels(together, names, None, remarks)
    every = range(len(own)) if own is not None else by_label
    return Labels(together, names, {label: by_label.get(label, label) for label in (*every, *IGNORED)}, remarks)


def _two_readings(targets: np.ndarray, classes: Sequence[str] | None) -> list[str]:
    """Returns a remark where labels are read as names of classes, and would be other classes as positions."""
    numbers = numbers_of(classes or [])
    if classes is None or numbers is None:
        return []
    used = set(np.unique(targets).tolist())
    found = {number: target for number, target in numbers.items() if target in used}
    moved = [number for number, target in found.items() if number != target]
    if not moved or not all(0 <= number < len(classes) for number in found):
        return []
    return [
        f"labels are read as the names in `classes`, not as positions: label {moved[0]} is the class "
        f"{classes[found[moved[0]]]!r}, at position {found[moved[0]]}"
    ]


def _agreed(named: Sequence[list[str] | None], sources: Sequence[str]) -> tuple[list[str] | None, str]:
    """Returns the names that files give to integer labels, and a file that does; those that give any must agree."""
    giving = [(names, source) for names, source in zip(named, sources, strict=False) if names is not None]
    if not giving:
        return None, ""
    first, where = giving[0]
    for names, source in giving:
        if names != first:
            raise DataError(
                f"files name the classes of their labels differently: {where} has {few(first)}, {source} has "
                f"{few(names)}; write them with one list of names"
            )
    return first, where


def _int64(part: Any, number: int, place: Callable[[int, int], str]) -> np.ndarray:
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_uint64(part.type):
        row = pc.index(pc.greater(part, pa.scalar(_INT64 - 1, pa.uint64())), True).as_py()
        if row >= 0:
            raise DataError(f"{place(number, row)}: label {part[row].as_py()} {TOO_LARGE}")
    return pc.cast(part, pa.int64()).to_numpy().astype(np.int64)


TOO_LARGE = "is too large for a class index: number the classes from 0, or list their names in `classes`"


def _why_no_class(names: list[str] | None, own: list[str] | None, numbers: dict[int, int] | None) -> str:
    if numbers is not None and names is not None:
        return f"is not among the classes {few(names)}: where all class names are integers, integer labels are names"
    if own is not None:
        return f"is not a class: the file names {len(own)} ({few(own)}), numbered from 0"
    if names is None:
        return "is negative: class indices count from 0 (only -1 and -100 may mark rows, for a loss that ignores them)"
    return f"is not a class: `classes` lists {len(names)}, numbered from 0"


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
        long = found.filter(pc.greater(pc.utf8_length(found), 18)).to_pylist()
        large = next((text for text in long if not -_INT64 <= _integer(text) < _INT64), None)
        if large is not None:
            raise DataError(f"{place(pc.index(texts, large).as_py())}: label {large[:30]} {TOO_LARGE}")
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


def _integer(text: str) -> int:
    return int(text) if len(text) < 25 else _INT64  # Python refuses to convert thousands of digits


def is_string(kind: Any) -> bool:
    """Whether an Arrow type holds strings."""
    import pyarrow as pa

    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
