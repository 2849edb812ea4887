"""Streams a Ray Data pipeline to the ranks of a run, which train on its first rows while it makes the next.

A process of its own, the `Pipeline`, executes the pipeline once per pass over the dataset. It numbers the rows in the
order of the output, and gives every rank references to the blocks. A rank reads from them the rows that the plan
assigns to it: row number i is position i of the plan's order.
"""

from __future__ import annotations

import functools
import logging
import threading
import time
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ray_classy.dataset.made_ahead import BATCHES_AHEAD
from ray_classy.dataset.plan import PhasePlan
from ray_classy.dataset.rows import BlockRows, Rows
from ray_classy.errors import DataError, ResourceError, RunError
from ray_classy.ingest.ray_pipeline import Pipeline, failure
from ray_classy.ray_compat.data import arrow_table, blocks_of

_log = logging.getLogger(__name__)

_FEW, _MANY = 8, 1024
"""Rows that are made first when one is read before training, for the dry run, and the most that can be."""
_STEPS_AHEAD = BATCHES_AHEAD + 2
"""Global batches that the fastest rank may be ahead of the slowest one."""
_SECONDS_BETWEEN_MESSAGES = 10.0


@dataclass(frozen=True)
class Stream:
    """A pipeline that is executed while the ranks read from it.

    Attributes:
        dataset: a `ray.data.Dataset` that was not executed.
        num_rows: its number of rows.
        columns: those that are read.
        id_column: a column that tells the rows apart, if there is one: every pass must have the same rows.
        check: called with each block that is read, an Arrow table; raises `DataError`.
    """

    dataset: Any
    num_rows: int
    columns: Sequence[str]
    id_column: str | None
    check: Callable[[Any], None]

    def shard(self, world_size: int) -> StreamShard:
        """Starts the process that executes the pipeline for so many ranks.

        It ends with `StreamShard.end`, or with the last reference to it.
        """
        options: dict[str, Any] = {
            "num_cpus": 0,
            "max_concurrency": 2 * world_size,
            # Outside of this process's placement group, whose resources are the training workers'.
            "scheduling_strategy": NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False),
        }
        made = self.dataset.select_columns(list(self.columns))
        pipeline = ray.remote(**options)(Pipeline).remote(made, self.num_rows, self.id_column, world_size)
        return StreamShard(pipeline, self.num_rows, self.check)


@dataclass(frozen=True)
class StreamShard:
    """A stream that is executed, as every rank receives it.

    Attributes:
        pipeline: the `Pipeline`.
        num_rows: rows of the stream.
        check: see `Stream`.
    """

    pipeline: Any
    num_rows: int
    check: Callable[[Any], None]

    def rows(self) -> StreamRows:
        """Returns the rows, which a rank reads front to back."""
        return StreamRows(self)

    def end(self) -> None:
        """Ends the process that executes the pipeline."""
        if ray.is_initialized():
            ray.kill(self.pipeline)


