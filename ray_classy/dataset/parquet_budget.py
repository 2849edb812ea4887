"""Reads Parquet files in pieces, and stops where they unpack to much more than they say.

A Parquet file may hold one value and a count, so that a few hundred bytes expand to gigabytes. The footer's sizes are
those before such runs and dictionaries are expanded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ray_classy.errors import DataError

SPARE_BYTES = 512 << 20
"""What the columns of a file may take beyond a multiple of the size in its footer: repeated labels, names and images
are stored once per row group, and take their full size in memory."""
_TIMES = 4
_WIDTHS = {"INT32": 4, "INT64": 8, "INT96": 12, "FLOAT": 4, "DOUBLE": 8}
"""Bytes of a number in memory. In a file, a number of up to 256 different ones takes a byte (pixels do) or less."""
_SPARE_ROWS = 1 << 20
"""Rows of a file beyond one for each of its bytes. An image, or its path, takes more than a byte in any real file."""
_ROWS_AT_ONCE = 32  # so that one value of megabytes, repeated, is noticed in time
_PIECE_BYTES = 64 << 20  # small pieces are joined up to this size
_LEVEL_BYTES = 4  # that Arrow takes for the position of each value in nested lists


def check_rows(file: str, rows: int, size: int) -> None:
    """Checks that a file does not claim more rows than it can hold.

    Args:
        file: its name in errors.
        rows: in its footer.
        size: in bytes.

    Raises:
        DataError: it does.
    """
    if rows > size + _SPARE_ROWS:
        raise DataError(f"{file} claims {rows:,} rows in {size:,} bytes; write it again, or remove it")


def unpacked_bytes(opened: Any, columns: Sequence[str]) -> int:
    """Returns what columns take unpacked, as far as the footer says it.

    Args:
        opened: a `pyarrow.parquet.ParquetFile`.
        columns: names of top-level columns.
    """
    return sum(chunk.total_uncompressed_size for _, chunk in _chunks(opened, columns))


def tables(file: str, opened: Any, columns: Sequence[str]) -> Iterator[Any]:
    """Yields the rows of columns as Arrow tables of some megabytes, in their order; at least one, maybe empty.

    Args:
        file: its name in errors.
        opened: a `pyarrow.parquet.ParquetFile`.
        columns: names of top-level columns.

    Raises:
        DataError: they take more than the footer lets expect.
    """
    import pyarrow as pa

    most = SPARE_BYTES
    for values, chunk in _chunks(opened, columns):
        may_take = _TIMES * _WIDTHS.get(chunk.physical_type, 1) * chunk.total_uncompressed_size
        if values > SPARE_BYTES + 2 * may_take:
            raise _too_large(file, values, chunk.total_uncompressed_size)
        most += may_take
    taken, pieces, waiting = 0, [], 0
    for batch in _batches(opened, columns):
        size = batch.nbytes
        taken, waiting = taken + size, waiting + size
        if taken > most:
            raise _too_large(file, taken, unpacked_bytes(opened, columns))
        pieces.append(batch)
        if waiting >= _PIECE_BYTES:
            yield pa.Table.from_batches(pieces).combine_chunks()
            pieces, waiting = [], 0
    if not taken:
        yield opened.read(columns=list(columns))
    elif pieces:
        yield pa.Table.from_batches(pieces).combine_chunks()


def _batches(opened: Any, columns: Sequence[str]) -> Iterator[Any]:
    """Yields the rows of columns, some at a time; of a store's file, no more than a row group is read ahead."""
    for group in range(opened.metadata.num_row_groups):
        yield from opened.iter_batches(_ROWS_AT_ONCE, row_groups=[group], columns=list(columns))


def text_table(file: str, opened: Any, columns: Sequence[str]) -> Any:
    """Reads columns of numbers and short texts into one Arrow table; equal texts are kept once until checked.

    Args:
        file: its name in errors.
        opened: a `pyarrow.parquet.ParquetFile` with these columns as its `read_dictionary`.
        columns: names of top-level columns.

    Raises:
        DataError: they take more than the footer lets expect.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    claimed, table = unpacked_bytes(opened, columns), opened.read(columns=list(columns))
    for number, field in enumerate(table.schema):
        if not pa.types.is_dictionary(field.type) or not _is_text(field.type.value_type):
            continue
        lengths = [pc.take(pc.binary_length(chunk.dictionary), chunk.indices) for chunk in table.column(number).chunks]
        taken = sum(pc.sum(length).as_py() or 0 for length in lengths)
        if taken > SPARE_BYTES + _TIMES * claimed:
            raise _too_large(file, taken, claimed)
        plain = field.type.value_type
        table = table.set_column(number, field.with_type(plain), table.column(number).cast(plain))
    return table


def _is_text(kind: Any) -> bool:
    import pyarrow as pa

    return any(
        test(kind)
        for test in (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)
    )


def _chunks(opened: Any, columns: Sequence[str]) -> Iterator[tuple[int, Any]]:
    """Yields the column chunks of columns, each with the least bytes that its values take in nested lists."""
    for number in range(opened.metadata.num_row_groups):
        group = opened.metadata.row_group(number)
        for at in range(group.num_columns):
            chunk = group.column(at)
            if chunk.path_in_schema.split(".")[0] in columns:
                yield chunk.num_values * (1 + _LEVEL_BYTES), chunk


def _too_large(file: str, taken: int, claimed: int) -> DataError:
    return DataError(
        f"{file} unpacks to {taken / 2**20:,.0f} MiB or more, and its footer lets expect {claimed / 2**20:,.1f} MiB: "
        f"it repeats values too often; write it without dictionaries, or remove it"
    )
