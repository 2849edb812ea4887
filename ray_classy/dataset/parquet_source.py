"""Opens Parquet files, at paths and in stores."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ray_classy.errors import DataError
from ray_classy.urls import is_url, located, reason, shown

_READ_FROM_STORE = 1 << 20
"""Column chunks of a store's file up to this size are read once more for the headers of their pages. In larger ones
each header would take a request; there a page is limited by Parquet alone, to 2 GiB."""

_SPARE_ROWS = 1 << 20
"""Rows of a file beyond one for each of its bytes. An image, or its path, takes more than a byte in any real file."""


@dataclass(frozen=True)
class ParquetSource:
    """An open Parquet file.

    Attributes:
        name: of the file, in errors.
        size: in bytes.
        file: the `pyarrow.parquet.ParquetFile`.
        read_at: reads a number of bytes from a position.
        is_local: whether it is on a disk.
        open: opens it again, with other options of `pyarrow.parquet.ParquetFile`.
    """

    name: str
    size: int
    file: Any
    read_at: Callable[[int, int], bytes]
    is_local: bool
    open: Callable[..., Any]

    def reads_pages(self, size: int) -> bool:
        """Whether the headers of the pages in a column chunk of that size are read."""
        return self.is_local or size <= _READ_FROM_STORE

    def with_dictionaries(self, columns: Sequence[str]) -> Any:
        """Returns the file as one whose columns of texts are read as dictionaries."""
        return self.open(read_dictionary=list(columns), metadata=self.file.metadata)


@contextmanager
def opened_parquet(file: str) -> Iterator[ParquetSource]:
    """Opens a Parquet file at a path or URL.

    Raises:
        DataError: it cannot be read, is not a Parquet file, is damaged, or claims more rows than it can hold.
    """
    import pyarrow as pa

    try:
        with _opened(file) as source:
            rows = source.file.metadata.num_rows
            if rows > source.size + _SPARE_ROWS:
                raise DataError(
                    f"{source.name} claims {rows:,} rows in {source.size:,} bytes; write it again, or remove it"
                )
            yield source
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{shown(file)} cannot be read as a Parquet file: {reason(error)}") from error


@contextmanager
def _opened(file: str) -> Iterator[ParquetSource]:
    import pyarrow.parquet as pq

    if not is_url(file):
        with pq.ParquetFile(file, memory_map=True) as opened, open(file, "rb") as descriptor:
            number = descriptor.fileno()

            def pread(start: int, size: int) -> bytes:
                return os.pread(number, size, start)

            def again(**options: Any) -> Any:
                return pq.ParquetFile(file, memory_map=True, **options)

            yield ParquetSource(shown(file), os.fstat(number).st_size, opened, pread, True, again)
        return
    filesystem, inside = located(file)
    with filesystem.open_input_file(inside) as stream, pq.ParquetFile(stream, pre_buffer=True) as opened:

        def read_at(start: int, size: int) -> bytes:
            return stream.read_at(size, start)

        def reopened(**options: Any) -> Any:
            return pq.ParquetFile(stream, pre_buffer=True, **options)

        yield ParquetSource(shown(file), stream.size(), opened, read_at, False, reopened)
