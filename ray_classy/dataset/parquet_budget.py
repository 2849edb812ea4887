"""Reads Parquet files in pieces, and refuses those that unpack to much more than they say, or than they hold.

A Parquet file may hold one value and a count, so that a few hundred bytes expand to gigabytes. The footer's sizes are
those before such runs and dictionaries are expanded, and may be wrong. So each page's size is read before it is
unpacked, and values that a page may repeat are read a few at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from ray_classy.dataset.parquet_pages import DELTA_BYTE_ARRAY, DICTIONARY, BadPage, pages
from ray_classy.dataset.parquet_source import ParquetSource
from ray_classy.errors import DataError

SPARE_BYTES = 512 << 20
"""What the columns of a file may take beyond a multiple of the size in its footer: repeated labels, names and images
are stored once per row group, and take their full size in memory."""
_TIMES = 4
_PAGE_TIMES = 16
"""How many times its bytes in the file a page may take beyond `SPARE_BYTES`: it is unpacked as a whole. So may the
values that it repeats in the rows that are read at once."""
_TEXT_TIMES = 32
"""The same for columns of labels and paths, which are in memory as a whole."""
_WIDTHS = {"INT32": 4, "INT64": 8, "INT96": 12, "FLOAT": 4, "DOUBLE": 8}
"""Bytes of a number in memory. In a file, a number of up to 256 different ones takes a byte (pixels do) or less."""
_ROWS_AT_ONCE = 32  # so that one value of megabytes, repeated, is noticed in time
_PIECE_BYTES = 64 << 20  # small pieces are joined up to this size
_LEVEL_BYTES = 4  # that Arrow takes for the position of each value in nested lists


def unpacked_bytes(source: ParquetSource, columns: Sequence[str]) -> int:
    """Returns what columns take unpacked, as far as the footer says it."""
    return sum(chunk.meta.total_uncompressed_size for chunk in _chunks(source, columns))


def tables(source: ParquetSource, columns: Sequence[str]) -> Iterator[Any]:
    """Yields the rows of columns as Arrow tables of some megabytes, in their order; at least one, maybe empty.

    Args:
        source: the file.
        columns: names of top-level columns.

    Raises:
        DataError: they take more than the footer lets expect, or a page takes much more than its bytes in the file.
    """
    import pyarrow as pa

    most = _most_bytes(source, columns)
    taken, pieces, waiting = 0, [], 0
    for batch in _batches(source, columns):
        size = batch.nbytes
        taken, waiting = taken + size, waiting + size
        if taken > most:
            raise _too_large(source, taken, unpacked_bytes(source, columns))
        pieces.append(batch)
        if waiting >= _PIECE_BYTES:
            yield pa.Table.from_batches(pieces).combine_chunks()
            pieces, waiting = [], 0
    if not taken:
        yield source.file.read(columns=list(columns))
    elif pieces:
        yield pa.Table.from_batches(pieces).combine_chunks()


def _batches(source: ParquetSource, columns: Sequence[str]) -> Iterator[Any]:
    """Yields the rows of columns, some at a time; of a store's file, no more than a row group is read ahead."""
    for group in range(source.file.metadata.num_row_groups):
        rows = min((_check_pages(source, chunk).rows for chunk in _chunks(source, columns, [group])), default=1)
        yield from source.file.iter_batches(rows, row_groups=[group], columns=list(columns))


