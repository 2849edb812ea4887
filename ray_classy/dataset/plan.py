"""Assigns the rows of a phase to ranks and batches: a pure function, which every rank evaluates for itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from ray_classy.errors import DataError


@dataclass(frozen=True)
class Share:
    """The rows of one step that belong to one rank, and to all.

    Attributes:
        rows: rows of this rank in the step; 0 if its batch holds only padding rows, of weight zero.
        global_rows: rows of all ranks together.
    """

    rows: int
    global_rows: int


@dataclass(frozen=True)
class PhasePlan:
    """The rows of one phase, divided into steps and sharded over the ranks.

    In a train phase every rank makes the same number of steps, and step k covers the next global batch of the epoch's
    order. In a test phase each rank reads one contiguous piece of the order, and ranks may differ in their number of
    steps. Where rows come one after the other, ranks can also read a test phase front to back together, as in a train
    phase. Either way each row belongs to exactly one rank and step.

    Batch norm cannot train on one row. So no train step, and no rank in one, has exactly one row where that can be
    avoided:

    - If one row would be left for the last step, that step takes another from the step before. It needs a global batch
      of at least 3 rows, and a phase with a step before.
    - The rows of a short step are spread over as many ranks as get two each; the others have none. With batches of two
      rows, one rank of a step with an odd number of rows has three.

    With batches of one row every rank has one.

    Attributes:
        num_rows: rows of the epoch.
        batch_size: rows per rank and step.
        world_size: number of ranks.
        rank: the rank whose batches `batches` yields.
        train: whether this is a train phase.
        shuffle: whether the order is a permutation drawn from (seed, epoch).
        drop_last: whether the last global batch of a train phase is dropped if it is short.
        seed: the run's seed.
        epoch: the pass over the dataset, from 0; each has another order.
        part: (p, n) for the p-th of n equal parts of the epoch, p from 0.
        start: rows of this phase that are consumed already (train phases).
        together: whether the ranks read a test phase front to back together, not one piece each.
        drawn: returns the rows of the epoch in their order, where a sampling decides it; shape (num_rows,), int64.
        period: rows that the numbers of a sampling count: number i is row i % period. None if they are row numbers.
    """

    num_rows: int
    batch_size: int
    world_size: int = 1
    rank: int = 0
    train: bool = False
    shuffle: bool = False
    drop_last: bool = False
    seed: int = 0
    epoch: int = 0
    part: tuple[int, int] = (0, 1)
    start: int = 0
    together: bool = False
    drawn: Callable[[], np.ndarray] | None = field(default=None, compare=False, repr=False)
    period: int | None = None

    def check(self) -> None:
        """Refuses a phase in which no row is read.

        Raises:
            DataError: the dataset has no rows, or fewer than an epoch has phases, or `drop_last` drops them all.
        """
        phase_type = "train" if self.train else "test"
        if self.num_rows == 0:
            raise DataError(f"the {phase_type} dataset has no rows")
        if self.num_rows < self.part[1]:
            raise DataError(f"phases_per_epoch is {self.part[1]}, but the dataset has {self.num_rows} rows; lower it")
        if self.train and self.num_steps == 0 and self.start == 0:
            raise DataError(
                f"a {phase_type} phase of {self.rows_left} rows has no full global batch of {self.global_batch_size} "
                f"({self.batch_size} x {self.world_size} ranks) and drop_last is set: lower batchsize_per_replica, "
                f"use fewer ranks or set drop_last to false"
            )

    @cached_property
    def order(self) -> np.ndarray:
        """Row numbers of this phase in the order in which they are read, shape (rows,), int64."""
        if self.drawn is not None:
            order = self.drawn()
        elif self.shuffle:
            order = np.random.default_rng([self.seed, self.epoch]).permutation(self.num_rows)
        else:
            order = np.arange(self.num_rows)
        index, parts = self.part
        begin, end = self.num_rows * index // parts, self.num_rows * (index + 1) // parts
        return order[begin:end][self.start :]

    def rows_of(self, numbers: np.ndarray) -> np.ndarray:
        """Returns the rows of the dataset that numbers of the order stand for."""
        return numbers if self.period is None else numbers % self.period

    @property
    def global_batch_size(self) -> int:
        """Rows of all ranks together in a full step."""
        return self.batch_size * self.world_size

    @cached_property
    def rows_left(self) -> int:
        """Rows of this phase that are not consumed yet."""
        index, parts = self.part
        size = self.num_rows * (index + 1) // parts - self.num_rows * index // parts
        return max(0, size - self.start)

    @property
    def num_steps(self) -> int:
        """Number of steps of this rank."""
        if not self.train and self.together:
            full, rest = divmod(self.rows_left, self.global_batch_size)
            begin, end = self._piece(rest)
            return full + (begin < end)
        if not self.train:
            begin, end = self._piece(self.rows_left)
            return -(-(end - begin) // self.batch_size)
        if self.drop_last:
            return self.rows_left // self.global_batch_size
        return -(-self.rows_left // self.global_batch_size)

    def _piece(self, rows: int) -> tuple[int, int]:
        """Returns where this rank's piece of so many rows begins and ends."""
        return -(-rows * self.rank // self.world_size), -(-rows * (self.rank + 1) // self.world_size)

    def _test_bounds(self, step: int) -> tuple[int, int]:
        """Returns where this rank's rows of a test step begin and end in the order."""
        if not self.together:
            begin, end = self._piece(self.rows_left)
            return begin + step * self.batch_size, min(begin + (step + 1) * self.batch_size, end)
        first = step * self.global_batch_size
        begin, end = self._piece(min(self.global_batch_size, self.rows_left - first))
        return first + begin, first + end

    def _begin(self, step: int) -> int:
        """Returns where a train step begins in the order: the number of rows in the steps before it."""
        size, rows = self.global_batch_size, self.rows_left
        takes_one = rows % size == 1 and size >= 3 and step == rows // size > 0 and not self.drop_last
        return min(step * size, rows) - takes_one

    def global_rows(self, step: int) -> int:
        """Returns the rows of all ranks together in train step `step`."""
        return self._begin(step + 1) - self._begin(step)

    def _ranks_with_rows(self, rows: int) -> int:
        """Returns how many ranks, the first ones, share a train step of so many rows."""
        return self.world_size if self.batch_size == 1 else min(self.world_size, max(1, rows // 2))

    def _bounds(self, step: int) -> tuple[int, int]:
        """Returns where this rank's rows of a train step begin and end in the order."""
        begin, rows = self._begin(step), self.global_rows(step)
        ranks = self._ranks_with_rows(rows)
        if self.rank >= ranks:
            return begin + rows, begin + rows
        return begin + -(-rows * self.rank // ranks), begin + -(-rows * (self.rank + 1) // ranks)

    @property
    def fewest_rows(self) -> int:
        """Fewest rows that a rank trains on in a step, of the ranks that have rows; 0 if there is no step."""
        steps = (step for step in (0, self.num_steps - 2, self.num_steps - 1) if 0 <= step < self.num_steps)
        return min((rows // self._ranks_with_rows(rows) or 1 for rows in map(self.global_rows, steps)), default=0)

    def consumed(self, steps: int) -> int:
        """Returns the rows of a train phase that all ranks together have consumed after `steps` steps of this plan."""
        return self.start + self._begin(min(steps, self.num_steps))

    def share(self, step: int) -> Share:
        """Returns the number of rows in step `step`, from 0, of this rank and of all."""
        if not self.train:
            begin, end = self._test_bounds(step)
            return Share(end - begin, end - begin)
        full, share = self._full_steps
        if 0 <= step < full:
            return share
        begin, end = self._bounds(step)
        return Share(end - begin, self.global_rows(step))

    @cached_property
    def _full_steps(self) -> tuple[int, Share]:
        """Returns the number of first train steps that are full, whatever the last two are, and their share."""
        return self.rows_left // self.global_batch_size - 1, Share(self.batch_size, self.global_batch_size)

    def batches(self) -> Iterator[np.ndarray]:
        """Yields this rank's row numbers, step by step; in a step without any, the step's first rows are padding."""
        if not self.train:
            for step in range(self.num_steps):
                begin, end = self._test_bounds(step)
                yield self.order[begin:end]
            return
        for step in range(self.num_steps):
            begin, end = self._bounds(step)
            first = self._begin(step)
            yield self.order[begin:end] if end > begin else self.order[first : first + 2]
