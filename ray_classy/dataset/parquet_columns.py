"""What must hold of the columns of Parquet files before training: they exist, have the right type, and good labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ray_classy.dataset.labels import class_targets
from ray_classy.errors import DataError
from ray_classy.registry import nearest


def check_columns(files: Sequence[str], image_column: str, label_column: str | None) -> None:
    """Checks names and types of the columns in every file, from the footers alone.

    Raises:
        DataError: a file is no Parquet file or lacks a column, a column has the wrong type, or there are no rows.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = 0
    for file in files:
        try:
            with pq.ParquetFile(file) as opened:
                schema, rows = opened.schema_arrow, rows + opened.metadata.num_rows
        except (pa.ArrowInvalid, OSError) as error:
            raise DataError(f"{file} cannot be read as a Parquet file: {error}") from error
        for key, column in (("image_column", image_column), ("label_column", label_column)):
            if column is not None and column not in schema.names:
                near = nearest(column, schema.names)
                hint = f"did you mean {near}?" if near else f"set {key} to one of them"
                raise DataError(f"{file} has no column {column!r}: it has {', '.join(schema.names)}; {hint}")
        image_type = schema.field(image_column).type
        if not _holds_images(image_type):
            raise DataError(
                f"{file}: column {image_column!r} of type {image_type} holds no images: expected encoded bytes, "
                f"a struct {{bytes, path}}, or arrays of uint8 (H, W) or (H, W, channels)"
            )
    if rows == 0:
        raise DataError(f"no rows in {', '.join(files[:3])}{', ...' if len(files) > 3 else ''}")


def _holds_images(kind: Any) -> bool:
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


def read_labels(
    files: Sequence[str], column: str, classes: Sequence[str] | None
) -> tuple[np.ndarray, list[str] | None]:
    """The targets of all rows, shape (rows,), int64, and the classes in target order where they have names.

    Raises:
        DataError: a label is missing, of the wrong type, or no class; the message names file and row.
    """
    import pyarrow.parquet as pq

    return class_targets(
        [pq.read_table(file, columns=[column]).column(column) for file in files], files, column, classes
    )
