"""Decides who makes the batches of a training worker: the worker, or other CPUs of the cluster."""

from __future__ import annotations

import functools
import itertools
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import ray

from ray_classy.dataset.memory_cache import is_cached
from ray_classy.dataset.plan import PhasePlan
from ray_classy.dataset.seeded_rows import Batch, SeededRows
from ray_classy.distributed import is_primary
from ray_classy.ingest.feed_task import Source, ready, remote_task
from ray_classy.ingest.room import Room, room_beside_workers
from ray_classy.ingest.store_memory import PART_OF_STORE, format_bytes
from ray_classy.ingest.window import Window
from ray_classy.user_code import Search

_log = logging.getLogger(__name__)

_TRIED_BATCHES, _TRIED_SECONDS = 10, 2.0
"""How long a worker tries to make its own batches before the share of the time that it waits for them is known."""
_WAITS = 0.1
"""Share of the time that training may wait for batches before other CPUs make them."""
_SETTLE_SECONDS = 5.0


@dataclass(frozen=True)
class Ingest:
    """Who makes the batches of a run.

    Attributes:
        ways: "worker", "cluster" or "auto", by phase type.
        memory: bytes of batches in shared memory for all workers; None takes a part of it.
        most_workers: the largest number of workers of an elastic run.
    """

    ways: Mapping[str, str]
    memory: int | None
    most_workers: int

    def feed(self, phase_type: str, world_size: int) -> ClusterFeed | None:
        """Returns what feeds this worker in phases of a type; None if it makes its own batches."""
        way = self.ways.get(phase_type, "worker")
        if way == "worker":
            return None
        find_room = functools.partial(room_beside_workers, world_size, self.most_workers)
        feed = ClusterFeed(way, self.memory, world_size, find_room)
        if way == "cluster":
            feed.start_processes()
        return feed


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
        self._memory = memory
        self._world_size = world_size
        self._find_room = find_room
        self._room = _settled(find_room)
        self._seconds: deque[float] = deque(maxlen=20)
        self._said: set[str] = set()

    def start_processes(self) -> None:
        """Starts the processes of this worker's tasks, which import torch meanwhile."""
        slots = min(self._room.slots, self._room.free) // self._world_size
        for _ in range(slots):
            # Without a CPU, so that the other workers do not take the CPUs for held when they look for them.
            remote_task(ready, self._room, cpus=0).remote()

    def batches(
        self, rows: SeededRows, plan: PhasePlan, in_this_process: Callable[[int], Iterator[Batch]]
    ) -> Iterator[Batch]:
        """Yields the batches of a plan; see `Feed`."""
        if not self._may_use_cluster():
            yield from in_this_process(0)
            return
        done = 0
        if self._way == "auto":
            trial = _Trial(in_this_process(0))
            for batch in trial:
                done += 1
                yield batch
            if trial.waits is None:
                return
            if not self._pays(trial.waits, rows.dataset):
                yield from trial.batches
                return
            trial.batches.close()
        room = self._find_room()
        if not room.slots:
            self._say(f"the workers make their batches themselves: there are {room}")
            yield from in_this_process(done)
            return
        memory = int(PART_OF_STORE * room.store_bytes) if self._memory is None else self._memory
        self._say(f"batches are made by {room}, of up to {format_bytes(memory)} in shared memory")
        window = Window(
            Source(ray.put(rows.dataset), Search.here(), os.getcwd()),
            rows,
            plan,
            itertools.islice(plan.batches(), done, None),
            room=room,
            find_room=self._find_room,
            world_size=self._world_size,
            memory=memory // self._world_size,
            seconds=self._seconds,
            say=self._say,
        )
        yield from window
        if window.gave_up:
            self._say("the cluster makes no batches any more: for the rest of the phase the worker makes them itself")
            yield from in_this_process(done + window.done)

    def _may_use_cluster(self) -> bool:
        room = self._room
        if self._way == "worker" or (self._way == "auto" and not room.apart):
            return False
        if room.free < 1:
            self._say(f"the workers make their batches themselves: nothing is free of {room}")
        return room.free >= 1

    def _pays(self, waits: float, dataset: Any) -> bool:
        """Decides for all phases to come whether other CPUs make the batches."""
        cached = is_cached(dataset)
        self._way = "worker" if cached or waits < _WAITS else "cluster"
        if self._way == "worker":
            why = "they are cached in memory" if cached else f"training waits for them {waits:.0%} of the time"
            self._say(f"the workers make their batches themselves: {why}")
        else:
            self._say(f"training waits for batches {waits:.0%} of the time: other CPUs make them from now on")
        return self._way == "cluster"

    def _say(self, text: str) -> None:
        if is_primary() and text not in self._said:
            self._said.add(text)
            _log.info("%s", text)


def _settled(find_room: Callable[[], Room]) -> Room:
    """Finds CPUs; if none is free, tasks of workers that have just ended may hold them for a moment."""
    began = time.monotonic()
    while not (room := find_room()).free and room.slots and time.monotonic() - began < _SETTLE_SECONDS:
        time.sleep(0.2)
    return room


class _Trial:
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
