"""The batches that tasks on other CPUs make for a training worker, in the order of the plan.

    until the phase ends:
        start tasks for the batches to come, as many as CPUs and memory allow
        wait for the next batch; if it is late or lost, make it in this process

A batch is a function of the plan and the rows, so it does not matter who makes it. A task that is not waited for any
more is left to end: Ray's way to cancel it would interrupt an import, and spoil its process for those that follow.
"""

from __future__ import annotations

import statistics
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import ray

from ray_classy.dataset.seeded_rows import BATCHES_AHEAD, Batch, SeededRows
from ray_classy.generic.util import map_tensors

if TYPE_CHECKING:
    from ray_classy.ingest.ray_feed import BatchTasks
    from ray_classy.ingest.ray_feed_task import Made

FIRST_SECONDS = 60.0
"""How long the first batch may take, if no other is ready: processes start, and import torch and the user's modules."""
_LEAST_SECONDS, _LATE = 2.0, 5.0
"""A batch is late after so many seconds, and so many times what batches usually take."""
_MOST_OWN = 3
"""Batches in a row that the worker makes, with no other ready, before it makes the rest of the phase."""
_SECONDS_BETWEEN_LOOKS, _SECONDS_BETWEEN_MESSAGES = 1.0, 10.0


class _Coming(NamedTuple):
    numbers: np.ndarray
    made: Future[Made]


class Window:
    """Iterates over batches that tasks make.

    Args:
        tasks: starts them.
        rows: the same rows in this process.
        batches: row numbers of each batch to make.

    Attributes:
        done: batches that were yielded.
        gave_up: whether the iteration ended because the cluster makes no batches any more.
    """

    def __init__(self, tasks: BatchTasks, rows: SeededRows, batches: Iterable[np.ndarray]) -> None:
        self.done, self.gave_up = 0, False
        self._tasks, self._rows, self._numbers = tasks, rows, iter(batches)
        self._coming: deque[_Coming] = deque()
        self._began, self._start_took, self._arrived = time.monotonic(), 0.0, 0
        self._own = 0

    def __iter__(self) -> Iterator[Batch]:
        while self._fill():
            coming = self._coming.popleft()
            batch = self._received(coming)
            if batch is None:
                self._own += not any(other.made.done() for other in self._coming)
                batch = self._rows.collate(next(self._rows.read([coming.numbers])))
            else:
                self._own = 0
            self.done += 1
            yield batch
            if self._own == _MOST_OWN or not self._tasks.slots:
                self.gave_up = True
                return

    def _fill(self) -> bool:
        """Starts tasks; returns whether there is a batch to come."""
        self._tasks.look()
        slots = max(1, self._tasks.slots)
        most = min(2 * slots + BATCHES_AHEAD, self._tasks.fitting())
        while len(self._coming) < most and sum(not one.made.done() for one in self._coming) < slots:
            numbers = next(self._numbers, None)
            if numbers is None:
                break
            self._coming.append(_Coming(numbers, self._tasks.start(numbers)))
        return bool(self._coming)

    def _received(self, coming: _Coming) -> Batch | None:
        """Returns the batch of a task; None if it is late or lost, or has rows that the task could not read."""
        made = self._waited(coming)
        if made is None or made.batch.bad:  # only this process says whether a row is bad: other nodes may lack the data
            return None
        self._start_took = self._start_took or time.monotonic() - self._began
        self._arrived += 1
        sizes: list[int] = []
        map_tensors(made.batch.sample, lambda tensor: sizes.append(tensor.nbytes))
        self._tasks.learn(made.seconds, sum(sizes))
        return made.batch

    def _waited(self, coming: _Coming) -> Made | None:
        began, waited, said = time.monotonic(), 0.0, 0.0
        while waited < self._patience():
            try:
                return coming.made.result(min(self._patience() - waited, _SECONDS_BETWEEN_LOOKS))
            except TimeoutError:
                waited = time.monotonic() - began
                self._tasks.look()
                if not self._tasks.slots:
                    self._tasks.say("no CPU that makes batches is left: this worker makes them")
                    return None
            except ray.exceptions.RayError as error:
                cause = getattr(error, "cause", None) or error
                reason = next(iter(str(cause).splitlines()), "")
                self._tasks.say(
                    f"a batch of the cluster is lost ({type(cause).__name__}: {reason}): this worker makes it"
                )
                return None
            if waited - said >= _SECONDS_BETWEEN_MESSAGES:
                said = waited
                self._tasks.say(f"waiting for a batch of the cluster for {waited:.0f} s")
        self._tasks.say(f"the cluster has not made a batch within {waited:.0f} s: this worker makes it")
        return None

    def _patience(self) -> float:
        """How many seconds to wait for a batch."""
        if self._tasks.seconds:
            usual = _LATE * statistics.median(self._tasks.seconds)
            # Some processes may be still to start, and import what the first one has imported.
            starting = self._start_took if self._arrived < 2 * self._tasks.slots else 0.0
            return max(_LEAST_SECONDS, usual, starting)
        if not any(other.made.done() for other in self._coming):
            return FIRST_SECONDS
        self._start_took = self._start_took or time.monotonic() - self._began
        return max(_LEAST_SECONDS, 2 * self._start_took)
