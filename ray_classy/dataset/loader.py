"""A DataLoader over the rows that a plan assigns to this rank."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import torch.utils.data
from torch.utils.data._utils.pin_memory import pin_memory

from ray_classy.dataset.device_batches import batches_on_device
from ray_classy.dataset.memory_cache import cached_batches
from ray_classy.dataset.plan import PhasePlan, Share
from ray_classy.dataset.row_dataset import check_sources
from ray_classy.dataset.seeded_rows import Batch, SeededRows
from ray_classy.errors import DataError, RayClassyError
from ray_classy.seeding import derive_seed

_log = logging.getLogger(__name__)


class _PlannedBatches(torch.utils.data.Sampler[list[int]]):
    def __init__(self, plan: PhasePlan) -> None:
        self.plan = plan
        self.first = 0

    def __len__(self) -> int:
        return self.plan.num_steps

    def __iter__(self) -> Iterator[list[int]]:
        for batch in itertools.islice(self.plan.batches(), self.first, None):
            yield batch.tolist()


class Feed(Protocol):
    """Gives a dataset's batches in place of the process that trains on them."""

    def batches(self, rows: SeededRows, plan: PhasePlan, own: Callable[[int], Iterator[Batch]]) -> Iterator[Batch]:
        """Yields the batches of a plan, in its order and bit by bit as this process would make them.

        Args:
            rows: the rows of the phase.
            plan: of this rank.
            own: lets this process, or its loading processes, make those after so many of the first batches.
        """


class PhaseIterator:
    """Iterates over the batches of one phase on one rank.

    Attributes:
        plan: the plan that the batches follow.
        share: rows of this rank and of all ranks in the batch that was returned last.
        bad_rows: rows skipped so far because they could not be decoded.
        batches: where they come from.
    """

    def __init__(self, batches: Iterator[Batch], plan: PhasePlan, max_bad_rows: int) -> None:
        self.plan = plan
        self.share = Share(0, 0)
        self.bad_rows = 0
        self.batches = batches
        self._max_bad_rows = max_bad_rows
        self._step, self._steps = 0, plan.num_steps

    def __len__(self) -> int:
        return self._steps

    @property
    def consumed(self) -> int:
        """Rows of a train phase that all ranks together have consumed, up to the batch returned last."""
        return self.plan.consumed(self._step)

    def __iter__(self) -> PhaseIterator:
        return self

    def __next__(self) -> Any:
        while True:
            batch = next(self.batches)
            planned = self.plan.share(self._step)
            self._step += 1
            if batch.bad and planned.rows:  # a padding row counts on the rank that it belongs to
                self._count_bad(batch.bad)
            if batch.sample is not None:
                rows = min(planned.rows, batch.rows)
                full = self.plan.train and rows == planned.rows
                self.share = planned if full else Share(rows, planned.global_rows if self.plan.train else rows)
                return batch.sample

    def _count_bad(self, bad: list[str]) -> None:
        for reason in bad:
            _log.warning("skipped: %s", reason)
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

    Attributes:
        device: the device that batches are copied to and batched transforms run on; None for the host.
    """

    def __init__(self, dataset: Any, plan: PhasePlan, **options: Any) -> None:
        self.plan = plan
        self.device: torch.device | None = None
        self._rows = SeededRows(dataset, plan)
        self._pins = bool(options.get("pin_memory"))
        self._planned = _PlannedBatches(plan)
        # For the seeds of loading processes, which it would draw from the generator of the model's dropout.
        options.setdefault("generator", torch.Generator().manual_seed(derive_seed(plan.seed, plan.epoch)))
        super().__init__(self._rows, batch_sampler=self._planned, collate_fn=self._rows.collate, **options)

    def __iter__(self) -> PhaseIterator:  # type: ignore[override]
        feed: Feed | None = getattr(self._rows.dataset, "feed", None)
        batches = self._own() if feed is None else map(self._pinned, feed.batches(self._rows, self.plan, self._own))
        ready = batches_on_device(self._checked(batches), self._rows.placement, self.plan, self.device)
        return PhaseIterator(ready, self.plan, self._rows.max_bad_rows)

    def _checked(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """Yields the batches, and raises an error after the last one if the files have changed meanwhile."""
        try:
            yield from batches
        except RayClassyError as error:
            # From a loading process torch raises it with the traceback of that process in its message.
            _, found, message = str(error).rpartition(f"{type(error).__module__}.{type(error).__qualname__}: ")
            if not found:
                raise
            raise type(error)(message.strip()) from error
        check_sources(self._rows.dataset, self.plan.rank, ends=True)

    def _own(self, done: int = 0) -> Iterator[Batch]:
        """Makes the batches after the first `done` in loading processes or in this process."""
        if self.num_workers:
            self._planned.first = done
            yield from super().__iter__()
        else:
            yield from map(self._pinned, self._in_this_process(done))

    def _in_this_process(self, done: int) -> Iterator[Batch]:
        """Yields batches from memory as far as rows can be cached there, and then as they are read."""
        for batch in () if done else cached_batches(self._rows, self.plan):
            done += 1
            yield batch
        for rows in self._rows.read(itertools.islice(self.plan.batches(), done, None)):
            yield self._rows.collate(rows)

    def _pinned(self, batch: Batch) -> Batch:
        return pin_memory(batch) if self._pins else batch