def text_table(source: ParquetSource, columns: Sequence[str]) -> Any:
    """Reads columns of numbers and short texts into one Arrow table; equal texts are kept once until checked.

    Args:
        source: the file.
        columns: names of top-level columns.

    Raises:
        DataError: they take more than the footer lets expect, or a page takes much more than its bytes in the file.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    _most_bytes(source, columns)
    found = [_check_pages(source, chunk) for chunk in _chunks(source, columns)]
    packed, unpacked = sum(one.packed for one in found), sum(one.unpacked for one in found)
    if unpacked > SPARE_BYTES + _TEXT_TIMES * packed:
        raise _too_large(source, unpacked, packed)
    nested = any(pa.types.is_nested(source.file.schema_arrow.field(name).type) for name in columns)
    by_delta = any(name.startswith("DELTA") for chunk in _chunks(source, columns) for name in chunk.meta.encodings)
    if nested or by_delta:  # which Arrow cannot read as dictionaries
        return pa.concat_tables(tables(source, columns))
    claimed, table = unpacked_bytes(source, columns), source.with_dictionaries(columns).read(columns=list(columns))
    for number, field in enumerate(table.schema):
        if not pa.types.is_dictionary(field.type) or not _is_text(field.type.value_type):
            continue
        lengths = [pc.take(pc.binary_length(chunk.dictionary), chunk.indices) for chunk in table.column(number).chunks]
        taken = sum(pc.sum(length).as_py() or 0 for length in lengths)
        if taken > SPARE_BYTES + _TIMES * claimed:
            raise _too_large(source, taken, claimed)
        plain = field.type.value_type
        table = table.set_column(number, field.with_type(plain), table.column(number).cast(plain))
    return table


def _is_text(kind: Any) -> bool:
    import pyarrow as pa

    return any(
        test(kind)
        for test in (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)
    )


class _Chunk(NamedTuple):
    """A column of a row group.

    Attributes:
        meta: its `pyarrow.parquet.ColumnChunkMetaData`.
        schema: its `pyarrow.parquet.ColumnSchema`.
    """

    meta: Any
    schema: Any

    @property
    def least_bytes(self) -> int:
        """What its values take, also if they are null: positions in nested lists, or bytes of a fixed number."""
        fixed = self.schema.length if self.meta.physical_type == "FIXED_LEN_BYTE_ARRAY" else 0
        return self.meta.num_values * (1 + max(_LEVEL_BYTES, fixed))

    @property
    def has_texts(self) -> bool:
        return self.meta.physical_type in ("BYTE_ARRAY", "FIXED_LEN_BYTE_ARRAY")

    @property
    def start(self) -> int:
        """Where its first page is; computed as Arrow does."""
        first, dictionary = self.meta.data_page_offset, self.meta.dictionary_page_offset or 0
        return dictionary if self.meta.has_dictionary_page and 0 < dictionary < first else first


def _chunks(source: ParquetSource, columns: Sequence[str], groups: Sequence[int] | None = None) -> Iterator[_Chunk]:
    """Yields the column chunks of columns, of all row groups or some."""
    metadata, schema = source.file.metadata, source.file.schema
    for number in range(metadata.num_row_groups) if groups is None else groups:
        group = metadata.row_group(number)
        for at in range(group.num_columns):
            chunk = group.column(at)
            if any(chunk.path_in_schema == name or chunk.path_in_schema.startswith(f"{name}.") for name in columns):
                yield _Chunk(chunk, schema.column(at))


def _most_bytes(source: ParquetSource, columns: Sequence[str]) -> int:
    """Returns what columns may take in memory.

    Raises:
        DataError: there are more values than that.
    """
    most = SPARE_BYTES
    for chunk in _chunks(source, columns):
        claimed = chunk.meta.total_uncompressed_size
        may_take = _TIMES * _WIDTHS.get(chunk.meta.physical_type, 1) * claimed
        if chunk.least_bytes > SPARE_BYTES + 2 * may_take:
            raise _too_large(source, chunk.least_bytes, claimed)
        most += may_take
    return most


class _Pages(NamedTuple):
    """What the pages of a column chunk announce.

    Attributes:
        packed: bytes in the file.
        unpacked: bytes in memory, before values are repeated.
        rows: that may be read at once, if each is the longest value that a page can repeat.
    """

    packed: int
    unpacked: int
    rows: int


def _check_pages(source: ParquetSource, chunk: _Chunk) -> _Pages:
    """Reads what the pages of a column chunk announce, and checks it before they are unpacked.

    Raises:
        DataError: a page takes much more than its bytes in the file, or lists repeat a long text.
    """
    packed = unpacked = longest = 0
    rows = _ROWS_AT_ONCE
    meta = chunk.meta
    if not source.reads_pages(meta.total_compressed_size):
        return _Pages(meta.total_compressed_size, meta.total_uncompressed_size, _ROWS_AT_ONCE)
    try:
        for page in pages(source.read_at, chunk.start, meta.total_compressed_size, meta.num_values):
            most = SPARE_BYTES + _PAGE_TIMES * page.packed
            if page.unpacked > most:
                raise DataError(
                    f"{source.name} has a page of {page.packed:,} bytes that unpacks to {page.unpacked / 2**20:,.0f} "
                    f"MiB; write it with smaller pages or row groups, or remove it"
                )
            packed, unpacked = packed + page.packed, unpacked + page.unpacked
            if chunk.has_texts and (page.kind == DICTIONARY or page.encoding == DELTA_BYTE_ARRAY):
                longest = max(longest, page.unpacked)
                rows = min(rows, most // max(page.unpacked, 1))
    except BadPage as error:
        raise DataError(f"{source.name} is damaged: {error}") from error
    claimed = meta.total_uncompressed_size
    repeated = meta.num_values * longest if chunk.schema.max_repetition_level else 0
    if max(unpacked, repeated) > SPARE_BYTES + _TIMES * claimed:
        raise _too_large(source, max(unpacked, repeated), claimed)
    return _Pages(packed, unpacked, rows)


def _too_large(source: ParquetSource, taken: int, claimed: int) -> DataError:
    return DataError(
        f"{source.name} unpacks to {taken / 2**20:,.0f} MiB or more, and its footer lets expect "
        f"{claimed / 2**20:,.1f} MiB: it repeats values too often; write it without dictionaries, or remove it"
    )
