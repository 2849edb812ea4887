"""Whether a cluster has what a run needs, before it begins."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

import ray
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ray_classy.config.ray_options import amounts
from ray_classy.errors import ResourceError
from ray_classy.ray_compat.train import resources_per_worker
from ray_classy.storage import is_url

_log = logging.getLogger(__name__)

_PROBE_SECONDS = 60.0
_SECONDS_BETWEEN_MESSAGES = 10.0


def check_resources(
    scaling_config: Any, wait_seconds: float, autoscaling: bool = False, beside: Mapping[str, float] | None = None
) -> None:
    """Waits until the cluster has room for the workers, and logs what it waits for.

    Args:
        scaling_config: Ray's `ScalingConfig`; of an elastic one, the least number of workers counts.
        wait_seconds: how long to wait for resources that others hold, or that are to be added.
        autoscaling: whether nodes are added to the cluster on demand, so that its present size is no limit.
        beside: what else must have room, by resource.

    Raises:
        ResourceError: the cluster is too small, or was not free in time; the message shows the arithmetic.
    """
    workers = scaling_config.num_workers
    workers = workers[0] if isinstance(workers, tuple) else workers
    each = resources_per_worker(scaling_config)
    needed = f"{workers} workers x {amounts(each)} = {amounts({name: workers * n for name, n in each.items()})}"
    if beside:
        needed += f" and {amounts(beside)} beside them"
    if not autoscaling:
        _check_size(workers, each, needed)
    # Totals do not show whether each worker fits on a node: reserving the room for a moment does. An autoscaler sees
    # the reservation, and adds nodes for it.
    strategy = scaling_config.placement_strategy
    group = placement_group(
        [each] * workers + ([dict(beside)] if beside else []),
        strategy=strategy if isinstance(strategy, str) else "PACK",
    )
    try:
        began, logged = time.monotonic(), -_SECONDS_BETWEEN_MESSAGES / 2
        while not group.wait(0.2):
            waited = time.monotonic() - began
            free = amounts({name: ray.available_resources().get(name, 0.0) for name in each})
            if waited > wait_seconds:
                why = "no nodes were added for the rest" if autoscaling else "others hold the rest"
                raise ResourceError(
                    f"the run needs {needed}, but there was no room within {wait_seconds:.0f} s: only {free} is free, "
                    f"{why}. Try again later, lower num_workers, or wait longer (ray.wait_for_resources_s)"
                )
            if waited - logged >= _SECONDS_BETWEEN_MESSAGES:
                logged = waited
                _log.info("waiting for %s%s; free: %s", needed, " from the autoscaler" if autoscaling else "", free)
    finally:
        remove_placement_group(group)


def _check_size(workers: int, each: dict[str, float], needed: str) -> None:
    """Refuses more workers than fit into the cluster as it is now."""
    possible, text = room_for(each)
    if possible >= workers:
        return
    less = f"{f'lower num_workers to {possible}, or ' if possible else ''}give each worker less "
    if each.get("GPU") and not possible:
        less = "leave out use_gpu to train on CPUs, or give each worker less "
    raise ResourceError(
        f"the run needs {needed}, but {text}: {less}(ray.resources_per_worker, fractions work). Where an autoscaler "
        f"adds nodes, set ray.autoscaling to wait for them"
    )


def check_room_for_pipelines(scaling_config: Any, phase_types: Sequence[str]) -> None:
    """Refuses training workers that leave no CPU to the pipelines of streamed datasets, for which they would wait.

    Args:
        scaling_config: Ray's `ScalingConfig`; of an elastic one, the largest number of workers counts.
        phase_types: of the streamed datasets.

    Raises:
        ResourceError: less than one CPU would be left; the message shows the arithmetic.
    """
    workers = scaling_config.num_workers
    workers = workers[-1] if isinstance(workers, tuple) else workers
    each = resources_per_worker(scaling_config).get("CPU", 0.0)
    cpus = cpus_of_cluster()
    left = cpus - workers * each
    if phase_types and left < 1:
        raise ResourceError(
            f"the cluster has {cpus:g} CPU, of which {workers} workers x {each:g} CPU leave {max(0.0, left):g}; the "
            f"pipeline of the streamed {' and '.join(phase_types)} dataset needs at least 1: lower num_workers, give "
            f"each worker less (ray.resources_per_worker, fractions work), or leave out stream=True, so that the "
            f"pipeline runs before the workers start"
        )


def cpus_of_cluster() -> float:
    """The CPUs of all nodes, free or not."""
    return sum(node["Resources"].get("CPU", 0.0) for node in ray.nodes() if node["Alive"])


def room_for(each: dict[str, float]) -> tuple[int, str]:
    """How many workers with these resources fit into the cluster when it is empty, and the same in words."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    possible = sum(fitting(node, each) for node in nodes)
    text = (
        f"the cluster has {amounts(_total(nodes, each))} on {len(nodes)} {'node' if len(nodes) == 1 else 'nodes'}, "
        f"room for {possible} such workers"
    )
    return possible, text


def fitting(node: Mapping[str, float], each: Mapping[str, float]) -> int:
    """How many workers with these resources fit into those of a node."""
    return min((int((node.get(name, 0.0) + 1e-6) // amount) for name, amount in each.items()), default=0)


def _total(nodes: list[dict[str, float]], each: dict[str, float]) -> dict[str, float]:
    return {name: sum(node.get(name, 0.0) for node in nodes) for name in each}


def check_visible(storage_path: str, files: Sequence[str]) -> None:
    """Refuses local paths that other nodes of the cluster do not have.

    Args:
        storage_path: the run folder; it exists on this node.
        files: paths of data.

    Raises:
        ResourceError: a node does not see one of them.
    """
    here = ray.get_runtime_context().get_node_id()
    others = [node for node in ray.nodes() if node["Alive"] and node["NodeID"] != here and node["Resources"].get("CPU")]
    paths = [path for path in (storage_path, *files) if not is_url(path)]
    if not others or not paths:
        return

    def missing(paths: list[str]) -> list[str]:
        return [path for path in paths if not os.path.exists(path)]

    probe = ray.remote(num_cpus=0, max_retries=0)(missing)
    answers = {
        node["NodeManagerAddress"]: probe.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        ).remote(paths)
        for node in others
    }
    for address, answer in answers.items():
        try:
            lacking = ray.get(answer, timeout=_PROBE_SECONDS)
        except ray.exceptions.GetTimeoutError:
            raise ResourceError(
                f"the node {address} did not answer within {_PROBE_SECONDS:.0f} s whether it sees {paths[0]!r}; "
                f"look at the node with `ray status`"
            ) from None
        if storage_path in lacking:
            raise ResourceError(
                f"the node {address} does not see the storage path {storage_path!r}: on several nodes, runs must be "
                f"stored where all see them. Give a shared folder or a URL such as s3://... (storage_path)"
            )
        if lacking:
            raise ResourceError(f"the node {address} does not see {lacking[0]!r}: put the data where all nodes see it")
