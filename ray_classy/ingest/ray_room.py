"""Which CPUs of the cluster make batches: those that the training workers leave."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import ray

from ray_classy.ray_compat.cluster import NODE_ID, current_group, free_by_node, nodes_of_group


@dataclass(frozen=True)
class Room:
    """The CPUs that may make batches.

    Attributes:
        slots: CPUs that the training workers leave; each makes one batch at a time.
        free: how many of them are free now.
        nodes: the nodes that they are on.
        apart: whether these nodes have no training worker.
        avoid: ids of the nodes that make no batches.
        store_bytes: the smallest object store of a node.
    """

    slots: int
    free: int
    nodes: int
    apart: bool
    avoid: tuple[str, ...]
    store_bytes: int

    def selector(self) -> dict[str, str]:
        """Returns the label selector of the tasks, which lets nodes take part that join later."""
        return {NODE_ID: f"!in({','.join(self.avoid)})"} if self.avoid else {}

    def __str__(self) -> str:
        where = "without training workers" if self.apart else "that the training workers leave"
        cpus, nodes = "CPU" if self.slots == 1 else "CPUs", "node" if self.nodes == 1 else "nodes"
        return f"{self.slots} {cpus} on {self.nodes} {nodes} {where}"


def room_beside_workers(world_size: int, most_workers: int) -> Room:
    """Returns the CPUs that the group of training workers leaves to which this process belongs.

    Args:
        world_size: workers that run.
        most_workers: workers that an elastic run may grow to, for which CPUs stay free.
    """
    each = float(ray.get_runtime_context().get_assigned_resources().get("CPU", 0.0))
    held = {node: count * each for node, count in Counter(nodes_of_group(current_group())).items()}
    return room_beside(held, (most_workers - world_size) * each)


def room_beside(held: Mapping[str, float], reserved: float = 0.0) -> Room:
    """Returns the CPUs that are left on the cluster: of nodes without training workers, if there are such nodes.

    Args:
        held: CPUs that training workers hold, by the ids of their nodes.
        reserved: CPUs that must stay free.
    """
    alive = {node["NodeID"]: node["Resources"] for node in ray.nodes() if node["Alive"]}
    free = {node: resources.get("CPU", 0.0) for node, resources in free_by_node().items()}
    others = [node for node, resources in alive.items() if resources.get("CPU", 0.0) >= 1 and node not in held]
    left = {
        node: int(alive[node].get("CPU", 0.0) - held.get(node, 0.0) + 1e-6)
        for node in others or alive.keys() & held.keys()
    }
    return Room(
        slots=max(0, int(sum(left.values()) - reserved)),
        free=sum(min(cpus, int(free.get(node, 0.0) + 1e-6)) for node, cpus in left.items()),
        nodes=sum(cpus >= 1 for cpus in left.values()),
        apart=bool(others),
        avoid=tuple(sorted(held)) if others else (),
        store_bytes=int(min((one.get("object_store_memory", 0.0) for one in alive.values()), default=0.0)),
    )
