"""The rows of Parquet files: in memory if they are small, from a copy on the local disk if they are large."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from ray_classy.dataset import parquet_budget
from ray_classy.dataset.local_copy import LocalCopy
from ray_classy.dataset.parquet_columns import parquet_sizes, read_parquet
from ray_classy.dataset.parquet_source import opened_parquet
from ray_classy.dataset.rows import BlockRows, Rows
from ray_classy.dataset.source_files import SourceFiles
from ray_classy.errors import DataError
from ray_classy.urls import each, is_url, shown

IN_MEMORY_BYTES = 64 << 20
"""Parquet files of up to this size together are read into memory; larger ones are mapped from a copy on the disk."""
_UNPACKED_TIMES = 4  # so are those that take more than this many times as much unpacked


class ParquetRows(Rows):
    """The rows of Parquet files: the files in name order, each in its own order.

    Files are opened when first needed, and a pickled copy carries only their names. A file that has changed by then is
    an error. Files of up to `IN_MEMORY_BYTES` are read whole; rows of larger ones are read from a `LocalCopy`.

    Args:
        files: paths or URLs.
        columns: the columns to read.
        sizes: rows per file; None reads them from the files' footers.
        sources: the files with their size and time of change; None reads those now.

    Raises:
        DataError: a file does not exist.
    """

    def __init__(
        self,
        files: Sequence[str],
        columns: Sequence[str],
        sizes: Sequence[int] | None = None,
        sources: SourceFiles | None = None,
    ) -> None:
        self.paths = list(files)
        self.columns = list(columns)
        self.sources: SourceFiles = sources or SourceFiles(files)
        self.sizes = list(sizes) if sizes is not None else parquet_sizes(self.paths)
        self._unpacked: int | None = None
        self._rows: BlockRows | None = None
        self._lock = threading.Lock()

    def table(self, number: int) -> Any:
        """Reads the columns of one file into an Arrow table.

        Raises:
            DataError: it has changed, or cannot be read.
        """
        import pyarrow as pa

        file = self.paths[number]
        self.sources.check([file])
        with opened_parquet(file) as source:
            table = pa.concat_tables(parquet_budget.tables(source, self.columns)).combine_chunks()
        if table.num_rows != self.sizes[number]:
            raise DataError(
                f"{shown(file)} was changed since the run began: it had {self.sizes[number]} rows, and has "
                f"{table.num_rows}; put the former file back or start a new run"
            )
        self.sources.check([file])
        return table

    @property
    def bytes(self) -> int:
        """Size of all files together, as far as their store reports it."""
        return sum(stamp.size or 0 for stamp in self.sources.stamps.values())

    @property
    def are_large(self) -> bool:
        """Whether the files are, or may be, too large to be read into memory."""
        if self.bytes > IN_MEMORY_BYTES or any(stamp.size is None for stamp in self.sources.stamps.values()):
            return True
        return self._unpacked_bytes() > _UNPACKED_TIMES * IN_MEMORY_BYTES

    def _unpacked_bytes(self) -> int:
        """Returns what the columns take unpacked, as far as the footers say it."""

        def unpacked(file: str) -> int:
            with opened_parquet(file) as source:
                return parquet_budget.unpacked_bytes(source, self.columns)

        if self._unpacked is None:
            self._unpacked = sum(each(unpacked, self.paths, any(map(is_url, self.paths))))
        return self._unpacked

    def files(self) -> list[str]:
        return self.paths[:1]

    def shared_tables(self) -> list[Any] | None:
        return None if self.are_large else each(self.table, range(len(self.paths)), any(map(is_url, self.paths)))

    def shared_bytes(self) -> int:
        return 0 if self.are_large else self.bytes

    def disk_bytes(self) -> int:
        return self.bytes if self.are_large else 0

    def identity(self) -> Any:
        stamps = [self.sources.stamps[path] for path in self.paths]
        if any(stamp.changed_ns is None for stamp in stamps):  # other content might have the same stamp
            return None
        return self.paths, self.columns, stamps

    def _opened(self) -> BlockRows:
        with self._lock:
            if self._rows is None:
                copy = LocalCopy(self.paths, self.columns, self.sources, self.sizes) if self.are_large else None
                self._rows = BlockRows(self.sizes, self.table if copy is None else copy.table)
            return self._rows

    def __len__(self) -> int:
        return sum(self.sizes)

    def take(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        return self._opened().take(indices)

    def column(self, name: str) -> Any:
        return np.concatenate([np.asarray(read_parquet(path, [name]).column(name).to_pylist()) for path in self.paths])

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_rows": None, "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.Lock())
