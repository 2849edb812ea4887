"""Reads columns of JSON Lines files."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from ray_classy.dataset.labels import TOO_LARGE
from ray_classy.dataset.manifest_text import check_names, not_utf8, open_lines, open_manifest, read_head
from ray_classy.errors import DataError
from ray_classy.urls import shown

_TYPES = {bool: "bool", int: "int64", str: "string"}
_LABEL_TYPES = {**_TYPES, float: "float64"}


def read_json(file: str, columns: Sequence[str]) -> Any:
    """Reads columns of a JSON Lines file into an Arrow table, with the types of the first row.

    Raises:
        DataError: a line is not a JSON object, a column is missing, or a value is of another type than the first.
    """
    import pyarrow as pa
    from pyarrow import json as arrow_json

    read_head(file)
    first = next((value for _, value in _rows(file)), None)
    if first is None:
        return pa.table({name: pa.array([], pa.string()) for name in columns})
    check_names(file, columns, list(first), " in its first row")
    types = {name: _type(file, 0, name, first[name]) for name in columns}
    # With types given, other fields may hold anything and are never made columns.
    parse = arrow_json.ParseOptions(
        explicit_schema=pa.schema([(name, pa.type_for_alias(kind)) for name, kind in types.items()]),
        unexpected_field_behavior="ignore",
    )
    try:
        with open_manifest(file) as stream:
            return arrow_json.read_json(stream, arrow_json.ReadOptions(block_size=8 << 20), parse)
    except pa.ArrowInvalid:
        for row, value in _rows(file):  # Arrow does not say which row
            for name in columns:
                kind = _type(file, row, name, value.get(name), types[name])
                if kind != types[name]:
                    raise DataError(
                        f"{shown(file)}: column {name!r} is of mixed types: row 0 has {first[name]!r} ({types[name]}), "
                        f"row {row} has {value[name]!r} ({kind}); make them all integers or all strings"
                    ) from None
        raise


def first_row(file: str) -> dict[str, Any] | None:
    """Returns the first object of a JSON Lines file; None if it has none."""
    return next((value for _, value in _rows(file)), None)


def read_json_labels(file: str, columns: Sequence[str]) -> Any:
    """Reads columns of labels of a JSON Lines file into an Arrow table: values, lists of them, or null.

    The type of a column is that of its first value that is not null, nor an empty list.

    Raises:
        DataError: a line is not a JSON object, a column is missing, or a value is of another type than the first.
    """
    import pyarrow as pa
    from pyarrow import json as arrow_json

    if first_row(file) is None:
        return pa.table({name: pa.array([], pa.string()) for name in columns})
    kinds: dict[str, tuple[bool, str]] = {}
    for row, value in _rows(file):
        if not row:
            check_names(file, columns, list(value), " in its first row")
        for name in columns:
            kind = _label_kind(file, row, name, value.get(name))
            if kind is not None and (name not in kinds or kinds[name][1] == "null"):
                kinds[name] = kind
        if len(kinds) == len(columns) and all(found != "null" for _, found in kinds.values()):
            break
    fields = []
    for name in columns:
        is_list, label = kinds.get(name, (False, "null"))
        plain = pa.string() if label == "null" else pa.type_for_alias(label)
        fields.append((name, pa.list_(plain) if is_list else plain))
    parse = arrow_json.ParseOptions(explicit_schema=pa.schema(fields), unexpected_field_behavior="ignore")
    try:
        with open_manifest(file) as stream:
            return arrow_json.read_json(stream, arrow_json.ReadOptions(block_size=8 << 20), parse)
    except pa.ArrowInvalid:
        for row, value in _rows(file):  # Arrow does not say which row
            for name in columns:
                found = _label_kind(file, row, name, value.get(name))
                if found is not None and found != kinds[name] and found[1] != "null":
                    raise DataError(
                        f"{shown(file)}, row {row}: column {name!r} has {value[name]!r} ({_kind_name(*found)}), and "
                        f"rows before have {_kind_name(*kinds[name])}: make them all of one type"
                    ) from None
        raise


def _label_kind(file: str, row: int, name: str, value: Any) -> tuple[bool, str] | None:
    """Returns whether a value is a list, and the type of its labels ("null" if it is empty); None for null."""
    if value is None:
        return None
    many = isinstance(value, list)
    kinds = {_LABEL_TYPES.get(type(label)) for label in value if label is not None} if many else {_scalar(value)}
    if None in kinds or len(kinds) > 1:
        raise DataError(
            f"{shown(file)}, row {row}: {value!r} in column {name!r}: expected a label, or a list of labels of one type"
        )
    return many, next(iter(kinds), "null") or "null"


def _scalar(value: Any) -> str | None:
    return _LABEL_TYPES.get(type(value))


def _kind_name(is_list: bool, kind: str) -> str:
    return f"a list of {kind}" if is_list else kind


def _rows(file: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields the objects of a file with their numbers."""
    row = number = 0
    try:
        with open_lines(file) as lines:
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                value = _object(f"{shown(file)}, line {number}", line)
                yield row, value
                row += 1
    except UnicodeDecodeError as error:
        raise not_utf8(file) or error from None


def _object(where: str, line: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: not JSON ({error}); JSON Lines have one object a line") from None
    if not isinstance(value, dict):
        raise DataError(f"{where}: not a JSON object; JSON Lines have one object a line")
    return value


def _type(file: str, row: int, name: str, value: Any, default: str | None = None) -> str:
    if value is None and default is not None:
        return default
    if value is None:
        raise DataError(f"{shown(file)}, row {row}: no value in column {name!r}; fill it in or remove the row")
    if type(value) not in _TYPES:
        raise DataError(f"{shown(file)}, row {row}: {value!r} in column {name!r}: expected an integer or a string")
    if type(value) is int and not -(2**63) <= value < 2**63:
        raise DataError(f"{shown(file)}, row {row}: the integer in column {name!r} {TOO_LARGE}")
    return _TYPES[type(value)]
