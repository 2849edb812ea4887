"""Decides who makes the batches of a training worker: the worker, or other CPUs of the cluster."""

from __future__ import annotations

import contextlib
import functools
import itertools
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import ray

from ray_classy.dataset.memory_cache import is_cached
from ray_classy.dataset.plan import PhasePlan
from ray_classy.dataset.row_dataset import row_dataset_of
from ray_classy.dataset.seeded_rows import Batch, SeededRows
from ray_classy.distributed import is_primary
from ray_classy.ingest.feedable import can_be_fed
from ray_classy.ingest.ray_feed_task import Made, Source, make_batch, ready
from ray_classy.ingest.ray_room import Room, room_beside_workers
from ray_classy.ingest.ray_window import Window
from ray_classy.ingest.store_memory import PART_OF_STORE, format_bytes
from ray_classy.user_code import Search

_log = logging.getLogger(__name__)

_TRIED_BATCHES, _TRIED_SECONDS = 10, 2.0
"""How long a worker makes its own batches before the share of the time that it waits for them is known."""
_WAITS = 0.1
"""Share of the time that training may wait for batches before other CPUs make them."""
_SETTLE_SECONDS = 5.0
"""How long tasks of workers that have just ended may still hold all CPUs."""
_SECONDS_BETWEEN_LOOKS = 10.0


@dataclass(frozen=True)
class Feeding:
    """Who makes the batches of a run.

    Attributes:
        ways: "worker", "cluster" or "auto", by phase type.
        memory: bytes of batches in shared memory for all workers; None takes a part of it.
        most_workers: the largest number of workers of an elastic run.
    """

    ways: Mapping[str, str]
    memory: int | None
    most_workers: int

    def feed(self, phase_type: str, dataset: Any, world_size: int) -> ClusterFeed | None:
        """Returns what feeds this worker in phases of a type; None if it makes its own batches."""
        way = self.ways.get(phase_type, "worker")
        if way == "worker":
            return None
        if not can_be_fed(dataset):
            if way == "cluster":
                name = type(dataset).__name__
                _say(f"the workers make the {phase_type} batches themselves: {name} has a way of its own")
            return None
        find_room = functools.partial(room_beside_workers, world_size, self.most_workers)
        if way == "auto" and not find_room().apart:
            return None
        return ClusterFeed(way, self.memory, world_size, find_room)


class ClusterFeed:
    """Feeds a training worker.

    Args:
        way: "cluster": other CPUs make the batches. "auto": they do if nodes without training workers have CPUs, and
            the worker cannot keep up.
        memory: bytes of batches in shared memory for all workers; None takes a part of it.
        world_size: number of training workers.
        find_room: finds the other CPUs. The first time it is called before any worker uses them.
    """

    def __init__(self, way: str, memory: int | None, world_size: int, find_room: Callable[[], Room]) -> None:
        self._way = way
        self._find_room = find_room
        room = _settled(find_room)
        self._may_use = room.free > 0
        self._tasks = BatchTasks(room, find_room, memory, world_size)

    def start_processes(self) -> None:
        """Starts the processes of this worker's tasks, which import torch meanwhile."""
        if self._way == "cluster" and self._may_use:
            self._tasks.start_processes()

    def batches(self, rows: SeededRows, plan: PhasePlan, own: Callable[[int], Iterator[Batch]]) -> Iterator[Batch]:
        """Yields the batches of a plan; see `Feed`."""
        done = 0
        if not self._may_use:
            self._may_use = self._find_room().free > 0
        if not self._may_use:
            _say("the workers make their batches themselves: no CPU is free beside them")
            yield from own(0)
            return
        if self._way == "auto":
            first = _FirstBatches(own(0))
            for batch in first:
                done += 1
                yield batch
            if first.waits is None or not self._pays(first.waits, rows.dataset):
                yield from first.batches
                return
            first.batches.close()
        self._tasks.look()
        if self._tasks.slots and self._tasks.begin(rows.dataset, plan):
            window = Window(self._tasks, rows, itertools.islice(plan.batches(), done, None))
            yield from window
            if not window.gave_up:
                return
            done += window.done
        _say("the cluster makes no batches now: the workers make the rest of the phase themselves")
        yield from own(done)

    def _pays(self, waits: float, dataset: Any) -> bool:
        """Decides whether other CPUs make the batches, from now on."""
        base = row_dataset_of(dataset)
        threads = max(dataset.num_workers, 1) if base is None else base.number_of_threads()
        why = "they keep up with training"
        if is_cached(dataset):
            why = "they are cached in memory"
        elif self._tasks.slots < threads:
            why = f"there are {self._tasks.slots} other CPUs for each worker, which has {threads} of its own"
        elif waits >= _WAITS:
            _say(f"training waits for batches {waits:.0%} of the time: other CPUs make them from now on")
            self._way = "cluster"
            return True
        _say(f"the workers make their batches themselves: {why}")
        return False


