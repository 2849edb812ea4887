"""Reads the columns of a manifest: a CSV, JSON Lines or Parquet file with a row per image."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

from ray_classy.dataset.labels import is_string, typed_labels
from ray_classy.dataset.manifest_csv import check_delimiter, read_csv
from ray_classy.dataset.manifest_json import read_json
from ray_classy.dataset.manifest_text import check_is_file, check_names
from ray_classy.dataset.parquet_budget import text_table
from ray_classy.dataset.parquet_columns import label_names
from ray_classy.dataset.parquet_source import opened_parquet
from ray_classy.errors import ComponentError, DataError
from ray_classy.urls import is_url, reason, shown, split_query

_COMPRESSIONS = (".gz", ".bz2", ".zst", ".lz4")
_KINDS = {".csv": "csv", ".tsv": "csv", ".jsonl": "json", ".ndjson": "json", ".parquet": "parquet"}


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
    file: str,
    path_column: str | int,
    label_column: str | int | None,
    classes: Sequence[str] | None,
    delimiter: str | None = None,
) -> ManifestColumns:
    """Reads the paths and labels of a manifest.

    Args:
        file: a path or URL. Its extension determines the format; CSV and JSON Lines may be compressed.
        path_column: name of the column of paths; or its number from 0, of CSV whose first line does not name columns.
        label_column: name or number of the column of labels; None reads no labels.
        classes: class names, if they are given; labels that look like numbers are names if `classes` lists them.
        delimiter: of CSV; None finds it.

    Raises:
        ComponentError: a column is neither a name nor a number, or the delimiter is no character.
        DataError: there is no such file, it cannot be read, lacks a column, or has a row without a path.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    columns = [path_column] if label_column is None else [path_column, label_column]
    extension = extension_of(file, delimiter)
    kind = kind_of(extension)
    _check_columns(file, kind, columns, delimiter)
    try:
        if kind == "csv":
            usual = "\t" if extension == ".tsv" else ","
            table = read_csv(file, columns, check_delimiter(delimiter), usual)
        else:
            names = [str(column) for column in columns]
            table = read_json(file, names) if kind == "json" else _read_parquet(file, names)
    except FileNotFoundError as error:
        looked = "" if is_url(file) else f" (looked in {os.getcwd()})"
        raise DataError(f"there is no manifest {shown(file)!r}{looked}") from error
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(f"{shown(file)} cannot be read: {reason(error)}") from error
    paths = table.column(str(path_column))
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
    labels = None if label_column is None else table.column(str(label_column))
    if labels is not None and kind == "csv":  # it has no types
        labels = typed_labels(labels, classes, lambda row: f"{shown(file)}, row {row}")
    named = label_names(table.schema, str(label_column)) if kind == "parquet" and label_column is not None else None
    return ManifestColumns(paths, labels, named)


def kind_of(extension: str) -> str:
    """Returns the format of a manifest, "csv", "json" or "parquet", by its extension."""
    return _KINDS.get(extension, "csv")


def extension_of(file: str, delimiter: str | None) -> str:
    """Returns the extension of a manifest in lower case, without that of its compression.

    Raises:
        DataError: it is of an unknown kind.
    """
    whole = split_query(file)[0].lower()
    name = whole
    for compression in _COMPRESSIONS:
        name = name.removesuffix(compression)
    extension = os.path.splitext(name)[1]
    if extension == ".txt" and delimiter is not None:
        return extension
    if extension not in _KINDS or (extension == ".parquet" and not whole.endswith(extension)):
        hint = "name JSON Lines, with one object a line, .jsonl" if extension == ".json" else "convert or rename it"
        hint = "for CSV, set delimiter" if extension == ".txt" else hint
        raise DataError(
            f"manifest {shown(file)!r} is of an unknown kind: expected a file ending in {', '.join(_KINDS)}; {hint}"
        )
    return extension


def _check_columns(file: str, kind: str, columns: Sequence[Any], delimiter: str | None) -> None:
    numbers = [type(column) is int for column in columns]
    if not all(number or isinstance(column, str) for number, column in zip(numbers, columns, strict=True)):
        raise ComponentError(f"path_column and label_column must be names or numbers of columns, not {columns}")
    if any(numbers) and not all(numbers):
        raise ComponentError(
            f"path_column and label_column must both be names, or both numbers (of CSV whose first line does not name "
            f"columns), not {columns}"
        )
    if any(numbers) and min(columns) < 0:
        raise ComponentError(f"numbers of columns count from 0, and cannot be {min(columns)}")
    if kind != "csv" and (any(numbers) or delimiter is not None):
        what = "columns have numbers" if any(numbers) else "there is a delimiter"
        raise ComponentError(f"only in CSV {what}, and {shown(file)!r} is not CSV: give names, and no delimiter")


def _read_parquet(file: str, columns: list[str]) -> Any:
    check_is_file(file)
    with opened_parquet(file) as source:
        check_names(file, columns, source.file.schema_arrow.names)
        return text_table(source, columns)
