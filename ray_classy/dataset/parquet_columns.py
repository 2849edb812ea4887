"""Reads columns of Parquet files, and checks their names, types and labels before training."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote

from ray_classy.dataset.labels import Labels, class_targets, typed_labels
from ray_classy.dataset.parquet_budget import text_table
from ray_classy.dataset.parquet_source import opened_parquet
from ray_classy.dataset.target_reading import LabelTable
from ray_classy.errors import DataError
from ray_classy.registry import nearest
from ray_classy.urls import each, is_url, shown, split_query


def read_parquet(file: str, columns: Sequence[str]) -> Any:
    """Reads columns of numbers and short texts of a Parquet file into an Arrow table.

    Raises:
        DataError: it cannot be read, or unpacks to much more than its footer says.
    """
    with opened_parquet(file) as source:
        return text_table(source, columns)


def read_parquet_column(files: Sequence[str], name: str) -> Any:
    """Reads a column of numbers or short texts of all files, as an Arrow array.

    Raises:
        DataError: a file cannot be read, or does not have the column.
    """
    import pyarrow as pa

    def read(file: str) -> Any:
        with opened_parquet(file) as source:
            there = source.file.schema_arrow.names
            if name not in there:
                near = nearest(name, there)
                hint = f"; did you mean {near}?" if near else ""
                raise DataError(f"{source.name} has no column {name!r}: it has {', '.join(there)}{hint}")
            return text_table(source, [name]).column(name)

    parts = each(read, files, any(map(is_url, files)))
    plain = [part.cast(part.type.value_type) if pa.types.is_dictionary(part.type) else part for part in parts]
    return pa.chunked_array([chunk for part in plain for chunk in part.chunks], plain[0].type)


def parquet_sizes(files: Sequence[str]) -> list[int]:
    """Returns the rows per file, from the files' footers.

    Raises:
        DataError: one cannot be read.
    """

    def size(file: str) -> int:
        with opened_parquet(file) as source:
            return source.file.metadata.num_rows

    return each(size, files, any(map(is_url, files)))


def check_columns(files: Sequence[str], image_column: str, label_column: str | None) -> list[int]:
    """Checks names and types of the columns in every file, from the footers alone, and returns the rows of each.

    Raises:
        DataError: a file is not a Parquet file or lacks a column, a column has the wrong type, or there are no rows.
    """

    def rows_of(file: str) -> int:
        with opened_parquet(file) as source:
            _check_schema(source.name, source.file.schema_arrow, image_column, label_column)
            return source.file.metadata.num_rows

    rows = each(rows_of, files, any(map(is_url, files)))
    if not sum(rows):
        raise DataError(f"no rows in {', '.join(map(shown, files[:3]))}{', ...' if len(files) > 3 else ''}")
    return rows


def _check_schema(file: str, schema: Any, image_column: str, label_column: str | None) -> None:
    for key, column in (("image_column", image_column), ("label_column", label_column)):
        if column is not None and column not in schema.names:
            near = nearest(column, schema.names)
            hint = f"did you mean {near}?" if near else f"set {key} to one of them"
            raise DataError(f"{file} has no column {column!r}: it has {', '.join(schema.names)}; {hint}")
        number = schema.names.count(column)
        if number > 1:
            raise DataError(f"{file} has {number} columns {column!r}: rename all but one, or set {key} to another")
    image_type = schema.field(image_column).type
    if not holds_images(image_type):
        raise DataError(
            f"{file}: column {image_column!r} of type {image_type} holds no images: expected encoded bytes, "
            f"a struct {{bytes, path}}, or arrays of uint8 (H, W) or (H, W, channels)"
        )


def holds_images(kind: Any) -> bool:
    """Whether a column of an Arrow type can hold images."""
    import pyarrow as pa

    if isinstance(kind, pa.FixedShapeTensorType):
        return len(kind.shape) in (2, 3) and pa.types.is_integer(kind.value_type)
    if isinstance(kind, pa.BaseExtensionType):
        kind = kind.storage_type
    if pa.types.is_struct(kind):
        return any(kind.field(i).name in ("bytes", "path") for i in range(kind.num_fields))
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind):
        return True
    depth = 0
    while pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        kind, depth = kind.value_type, depth + 1
    return depth in (2, 3) and pa.types.is_integer(kind)


def read_labels(files: Sequence[str], column: str, classes: Sequence[str] | None) -> Labels:
    """Reads the labels of all rows, and the names that the files give to them (see `label_names`).

    Raises:
        DataError: a label is missing, of the wrong type, or not one of the classes; the message names file and row.
    """

    def read(file: str) -> tuple[Any, list[str] | None]:
        table = read_parquet(file, [column])
        return table.column(column), label_names(table.schema, column)

    labels, names = zip(*each(read, files, any(map(is_url, files))), strict=True)
    return class_targets(labels, [shown(file) for file in files], column, classes, named=names)


_PARTITION = re.compile(r"([^/=?]+)=([^/]*)(?=/)")


def read_partition(files: Sequence[str], column: str, classes: Sequence[str] | None) -> Labels | None:
    """Reads the labels of files that lie in folders as Hive names them, one for each file; None if they do not.

    Args:
        files: paths or URLs (`label=cat/part-0.parquet`).
        column: name of the column of labels; a file's own column of that name counts, not the folder.
        classes: as for `read_labels`.

    Raises:
        DataError: a file has no label, or one that is not one of the classes; the message names it.
    """
    import pyarrow as pa

    values = [dict(_PARTITION.findall(split_query(file)[0])).get(column) for file in files]
    if not any(value is not None for value in values):
        return None
    with opened_parquet(files[0]) as source:
        if column in source.file.schema_arrow.names:
            return None
    for file, value in zip(files, values, strict=True):
        if value in (None, "", "__HIVE_DEFAULT_PARTITION__"):
            raise DataError(f"{shown(file)}: no label: it is in no folder '{column}=...' with one, as other files are")
    named = [shown(file) for file in files]
    texts = pa.array([unquote(value or "") for value in values], pa.string())
    texts = typed_labels(texts, classes, lambda row: named[row])
    return class_targets([texts], ["the folders"], column, classes, lambda _, row: named[row])


def parquet_names(file: str) -> dict[str, Any]:
    """Returns the types of a file's columns, by their names."""
    with opened_parquet(file) as source:
        return {field.name: field.type for field in source.file.schema_arrow}


