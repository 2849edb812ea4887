"""Raw rows by number, and a base dataset that decodes them.

A dataset made of raw rows can be read by somebody else: Ray Data swaps `RowDataset.rows` on each worker.
"""

from __future__ import annotations

import os
import threading
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import accumulate
from typing import Any, Protocol

import numpy as np
import torch.utils.data

from ray_classy.dataset.local_copy import LocalCopy
from ray_classy.dataset.parquet_columns import parquet_sizes, read_parquet
from ray_classy.dataset.source_files import SourceFiles
from ray_classy.errors import ComponentError, DataError
from ray_classy.urls import shown


class Rows(Protocol):
    """Rows of raw column values, read by number, from any thread."""

    def __len__(self) -> int: ...

    def take(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """The raw values of the given rows, a dict of columns each."""

    def column(self, name: str) -> Any:
        """All values of one (cheap) column, as an array or a list."""


class ItemRows:
    """Rows given as columns in memory: `ItemRows(path=[...], label=[...])`.

    Args:
        columns: of one length each: lists, NumPy arrays or Arrow arrays. Of millions of rows, arrays take a tenth of
            the memory of lists.
    """

    def __init__(self, **columns: Any) -> None:
        lengths = {name: len(values) for name, values in columns.items()}
        assert len(set(lengths.values())) == 1, lengths
        self.columns = columns
        self._length = next(iter(lengths.values()))

    def __len__(self) -> int:
        return self._length

    def take(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        return [{name: _item(values, int(i)) for name, values in self.columns.items()} for i in indices]

    def column(self, name: str) -> Any:
        values = self.columns[name]
        return values.to_pylist() if hasattr(values, "to_pylist") else values

    def arrays(self) -> dict[str, Any]:
        """The columns as what an Arrow table is made of; arrays are not copied."""
        return {
            name: values if hasattr(values, "to_pylist") or isinstance(values, np.ndarray) else list(values)
            for name, values in self.columns.items()
        }


def _item(values: Any, index: int) -> Any:
    item = values[index]
    return item.as_py() if hasattr(item, "as_py") else item


class BlockRows:
    """Rows that lie in Arrow tables, one after the other.

    Args:
        sizes: rows per table.
        load: called with a table's number when a row of it is first needed.
    """

    def __init__(self, sizes: Sequence[int], load: Callable[[int], Any]) -> None:
        self._ends = list(accumulate(sizes))
        self._load = load
        self._columns: dict[int, dict[str, Any]] = {}
        self._locks = [threading.Lock() for _ in sizes]

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def _block(self, number: int) -> dict[str, Any]:
        if number not in self._columns:
            with self._locks[number]:
                if number not in self._columns:
                    table = self._load(number)
                    self._columns[number] = {name: _plain(table.column(name)) for name in table.column_names}
        return self._columns[number]

    def take(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        taken = []
        for index in indices:
            number = bisect_right(self._ends, index)
            at = int(index) - (self._ends[number - 1] if number else 0)
            taken.append({name: _value(column[at]) for name, column in self._block(number).items()})
        return taken

    def column(self, name: str) -> Any:
        values: list[Any] = []
        for number in range(len(self._ends)):
            values.extend(self._block(number)[name].to_pylist())
        return values

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_columns": {}, "_locks": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _locks=[threading.Lock() for _ in state["_ends"]])


def _plain(column: Any) -> Any:
    """A column that is in one piece as an array, which gives its values faster."""
    return column.chunk(0) if column.num_chunks == 1 else column


def _value(scalar: Any) -> Any:
    """A cell as bytes, a number, a string, or (for lists of numbers) an array."""
    import pyarrow as pa

    if isinstance(scalar, pa.ListScalar) and scalar.values is not None and pa.types.is_primitive(scalar.values.type):
        return scalar.values.to_numpy(zero_copy_only=False)
    if isinstance(scalar, pa.ExtensionScalar) and hasattr(scalar, "to_numpy"):
        return scalar.to_numpy()
    return scalar.as_py()


IN_MEMORY_BYTES = 64 << 20
"""Parquet files of up to this size together are read into memory; of larger ones a copy on the disk is mapped."""


class ParquetRows:
    """The rows of Parquet files: the files in name order, each in its own order.

    Files are opened when first needed, and a pickled copy carries only their names. A file that has changed by then is
    an error. Files of up to `IN_MEMORY_BYTES` are read whole; rows of larger ones are read from a `LocalCopy`.

    Args:
        files: paths or URLs.
        columns: the columns to read.
        sizes: rows per file; None reads them from the files' footers.
        sources: the files as they were; None takes them as they are now.

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
        self.files = list(files)
        self.columns = list(columns)
        self.sources = sources or SourceFiles(files)
        self.sizes = list(sizes) if sizes is not None else parquet_sizes(self.files)
        self._rows: BlockRows | None = None
        self._lock = threading.Lock()

    def table(self, number: int) -> Any:
        """The columns of one file, as an Arrow table.

        Raises:
            DataError: it has changed, or cannot be read.
        """
        file = self.files[number]
        self.sources.check([file])
        table = read_parquet(file, self.columns)
        if table.num_rows != self.sizes[number]:
            raise DataError(
                f"{shown(file)} was changed since the run began: it had {self.sizes[number]} rows, and has "
                f"{table.num_rows}; put the former file back or start a new run"
            )
        self.sources.check([file])
        return table

    @property
    def bytes(self) -> int:
        """What the files take together, as far as their store tells."""
        return sum(stamp.size or 0 for stamp in self.sources.stamps.values())

    @property
    def are_large(self) -> bool:
        """Whether the files are, or may be, too large to be read into memory."""
        return self.bytes > IN_MEMORY_BYTES or any(stamp.size is None for stamp in self.sources.stamps.values())

    def _opened(self) -> BlockRows:
        with self._lock:
            if self._rows is None:
                copy = LocalCopy(self.files, self.columns, self.sources) if self.are_large else None
                self._rows = BlockRows(self.sizes, self.table if copy is None else copy.table)
            return self._rows

    def __len__(self) -> int:
        return sum(self.sizes)

    def take(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        return self._opened().take(indices)

    def column(self, name: str) -> Any:
        return np.concatenate([np.asarray(read_parquet(file, [name]).column(name).to_pylist()) for file in self.files])

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_rows": None, "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.Lock())


KEPT_BYTES = 256 << 20
"""Decoded rows are held up to this size; a dataset that is larger is decoded anew in every epoch."""


class RowDataset(torch.utils.data.Dataset):
    """A base dataset that decodes raw rows into samples.

    Args:
        rows: where the raw rows come from.
        decode: makes a sample of one raw row, which also has its number under "row", and True under "as_tensor" if
            the transforms begin with `ToImage`, so that no PIL image is needed; it draws no random number. A row that
            it cannot use raises `DataError`.
        max_bad_rows: rows of a phase that may be left out because they cannot be decoded.
        sources: the files that `decode` reads from, if they are to be looked at in every phase.

    Attributes:
        threads: threads that read ahead in the training process; 0 for none, None for one on each CPU.
    """

    def __init__(
        self,
        rows: Rows,
        decode: Callable[[dict[str, Any]], Any],
        max_bad_rows: int = 0,
        sources: SourceFiles | None = None,
    ) -> None:
        if type(max_bad_rows) is not int or max_bad_rows < 0:
            raise ComponentError(f"max_bad_rows must be an integer of at least 0, not {max_bad_rows!r}")
        self.rows = rows
        self.sources = sources
        self.decode = decode
        self.max_bad_rows = max_bad_rows
        self._as_tensors = False
        self.threads: int | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._fetched: dict[int, Any] = {}
        self._decoded: dict[int, Any] | None = {}  # None if the dataset is too large

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Any:
        held = self._decoded
        if held and index in held:
            return _copied(held[index])
        fetched = self._fetched.pop(index, None)
        if isinstance(fetched, Future):
            sample = fetched.result()
        else:
            sample = self._read(index) if fetched is None else self.decode(fetched)
        if held is not None:
            self._keep(held, index, sample)
        return sample

    def _keep(self, held: dict[int, Any], index: int, sample: Any) -> None:
        """Holds a decoded row for the next epochs, if all rows fit."""
        if not held and len(self) * _size_of(sample) > KEPT_BYTES:
            self._decoded = None
        else:
            held[index] = _copied(sample)

    def number_of_threads(self) -> int:
        """Threads that read ahead in the training process: `threads`, or one for each CPU that is there for it."""
        return cpus_of_this_process() if self.threads is None else self.threads

    def pool(self) -> ThreadPoolExecutor | None:
        """The threads; None if there are none."""
        if self._pool is None and self.number_of_threads():
            self._pool = ThreadPoolExecutor(self.number_of_threads(), thread_name_prefix="decode")
        return self._pool

    def fetch(self, indices: Sequence[int], begin: bool = False) -> None:
        """Reads the raw rows of a batch at once.

        Args:
            indices: which.
            begin: leave it to the threads to read and to decode them.
        """
        held = self._decoded or {}
        wanted = [int(i) for i in indices if int(i) not in self._fetched and int(i) not in held]
        pool = self.pool() if begin else None
        if pool is not None:
            self._fetched.update((index, pool.submit(self._read, index)) for index in wanted)
        elif wanted:
            for index, row in zip(wanted, self.rows.take(wanted), strict=True):
                self._fetched[index] = self._marked(row, index)

    def _read(self, index: int) -> Any:
        return self.decode(self._marked(self.rows.take([index])[0], index))

    def _marked(self, row: dict[str, Any], index: int) -> dict[str, Any]:
        row["row"] = index
        if self._as_tensors:
            row["as_tensor"] = True
        return row

    def decode_to_tensors(self, wanted: bool) -> None:
        """Sets whether `decode` is told that images need not be PIL images."""
        if wanted != self._as_tensors:
            self._as_tensors = wanted
            self._decoded = None if self._decoded is None else {}

    def hold_decoded(self, hold: bool) -> None:
        """Sets whether decoded rows are held in memory, if all of them fit."""
        self._decoded = {} if hold else None

    def forget(self) -> None:
        """Drops what was fetched and not used."""
        self._fetched.clear()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_pool": None, "_fetched": {}, "_decoded": {}}


def cpus_of_this_process() -> int:
    """CPUs that there are for each of the processes that were started together on this machine."""
    together = os.environ.get("LOCAL_WORLD_SIZE", "")
    return max(1, cpus_of_this_machine() // (int(together) if together.isdigit() and int(together) else 1))


def cpus_of_this_machine() -> int:
    """CPUs that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _size_of(sample: Any) -> int:
    """About how many bytes a decoded sample takes."""
    if isinstance(sample, Mapping):
        return 500 + sum(_size_of(value) for value in sample.values())
    if isinstance(sample, list | tuple):
        return 100 + sum(_size_of(value) for value in sample)
    if isinstance(sample, torch.Tensor | np.ndarray):
        return 100 + sample.nbytes
    if hasattr(sample, "getbands"):  # a PIL image
        return 500 + sample.width * sample.height * len(sample.getbands())
    return 100


def _copied(sample: Any) -> Any:
    """A copy that transforms may change in place."""
    if isinstance(sample, dict):
        return {key: _copied(value) for key, value in sample.items()}
    if isinstance(sample, list):
        return [_copied(value) for value in sample]
    if isinstance(sample, torch.Tensor):
        return sample.clone()
    return sample.copy() if isinstance(sample, np.ndarray) or hasattr(sample, "getbands") else sample


def check_sources(dataset: Any) -> None:
    """Looks whether the files that a `ClassyDataset` reads its rows from are what they were when it was built.

    Raises:
        DataError: one was removed or changed; the message names it.
    """
    base = getattr(dataset, "dataset", None)
    if isinstance(base, RowDataset):
        for sources in (base.sources, getattr(base.rows, "sources", None)):
            if sources is not None:
                sources.check()


def to_be_mended(error: DataError) -> DataError:
    """The error of a row that cannot be used, with what to do about it."""
    return DataError(f"{error}; correct or remove it, or let some be left out (max_bad_rows)")
