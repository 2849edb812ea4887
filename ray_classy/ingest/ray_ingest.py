"""Datasets as Ray Data blocks in the cluster's shared memory, from which every rank takes its rows.

Ray Data reads a dataset once per run into blocks; `PlannedShards` gives each rank of a worker group a shard that names
the blocks, and the rank reads from it the rows that the phase's plan deals to it. Ray Data's own splits were no choice:
`streaming_split(equal=True)` drops rows, splits differ between runs, and every epoch costs the start of an execution.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ray
import ray.data
import ray.train

from ray_classy.dataset import ClassyDataset
from ray_classy.dataset.rows import BlockRows, ItemRows, ParquetRows, RowDataset, cpus_of_this_machine
from ray_classy.ray_compat.data import arrow_table, blocks_of
from ray_classy.urls import each, is_url


class ShardRows(BlockRows):
    """The rows of a Ray Data dataset, read from its blocks by number.

    Attributes:
        source: the materialised Ray Data dataset, where it is known.
    """

    source: Any = None

    def __init__(self, blocks: Sequence[Any], sizes: Sequence[int]) -> None:
        super().__init__(sizes, lambda number: arrow_table(ray.get(blocks[number])))

    @classmethod
    def of(cls, source: Any) -> ShardRows:
        """The rows of a materialised Ray Data dataset."""
        rows = _shard(source).rows()
        rows.source = source
        return rows


class Shard:
    """What one rank gets of a dataset: the blocks, of which it reads the rows that the plan deals to it.

    Args:
        blocks: references to Arrow tables.
        sizes: rows in each.
    """

    def __init__(self, blocks: Sequence[Any], sizes: Sequence[int]) -> None:
        self.blocks = list(blocks)
        self.sizes = list(sizes)

    def rows(self) -> ShardRows:
        """The rows by number."""
        return ShardRows(self.blocks, self.sizes)


class PlannedShards(ray.train.DataConfig):
    """Gives every rank of a worker group, of whatever size, a shard of each dataset."""

    def configure(
        self, datasets: dict[str, Any], world_size: int, worker_handles: Any, worker_node_ids: Any, **_: Any
    ) -> list[dict[str, Any]]:
        """Called by Ray Train at each start of a worker group."""
        shards = {name: _shard(dataset) for name, dataset in datasets.items()}
        return [shards] * world_size


def _shard(dataset: Any) -> Shard:
    return Shard(*blocks_of(dataset))


class AwayRows:
    """Stands for rows that are in Ray Data's hands while the dataset travels to the workers."""

    def __init__(self, length: int) -> None:
        self._length = length

    def __len__(self) -> int:
        return self._length

    def take(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        raise AssertionError("rows are taken before the shard is attached")

    def column(self, name: str) -> Any:
        raise AssertionError("a column is read before the shard is attached")


def ray_dataset(dataset: ClassyDataset) -> Any | None:
    """The Ray Data dataset with a task dataset's raw rows, in blocks; None if the workers read them by themselves.

    That is so for a dataset that cannot describe its rows, and for Parquet files that are large: shared memory holds
    what names images, and images only as far as they are few.

    Raises:
        DataError: a Parquet file cannot be read, or was changed.
    """
    base = getattr(dataset, "dataset", None)
    if not isinstance(base, RowDataset):
        return None
    if isinstance(base.rows, ItemRows):
        import pyarrow as pa

        return ray.data.from_arrow(pa.table(base.rows.arrays()))
    if isinstance(base.rows, ParquetRows) and not base.rows.are_large:
        tables = each(base.rows.table, range(len(base.rows.files)), any(map(is_url, base.rows.files)))
        return ray.data.from_arrow(tables)
    return base.rows.source if isinstance(base.rows, ShardRows) else None


def attach(dataset: Any, shard: Shard | None) -> None:
    """Makes a task's dataset read in threads of this worker, and its raw rows from a shard if there is one.

    `num_workers` becomes the number of threads that read ahead; 0 gives one for each CPU of the worker.
    """
    base = getattr(dataset, "dataset", None)
    if not isinstance(base, RowDataset):
        return
    if shard is not None:
        base.rows = shard.rows()
    base.threads, dataset.num_workers = base.threads or dataset.num_workers or cpus_of_worker(), 0


def cpus_of_worker() -> int:
    """CPUs that this process has to read with: those that Ray gave it or, if it has a GPU alone, that GPU's part."""
    here = ray.get_runtime_context()
    mine = here.get_assigned_resources()
    if mine.get("CPU") or not mine.get("GPU"):
        return max(1, int(mine.get("CPU", 0)))
    gpus = next(node["Resources"].get("GPU", 1.0) for node in ray.nodes() if node["NodeID"] == here.get_node_id())
    return part_of_machine(mine["GPU"], gpus)


def part_of_machine(gpus: float, of: float) -> int:
    """The CPUs of this machine that go with some of its GPUs, at least one."""
    return max(1, int(cpus_of_this_machine() * min(gpus / of, 1.0)))


def read_with_own_cpus(task: Any, cpus: int) -> None:
    """Lets the datasets of a task that trains in a process of Ray's read with the CPUs of that process alone."""
    for dataset in task.datasets.values():
        base = getattr(dataset, "dataset", None)
        if isinstance(base, RowDataset) and base.threads is None:
            base.threads = cpus
