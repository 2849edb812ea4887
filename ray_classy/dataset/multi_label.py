"""Converts lists of labels, texts with several labels, and columns of 0 and 1, to the classes of each row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ray_classy.dataset.class_match import check_class_names, few, numbers_of
from ray_classy.dataset.labels import is_string
from ray_classy.dataset.target_columns import _WHOLE_ROW, MultiHotColumn
from ray_classy.errors import DataError
from ray_classy.registry import nearest

Place = Callable[[int], str]
"""Names a row in errors, by its number."""


def is_list(kind: Any) -> bool:
    """Whether an Arrow type holds lists."""
    import pyarrow as pa

    return kind is not None and (
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    )


def split_texts(texts: Any, separator: str) -> Any:
    """Splits texts at a separator into lists of labels, without the spaces around them and without empty ones.

    Args:
        texts: an Arrow array of strings; null stays null.
        separator: what stands between two labels.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    lists = pc.split_pattern(pc.cast(texts, pa.large_string()), separator)
    values, parents = pc.utf8_trim_whitespace(pc.list_flatten(lists)), pc.list_parent_indices(lists)
    kept = pc.not_equal(values, "")
    lengths = np.bincount(parents.filter(kept).to_numpy(), minlength=len(lists))
    return _lists(lengths, values.filter(kept), np.asarray(pc.is_null(lists)))


def _lists(lengths: np.ndarray, values: Any, null: np.ndarray) -> Any:
    import pyarrow as pa

    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return pa.LargeListArray.from_arrays(pa.array(offsets), values, mask=pa.array(null))


