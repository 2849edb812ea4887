"""Reads the targets of a dataset of tables from its files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np

from ray_classy.dataset.labels import class_targets, is_string, typed_labels
from ray_classy.dataset.list_texts import list_of_text, lists_of_texts
from ray_classy.dataset.multi_label import from_flags, from_lists, is_list, split_texts
from ray_classy.dataset.target_columns import ONLY, UNLABELLED, IndexColumn, TargetColumn
from ray_classy.dataset.target_options import TargetOptions
from ray_classy.errors import DataError


class LabelTable(NamedTuple):
    """The columns of labels of a file.

    Attributes:
        name: of the file, in errors.
        table: an Arrow table.
        label_names: the names that the file gives to the integers in a column, by column.
        is_text: whether values have no types, as in CSV.
    """

    name: str
    table: Any
    label_names: Mapping[Any, list[str]]
    is_text: bool = False


def read_targets(tables: Sequence[LabelTable], options: Mapping[str, TargetOptions]) -> dict[str, TargetColumn]:
    """Converts the columns of labels of all files to the targets of all rows, by name.

    Args:
        tables: of the files, with the columns that the options name.
        options: of the targets.

    Raises:
        DataError: a label is missing, of the wrong type, or not one of the classes; the message names target, file and
            row.
    """
    targets: dict[str, TargetColumn] = {}
    for name, one in options.items():
        try:
            targets[name] = _target(tables, one)
        except DataError as error:
            raise DataError(f"targets.{name}: {error}" if name != ONLY else str(error)) from None
    return targets


def _target(tables: Sequence[LabelTable], options: TargetOptions) -> TargetColumn:
    ends = list(accumulate(len(one.table) for one in tables))

    def place(row: int) -> str:
        number = int(np.searchsorted(ends, row, side="right"))
        return f"{tables[number].name}, row {row - (ends[number - 1] if number else 0)}"

    if options.columns is not None:
        names = options.columns_among(tables[0].table.column_names, tables[0].name)
        for one in tables:
            options.columns_among(one.table.column_names, one.name)
        columns = [_together([one.table.column(name) for one in tables]) for name in names]
        return from_flags(columns, names, options.classes, place, options.optional)
    column = str(options.column)
    parts = [one.table.column(column) for one in tables]
    if options.separator is None and _are_list_texts(tables, parts):
        lists = lists_of_texts(_together(parts), column, place)
        return from_lists(lists, column, options.classes, place, options.optional)
    if any(is_list(part.type) for part in parts) or options.separator is not None:
        lists = [_as_lists(part, one.name, options) for part, one in zip(parts, tables, strict=True)]
        named = tables[0].label_names.get(column)
        if any(one.label_names.get(column) != named for one in tables):
            raise DataError(f"files name the classes of column {column!r} differently: write them with one list")
        return from_lists(_together(lists), column, options.classes, place, options.optional, named)
    return _indices(parts, tables, column, options)


def _are_list_texts(tables: Sequence[LabelTable], parts: Sequence[Any]) -> bool:
    """Whether the first label of files without types is a list that is written as text."""
    import pyarrow.compute as pc

    if not all(one.is_text for one in tables):
        return False
    first = next((values[0].as_py() for part in parts if len(values := pc.drop_null(part))), None)
    return list_of_text(first) is not None


def _as_lists(part: Any, file: str, options: TargetOptions) -> Any:
    if is_list(part.type):
        if options.separator is not None:
            raise DataError(f"{file}: column {options.column!r} holds lists already: leave the separator out")
        return part
    if options.separator is None:
        raise DataError(f"{file}: column {options.column!r} holds {part.type}, and lists in other files")
    import pyarrow as pa

    if pa.types.is_null(part.type):
        part = part.cast(pa.string())
    if not is_string(part.type) and not pa.types.is_dictionary(part.type):
        raise DataError(f"{file}: column {options.column!r} holds {part.type}, not text with a separator")
    return split_texts(_together([part]), options.separator)


def _together(parts: Sequence[Any]) -> Any:
    """Returns columns as one Arrow array; those of other types than the first are converted to it."""
    import pyarrow as pa

    kinds = [part.type for part in parts if not pa.types.is_null(part.type)]
    kind = kinds[0] if kinds else parts[0].type
    if pa.types.is_integer(kind) and any(pa.types.is_floating(other) for other in kinds):
        kind = pa.float64()
    chunks = [chunk for part in parts for chunk in (part.chunks if isinstance(part, pa.ChunkedArray) else [part])]
    try:
        return pa.chunked_array([chunk.cast(kind) for chunk in chunks], kind).combine_chunks()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DataError(f"files differ in the type of a column of labels: {error}") from None


def _indices(parts: Sequence[Any], tables: Sequence[LabelTable], column: str, options: TargetOptions) -> IndexColumn:
    import pyarrow.compute as pc

    kept: list[np.ndarray] = []
    columns: list[Any] = []
    for part in parts:
        known = np.asarray(pc.is_valid(part)) if options.optional else np.ones(len(part), bool)
        kept.append(np.flatnonzero(known))
        columns.append(part.filter(known) if options.optional and part.null_count else part)

    def place(part: int, row: int) -> str:
        return f"{tables[part].name}, row {kept[part][row]}"

    typed = [
        typed_labels(values, options.classes, _place_of(place, number)) if one.is_text else values
        for number, (values, one) in enumerate(zip(columns, tables, strict=True))
    ]
    used = [number for number, values in enumerate(typed) if len(values)]
    if not used:
        raise DataError(f"no row has a label in column {column!r}")
    found = class_targets(
        [typed[number] for number in used],
        [tables[number].name for number in used],
        column,
        options.classes,
        lambda part, row: place(used[part], row),
        [tables[number].label_names.get(column) for number in used],
    )
    rows = np.concatenate([rows + end for rows, end in zip(kept, _starts(parts), strict=True)])
    targets = np.full(sum(map(len, parts)), UNLABELLED, np.int64)
    targets[rows] = found.targets
    return IndexColumn(targets, found.classes)


def _place_of(place: Callable[[int, int], str], part: int) -> Callable[[int], str]:
    return lambda row: place(part, row)


def _starts(parts: Sequence[Any]) -> list[int]:
    return [0, *accumulate(len(part) for part in parts)][:-1]
