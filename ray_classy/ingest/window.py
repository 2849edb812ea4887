"""The batches that tasks on other CPUs make for a training worker, in the order of the plan.

    until the phase ends:
        start tasks for the batches to come, as many as CPUs and memory allow
        wait for the next batch; if it is late or lost, make it in this process

A batch is a function of the plan and the rows, so it does not matter who makes it. A task that is not waited for any
more is left to end: Ray's way to cancel it would interrupt an import, and spoil its process for those that follow.
"""

from __future__ import annotations

import contextlib
import logging
import statistics
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import ray

from ray_classy.dataset.plan import PhasePlan
from ray_classy.dataset.seeded_rows import BATCHES_AHEAD, Batch, SeededRows
from ray_classy.generic.util import map_tensors
from ray_classy.ingest.feed_task import Made, Source, make_batch, remote_task
from ray_classy.ingest.room import Room
from ray_classy.ingest.store_memory import format_bytes

_log = logging.getLogger(__name__)

FIRST_SECONDS = 60.0
"""How long the first batch may take: processes start, and import torch and the user's modules."""
_LEAST_SECONDS, _LATE = 2.0, 5.0
"""A batch is late after so many seconds, and so many times what batches usually take."""
_MOST_OWN = 3
_SECONDS_BETWEEN_LOOKS = 10.0


class _Coming(NamedTuple):
    numbers: np.ndarray
    made: Future[Made]


class Window:
    """Iterates over batches that tasks make.

    Args:
        source: the dataset, for the tasks.
        rows: the same in this process.
        plan: the phase.
        batches: row numbers of each batch to make.
        room: the CPUs for the tasks.
        find_room: finds them again, from time to time: nodes join and leave.
        world_size: workers that share them.
        memory: bytes of batches that may be ready, or being made, for this worker.
        seconds: that the latest batches took; they are added.
        say: logs a line.

    Attributes:
        done: batches that were yielded.
        gave_up: whether the iteration ended because the cluster makes no batches any more.
    """

    def __init__(
        self,
        source: Source,
        rows: SeededRows,
        plan: PhasePlan,
        batches: Iterable[np.ndarray],
        room: Room,
        find_room: Callable[[], Room],
        world_size: int,
        memory: int,
        seconds: deque[float],
        say: Callable[[str], None],
    ) -> None:
        self.done, self.gave_up = 0, False
        self._source, self._rows = source, rows
        self._plan = replace(plan)  # without the order, which is cached in it
        self._numbers = iter(batches)
        self._find_room, self._world_size, self._memory, self._say = find_room, world_size, memory, say
        self._coming: deque[_Coming] = deque()
        self._seconds = seconds
        self._began = time.monotonic()
        self._start_took: float | None = 0.0 if seconds else None
        self._bytes = 0
        self._own = 0
        self._throttled = False
        self._use(room)

    def __iter__(self) -> Iterator[Batch]:
        while self._fill():
            coming = self._coming.popleft()
            batch = self._received(coming)
            if batch is None:
                self._own += 1
                batch = self._rows.collate(next(self._rows.read([coming.numbers])))
            else:
                self._own = 0
            self.done += 1
            yield batch
            if self._own == _MOST_OWN or not self._room.slots:
                self.gave_up = True
                return

    def _use(self, room: Room) -> None:
        self._room, self._looked = room, time.monotonic()
        self._slots = max(1, room.slots // self._world_size)
        self._task = remote_task(make_batch, room)

    def _fill(self) -> bool:
        """Starts tasks; returns whether there is a batch to come."""
        if time.monotonic() - self._looked > _SECONDS_BETWEEN_LOOKS:
            self._use(self._find_room())
        while len(self._coming) < self._most():
            numbers = next(self._numbers, None)
            if numbers is None:
                break
            made = self._task.remote(self._source, self._plan, numbers).future()
            self._coming.append(_Coming(numbers, made))
        return bool(self._coming)

    def _most(self) -> int:
        """How many batches may be ready or being made."""
        slots = self._slots
        if not self._bytes:
            return slots + 1
        wanted, most = 2 * slots + BATCHES_AHEAD, max(1, self._memory // self._bytes)
        if most < slots and not self._throttled:
            self._throttled = True
            self._say(
                f"{format_bytes(self._memory)} of shared memory for each worker hold {most} batches of "
                f"{format_bytes(self._bytes)}, fewer than its {slots} CPUs could make; raise ray.ingest_memory"
            )
        return min(wanted, most)

    def _received(self, coming: _Coming) -> Batch | None:
        """Returns the batch of a task; None if it is late or lost."""
        made = self._waited(coming)
        if made is None:
            return None
        self._seconds.append(made.seconds)
        if made.error is not None:
            made.error.add_note(made.traceback)
            raise made.error
        assert made.batch is not None
        self._bytes = max(self._bytes, _bytes_of(made.batch.sample))
        return made.batch

    def _waited(self, coming: _Coming) -> Made | None:
        patience = self._patience()
        began, waited = time.monotonic(), 0.0
        while waited < patience:
            with contextlib.suppress(TimeoutError):
                return self._result(coming, min(patience - waited, _SECONDS_BETWEEN_LOOKS))
            waited = time.monotonic() - began
            if waited >= _SECONDS_BETWEEN_LOOKS:
                self._say(f"waiting for a batch of the cluster for {waited:.0f} s")
        self._say(f"the cluster has not made a batch within {waited:.0f} s: the worker makes it itself")
        return None

    def _patience(self) -> float:
        """How many seconds to wait for a batch."""
        if not self._seconds:
            return FIRST_SECONDS
        if self._start_took is None:
            self._start_took = time.monotonic() - self._began
        usual = _LATE * statistics.median(self._seconds)
        # Some processes may be still to start, and import what the first one has imported.
        return max(_LEAST_SECONDS, usual, self._start_took if len(self._seconds) < 2 * self._slots else 0.0)

    def _result(self, coming: _Coming, seconds: float) -> Made | None:
        try:
            return coming.made.result(seconds)
        except ray.exceptions.RayError as error:
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            self._say(f"a batch of the cluster was lost ({reason}): the worker makes it itself")
            return None


def _bytes_of(sample: Any) -> int:
    sizes: list[int] = []
    map_tensors(sample, lambda tensor: sizes.append(tensor.nbytes))
    return sum(sizes)
