"""A base dataset that decodes raw rows, and what can be asked of the datasets that are built on one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch.utils.data

from ray_classy.dataset.cpus import cpus_of_this_process
from ray_classy.dataset.rows import Rows
from ray_classy.dataset.source_files import SourceFiles
from ray_classy.errors import ComponentError, DataError
from ray_classy.printable import printable
from ray_classy.urls import shown

CACHE_BYTES = 256 << 20
"""Decoded rows are cached in memory up to this size; a larger dataset is decoded again in every epoch."""


class RowDataset(torch.utils.data.Dataset):
    """A base dataset that decodes raw rows into samples.

    Numbers from its length on are its rows again, for epochs that have rows more than once: with n rows, number i is
    row i % n.

    Args:
        rows: where the raw rows come from.
        decode: makes a sample of one raw row, which also has its number among `rows` under "row", the number that was
            asked for under "_number", and True under "as_tensor" if the transforms begin with `ToImage`, so that no PIL
            image is needed; it draws no random number. A row that it cannot decode raises `DataError`.
        max_bad_rows: rows of a phase that may be skipped because they cannot be decoded.
        sources: the files that `decode` reads from, if they are to be checked in every phase.
        cacheable: whether a decoded row is the same in every epoch, so that it may be cached in memory.

    Attributes:
        selection: the numbers of the rows among `rows`, int64, shape (rows of this dataset,); None for all.
        threads: threads that read ahead in the training process; 0 for none, None for one on each CPU.
        target_map: replaces the targets that `decode` returns, where classes are in another order than in the files.

    Raises:
        ComponentError: `max_bad_rows` is not an integer of at least 0.
    """

    def __init__(
        self,
        rows: Rows,
        decode: Callable[[dict[str, Any]], Any],
        max_bad_rows: int = 0,
        sources: SourceFiles | None = None,
        cacheable: bool = True,
    ) -> None:
        if type(max_bad_rows) is not int or max_bad_rows < 0:
            raise ComponentError(f"max_bad_rows must be an integer of at least 0, not {max_bad_rows!r}")
        self.rows = rows
        self.sources = sources
        self.decode = decode
        self.max_bad_rows = max_bad_rows
        self.cacheable = cacheable
        self.selection: np.ndarray | None = None
        self.threads: int | None = None
        self.target_map: dict[int, int] = {}
        self._as_tensors = False
        self._pool: ThreadPoolExecutor | None = None
        self._fetched: dict[int, Any] = {}
        self._decoded: dict[int, Any] | None = {} if cacheable else None  # None caches nothing
        self._cached_bytes = 0

    def __len__(self) -> int:
        return len(self.rows) if self.selection is None else len(self.selection)

    def select(self, numbers: np.ndarray) -> None:
        """Keeps only some rows, given by their numbers in this dataset, in that order; shape (rows kept,)."""
        self.selection = numbers if self.selection is None else self.selection[numbers]
        self._fetched.clear()
        self.cache_decoded(True)

    def __getitem__(self, index: int) -> Any:
        cached, row = self._decoded, index % len(self)
        if cached and row in cached:
            return _copied(cached[row])
        fetched = self._fetched.pop(index, None)
        if isinstance(fetched, Future):
            sample = fetched.result()
        else:
            sample = self._read(index) if fetched is None else self._decode(fetched)
        if cached is not None:
            size = _bytes_of(sample)
            # All of them have to fit, judged by the first; others may be larger.
            if (not cached and len(self) * size > CACHE_BYTES) or self._cached_bytes + size > CACHE_BYTES:
                self._decoded = None
            else:
                cached[row] = _copied(sample)
                self._cached_bytes += size
        return sample

    def number_of_threads(self) -> int:
        """Returns the number of threads that read ahead in the training process: `threads`, or one for each CPU."""
        return cpus_of_this_process() if self.threads is None else self.threads

    def pool(self) -> ThreadPoolExecutor | None:
        """Returns the threads, which are started at the first call; None if there are none."""
        if self._pool is None and self.number_of_threads():
            self._pool = ThreadPoolExecutor(self.number_of_threads(), thread_name_prefix="decode")
        return self._pool

    def fetch(self, indices: Sequence[int], ahead: bool = False) -> None:
        """Reads the raw rows of a batch at once.

        Args:
            indices: the rows.
            ahead: let the threads read and decode them, and return without waiting.
        """
        cached, rows = self._decoded or {}, len(self)
        wanted = [int(i) for i in indices if int(i) not in self._fetched and int(i) % rows not in cached]
        pool = self.pool() if ahead else None
        if pool is not None:
            self._fetched.update((index, pool.submit(self._read, index)) for index in wanted)
        elif wanted:
            self._fetched.update(zip(wanted, self.take(wanted), strict=True))

    def take(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """Returns raw rows as `decode` receives them."""
        numbers = self.source_numbers(indices)
        taken = self.rows.take(numbers)
        for row, number, index in zip(taken, numbers, indices, strict=True):
            row["row"], row["_number"] = number, int(index)
            if self._as_tensors:
                row["as_tensor"] = True
        return taken

    def source_numbers(self, indices: Sequence[int]) -> list[int]:
        """Returns the numbers among `rows` of rows of this dataset."""
        numbers = [int(index) % len(self) for index in indices]
        return numbers if self.selection is None else self.selection[numbers].tolist()

    def _read(self, index: int) -> Any:
        return self._decode(self.take([index])[0])

    def _decode(self, row: dict[str, Any]) -> Any:
        sample = self.decode(row)
        if self.target_map and isinstance(sample, dict) and "target" in sample:
            sample["target"] = self.target_map.get(sample["target"], sample["target"])
        return sample

    def decode_to_tensors(self, wanted: bool) -> None:
        """Sets whether rows are decoded to tensors where no PIL image is needed."""
        if wanted != self._as_tensors:
            self._as_tensors = wanted
            self.cache_decoded(self._decoded is not None)

    def map_targets(self, target_map: dict[int, int]) -> None:
        """Sets `target_map`; rows that were decoded before are decoded again."""
        if target_map != self.target_map:
            self.target_map = target_map
            self._fetched.clear()
            self.cache_decoded(True)

    def cache_decoded(self, wanted: bool) -> None:
        """Sets whether decoded rows are cached in memory, if they are cacheable and all of them fit."""
        self._decoded = {} if wanted and self.cacheable else None
        self._cached_bytes = 0

    def drop_fetched(self) -> None:
        """Drops the rows that were fetched and not used."""
        self._fetched.clear()

    def __getstate__(self) -> dict[str, Any]:
        decoded: dict[int, Any] | None = {} if self.cacheable else None
        return {**self.__dict__, "_pool": None, "_fetched": {}, "_decoded": decoded, "_cached_bytes": 0}


def _bytes_of(sample: Any) -> int:
    """Estimates the bytes of a decoded sample."""
    if isinstance(sample, Mapping):
        return 500 + sum(_bytes_of(value) for value in sample.values())
    if isinstance(sample, list | tuple):
        return 100 + sum(_bytes_of(value) for value in sample)
    if isinstance(sample, torch.Tensor | np.ndarray):
        return 100 + sample.nbytes
    if hasattr(sample, "getbands"):  # a PIL image
        return 500 + sample.width * sample.height * len(sample.getbands())
    return 100


def _copied(sample: Any) -> Any:
    """Copies a sample, whose images, arrays and tensors transforms may change in place."""
    if isinstance(sample, dict):
        return {key: _copied(value) for key, value in sample.items()}
    if type(sample) in (list, tuple):
        return type(sample)(_copied(value) for value in sample)
    if isinstance(sample, torch.Tensor):
        return sample.clone()
    return sample.copy() if isinstance(sample, np.ndarray) or hasattr(sample, "getbands") else sample


def row_dataset_of(dataset: Any) -> RowDataset | None:
    """Returns the `RowDataset` that a dataset is built on; None if it is built on something else."""
    base = getattr(dataset, "dataset", None)
    return base if isinstance(base, RowDataset) else None


def row_name(dataset: Any, number: int) -> str:
    """Names a row in errors, with its file where there is one: "row 3 (cats/1.jpg)"."""
    base = row_dataset_of(dataset)
    number = number if base is None or not len(base) else number % len(base)
    try:
        raw = {} if base is None else base.take([number])[0]
    except DataError:
        raw = {}
    places = [printable(shown(raw[key])) for key in ("path", "member") if isinstance(raw.get(key), str)]
    return f"row {number} ({', '.join(places)})" if places else f"row {number}"


def check_sources(dataset: Any, rank: int, ends: bool) -> None:
    """Checks that the files a dataset is read from are as they were when it was built.

    Args:
        dataset: one that is built on a `RowDataset`; others have no known files.
        rank: the rank that reads; see `SourceFiles.check_in_phase`.
        ends: whether the phase ends, or begins.

    Raises:
        DataError: a file was removed or changed; the message names it.
    """
    base = row_dataset_of(dataset)
    if base is not None:
        for sources in (base.sources, base.rows.sources):
            if sources is not None:
                sources.check_in_phase(rank, ends)


def data_files(datasets: Iterable[Any]) -> list[str]:
    """Returns a file of each dataset, to see whether other machines have them."""
    return [file for dataset in datasets if (base := row_dataset_of(dataset)) is not None for file in base.rows.files()]


def streamed(datasets: Mapping[str, Any]) -> list[str]:
    """Returns the phase types whose rows can only be read front to back."""
    bases = {phase_type: row_dataset_of(dataset) for phase_type, dataset in datasets.items()}
    return [phase_type for phase_type, base in bases.items() if base is not None and not base.rows.random_access]


@contextmanager
def detached_rows(dataset: Any) -> Iterator[None]:
    """Detaches a dataset's rows within the block, so that it is pickled without them."""
    base = row_dataset_of(dataset)
    if base is None:
        yield
        return
    rows = base.rows
    base.rows = rows.detached()
    try:
        yield
    finally:
        base.rows = rows


def with_remedy(error: DataError) -> DataError:
    """Returns the error of a row that cannot be decoded, with what to do about it."""
    return DataError(f"{error}; correct or remove it, or allow some bad rows (max_bad_rows)")
