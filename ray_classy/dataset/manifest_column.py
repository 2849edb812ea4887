"""Reads one more column of manifests: the ids or the weights of rows."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from ray_classy.dataset.manifest_csv import check_delimiter, read_csv
from ray_classy.dataset.manifest_file import extension_of, kind_of
from ray_classy.dataset.manifest_text import open_manifest
from ray_classy.dataset.parquet_columns import read_parquet_column
from ray_classy.errors import DataError
from ray_classy.urls import reason, shown


def read_column(files: Sequence[str], delimiter: str | None, name: str) -> Any:
    """Reads a column of all files: strings, or numbers where the files have types.

    Args:
        files: paths or URLs of manifests.
        delimiter: of CSV; None finds it.
        name: of the column.

    Raises:
        DataError: a file does not have the column, or cannot be read.
    """
    import pyarrow as pa

    parts = []
    for file in files:
        kind = kind_of(extension_of(file, delimiter))
        try:
            if kind == "csv":
                usual = "\t" if extension_of(file, delimiter) == ".tsv" else ","
                parts.append(read_csv(file, [name], check_delimiter(delimiter), usual).column(name))
            else:
                parts.append(_json(file, name) if kind == "json" else read_parquet_column([file], name))
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise DataError(f"{shown(file)} cannot be read: {reason(error)}") from error
    types = list(dict.fromkeys(part.type for part in parts))
    if len(types) > 1:
        parts = [part.cast(pa.large_string()) for part in parts]
    return pa.chunked_array([chunk for part in parts for chunk in part.chunks], parts[0].type)


def _json(file: str, name: str) -> Any:
    """Reads a field of JSON Lines: all integers, all numbers or all strings."""
    import pyarrow as pa
    from pyarrow import json as arrow_json

    error: Exception | None = None
    for kind in (pa.int64(), pa.float64(), pa.large_string()):
        parse = arrow_json.ParseOptions(explicit_schema=pa.schema([(name, kind)]), unexpected_field_behavior="ignore")
        try:
            with open_manifest(file) as stream:
                return arrow_json.read_json(stream, arrow_json.ReadOptions(block_size=8 << 20), parse).column(name)
        except pa.ArrowInvalid as invalid:
            error = invalid
    raise DataError(
        f"{os.path.basename(shown(file))}: the field {name!r} must hold integers, numbers or strings in all rows: "
        f"{reason(error or ValueError())}"
    )
