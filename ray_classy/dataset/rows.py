"""Raw rows, read by number: the interface, rows in memory, rows in Arrow tables.

A dataset made of raw rows can be read in another way without knowing it: Ray Data exchanges `RowDataset.rows` on each
worker. What a trainer must know about rows, they declare themselves.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Generator, Iterable, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np

from ray_classy.dataset.source_files import SourceFiles
from ray_classy.errors import DataError

if TYPE_CHECKING:
    from ray_classy.dataset.plan import PhasePlan


class Rows(ABC):
    """Rows of raw column values, read by number, from any thread.

    Attributes:
        sources: the files that the rows are read from, if they are to be checked in every phase.
        ray_dataset: the `ray.data.Dataset` that holds the rows, if there is one.
        random_access: whether any row can be read at any time; if not, a phase reads them front to back.
    """

    sources: SourceFiles | None = None
    ray_dataset: Any = None
    random_access: bool = True

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def take(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """Returns the raw values of the given rows, a dict of columns each."""

    def followed(self, plan: PhasePlan, batches: Iterable[np.ndarray]) -> Generator[np.ndarray, None, None]:
        """Yields the batches of a plan as they are to be read, `BATCHES_AHEAD` of them before they are needed.

        Rows that come one after the other learn from it what is needed, and what no more.
        """
        yield from batches

    @abstractmethod
    def column(self, name: str) -> Any:
        """Returns all values of one (cheap) column, as an array or a list."""

    def files(self) -> list[str]:
        """Returns one of the files that the rows are read from, to see whether other machines have it too."""
        return []

    def shared_tables(self) -> list[Any] | None:
        """Returns the rows as Arrow tables for the cluster's shared memory; None if each process reads them itself.

        Raises:
            DataError: a file cannot be read, or has changed.
        """
        return None

    def shared_bytes(self) -> int:
        """Estimates the bytes that the rows take in the cluster's shared memory, all workers together."""
        return 0

    def disk_bytes(self) -> int:
        """Estimates the bytes that a local copy of the rows takes on the disk of each machine."""
        return 0

    def identity(self) -> Any:
        """Returns a value that only rows of the same content share, and that can be pickled; None if there is none."""
        return None

    def detached(self) -> DetachedRows:
        """Returns a stand-in of the same length, which is cheap to send to workers that read the rows elsewhere."""
        return DetachedRows(len(self))


class DetachedRows(Rows):
    """Stands in for rows that are sent to the workers by another way than the dataset; only their number is shipped.

    Args:
        length: the number of rows.
    """

    def __init__(self, length: int) -> None:
        self._length = length

    def __len__(self) -> int:
        return self._length

    def take(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        raise AssertionError("rows are read before their shard is attached")

    def column(self, name: str) -> Any:
        raise AssertionError("a column is read before its shard is attached")


class ItemRows(Rows):
    """Rows given as columns in memory: `ItemRows(path=[...], label=[...])`.

    Args:
        columns: lists, NumPy arrays or Arrow arrays of one length. For millions of rows, arrays take a tenth of the
            memory of lists. A column `path` names the files that the rows are read from.

    Raises:
        DataError: the columns differ in length.
    """

    def __init__(self, **columns: Any) -> None:
        lengths = {name: len(values) for name, values in columns.items()}
        if len(set(lengths.values())) != 1:
            raise DataError(f"the columns of a dataset must have one length, not {lengths}")
        self.columns = columns
        self._length = next(iter(lengths.values()))

    def __len__(self) -> int:
        return self._length

    def take(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        return [{name: _item(values, int(i)) for name, values in self.columns.items()} for i in indices]

    def column(self, name: str) -> Any:
        values = self.columns[name]
        return values.to_pylist() if hasattr(values, "to_pylist") else values

    def files(self) -> list[str]:
        paths = self.columns.get("path")
        return [] if paths is None or not len(self) else [str(paths[0])]

    def shared_tables(self) -> list[Any] | None:
        import pyarrow as pa

        return [
            pa.table(
                {
                    name: values if hasattr(values, "to_pylist") or isinstance(values, np.ndarray) else list(values)
                    for name, values in self.columns.items()
                }
            )
        ]

    def shared_bytes(self) -> int:
        return sum(_column_bytes(values) for values in self.columns.values())


def _item(values: Any, index: int) -> Any:
    item = values[index]
    return item.as_py() if hasattr(item, "as_py") else item


def _column_bytes(values: Any) -> int:
    """Estimates the bytes of a column in Arrow's layout; lists are judged by their first thousand values."""
    if hasattr(values, "nbytes"):
        return int(values.nbytes)
    some = values[:1000]
    mean = sum(len(value) if isinstance(value, str | bytes) else 8 for value in some) / max(1, len(some))
    return int(len(values) * (mean + 8))


class BlockRows(Rows):
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
    """Returns a column of one chunk as an array, which gives its values faster."""
    return column.chunk(0) if column.num_chunks == 1 else column


_IRREGULAR_BYTES = 1 << 20
"""Nested lists that are no array are converted to Python's up to this size, which take up to 40 times as much."""


def _array(values: Any) -> np.ndarray | None:
    """Converts an Arrow array of numbers, or of lists of one length, to an array; None if it is something else."""
    import pyarrow as pa

    shape = [len(values)]
    while pa.types.is_list(values.type) or pa.types.is_large_list(values.type) or _is_fixed(values.type):
        if values.null_count or not len(values):
            return None
        if _is_fixed(values.type):
            shape.append(values.type.list_size)
        else:
            lengths = np.diff(values.offsets.to_numpy())
            if (lengths != lengths[0]).any():
                return None
            shape.append(int(lengths[0]))
        values = values.flatten()
    if values.null_count or not pa.types.is_primitive(values.type):
        return None
    return values.to_numpy(zero_copy_only=False).reshape(shape)


def _is_fixed(kind: Any) -> bool:
    import pyarrow as pa

    return pa.types.is_fixed_size_list(kind)


def _value(scalar: Any) -> Any:
    """Converts a cell to bytes, a number, a string, or (for lists of numbers, also nested ones) an array."""
    import pyarrow as pa

    if isinstance(scalar, pa.ListScalar) and scalar.values is not None:
        array = _array(scalar.values)
        if array is not None:
            return array
        if scalar.values.nbytes > _IRREGULAR_BYTES:
            raise DataError(f"nested lists of {scalar.values.nbytes:,} bytes that differ in length")
    if isinstance(scalar, pa.ExtensionScalar) and hasattr(scalar, "to_numpy"):
        return scalar.to_numpy()
    return scalar.as_py()
