"""How many workers are started, and when: as many as there is room for, and never in silence.

Ray's own policies count what a cluster has, not what is free: while others hold resources they start groups that cannot
come up, time out, and start the same again, for ever and without a word.
"""

from __future__ import annotations

import socket
import time
from typing import Any

import ray
from ray._private.state import available_resources_per_node
from ray.train import ScalingConfig
from ray.train.v2._internal.execution.scaling_policy import NoopDecision, ResizeDecision, ScalingDecision, ScalingPolicy
from ray.util.placement_group import PlacementGroup, placement_group_table, remove_placement_group

from ray_classy.errors import ResourceError
from ray_classy.trainer.ray_cluster import amounts, fitting
from ray_classy.trainer.run_folder import RunFolder

_SETTLE_SECONDS = 5.0
"""For what workers that have just ended held to be free again, before a group smaller than the largest is started."""
_SECONDS_BETWEEN_WORDS = 10.0
_CHECKPOINT_SECONDS = 60.0
_CONNECT_SECONDS = 1.0


class FreeRoomPolicy(ScalingPolicy):
    """Starts workers, and more of them, when there is room for them.

    Args:
        scaling_config: with a number of workers, or the least and the most of an elastic run.
        run: the run's folder, whose log says what is waited for.
        wait_seconds: how long room for the least is waited for.
    """

    def __init__(self, scaling_config: ScalingConfig, run: RunFolder, wait_seconds: float) -> None:
        super().__init__(scaling_config)
        workers = scaling_config.num_workers
        self._least, self._most = workers if isinstance(workers, tuple) else (workers, workers)
        self._run = run
        self._wait_seconds = wait_seconds
        self._started = self._starting = False
        self._waits_since: float | None = None
        self._group: PlacementGroup | None = None
        self._told = self._looked = 0.0
        self._asked: tuple[float, list[str]] | None = None  # when a checkpoint was asked for, and those before it

    def _get_num_workers_for_resource_request(self) -> int:
        return self._most

    def make_decision_for_non_running_worker_group(self) -> ScalingDecision:
        """Called again and again while no workers run.

        Raises:
            ResourceError: there was no room for the least number of workers in time.
        """
        self._maybe_send_resource_request()
        now = time.monotonic()
        if not self._started and self._least == self._most:
            return self._start(self._most)  # the driver has just seen that they fit
        if self._starting and self._group is not None:  # Ray failed to start a group, perhaps in ending the former
            remove_placement_group(self._group)
            self._group = None
        if self._waits_since is None:
            self._waits_since, self._told = now, now
        nodes, waited = _nodes(), now - self._waits_since
        workers = min(self._free(nodes) + self._still_held(nodes), self._most)
        if workers == self._most or (workers >= self._least and waited >= _SETTLE_SECONDS):
            return self._start(workers)
        if workers < self._least:
            self._tell_or_give_up(now, waited)
        return NoopDecision()

    def _start(self, workers: int) -> ScalingDecision:
        if self._least < self._most:
            self._run.tell(f"starting {workers} of at most {self._most} workers")
        self._started, self._starting, self._waits_since, self._asked = True, True, None, None
        self._looked = time.monotonic()
        return ResizeDecision(num_workers=workers, resources_per_worker=self._each)

    @property
    def _each(self) -> dict[str, float]:
        return self.scaling_config._resources_per_worker_not_none

    def _tell_or_give_up(self, now: float, waited: float) -> None:
        needed = f"{self._least} workers x {amounts(self._each)}"
        free = amounts({name: ray.available_resources().get(name, 0.0) for name in self._each})
        if waited > self._wait_seconds:
            raise ResourceError(
                f"the run needs {needed} to go on, but there was no room within {self._wait_seconds:.0f} s: only "
                f"{free} is free; nodes were lost, or others hold the rest. Go on later with --resume {self._run.path}"
            )
        if now - self._told >= _SECONDS_BETWEEN_WORDS:
            self._told = now
            self._run.tell(f"waiting for {needed} to go on; free: {free}")

    def _free(self, nodes: set[str]) -> int:
        """Workers that fit into what is free on these nodes."""
        each = {name: amount for name, amount in self._each.items() if amount}
        free = available_resources_per_node()
        return sum(fitting(free[node], each) for node in nodes if node in free) if each else self._most

    def _still_held(self, nodes: set[str]) -> int:
        """Workers of the former group whose place is on these nodes; Ray frees it when it starts the next group."""
        table = placement_group_table(self._group) if self._group is not None else {}
        places = (table.get("bundles_to_node_id") or {}) if table.get("state") != "REMOVED" else {}
        return sum(node in nodes for node in places.values())

    def make_decision_for_running_worker_group(
        self, worker_group_state: Any, worker_group_status: Any
    ) -> ScalingDecision:
        """Called again and again while workers run: more are started, after a checkpoint, when there is room."""
        self._maybe_send_resource_request()
        self._group, self._starting = worker_group_state.placement_group_handle.placement_group, False
        running, now = worker_group_state.num_workers, time.monotonic()
        if running >= self._most or now - self._looked < self._interval:
            return NoopDecision()
        workers = min(running + self._free(_nodes()), self._most)
        if workers == running:
            self._looked, self._asked = now, None
            return NoopDecision()
        if self._asked is None:
            self._asked = now, self._run.checkpoints()
            self._run.request_checkpoint()
        asked, before = self._asked
        if self._run.checkpoints() == before and now - asked < _CHECKPOINT_SECONDS:
            return NoopDecision()
        self._run.tell(f"there is room for {workers} workers in place of {running}: going on with them")
        return self._start(workers)

    @property
    def _interval(self) -> float:
        return self.scaling_config.elastic_resize_monitor_interval_s


def _nodes() -> set[str]:
    """The nodes that live. For up to a minute Ray takes a lost one for one of them; its port tells at once."""
    return {node["NodeID"] for node in ray.nodes() if node["Alive"] and _answers(node)}


def _answers(node: dict[str, Any]) -> bool:
    try:
        address = node["NodeManagerAddress"], node["NodeManagerPort"]
        socket.create_connection(address, timeout=_CONNECT_SECONDS).close()
    except OSError:
        return False
    return True
