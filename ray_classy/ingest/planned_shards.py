"""What Ray Train gives each rank of a worker group of the datasets of a run.

`PlannedShards` gives each rank a shard that names all blocks of a dataset, from which it reads the rows that the plan
of the phase assigns to it. Ray Data's own splits do not serve: `streaming_split(equal=True)` drops rows, splits differ
between runs, and each epoch starts another execution.

The process in which Ray Train calls it needs no torch, whose import would delay the start of the workers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import ray.data
import ray.train

from ray_classy.ray_compat.data import blocks_of

if TYPE_CHECKING:
    from ray_classy.ingest.ray_ingest import ShardRows


class Shard:
    """The blocks of a dataset, as every rank receives them; each reads the rows that the plan assigns to it.

    For rows that are in shared memory already, a trainer is given one in place of a Ray Data dataset.

    Args:
        blocks: references to Arrow tables.
        sizes: rows in each.
    """

    def __init__(self, blocks: Sequence[Any], sizes: Sequence[int]) -> None:
        self.blocks = list(blocks)
        self.sizes = list(sizes)

    def shard(self, world_size: int) -> Shard:
        """Returns itself: what a worker group of any size receives."""
        return self

    def end(self) -> None:
        """Called when the worker group has ended: there is nothing to end."""

    def rows(self) -> ShardRows:
        """Returns the rows of the blocks, read by number."""
        from ray_classy.ingest.ray_ingest import ShardRows

        return ShardRows(self.blocks, self.sizes)


class PlannedShards(ray.train.DataConfig):
    """Gives every rank of a worker group, of whatever size, a shard of each dataset."""

    def __init__(self) -> None:
        super().__init__()
        self._shards: dict[str, Any] = {}

    def __deepcopy__(self, memo: dict[int, Any]) -> PlannedShards:
        """Returns itself: Ray makes a copy, and `end` must reach the processes that are started through it."""
        return self

    def configure(
        self, datasets: dict[str, Any], world_size: int, worker_handles: Any, worker_node_ids: Any, **_: Any
    ) -> list[dict[str, Any]]:
        """Called by Ray Train at each start of a worker group, with what `shared_source` returned."""
        self.end()
        for name, dataset in datasets.items():
            is_executed = isinstance(dataset, ray.data.Dataset)
            self._shards[name] = Shard(*blocks_of(dataset)) if is_executed else dataset.shard(world_size)
        return [dict(self._shards)] * world_size

    def end(self) -> None:
        """Ends the processes that execute pipelines for the latest worker group.

        They would end with the last reference to them, which may be part of a cycle in Ray's controller. Where Ray
        starts a process for its controller, they end with it.
        """
        while self._shards:
            self._shards.popitem()[1].end()
