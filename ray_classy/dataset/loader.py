"""A DataLoader over the rows that a plan gives to this rank."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch.utils.data
from torch.utils.data import default_collate

from ray_classy.dataset.kept import kept_batches
from ray_classy.dataset.plan import PhasePlan, Share
from ray_classy.dataset.rows import check_sources, to_be_mended
from ray_classy.errors import DataError
from ray_classy.seeding import derive_seed, host_rng_kept, seed_host

_log = logging.getLogger(__name__)


class _Batch(NamedTuple):
    sample: Any
    rows: int
    bad: list[str]


class _PlannedBatches(torch.utils.data.Sampler[list[int]]):
    def __init__(self, plan: PhasePlan) -> None:
        self.plan = plan

    def __len__(self) -> int:
        return self.plan.num_steps

    def __iter__(self) -> Iterator[list[int]]:
        for batch in self.plan.batches():
            yield batch.tolist()


class _SeededRows(torch.utils.data.Dataset):
    """A dataset whose row i is always made with the generators seeded by (seed, epoch, i)."""

    def __init__(self, dataset: Any, plan: PhasePlan, lookahead: bool) -> None:
        self.dataset = dataset
        self.seed, self.epoch, self.train = plan.seed, plan.epoch, plan.train
        self.upcoming = plan.batches() if lookahead else None
        self.max_bad_rows = getattr(getattr(dataset, "dataset", None), "max_bad_rows", 0)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        fetch = getattr(getattr(self.dataset, "dataset", None), "fetch", None)
        if fetch is not None:
            fetch(indices)
            if self.upcoming is not None:
                ahead = next(self.upcoming, None)
                if ahead is not None:
                    fetch(ahead)
        with host_rng_kept():
            samples = [self._row(index) for index in indices]
            if self.train and all(isinstance(sample, DataError) for sample in samples):
                samples.append(self._borrowed(indices[-1]))
        return samples

    def _row(self, index: int) -> Any:
        seed_host(derive_seed(self.seed, self.epoch, index))
        try:
            return self.dataset[index]
        except DataError as error:
            if self.max_bad_rows:
                return error
            raise to_be_mended(error) from error

    def _borrowed(self, index: int) -> _Borrowed:
        """A good row near a batch of bad ones, for the step's sake; it has no weight."""
        for step in range(1, len(self.dataset)):
            sample = self._row((index + step) % len(self.dataset))
            if not isinstance(sample, DataError):
                return _Borrowed(sample)
        raise DataError("none of the dataset's rows can be decoded")


class _Borrowed(NamedTuple):
    sample: Any


def _collate(samples: list[Any]) -> _Batch:
    bad = [str(sample) for sample in samples if isinstance(sample, DataError)]
    good = [sample for sample in samples if not isinstance(sample, DataError | _Borrowed)]
    usable = good or [sample.sample for sample in samples if isinstance(sample, _Borrowed)]
    return _Batch(default_collate(usable) if usable else None, len(good), bad)


class PhaseIterator:
    """The batches of one phase on one rank, one after the other.

    Attributes:
        plan: the plan they follow.
        share: what the batch returned last means to this rank.
        bad_rows: rows left out so far because they could not be decoded.
    """

    def __init__(self, batches: Iterator[_Batch], plan: PhasePlan, max_bad_rows: int) -> None:
        self.plan = plan
        self.share = Share(0, 0)
        self.bad_rows = 0
        self._batches = batches
        self._max_bad_rows = max_bad_rows
        self._step = 0

    def __len__(self) -> int:
        return self.plan.num_steps

    @property
    def consumed(self) -> int:
        """Rows of a train phase that all ranks together have consumed, up to the batch returned last."""
        return self.plan.consumed(self._step)

    def __iter__(self) -> PhaseIterator:
        return self

    def __next__(self) -> Any:
        while True:
            batch = next(self._batches)
            planned = self.plan.share(self._step)
            self._step += 1
            if planned.rows:  # a borrowed row counts where it belongs
                self._count_bad(batch.bad)
            if batch.sample is not None:
                rows = min(planned.rows, batch.rows)
                self.share = Share(rows, planned.global_rows if self.plan.train else rows)
                return batch.sample

    def _count_bad(self, bad: list[str]) -> None:
        for reason in bad:
            _log.warning("left out: %s", reason)
        self.bad_rows += len(bad)
        if self.bad_rows > self._max_bad_rows:
            raise DataError(
                f"{self.bad_rows} rows could not be decoded, more than max_bad_rows={self._max_bad_rows} allows; "
                f"the last: {bad[-1]}"
            )


class PhaseLoader(torch.utils.data.DataLoader):
    """A DataLoader over one phase's plan; its batches are sample dicts.

    Args:
        dataset: a map-style dataset whose `dataset` attribute may be a `RowDataset`.
        plan: the rows and batches of this rank.
        options: passed to `torch.utils.data.DataLoader`.
    """

    def __init__(self, dataset: Any, plan: PhasePlan, **options: Any) -> None:
        self.plan = plan
        in_process = not options.get("num_workers")
        # In this process the base dataset may decode the next batch while this one is used.
        lookahead = in_process and bool(getattr(getattr(dataset, "dataset", None), "threads", 0))
        rows = _SeededRows(dataset, plan, lookahead)
        if lookahead:
            next(rows.upcoming, None)  # type: ignore[arg-type]
        self._max_bad_rows = rows.max_bad_rows
        self._dataset, self._in_process, self._pins = dataset, in_process, bool(options.get("pin_memory"))
        super().__init__(rows, batch_sampler=_PlannedBatches(plan), collate_fn=_collate, **options)

    def __iter__(self) -> PhaseIterator:  # type: ignore[override]
        kept = kept_batches(self._dataset, self.plan) if self._in_process else None
        batches = super().__iter__() if kept is None else self._from_memory(kept)
        return PhaseIterator(self._checked(batches), self.plan, self._max_bad_rows)

    def _checked(self, batches: Iterator[_Batch]) -> Iterator[_Batch]:
        """The batches; a phase whose files changed under it does not end well."""
        yield from batches
        check_sources(self._dataset)

    def _from_memory(self, kept: Iterator[dict[str, torch.Tensor]]) -> Iterator[_Batch]:
        """The kept batches, and in the usual way what turns out not to be kept."""
        done = 0
        for sample in kept:
            done += 1
            if self._pins:
                sample = {name: tensor.pin_memory() for name, tensor in sample.items()}
            yield _Batch(sample, len(next(iter(sample.values()))), [])
        if done < self.plan.num_steps:
            yield from itertools.islice(super().__iter__(), done, None)
