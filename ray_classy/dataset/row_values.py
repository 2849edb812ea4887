"""Checks numbers that rows have in a column of their source."""

from __future__ import annotations

from typing import Any

import numpy as np

from ray_classy.errors import DataError


def numbers_in(values: Any, column: str) -> np.ndarray:
    """Converts a column to an array of finite numbers, int64 or float64, shape (rows,).

    Args:
        values: an Arrow array of numbers, or of strings that are numbers, as CSV has them.
        column: its name, in errors.

    Raises:
        DataError: a value is missing, or is not a finite number; the message names its row.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_dictionary(values.type):
        values = pc.cast(values, values.type.value_type)
    if values.null_count:
        row = pc.index(pc.is_null(values), True).as_py()
        raise DataError(f"row {row} has no number in column {column!r}: fill it in or remove the row")
    if not pa.types.is_integer(values.type):
        try:
            values = pc.cast(values, pa.float64())
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise DataError(f"column {column!r} does not hold numbers: {error}") from None
    numbers = np.asarray(values)
    wrong = ~np.isfinite(numbers) if numbers.dtype.kind == "f" else np.zeros(len(numbers), bool)
    if wrong.any():
        raise DataError(
            f"row {wrong.argmax()} has {numbers[wrong.argmax()]} in column {column!r}: write finite numbers"
        )
    return numbers
