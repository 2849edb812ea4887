"""Reads the columns of a manifest: a CSV, JSON Lines or Parquet file with a row per image."""

from __future__ import annotations

import functools
import io
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from ray_classy.dataset.labels import is_string, typed_labels
from ray_classy.dataset.parquet_budget import text_table
from ray_classy.dataset.parquet_columns import label_names, opened_parquet
from ray_classy.errors import DataError
from ray_classy.registry import nearest
from ray_classy.urls import is_url, located, reason, shown, split_query

_COMPRESSIONS = (".gz", ".bz2", ".zst", ".lz4")
_JSON_TYPES = {bool: "bool", int: "int64", str: "string"}


class ManifestColumns(NamedTuple):
    """The columns of a manifest.

    Attributes:
        paths: an Arrow array of large strings.
        labels: an Arrow column of integers or strings; None if they are not read.
        label_names: names that the file gives to integer labels; None if it gives none.
    """

    paths: Any
    labels: Any | None
    label_names: list[str] | None


def read_manifest(
    file: str, path_column: str, label_column: str | None, classes: Sequence[str] | None
) -> ManifestColumns:
    """Reads the paths and labels of a manifest.

    Args:
        file: a path or URL. Its extension determines the format; CSV and JSON Lines may be compressed.
        path_column: name of the column of paths.
        label_column: name of the column of labels; None reads no labels.
        classes: class names, if they are given; labels that look like numbers are names if `classes` lists them.

    Raises:
        DataError: there is no such file, it cannot be read, lacks a column, or has a row without a path.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    columns = [path_column] if label_column is None else [path_column, label_column]
    reader = _reader_of(file)
    try:
        table = reader(file, columns)
    except FileNotFoundError as error:
        looked = "" if is_url(file) else f" (looked in {os.getcwd()})"
        raise DataError(f"there is no manifest {shown(file)!r}{looked}") from error
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(f"{shown(file)} cannot be read: {reason(error)}") from error
    paths = table.column(path_column)
    if pa.types.is_dictionary(paths.type):
        paths = pc.cast(paths, paths.type.value_type)
    if not is_string(paths.type):
        raise DataError(
            f"{shown(file)}: column {path_column!r} of type {paths.type} holds no paths: set path_column to another"
        )
    empty = pc.index(pc.fill_null(pc.equal(paths, ""), True), True).as_py()
    if empty >= 0:
        raise DataError(
            f"{shown(file)}, row {empty}: no path (column {path_column!r} is empty); fill it in or remove the row"
        )
    paths = pc.cast(paths, pa.large_string()).combine_chunks()
    labels = None if label_column is None else table.column(label_column)
    if labels is not None and reader not in (_read_parquet, _read_json):  # a CSV file has no types
        labels = typed_labels(labels, classes, lambda row: f"{shown(file)}, row {row}")
    named = None if label_column is None or reader is not _read_parquet else label_names(table.schema, label_column)
    return ManifestColumns(paths, labels, named)


def _reader_of(file: str) -> Callable[[str, list[str]], Any]:
    whole = split_query(file)[0].lower()
    name = whole
    for compression in _COMPRESSIONS:
        name = name.removesuffix(compression)
    extension = os.path.splitext(name)[1]
    if extension not in _READERS or (extension == ".parquet" and not whole.endswith(extension)):
        hint = "name JSON Lines, with one object a line, .jsonl" if extension == ".json" else "convert or rename it"
        raise DataError(
            f"manifest {shown(file)!r} is of an unknown kind: expected a file ending in {', '.join(_READERS)}; {hint}"
        )
    return _READERS[extension]


@contextmanager
def _stream(file: str) -> Iterator[Any]:
    filesystem, path = located(file)
    with filesystem.open_input_stream(path) as stream:
        yield stream


def _check_names(file: str, wanted: list[str], there: list[str], where: str = "") -> None:
    keys = ("path_column", "label_column")
    for key, column in zip(keys, wanted, strict=False):
        if column not in there:
            near = nearest(column, there)
            hint = f"did you mean {near}?" if near else f"set {key} to one of them"
            raise DataError(
                f"{shown(file)} has no column {column!r}: it has {', '.join(there) or 'none'}{where}; {hint}"
            )


def _read_parquet(file: str, columns: list[str]) -> Any:
    with opened_parquet(file, columns) as opened:
        _check_names(shown(file), columns, opened.schema_arrow.names)
        return text_table(shown(file), opened, columns)


def _read_csv(file: str, columns: list[str], delimiter: str = ",") -> Any:
    import pyarrow as pa
    from pyarrow import csv

    parse = csv.ParseOptions(delimiter=delimiter, newlines_in_values=True)
    with _stream(file) as stream, csv.open_csv(stream, parse_options=parse) as opened:
        _check_names(file, columns, opened.schema.names, " in its first line")
    convert = csv.ConvertOptions(
        include_columns=list(dict.fromkeys(columns)),
        column_types={name: pa.string() for name in columns},
        null_values=[""],
        strings_can_be_null=True,
    )
    with _stream(file) as stream:
        return csv.read_csv(stream, parse_options=parse, convert_options=convert)


def _read_json(file: str, columns: list[str]) -> Any:
    import pyarrow as pa
    from pyarrow import json as arrow_json

    first = next((value for _, value in _json_lines(file)), None)
    if first is None:
        return pa.table({name: pa.array([], pa.string()) for name in columns})
    _check_names(file, columns, list(first), " in its first row")
    types = {name: _json_type(file, 0, name, first[name]) for name in columns}
    # With types given, other fields may hold anything and are never made columns.
    parse = arrow_json.ParseOptions(
        explicit_schema=pa.schema([(name, pa.type_for_alias(kind)) for name, kind in types.items()]),
        unexpected_field_behavior="ignore",
    )
    try:
        with _stream(file) as stream:
            return arrow_json.read_json(stream, arrow_json.ReadOptions(block_size=8 << 20), parse)
    except pa.ArrowInvalid:
        for row, value in _json_lines(file):  # Arrow does not say which row
            for name in columns:
                kind = _json_type(file, row, name, value.get(name), types[name])
                if kind != types[name]:
                    raise DataError(
                        f"{shown(file)}: column {name!r} is of mixed types: row 0 has {first[name]!r} ({types[name]}), "
                        f"row {row} has {value[name]!r} ({kind}); make them all integers or all strings"
                    ) from None
        raise


def _json_lines(file: str) -> Iterator[tuple[int, dict[str, Any]]]:
    row = 0
    with _stream(file) as stream:
        for number, line in enumerate(io.TextIOWrapper(io.BufferedReader(stream), encoding="utf-8"), 1):
            if not line.strip():
                continue
            try:
                value = json.loads(line)
            except json.JSONDecodeError as error:
                raise DataError(
                    f"{shown(file)}, line {number}: not JSON ({error}); JSON Lines have one object a line"
                ) from None
            if not isinstance(value, dict):
                raise DataError(f"{shown(file)}, line {number}: not a JSON object; JSON Lines have one object a line")
            yield row, value
            row += 1


def _json_type(file: str, row: int, name: str, value: Any, default: str | None = None) -> str:
    if value is None and default is not None:
        return default
    if value is None:
        raise DataError(f"{shown(file)}, row {row}: no value in column {name!r}; fill it in or remove the row")
    if type(value) not in _JSON_TYPES:
        raise DataError(f"{shown(file)}, row {row}: {value!r} in column {name!r}: expected an integer or a string")
    return _JSON_TYPES[type(value)]


_READERS: dict[str, Callable[[str, list[str]], Any]] = {
    ".csv": _read_csv,
    ".tsv": functools.partial(_read_csv, delimiter="\t"),
    ".jsonl": _read_json,
    ".ndjson": _read_json,
    ".parquet": _read_parquet,
}
