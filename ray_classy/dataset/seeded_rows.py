"""The rows of a phase as samples, with random numbers that depend on (seed, epoch, row) alone.

Which thread or process makes a row has no influence on it.
"""

from __future__ import annotations

import contextlib
import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.utils.data
from torch.utils.data import default_collate

from ray_classy.dataset.made_ahead import BATCHES_AHEAD, made_ahead
from ray_classy.dataset.plan import PhasePlan
from ray_classy.dataset.row_dataset import RowDataset, row_dataset_of, row_name, with_remedy
from ray_classy.dataset.transforms.placement import Placement, packed, place
from ray_classy.dataset.transforms.thread_generator import ThreadGenerator
from ray_classy.dataset.transforms.traits import is_deterministic, is_thread_safe
from ray_classy.errors import DataError, TaskError
from ray_classy.seeding import derive_seed, host_rng_kept, seed_host


class Row(NamedTuple):
    """A row that was read.

    Attributes:
        number: the row's number in the order of the phase; see `PhasePlan.period`.
        sample: the result of its transform, or of the transform's host part.
        needs_batched: whether the batched transforms are still to be applied.
        is_padding: whether it only fills a batch whose rows are all bad; its weight is 0.
    """

    number: int
    sample: Any
    needs_batched: bool
    is_padding: bool = False


class Batch(NamedTuple):
    """Rows that were collated.

    Attributes:
        sample: their samples, collated; None if there are none.
        rows: the number of weighted rows.
        bad: one message for each row that was skipped.
        numbers: the rows' numbers, if the batched transforms are still to be applied; else None.
    """

    sample: Any
    rows: int
    bad: list[str]
    numbers: np.ndarray | None = None


