"""Which CPUs of the cluster make batches: those that the training workers leave."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

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
    each = ray.get_runtime_context().get_assigned_resources()
    held = {node: count * each.get("CPU", 0.0) for node, count in Counter(nodes_of_group(current_group())).items()}
    return room_beside(held, each, most_workers - world_size)


def room_beside(held: Mapping[str, float], each: Mapping[str, float] = MappingProxyType({}), growth: int = 0) -> Room:
    """Returns the CPUs that are left on the cluster: of nodes without training workers, if there are such nodes.

    Args:
        held: CPUs that training workers hold, by the ids of their nodes.
        each: what a training worker reserves, by resource.
        growth: workers for which room must stay free.
    """
    alive = {node["NodeID"]: node["Resources"] for node in ray.nodes() if node["Alive"]}
    free = {node: resources.get("CPU", 0.0) for node, resources in free_by_node().items()}
    others = [node for node, resources in alive.items() if resources.get("CPU", 0.0) >= 1 and node not in held]
    kept, growth = nodes_for_growth({node: alive[node] for node in others}, each, growth)
    others = [node for node in others if node not in kept]
    left = {
        node: int(alive[node].get("CPU", 0.0) - held.get(node, 0.0) + 1e-6)
        for node in others or alive.keys() & held.keys()
    }
    return Room(
        slots=max(0, int(sum(left.values()) - growth * each.get("CPU", 0.0))),
        free=sum(min(cpus, int(free.get(node, 0.0) + 1e-6)) for node, cpus in left.items()),
        nodes=sum(cpus >= 1 for cpus in left.values()),
        apart=bool(others),
        avoid=tuple(sorted({*held, *kept})) if others else (),
        store_bytes=int(min((one.get("object_store_memory", 0.0) for one in alive.values()), default=0.0)),
    )


def nodes_for_growth(
    nodes: Mapping[str, Mapping[str, float]], each: Mapping[str, float], growth: int
) -> tuple[set[str], int]:
    """Chooses nodes that stay free for further training workers, the smallest ones first, but never all nodes.

    Whether there is room for a worker is looked up now and then, and a CPU that makes batches is hardly ever free.

    Args:
        nodes: resources of nodes without training workers.
        each: what a worker reserves, by resource.
        growth: number of workers.

    Returns:
        The ids of the nodes, and the number of workers for which there is no room on them.
    """
    kept: set[str] = set()
    for node, resources in sorted(nodes.items(), key=lambda pair: (pair[1].get("CPU", 0.0), pair[0])):
        amounts = [int(resources.get(name, 0.0) / amount + 1e-6) for name, amount in each.items() if amount]
        if growth > 0 and amounts and min(amounts) and len(kept) + 1 < len(nodes):
            kept.add(node)
            growth -= min(amounts)
    return kept, max(growth, 0)