class BatchTasks:
    """Starts the tasks of a training worker, and knows what they take.

    Args:
        room: the CPUs for them.
        find_room: finds them again: nodes join and leave.
        memory: bytes of batches in shared memory for all workers; None takes a part of it.
        world_size: number of training workers.

    Attributes:
        slots: CPUs for this worker's tasks; 0 if there is none any more.
        seconds: that the latest batches took.
        say: logs a line.
    """

    def __init__(self, room: Room, find_room: Callable[[], Room], memory: int | None, world_size: int) -> None:
        memory = int(PART_OF_STORE * room.store_bytes) if memory is None else memory
        self.seconds: deque[float] = deque(maxlen=20)
        self.say = _say
        self._memory, self._world_size = memory // world_size, world_size
        self._find_room = find_room
        self._bytes = 0
        self._use(room)

    def _use(self, room: Room) -> None:
        self._looked, self._room = time.monotonic(), room
        self.slots = max(1, room.slots // self._world_size) if room.slots else 0
        self._options = {"scheduling_strategy": "SPREAD", "label_selector": room.selector() or None}
        self._task = make_batch.options(**self._options)

    def look(self) -> None:
        """Looks for the CPUs again, from time to time."""
        if time.monotonic() - self._looked > _SECONDS_BETWEEN_LOOKS:
            with contextlib.suppress(ray.exceptions.RayError, ConnectionError, TimeoutError):  # a head that restarts
                self._use(self._find_room())
            self._looked = time.monotonic()

    def start_processes(self) -> None:
        """Starts the processes of the tasks."""
        for _ in range(min(self.slots, self._room.free)):
            ready.options(**self._options).remote()

    def begin(self, dataset: Any, plan: PhasePlan) -> bool:
        """Ships the dataset for a phase; returns whether that is possible."""
        _say(f"batches are made by {self._room}; up to {format_bytes(self._memory)} of shared memory for each worker")
        self._plan = replace(plan, drawn=None)  # without the order, which is cached in it
        try:
            self._source = Source(ray.put(dataset), Search.here(), os.getcwd())
        except Exception as error:  # what a user's dataset opens when it is first read does not pickle, say
            _say(f"the dataset cannot be sent to other processes ({type(error).__name__}: {error})")
            return False
        return True

    def start(self, numbers: np.ndarray) -> Future[Made]:
        """Starts the task of a batch with these rows."""
        return self._task.remote(self._source, self._plan, numbers).future()

    def learn(self, seconds: float, size: int) -> None:
        """Takes note of what a batch took, in time and in bytes."""
        self.seconds.append(seconds)
        self._bytes = max(self._bytes, size)

    def fitting(self) -> int:
        """Returns how many batches fit into the memory, at least 1."""
        if not self._bytes:
            return self.slots + 1
        fitting = max(1, self._memory // self._bytes)
        if fitting < self.slots:
            _say(
                f"{format_bytes(self._memory)} of shared memory for each worker are enough for {fitting} x "
                f"{format_bytes(self._bytes)} of batches, fewer than its {self.slots} CPUs could make; raise "
                f"ray.ingest_memory"
            )
        return fitting


@functools.cache
def _say(text: str) -> None:
    """Logs a line, once in a process; that of the primary rank is the run's log."""
    if is_primary():
        _log.info("%s", text)


def _settled(find_room: Callable[[], Room]) -> Room:
    """Finds CPUs; if none is free, tasks of workers that have just ended may hold them for a moment."""
    began = time.monotonic()
    while not (room := find_room()).free and room.slots and time.monotonic() - began < _SETTLE_SECONDS:
        time.sleep(0.2)
    return room


class _FirstBatches:
    """The first batches of an iterator, which show how much of the time training waits for them.

    Attributes:
        batches: the iterator.
        waits: share of the time; None if the iterator ended before it was known.
    """

    def __init__(self, batches: Iterator[Batch]) -> None:
        self.batches: Any = batches
        self.waits: float | None = None

    def __iter__(self) -> Iterator[Batch]:
        first = next(self.batches, None)
        if first is None:
            return
        yield first
        began, waited = time.perf_counter(), 0.0
        for number in itertools.count(1):
            asked = time.perf_counter()
            batch = next(self.batches, None)
            now = time.perf_counter()
            if batch is None:
                return
            waited += now - asked
            yield batch
            now = time.perf_counter()
            if number >= _TRIED_BATCHES and now - began >= _TRIED_SECONDS:
                self.waits = waited / (now - began)
                return