class SeededRows(torch.utils.data.Dataset):
    """A dataset whose row i is made with generators seeded by (seed, epoch, i).

    A row that an epoch has more than once has a number for each time, see `PhasePlan.period`.

    Args:
        dataset: a map-style dataset whose `dataset` attribute may be a `RowDataset`.
        plan: the phase.
    """

    def __init__(self, dataset: Any, plan: PhasePlan) -> None:
        self.dataset = dataset
        self.plan = plan
        self.base: Any = getattr(dataset, "dataset", None)
        self.seed, self.epoch, self.train = plan.seed, plan.epoch, plan.train
        plain = getattr(dataset, "samples_are_transformed_rows", False)
        self.placement: Placement | None = place(dataset.transform) if plain else None
        self.max_bad_rows = getattr(self.base, "max_bad_rows", 0)
        self._row_dataset = row_dataset_of(dataset)
        # Seeding takes longer than reading a small row. A `RowDataset` draws nothing.
        self._draws = self._row_dataset is None or self.placement is None or not is_deterministic(self.placement.host)
        if self._row_dataset is not None:
            self._row_dataset.decode_to_tensors(self.placement is not None and self.placement.takes_tensors)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Row | DataError:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Row | DataError]:
        if hasattr(self.base, "fetch"):
            self.base.fetch(indices)
        return self._padded(self._made(indices), indices)

    def _made(self, indices: Sequence[int]) -> list[Row | DataError]:
        """Makes the rows in this thread, with the generators of the process."""
        if not self._draws:
            return self.packed([self._row(index) for index in indices])
        with host_rng_kept():
            return self.packed(list(self._seeded(indices, seed_host)))

    def _made_apart(self, indices: Sequence[int]) -> list[Row | DataError]:
        """Makes the rows in a thread, with a generator of its own."""
        if not self._draws:
            return self._made(indices)
        with ThreadGenerator() as generator:
            rows = list(self._seeded(indices, generator.seed))
        return self.packed(rows)

    def _seeded(self, indices: Sequence[int], seed: Callable[[int], None]) -> Iterator[Row | DataError]:
        for index in indices:
            seed(derive_seed(self.seed, self.epoch, index))
            yield self._row(index)

    def _row(self, index: int) -> Row | DataError:
        try:
            if self.placement is None:
                return Row(index, self.dataset[self._row_number(index)], False)
            sample = self.base[index if self._row_dataset is not None else self._row_number(index)]
            host = self.placement.host
            return self.made_ready(index, sample if host is None else host(sample))
        except DataError as error:
            if self.max_bad_rows:
                return error
            raise with_remedy(error) from error
        except StopIteration as error:  # to whoever reads, it would mean that the phase has no more rows
            raise TaskError(
                f"a transform or the dataset raised StopIteration for row {index}, which means that the data of the "
                f"phase has ended: catch it there, or use next(iterator, default)"
            ) from error

    def _row_number(self, index: int) -> int:
        return index if self.plan.period is None else index % self.plan.period

    def made_ready(self, index: int, sample: Any) -> Row:
        """Prepares a sample for the batched transforms, or applies them now if it cannot be put into a batch.

        Args:
            index: the row.
            sample: the result of the host part of the transform.
        """
        assert self.placement is not None
        key, batched = self.placement.key, self.placement.batched
        if batched is None or not isinstance(sample, dict) or key not in sample:
            return Row(index, sample, False)
        if self.placement.is_ready(sample):
            return Row(index, sample, True)
        return Row(index, {**sample, key: batched.row(sample[key], self.seed, self.epoch, index)}, False)

    def packed(self, rows: list[Row | DataError]) -> list[Row | DataError]:
        """Replaces the images of rows that are ready for the batched transforms by their bytes."""
        if self.placement is None or self.placement.batched is None or not self.placement.batched.take_images:
            return rows
        key = self.placement.key
        images = iter(packed([row.sample[key] for row in rows if isinstance(row, Row) and row.needs_batched]))
        return [
            Row(row.number, {**row.sample, key: next(images)}, True)
            if isinstance(row, Row) and row.needs_batched
            else row
            for row in rows
        ]

    def _padded(self, rows: list[Row | DataError], indices: Sequence[int]) -> list[Row | DataError]:
        """Adds the next good rows to a train batch that bad rows leave with fewer than two rows, if it had two.

        Each rank must make the step, and batch norm cannot train on one row. Rows added to a batch whose rows are all
        bad are padding; a row added to one good row counts as if it stood in the place of a bad one.
        """
        bad = sum(isinstance(row, DataError) for row in rows)
        good = len(rows) - bad
        if not self.train or not bad or good >= 2:
            return rows
        added: list[Row | DataError] = []
        there = {self._row_number(index) for index in indices}
        last = self._row_number(indices[-1])
        for number in itertools.chain(range(last + 1, len(self.dataset)), reversed(range(last))):
            if good + len(added) >= min(2, len(rows)):
                break
            row = self._made([number])[0] if number not in there else None
            if isinstance(row, Row):
                added.append(row._replace(is_padding=not good))
        if not good and not added:
            raise DataError("none of the dataset's rows can be decoded")
        return [*rows, *added]

    def read(self, batches: Iterable[np.ndarray]) -> Iterator[list[Row | DataError]]:
        """Reads rows in this process, batch by batch; the base dataset's threads, if it has any, read ahead."""
        base = self._row_dataset
        if base is None:
            yield from (self.__getitems__(batch.tolist()) for batch in batches)
            return
        with contextlib.closing(base.rows.followed(self.plan, batches)) as followed:
            yield from self._read(base, (batch.tolist() for batch in followed))

    def _read(self, base: RowDataset, numbers: Iterator[list[int]]) -> Iterator[list[Row | DataError]]:
        pool = base.pool()
        if pool is None:
            yield from map(self.__getitems__, numbers)
            return
        try:
            if self.placement is not None and is_thread_safe(self.placement.host):
                for indices, rows in made_ahead(pool, base.number_of_threads(), numbers, self._made_apart):
                    yield self._padded(rows, indices)
            else:
                yield from self._decoded_ahead(base, numbers)
        finally:
            base.drop_fetched()

    def _decoded_ahead(self, base: RowDataset, batches: Iterator[list[int]]) -> Iterator[list[Row | DataError]]:
        """Makes the rows in this thread, and lets others decode them."""
        ahead: deque[list[int]] = deque()
        while True:
            for indices in itertools.islice(batches, BATCHES_AHEAD + 1 - len(ahead)):
                base.fetch(indices, ahead=True)
                ahead.append(indices)
            if not ahead:
                return
            indices = ahead.popleft()
            yield self._padded(self._made(indices), indices)

    def collate(self, rows: list[Row | DataError]) -> Batch:
        """Collates the rows that were read."""
        bad = [str(row) for row in rows if isinstance(row, DataError)]
        good = [row for row in rows if isinstance(row, Row)]
        weighted = len(good) - sum(row.is_padding for row in good)
        if not good:
            return Batch(None, 0, bad)
        if all(row.needs_batched for row in good) and self._of_one_shape(good):
            samples = self._stacked(good, [row.sample for row in good])
            return Batch(samples, weighted, bad, np.array([row.number for row in good]))
        return Batch(self._stacked(good, [self._with_batched(row) for row in good]), weighted, bad)

    def _stacked(self, rows: list[Row], samples: list[Any]) -> Any:
        """Stacks samples; names two that cannot be stacked."""
        try:
            return default_collate(samples)
        except (RuntimeError, TypeError, KeyError):
            for row, sample in zip(rows, samples, strict=True):
                entry = _other_size(samples[0], sample)
                if entry is not None:
                    names = [row_name(self.dataset, number) for number in (rows[0].number, row.number)]
                    sizes = [tuple(_entries(one)[entry].shape) for one in (samples[0], sample)]
                    raise DataError(
                        f"samples of one batch must have one size: {entry!r} of {names[0]} has size {sizes[0]}, and of "
                        f"{names[1]} {sizes[1]}. Add a transform that gives all the same size (Resize and CenterCrop, "
                        f"or RandomResizedCrop), or set batchsize_per_replica to 1"
                    ) from None
            raise

    def _of_one_shape(self, rows: list[Row]) -> bool:
        """Whether the inputs of these rows can be stacked before their batched transforms, which may crop them."""
        assert self.placement is not None
        key = self.placement.key
        return len({getattr(row.sample[key], "shape", None) for row in rows}) == 1

    def _with_batched(self, row: Row) -> Any:
        """Returns a row's sample with the batched transforms applied, as others of its batch have them already."""
        if not row.needs_batched:
            return row.sample
        assert self.placement is not None and self.placement.batched is not None
        key, batched = self.placement.key, self.placement.batched
        images = row.sample[key].clone()[None]
        return {**row.sample, key: batched.batch(images, self.seed, self.epoch, np.array([row.number]))[0]}


def _entries(sample: Any) -> dict[Any, Any]:
    """Returns the entries of a sample by name or position; a tensor, say, is the only entry, "sample"."""
    if isinstance(sample, dict):
        return sample
    return dict(enumerate(sample)) if isinstance(sample, list | tuple) else {"sample": sample}


def _other_size(one: Any, other: Any) -> Any:
    """Returns the entry in which two samples have tensors of different sizes; None if there is none."""
    others = _entries(other)
    for entry, value in _entries(one).items():
        there = others.get(entry)
        if isinstance(value, torch.Tensor) and isinstance(there, torch.Tensor) and value.shape != there.shape:
            return entry
    return None
