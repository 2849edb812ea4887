"""Datasets as blocks in the cluster's shared memory, from which every rank reads its rows.

A dataset is read once per run into blocks, by Ray Data or from the rows that the driver has, and each rank reads from
them the rows that the phase's plan assigns to it (see `planned_shards`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import ray
import ray.data

from ray_classy.dataset.cpus import cpus_of_this_machine
from ray_classy.dataset.row_dataset import detached_rows, row_dataset_of
from ray_classy.dataset.rows import BlockRows
from ray_classy.ingest.planned_shards import Shard
from ray_classy.ingest.ray_feed import Feeding
from ray_classy.ingest.ray_stream import StreamShard
from ray_classy.ray_compat.data import arrow_table, blocks_of


class ShardRows(BlockRows):
    """The rows of a Ray Data dataset, read from its blocks by number."""

    def __init__(self, blocks: Sequence[Any], sizes: Sequence[int]) -> None:
        super().__init__(sizes, lambda number: arrow_table(ray.get(blocks[number])))

    @classmethod
    def of(cls, source: Any) -> ShardRows:
        """Returns the rows of a materialised Ray Data dataset."""
        rows = cls(*blocks_of(source))
        rows.ray_dataset = source
        return rows

    def shared_bytes(self) -> int:
        return 0 if self.ray_dataset is None else int(self.ray_dataset.size_bytes())


def shared_source(dataset: Any) -> Any | None:
    """Returns what the shards of a task's dataset are made of: its Ray Data dataset, its `Stream`, or a `Shard`.

    A `Shard` holds the raw rows, which are put into shared memory here: Ray Data would start three processes to hand on
    tables that exist. None if the workers read the rows themselves: of a dataset that is not built on raw rows, and of
    large Parquet files. Shared memory holds the paths of images, and images themselves only where they are few.

    Raises:
        DataError: a Parquet file cannot be read, or has changed.
    """
    base = row_dataset_of(dataset)
    if base is None or base.rows.ray_dataset is not None:
        return base and base.rows.ray_dataset
    tables = base.rows.shared_tables()
    return None if tables is None else Shard([ray.put(table) for table in tables], [len(table) for table in tables])


@contextmanager
def detached_shards(datasets: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yields what is in shared memory of a task; within the block the task is pickled without the rows in it.

    Args:
        datasets: the task's, by phase type.

    Yields:
        What `shared_source` returns, by phase type, of those datasets of which it returns something.
    """
    with ExitStack() as stack:
        shards = {phase_type: shared_source(dataset) for phase_type, dataset in datasets.items()}
        shards = {phase_type: shard for phase_type, shard in shards.items() if shard is not None}
        for phase_type in shards:
            stack.enter_context(detached_rows(datasets[phase_type]))
        yield shards


def attach(dataset: Any, shard: Shard | StreamShard | None) -> None:
    """Lets a task's dataset read in threads of this worker, and its raw rows from a shard if there is one.

    `num_workers` becomes the number of threads that read ahead; 0 gives one for each CPU of the worker.
    """
    base = row_dataset_of(dataset)
    if base is None:
        return
    if shard is not None:
        base.rows = shard.rows()
    base.threads, dataset.num_workers = base.threads or dataset.num_workers or cpus_of_worker(), 0


def attach_feeds(datasets: Mapping[str, Any], feeding: Feeding, world_size: int) -> None:
    """Lets other CPUs make the batches of a worker's datasets, where they may.

    Args:
        datasets: by phase type, with their rows attached.
        feeding: who makes the batches.
        world_size: number of workers.
    """
    feeds = {phase_type: feeding.feed(phase_type, dataset, world_size) for phase_type, dataset in datasets.items()}
    for phase_type, feed in feeds.items():
        if feed is not None:
            datasets[phase_type].feed = feed
    started = next((feed for feed in feeds.values() if feed is not None), None)
    if started is not None:
        started.start_processes()


def cpus_of_worker() -> int:
    """Returns the CPUs that this process may read with: those that Ray gave it or, without any, its GPU's share."""
    here = ray.get_runtime_context()
    mine = here.get_assigned_resources()
    if mine.get("CPU") or not mine.get("GPU"):
        return max(1, int(mine.get("CPU", 0)))
    gpus = next(node["Resources"].get("GPU", 1.0) for node in ray.nodes() if node["NodeID"] == here.get_node_id())
    return part_of_machine(mine["GPU"], gpus)


def part_of_machine(gpus: float, of: float) -> int:
    """Returns the share of this machine's CPUs that belongs to some of its GPUs, at least 1."""
    return max(1, int(cpus_of_this_machine() * min(gpus / of, 1.0)))


def read_with_own_cpus(task: Any, cpus: int) -> None:
    """Limits the decoding threads of a task's datasets to the CPUs that Ray gave to this process."""
    for dataset in task.datasets.values():
        base = row_dataset_of(dataset)
        if base is not None and base.threads is None:
            base.threads = cpus
