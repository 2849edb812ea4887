"""The rows of a phase as samples, each drawn for by its (seed, epoch, row), whichever thread or process makes it."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple

import numpy as np
import torch.utils.data
from torch.utils.data import default_collate

from ray_classy.dataset.plan import PhasePlan
from ray_classy.dataset.rows import RowDataset, to_be_mended
from ray_classy.dataset.transforms.row_draws import RowDraws, threads_can_run
from ray_classy.dataset.transforms.split import Split, split, with_packed
from ray_classy.errors import DataError
from ray_classy.seeding import derive_seed, host_rng_kept, seed_host

BATCHES_AHEAD = 2
"""Batches that are read while the one before them is trained on."""
_PIECES_PER_THREAD = 4


class Row(NamedTuple):
    """A row that could be read.

    Attributes:
        number: which.
        sample: what its transform made of it, or the transform's host part.
        waits: whether the tail of the transform is still to be applied.
        borrowed: it stands for a batch of bad rows and has no weight.
    """

    number: int
    sample: Any
    waits: bool
    borrowed: bool = False


class Batch(NamedTuple):
    """Rows put together.

    Attributes:
        sample: their samples, collated; None if there is none.
        rows: how many have weight.
        bad: what is wrong with those that are left out.
        numbers: the rows, if the tail is still to be applied to them; else None.
    """

    sample: Any
    rows: int
    bad: list[str]
    numbers: np.ndarray | None = None


def is_plain(dataset: Any) -> bool:
    """Whether a dataset's samples are its base's, passed through `transform`, and not made in a way of its own."""
    maker = next((cls for cls in type(dataset).__mro__ if "__getitem__" in vars(cls)), None)
    return maker is not None and maker.__module__ == "ray_classy.dataset.classy_dataset"


class SeededRows(torch.utils.data.Dataset):
    """A dataset whose row i is always made with generators seeded by (seed, epoch, i).

    Args:
        dataset: a map-style dataset whose `dataset` attribute may be a `RowDataset`.
        plan: the phase.
    """

    def __init__(self, dataset: Any, plan: PhasePlan) -> None:
        self.dataset = dataset
        self.base: Any = getattr(dataset, "dataset", None)
        self.seed, self.epoch, self.train = plan.seed, plan.epoch, plan.train
        self.split: Split | None = split(dataset.transform) if is_plain(dataset) else None
        self.max_bad_rows = getattr(self.base, "max_bad_rows", 0)
        if isinstance(self.base, RowDataset):
            self.base.decode_to_tensors(self.split is not None and self.split.takes_tensors)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Row | DataError:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Row | DataError]:
        if hasattr(self.base, "fetch"):
            self.base.fetch(indices)
        return self._in_order(indices)

    def _in_order(self, indices: Sequence[int]) -> list[Row | DataError]:
        """The rows, made in this thread with the generators of the process."""
        with host_rng_kept():
            rows = [self._seeded(index) for index in indices]
        return self._complete(rows, indices)

    def _seeded(self, index: int) -> Row | DataError:
        seed_host(derive_seed(self.seed, self.epoch, index))
        return self._row(index)

    def _row(self, index: int) -> Row | DataError:
        try:
            if self.split is None:
                return Row(index, self.dataset[index], False)
            sample = self.base[index]
            return self._waiting(index, sample if self.split.host is None else self.split.host(sample))
        except DataError as error:
            if self.max_bad_rows:
                return error
            raise to_be_mended(error) from error

    def _waiting(self, index: int, sample: Any) -> Row:
        """The row after the host part of the transform: as the tail can take it, or else with the tail applied."""
        assert self.split is not None
        key, tail = self.split.key, self.split.tail
        if tail is None or not isinstance(sample, dict) or key not in sample:
            return Row(index, sample, False)
        if self.split.is_ready(sample):
            return Row(index, with_packed(sample, key) if tail.of_images else sample, True)
        return Row(index, {**sample, key: tail.row(sample[key], self.seed, self.epoch, index)}, False)

    def _complete(self, rows: list[Row | DataError], indices: Sequence[int]) -> list[Row | DataError]:
        """With a good row near a batch of bad ones, for the step's sake."""
        if not self.train or not indices or not all(isinstance(row, DataError) for row in rows):
            return rows
        with host_rng_kept():
            for step in range(1, len(self.dataset)):
                row = self._seeded((indices[-1] + step) % len(self.dataset))
                if isinstance(row, Row):
                    return [*rows, row._replace(borrowed=True)]
        raise DataError("none of the dataset's rows can be decoded")

    def read(self, batches: Iterable[np.ndarray]) -> Iterator[list[Row | DataError]]:
        """The rows of batches in this process, batch by batch; where the base dataset has threads they read ahead."""
        base = self.base
        pool = base.pool() if isinstance(base, RowDataset) else None
        if pool is None:
            yield from (self.__getitems__(batch.tolist()) for batch in batches)
            return
        whole = self.split is not None and threads_can_run(self.split.host)
        coming = (batch.tolist() for batch in batches)
        ahead: deque[tuple[list[int], list[Future]]] = deque()
        try:
            while True:
                for indices in itertools.islice(coming, BATCHES_AHEAD + 1 - len(ahead)):
                    if not whole:
                        base.fetch(indices, begin=True)
                    size = len(indices) // (_PIECES_PER_THREAD * base.number_of_threads()) + 1
                    pieces = [indices[at : at + size] for at in range(0, len(indices), size)] if whole else []
                    ahead.append((indices, [pool.submit(self._drawn_apart, piece) for piece in pieces]))
                if not ahead:
                    return
                indices, futures = ahead.popleft()
                if not whole:
                    yield self._in_order(indices)
                    continue
                yield self._complete([row for future in futures for row in future.result()], indices)
        finally:
            for _, futures in ahead:
                for future in futures:
                    future.cancel()
            base.forget()

    def _drawn_apart(self, indices: Sequence[int]) -> list[Row | DataError]:
        """The rows, made in a thread with a generator of its own."""
        made = []
        with RowDraws() as draws:
            for index in indices:
                draws.seed(derive_seed(self.seed, self.epoch, index))
                made.append(self._row(index))
        return made

    def collate(self, rows: list[Row | DataError]) -> Batch:
        """A batch of the rows that could be read."""
        bad = [str(row) for row in rows if isinstance(row, DataError)]
        good = [row for row in rows if isinstance(row, Row)]
        weighty = len(good) - sum(row.borrowed for row in good)
        if not good:
            return Batch(None, 0, bad)
        if all(row.waits for row in good):
            return Batch(
                default_collate([row.sample for row in good]), weighty, bad, np.array([r.number for r in good])
            )
        return Batch(default_collate([self._finished(row) for row in good]), weighty, bad)

    def _finished(self, row: Row) -> Any:
        """A row's sample with the tail applied: beside others that have it behind them."""
        if not row.waits:
            return row.sample
        assert self.split is not None and self.split.tail is not None
        batch = row.sample[self.split.key].clone()[None]
        return {
            **row.sample,
            self.split.key: self.split.tail.batch(batch, self.seed, self.epoch, np.array([row.number]))[0],
        }
