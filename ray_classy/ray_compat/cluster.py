"""What the cluster has, and who holds it."""

from __future__ import annotations

import contextlib
import os
import pathlib
import signal
from typing import Any

from ray_classy.ray_compat import find

HEAD = "node:__internal_head__"
"""A resource of which the head node has one, by the name in Ray's documentation."""

NODE_ID = "ray.io/node-id"
"""A label that each node has, by the name in Ray's documentation."""


def running_cluster() -> str:
    """The address that "auto" means: of RAY_ADDRESS, or of a cluster that was started on this machine.

    Serves "never waits without a message": an address can be tried before Ray tries it for a minute. Ray 2.57 to 2.60
    have it. Without it the address stays "auto".

    Raises:
        ConnectionError: none runs.
    """
    find_address = find("ray._private.services:canonicalize_bootstrap_address", "the cluster is not tried beforehand")
    return "auto" if find_address is None else find_address("auto") or "auto"


def free_by_node() -> dict[str, dict[str, float]]:
    """The free resources of each live node, by node id.

    Ray's public `available_resources` adds up all nodes. Serves "never waits without a message": a group of workers is
    started only when each of them fits into a node. Ray 2.57 to 2.60 have it. Without it the sum counts as free on the
    first live node, so that a group may be started that does not fit; Ray then waits for its start time-out.
    """
    import ray

    read = find("ray._private.state:available_resources_per_node", "free resources are not known by node")
    if read is not None:
        return read()
    first = next((node["NodeID"] for node in ray.nodes() if node["Alive"]), None)
    return {} if first is None else {first: ray.available_resources()}


def has_dashboard() -> bool:
    """Whether the cluster that this process is connected to has a dashboard.

    Ray says it in public only to the caller of `ray.init`, which may be the user's script. Serves "frees what it held":
    Ray Train's cleaner works only with a dashboard, and without one stays for ever. Ray 2.57 to 2.60 have it. Without
    it the answer is yes, and the cleaner is started as Ray does it.
    """
    read = find("ray._private.worker:get_dashboard_url", "Ray Train's cleaner is started for each run")
    return True if read is None else bool(read())


def shut_down_local() -> None:
    """Ends the Ray that this process started, whose processes hold SIGTERM back.

    Serves "frees what it held" at once: Ray's public `shutdown` sends SIGTERM to one process after the other, and waits
    a second for each before it kills it. Ray 2.57 to 2.60 have the list of processes. Without it that is what happens.

    The agents of a node outlive it at times: they wait for SIGTERM, or for a process that has ended already.
    """
    import ray

    worker = find("ray._private:worker", "the local Ray takes some seconds to end")
    node = getattr(worker, "_global_node", None)
    started = [info.process for infos in (getattr(node, "all_processes", None) or {}).values() for info in infos]
    below = _open_children({process.pid for process in started})
    for process in started:
        process.terminate = process.kill
    try:
        ray.shutdown()
    finally:
        for descriptor in below:
            with contextlib.suppress(OSError):
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            os.close(descriptor)


def _open_children(parents: set[int]) -> list[int]:
    """Descriptors of the child processes of some processes; none where the system has no such descriptors."""
    found = []
    for entry in os.listdir("/proc") if hasattr(os, "pidfd_open") and os.path.isdir("/proc") else ():
        with contextlib.suppress(OSError, ValueError):
            status = pathlib.Path("/proc", entry, "stat").read_bytes()
            if entry.isdigit() and int(status.rpartition(b")")[2].split()[1]) in parents:
                found.append(os.pidfd_open(int(entry)))
    return found


def current_group() -> str:
    """The id of the placement group that this worker belongs to, in hexadecimal."""
    import ray

    return ray.util.get_current_placement_group().id.hex()


def remove_group(identity: str) -> None:
    """Removes a placement group, which ends the workers in it.

    Args:
        identity: its id, in hexadecimal.
    """
    import ray
    from ray.util.placement_group import PlacementGroup, remove_placement_group

    remove_placement_group(PlacementGroup(ray.PlacementGroupID.from_hex(identity)))


def nodes_of_group(identity: str) -> list[str]:
    """The node of each bundle of a placement group, by node id; empty if the group was removed.

    Args:
        identity: the group's id, in hexadecimal.
    """
    import ray
    from ray.util.placement_group import PlacementGroup, placement_group_table

    table = placement_group_table(PlacementGroup(ray.PlacementGroupID.from_hex(identity)))
    return [] if table.get("state") == "REMOVED" else list((table.get("bundles_to_node_id") or {}).values())


def remove_groups_of(actor: str) -> None:
    """Removes the placement groups that an actor made before it died.

    Ray's public table of placement groups does not say who made them. Serves "frees what it held": where there is no
    dashboard, the group of a Ray Train run outlives its controller. Ray 2.57 to 2.60 have it. Without it the
    resources are held until this process ends.

    Args:
        actor: its id, in hexadecimal.
    """
    consequence = "what the workers of a dead run held is freed only when this process ends"
    state = find("ray._private.state:state", consequence)
    table = find("ray._private.state:GlobalState._connect_and_get_accessor", consequence)
    message = find("ray.core.generated.gcs_pb2:PlacementGroupTableData", consequence)
    if state is None or table is None or message is None:
        return
    for data in table(state).get_placement_group_table():
        group: Any = message.FromString(data)
        if group.creator_actor_id.hex() == actor and group.state != message.REMOVED:
            remove_group(group.placement_group_id.hex())