class StreamRows(Rows):
    """The rows of a stream, which a phase reads front to back; before training, the first ones by number.

    Args:
        source: a stream, or the shard of one that is executed.
    """

    random_access = False

    def __init__(self, source: Stream | StreamShard) -> None:
        self._source = source
        self._shard = source if isinstance(source, StreamShard) else None
        self.ray_dataset = source if isinstance(source, Stream) else None
        self._first: BlockRows | None = None
        self._reading: _Reading | None = None
        self._passes = 0

    def __len__(self) -> int:
        return self._source.num_rows

    def __getstate__(self) -> dict[str, Any]:
        return {"_source": self._source}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["_source"])  # type: ignore[misc]

    def column(self, name: str) -> Any:
        raise DataError("a stream has no whole columns: they are not known before its end")

    def take(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        return [self._row(int(index)) for index in indices]

    def _row(self, index: int) -> dict[str, Any]:
        if self._reading is not None and self._reading.left and index == 0:  # the next dry run
            self._reading = None
        row = None if self._reading is None else self._reading.row(index)
        if row is not None:
            return row
        if index >= _MANY or self.ray_dataset is None:
            raise DataError(f"row {index} of a stream can be read only in its turn")
        if self._first is None or index >= len(self._first):
            self._first = self._first_rows(min(max(_FEW, 2 * index), _MANY))
        if index >= len(self._first):
            raise DataError(f"the pipeline has no more than {len(self._first)} rows, but {len(self)} were announced")
        return self._first.take([index])[0]

    def _first_rows(self, rows: int) -> BlockRows:
        _log.info("executing the RayDataset's pipeline up to its first %d rows, for the dry run", rows)
        stream = self.ray_dataset
        try:
            references, sizes = blocks_of(stream.dataset.limit(rows))
            tables = [arrow_table(ray.get(reference)) for reference in references]
        except Exception as error:
            raise RunError(failure(error)) from None
        for table in tables:
            stream.check(table)
        return BlockRows(sizes, lambda number: tables[number].select(list(stream.columns)))

    def followed(self, plan: PhasePlan, batches: Iterable[np.ndarray]) -> Generator[np.ndarray, None, None]:
        if self._shard is None:
            if plan.world_size > 1:
                raise ResourceError(
                    f"a RayDataset with stream=True was given to {plan.world_size} processes without Ray Train: use "
                    f"RayTrainer, whose workers read one pipeline together"
                )
            self._shard = self._source.shard(1)  # type: ignore[union-attr]  # a StreamShard is its own
        reading = self._reading
        if reading is None or reading.left or plan.part[0] == 0 or plan.epoch != reading.plan.epoch:
            self._passes += 1
            reading = self._reading = _Reading(self._shard, self._passes)
        reading.plan = plan
        recent: deque[np.ndarray] = deque()
        try:
            for batch in batches:
                # `BATCHES_AHEAD` more batches were asked for than are complete; a bad row may need one from before.
                if len(recent) > BATCHES_AHEAD + 1:
                    reading.drop_before(int(recent.popleft()[0]))
                recent.append(batch)
                yield batch
            reading.complete()
        except BaseException:
            reading.leave()
            raise


class _Reading:
    """One pass over a stream on one rank, by several threads.

    Args:
        shard: of the stream.
        number: of the pass.

    Attributes:
        plan: of the phase, which may be a part of the pass.
        left: whether a phase ended early, so that nothing more is waited for.
    """

    plan: PhasePlan
    left: bool = False

    def __init__(self, shard: StreamShard, number: int) -> None:
        self._shard = shard
        self._number = number
        self._ends: list[int] = []
        self._blocks: dict[int, BlockRows] = {}
        self._dropped = 0
        self._growing = threading.Lock()

    def row(self, index: int) -> dict[str, Any] | None:
        """Waits for a row; None if it was dropped."""
        if self.left:
            raise RunError("the phase ended early")
        self._grow(index + 1)
        number = bisect_right(self._ends, index)
        if number < self._dropped:
            return None
        return self._blocks[number].take([index - (self._ends[number - 1] if number else 0)])[0]

    def _grow(self, end: int) -> None:
        """Waits for the blocks of the rows up to `end`."""
        if self._ends and end <= self._ends[-1]:
            return
        with self._growing:
            while not self._ends or end > self._ends[-1]:
                plan, number = self.plan, len(self._ends)
                ahead = _STEPS_AHEAD * plan.global_batch_size
                asked = self._shard.pipeline.block.remote(plan.rank, self._number, plan.epoch, number, ahead)
                answer = self._waited_for(asked)
                if isinstance(answer, str):
                    raise RunError(answer)
                (reference,), rows = answer
                self._blocks[number] = BlockRows([rows], functools.partial(self._table, reference))
                self._ends.append(rows + (self._ends[-1] if self._ends else 0))

    def _table(self, reference: Any, _: int) -> Any:
        table = arrow_table(self._waited_for(reference))
        try:
            self._shard.check(table)
        except DataError as error:  # which would count as one bad row
            raise RunError(str(error)) from None
        return table

    def _waited_for(self, reference: Any) -> Any:
        began = logged = time.monotonic()
        try:
            while not ray.wait([reference], timeout=1.0)[0]:
                now = time.monotonic()
                if self.left:
                    raise RunError("the phase ended early")
                if now - logged >= _SECONDS_BETWEEN_MESSAGES:
                    logged = now
                    free = ray.available_resources().get("CPU", 0.0)
                    _log.warning(
                        "waiting for the RayDataset's pipeline for %.0f s: it has made %d of %d rows; free: %g CPU",
                        now - began,
                        self._ends[-1] if self._ends else 0,
                        self._shard.num_rows,
                        free,
                    )
            return ray.get(reference)
        except ray.exceptions.RayError as error:
            raise RunError(failure(error)) from None

    def drop_before(self, index: int) -> None:
        """Drops the blocks whose rows are all before `index`."""
        while self._dropped < len(self._ends) and self._ends[self._dropped] <= index:
            self._dropped += 1
            del self._blocks[self._dropped - 1]

    def complete(self) -> None:
        """Ends a phase whose batches have all been asked for; at the end of a pass waits for the pipeline's end."""
        if self.plan.part[0] + 1 == self.plan.part[1]:
            self._grow(self.plan.num_rows)
            self._done()

    def leave(self) -> None:
        """Ends a phase early."""
        self.left = True
        self._done()

    def _done(self) -> None:
        if ray.is_initialized():  # a generator may be closed when the process has left the cluster
            self._shard.pipeline.done.remote(self.plan.rank, self._number)