def classes_of_columns(file: str) -> dict[str, list[str]]:
    """Returns the names of classes by the columns to which Hugging Face `datasets` gave some (`ClassLabel`)."""
    with opened_parquet(file) as source:
        schema = source.file.schema_arrow
    found = {name: label_names(schema, name) for name in schema.names}
    return {name: names for name, names in found.items() if names is not None}


def partition_keys(file: str) -> list[str]:
    """Returns the names of columns in the folders of a file, as Hive names them (`label=cat/part-0.parquet`)."""
    return [key for key, _ in _PARTITION.findall(split_query(file)[0])]


def read_parquet_labels(file: str, columns: Sequence[str]) -> LabelTable:
    """Reads columns of labels, and the names that the file gives to integers.

    Raises:
        DataError: the file cannot be read, or does not have a column.
    """
    there = list(parquet_names(file))
    for column in columns:
        if column not in there:
            near = nearest(column, there)
            hint = f"did you mean {near}?" if near else f"it has {', '.join(there)}"
            raise DataError(f"{shown(file)} has no column {column!r}: {hint}")
    table = read_parquet(file, columns)
    names = {column: label_names(table.schema, column) for column in columns}
    return LabelTable(shown(file), table, {column: known for column, known in names.items() if known is not None})


def label_names(schema: Any, column: str) -> list[str] | None:
    """Returns the names that Hugging Face `datasets` wrote for a column of integers (`ClassLabel`); None without any.

    Args:
        schema: an Arrow schema with its metadata.
        column: name of the column.
    """
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        feature = features[column]
        while "feature" in feature or isinstance(feature, list):  # of a list of labels
            feature = feature[0] if isinstance(feature, list) else feature["feature"]
        names = feature["names"] if feature["_type"] == "ClassLabel" else None
    except (KeyError, TypeError, ValueError, IndexError, RecursionError):  # others may use the key for something else
        return None
    return names if isinstance(names, list) and names and all(isinstance(name, str) for name in names) else None
