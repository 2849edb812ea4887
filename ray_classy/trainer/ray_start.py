"""How many workers are started, and when: as many as there is room for, and never without a message.

Ray's own policies count what a cluster has, not what is free: while others hold resources they start groups that cannot
come up, time out, and start the same again, without end and without a message.
"""

from __future__ import annotations

import socket
import time
from typing import Any

import ray
from ray.train import ScalingConfig

from ray_classy.config.ray_options import amounts
from ray_classy.errors import ResourceError
from ray_classy.printable import shell_word
from ray_classy.ray_compat.cluster import free_by_node, nodes_of_group, remove_group
from ray_classy.ray_compat.train import resources_per_worker
from ray_classy.trainer.ray_cluster import fitting
from ray_classy.trainer.run_folder import RunFolder

_SETTLE_SECONDS = 5.0
"""How long a group smaller than the largest waits for resources that workers which have just ended still hold."""
_SECONDS_BETWEEN_MESSAGES = 10.0
_CHECKPOINT_SECONDS = 60.0
_CONNECT_SECONDS = 1.0


class FreeRoom:
    """Starts workers, and more of them, when there is room for them (see `ray_compat.train.scaling_policy`).

    Args:
        scaling: with a number of workers, or the least and the most of an elastic run.
        run: the run's folder, to whose log messages are written.
        wait_seconds: how long to wait for room for the least number of workers.
    """

    def __init__(self, scaling: ScalingConfig, run: RunFolder, wait_seconds: float) -> None:
        workers = scaling.num_workers
        self.least, self.most = workers if isinstance(workers, tuple) else (workers, workers)
        self._each = resources_per_worker(scaling)
        self._interval = getattr(scaling, "elastic_resize_monitor_interval_s", 60.0)
        self._run = run
        self._wait_seconds = wait_seconds
        self._started = self._starting = False
        self._waits_since: float | None = None
        self._group: str | None = None
        self._logged = self._looked = 0.0
        self._requested: tuple[float, list[str]] | None = None  # time of a checkpoint's request; checkpoints before it

    def without_workers(self) -> int | None:
        """Returns the number of workers to start now; None to wait for room.

        Raises:
            ResourceError: there was no room for the least number of workers in time.
        """
        now = time.monotonic()
        if not self._started and self.least == self.most:
            return self._start(self.most)  # the driver has just seen that they fit
        if self._starting and self._group is not None:  # Ray failed to start a group, perhaps while it ended the former
            remove_group(self._group)
            self._group = None
        if self._waits_since is None:
            self._waits_since, self._logged = now, now
        nodes, waited = _nodes(), now - self._waits_since
        workers = min(self._free(nodes) + self._still_held(nodes), self.most)
        if workers == self.most or (workers >= self.least and waited >= _SETTLE_SECONDS):
            return self._start(workers)
        if workers < self.least:
            self._log_or_give_up(now, waited)
        return None

    def _start(self, workers: int) -> int:
        if self.least < self.most:
            self._run.log_now(f"starting {workers} of at most {self.most} workers")
        self._started, self._starting, self._waits_since, self._requested = True, True, None, None
        self._looked = time.monotonic()
        return workers

    def _log_or_give_up(self, now: float, waited: float) -> None:
        needed = f"{self.least} workers x {amounts(self._each)}"
        free = amounts({name: ray.available_resources().get(name, 0.0) for name in self._each})
        if waited > self._wait_seconds:
            raise ResourceError(
                f"the run needs {needed} to resume, but there was no room within {self._wait_seconds:.0f} s: only "
                f"{free} is free; nodes were lost, or others hold the rest. Resume it later with "
                f"--resume {shell_word(self._run.path)}"
            )
        if now - self._logged >= _SECONDS_BETWEEN_MESSAGES:
            self._logged = now
            self._run.log_now(f"waiting for {needed} to resume; free: {free}")

    def _free(self, nodes: set[str]) -> int:
        """Workers that fit into what is free on these nodes."""
        if not self._each:
            return self.most
        free = free_by_node()
        return sum(fitting(free[node], self._each) for node in nodes if node in free)

    def _still_held(self, nodes: set[str]) -> int:
        """Workers of the former group whose place is on these nodes; Ray frees it when it starts the next group."""
        return sum(node in nodes for node in nodes_of_group(self._group)) if self._group is not None else 0

    def with_workers(self, workers: int, group: str) -> int | None:
        """Returns a larger number of workers to resume with, if there is room and a checkpoint exists; else None."""
        self._group, self._starting = group, False
        now = time.monotonic()
        if workers >= self.most or now - self._looked < self._interval:
            return None
        possible = min(workers + self._free(_nodes()), self.most)
        if possible == workers:
            self._looked, self._requested = now, None
            return None
        if self._requested is None:
            self._requested = now, self._run.checkpoints.names()
            self._run.requests.checkpoint()
        requested, before = self._requested
        if self._run.checkpoints.names() == before and now - requested < _CHECKPOINT_SECONDS:
            return None
        self._run.log_now(f"there is room for {possible} workers instead of {workers}: resuming with them")
        return self._start(possible)


def _nodes() -> set[str]:
    """Ids of the live nodes. Ray counts a lost node as alive for up to a minute; its port shows it at once."""
    return {node["NodeID"] for node in ray.nodes() if node["Alive"] and _answers(node)}


def _answers(node: dict[str, Any]) -> bool:
    try:
        address = node["NodeManagerAddress"], node["NodeManagerPort"]
        socket.create_connection(address, timeout=_CONNECT_SECONDS).close()
    except OSError:
        return False
    return True
