"""The process that executes a user's Ray Data pipeline while the ranks of a run read its first rows."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from typing import Any

import ray

from ray_classy.errors import DataError, RayClassyError
from ray_classy.ray_compat.data import arrow_table, seed_for_epoch, streamed_blocks

_SLOWEST_SECONDS = 30.0
"""How long a rank waits for the slowest one before it gets more blocks, at the most."""


class Pipeline:
    """Executes a pipeline once per pass, and gives its blocks to all ranks.

    Args:
        dataset: a `ray.data.Dataset`.
        num_rows: rows that every pass must have.
        id_column: see `Stream`.
        world_size: number of ranks.
    """

    def __init__(self, dataset: Any, num_rows: int, id_column: str | None, world_size: int) -> None:
        dataset.context.execution_options.preserve_order = True
        dataset.context.enable_progress_bars = False
        self._dataset = dataset
        self._num_rows = num_rows
        self._id_column = id_column
        self._ids: int | None = None
        self._at = [0] * world_size
        self._passes: dict[int, Pass] = {}
        self._changing = threading.Lock()

    def block(self, rank: int, number_of_pass: int, epoch: int, number: int, ahead: int) -> tuple[Any, int] | str:
        """Waits for a block, which each rank asks for once.

        Args:
            rank: that asks.
            number_of_pass: counted from 1 by every rank.
            epoch: that the pass is part of.
            number: of the block, from 0; each rank asks for one after the other.
            ahead: rows that this rank may be ahead of the slowest one.

        Returns:
            The reference, in a list, and the number of rows; or what is wrong.
        """
        with self._changing:
            self._leave(rank, number_of_pass)
            if number_of_pass < self._at[rank]:
                return "the phase ended early"
            if number_of_pass not in self._passes:
                blocks = self._executed(epoch)
                self._passes[number_of_pass] = Pass(blocks, self._num_rows, len(self._at))
            current = self._passes[number_of_pass]
        return current.block(rank, number, ahead)

    def done(self, rank: int, number_of_pass: int) -> None:
        """Called by a rank that needs no more blocks of a pass."""
        with self._changing:
            self._leave(rank, number_of_pass + 1)

    def _leave(self, rank: int, before: int) -> None:
        """Drops the passes that no rank needs; an execution that is not complete ends with its pass."""
        self._at[rank] = max(before, self._at[rank])
        self._passes = {number: one for number, one in self._passes.items() if number >= min(self._at)}

    def _executed(self, epoch: int) -> Iterator[tuple[Any, int]]:
        seed_for_epoch(self._dataset, epoch)
        sum_of_ids, sums = ray.remote(num_cpus=0)(_sum_of_ids), []
        for reference, rows in streamed_blocks(self._dataset):
            if rows:
                if self._id_column is not None:
                    sums.append(sum_of_ids.remote(reference, self._id_column))
                yield reference, rows
        ids = sum(ray.get(sums)) % 2**64
        if self._id_column is not None and self._ids not in (None, ids):
            raise DataError(
                f"this pass over the pipeline has other ids in column {self._id_column!r} than the one before, so that "
                f"rows were left out or repeated: make the pipeline yield the same rows each time"
            )
        self._ids = ids


def _sum_of_ids(block: Any, column: str) -> int:
    """Sums hashes of a block's ids, in whatever order they are."""
    import pandas as pd

    ids = arrow_table(block).column(column).to_pandas()
    return int(pd.util.hash_pandas_object(ids, index=False).sum())


class Pass:
    """One execution of a pipeline, whose blocks are held until every rank has a reference to them.

    Args:
        blocks: references and numbers of rows, none of them 0.
        num_rows: rows that there must be.
        world_size: number of ranks.
    """

    def __init__(self, blocks: Iterator[tuple[Any, int]], num_rows: int, world_size: int) -> None:
        self._blocks = blocks
        self._num_rows = num_rows
        self._ends: list[int] = []  # of the blocks so far, in rows
        self._held: dict[int, tuple[Any, int]] = {}  # by number: the reference, and how many ranks still need it
        self._reached = [0] * world_size  # rows up to which each rank has blocks
        self._wrong: str | None = None
        self._pulling = threading.Lock()
        self._giving = threading.Condition()

    def block(self, rank: int, number: int, ahead: int) -> tuple[Any, int] | str:
        """Waits for a block; see `Pipeline.block`."""
        if number >= len(self._ends):
            with self._pulling:
                if number >= len(self._ends) and self._wrong is None:
                    self._wait_for_slowest(ahead)
                    self._pull()
        with self._giving:
            if number >= len(self._ends):
                return self._wrong or "the pipeline has ended"
            reference, ranks = self._held.pop(number)
            if ranks > 1:
                self._held[number] = (reference, ranks - 1)
            self._reached[rank] = self._ends[number]
            self._giving.notify_all()
            return [reference], self._ends[number] - (self._ends[number - 1] if number else 0)

    def _wait_for_slowest(self, ahead: int) -> None:
        """Waits until the slowest rank is near; not for ever, because it might wait for this one."""
        with self._giving:
            rows = self._ends[-1] if self._ends else 0
            self._giving.wait_for(lambda: rows - min(self._reached) <= ahead, timeout=_SLOWEST_SECONDS)

    def _pull(self) -> None:
        try:
            reference, rows = next(self._blocks, (None, 0))
            rows += self._ends[-1] if self._ends else 0
            # The last block is given only when the pipeline has ended, so that no rank ends a pass that is wrong.
            if reference is None or rows > self._num_rows or (rows == self._num_rows and next(self._blocks, None)):
                than = "fewer" if reference is None else "more"
                self._wrong = (
                    f"the pipeline of the RayDataset has {than} than {self._num_rows:,} rows in this pass"
                    f"{f', only {rows:,}' if reference is None else ''}: correct num_rows if you gave it, or make the "
                    f"pipeline yield the same rows each time"
                )
                return
        except Exception as error:
            self._wrong = str(error) if isinstance(error, RayClassyError) else failure(error)
            return
        with self._giving:
            self._held[len(self._ends)] = (reference, len(self._reached))
            self._ends.append(rows)


def failure(error: Exception) -> str:
    """Describes what a pipeline failed with: the first of the errors that Ray reports, then its whole report."""
    report = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip() or type(error).__name__
    first = report.split("\n\nThe above exception was", 1)[0]
    return f"the pipeline of the RayDataset failed: {first.rstrip().splitlines()[-1].strip()}\n{report}"