def from_lists(
    lists: Any,
    column: str,
    classes: Sequence[str] | None,
    place: Place,
    optional: bool = False,
    named: Sequence[str] | None = None,
) -> MultiHotColumn:
    """Converts lists of labels.

    Args:
        lists: an Arrow array of lists of strings or integers; an empty list has no label, and null neither, unless the
            target is optional.
        column: name of the column, in errors.
        classes: class names in the order of their indices; None takes those that occur, sorted.
        place: names a row in errors.
        optional: whether the labels of a row may be unknown, which is what null means then.
        named: the names that the file itself gives to integers.

    Raises:
        DataError: a label is null, empty, of another type or not one of the classes; the message names the row.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    values = pc.list_flatten(lists)
    parents = np.asarray(pc.list_parent_indices(lists)).astype(np.int64)
    if pa.types.is_dictionary(values.type):
        values = pc.cast(values, values.type.value_type)
    if values.null_count:
        row = int(parents[pc.index(pc.is_null(values), True).as_py()])
        raise DataError(f"{place(row)}: a label in column {column!r} is null; fill it in or leave it out of the list")
    if pa.types.is_null(values.type):  # no row has a label
        values = values.cast(pa.string())
    if classes is not None:
        check_class_names(classes, "`classes`")
    names, indices = _indices(values, column, classes, named, lambda at: place(int(parents[at])))
    pairs = np.unique(parents * max(len(names), 1) + indices)  # a label that a row has twice counts once
    parents, codes = pairs // max(len(names), 1), (pairs % max(len(names), 1)).astype(np.int32)
    lengths = np.bincount(parents, minlength=len(lists))
    if optional and lists.null_count:
        unknown = np.flatnonzero(np.asarray(pc.is_null(lists)))
        places = np.searchsorted(parents, unknown)
        codes = np.insert(codes, places, np.int32(_WHOLE_ROW))
        lengths[unknown] = 1
    return MultiHotColumn(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64), codes, names)


def _indices(
    values: Any, column: str, classes: Sequence[str] | None, named: Sequence[str] | None, place: Place
) -> tuple[list[str], np.ndarray]:
    """Returns the names of the classes, and the index of each label."""
    import pyarrow as pa
    import pyarrow.compute as pc

    integers = pa.types.is_integer(values.type)
    if not integers and not is_string(values.type):
        raise DataError(f"column {column!r} holds lists of {values.type}: labels must be integers or strings")
    if not integers:
        empty = pc.index(pc.equal(pc.utf8_trim_whitespace(values), ""), True).as_py()
        if empty >= 0:
            raise DataError(f"{place(empty)}: a label in column {column!r} is empty; fill it in or leave it out")
    found = pc.unique(values).to_pylist()
    if integers and named is not None:
        known: dict[Any, str] = dict(enumerate(named))
        names = list(classes) if classes is not None else list(named)
    elif integers and classes is not None:
        numbers = numbers_of(classes) or {index: index for index in range(len(classes))}
        names, known = list(classes), {number: classes[index] for number, index in numbers.items()}
    else:
        known = {label: str(label) for label in found}
        names = list(classes) if classes is not None else [str(label) for label in sorted(found)]
        check_class_names(names, f"labels of column {column!r}, sorted")
    order = {name: index for index, name in enumerate(names)}
    by_label = [order.get(known.get(label, ""), -1) for label in found]
    indices = np.array(by_label, dtype=np.int64)[
        np.asarray(pc.index_in(values, value_set=pa.array(found, values.type)))
    ]
    if len(indices) and indices.min() < 0:
        at = int((indices < 0).argmax())
        label = values[at].as_py()
        near = nearest(label, names) if isinstance(label, str) else None
        hint = f"did you mean {near}?" if near else few(names)
        raise DataError(f"{place(at)}: label {label!r} is not among the classes: {hint}")
    return names, indices


def from_flags(
    columns: Sequence[Any], names: Sequence[str], classes: Sequence[str] | None, place: Place, optional: bool = False
) -> MultiHotColumn:
    """Converts one column of 0 and 1 per class.

    Args:
        columns: Arrow arrays of numbers, booleans or texts.
        names: of the columns.
        classes: names of the classes, in the order of the columns; None takes the names of the columns.
        place: names a row in errors.
        optional: whether a value may be unknown, which is null.

    Raises:
        DataError: a value is neither 0 nor 1; the message names row and column.
    """
    if classes is not None and len(classes) != len(names):
        raise DataError(f"`classes` lists {len(classes)} names, and there are {len(names)} label_columns: {few(names)}")
    check_class_names(classes or names, "`classes`" if classes is not None else "label_columns")
    rows, codes = [], []
    for index, (values, name) in enumerate(zip(columns, names, strict=True)):
        flags = _flags(values, name, place, optional)
        for value, code in ((1, index), (-1, -1 - index)):
            found = np.flatnonzero(flags == value)
            rows.append(found)
            codes.append(np.full(len(found), code, np.int32))
    together = np.concatenate(rows)
    order = np.argsort(together, kind="stable")
    lengths = np.bincount(together, minlength=len(columns[0]))
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return MultiHotColumn(offsets, np.concatenate(codes)[order], list(classes or names))


def _flags(values: Any, name: str, place: Place, optional: bool) -> np.ndarray:
    """Returns 0, 1, or -1 where it is not known, as int8."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_dictionary(values.type):
        values = pc.cast(values, values.type.value_type)
    if is_string(values.type):
        texts = pc.utf8_lower(values)
        ones, zeros = (pc.is_in(texts, pa.array(known, texts.type)) for known in (_ONES, _ZEROS))
    elif pa.types.is_boolean(values.type):
        ones, zeros = pc.fill_null(values, False), pc.fill_null(pc.invert(values), False)
    elif pa.types.is_integer(values.type) or pa.types.is_floating(values.type) or pa.types.is_null(values.type):
        numbers = pc.cast(values, pa.float64())
        ones, zeros = (pc.fill_null(pc.equal(numbers, known), False) for known in (1.0, 0.0))
    else:
        raise DataError(f"column {name!r} holds {values.type}: a column of label_columns must hold 0 and 1")
    flags = np.asarray(ones).astype(np.int8)
    null = np.asarray(pc.is_null(values))
    wrong = ~(np.asarray(ones) | np.asarray(zeros))
    if optional:
        flags[null] = -1
        wrong &= ~null
    if wrong.any():
        row = int(wrong.argmax())
        value, hint = values[row].as_py(), "correct it"
        if value is None:
            value, hint = "no value", "fill it in, or declare the target optional, so that nulls are ignored"
        raise DataError(f"{place(row)}: {value} in column {name!r}: expected 0 or 1; {hint}")
    return flags


_ONES = ("1", "1.0", "true")
_ZEROS = ("0", "0.0", "false")
