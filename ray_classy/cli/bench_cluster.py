"""The part of `ray-classy bench-data` that tries other CPUs of a cluster."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from ray_classy.config.places import locate_errors
from ray_classy.config.ray_options import RayOptions
from ray_classy.dataset import ClassyDataset
from ray_classy.dataset.measure import measure_feed

_PAYS = 1.1


def has_cluster(section: RayOptions) -> bool:
    """Whether a cluster is named, by the `ray` section or RAY_ADDRESS, or this process is connected to one."""
    ray = sys.modules.get("ray")
    return bool(section.address or os.environ.get("RAY_ADDRESS") or (ray is not None and ray.is_initialized()))


def measure_on_cluster(
    config: Mapping[str, Any],
    section: RayOptions,
    datasets: Mapping[str, ClassyDataset],
    rows: int,
    device: torch.device,
    verbose: bool,
) -> dict[str, dict[str, Any]]:
    """Lets other CPUs of the cluster make batches for this process, as for one training worker.

    The training workers are taken to be on this machine: on a cluster of several nodes they may take all its CPUs, on
    one node their own.

    Args:
        config: of the run.
        section: its `ray` section.
        datasets: by phase type.
        rows: how many rows to read of each, and at least one batch.
        device: the training device.
        verbose: let Ray print.

    Returns:
        By phase type: the CPUs in words, and where there are any, `feed` in rows per second and `first_batch` in
        seconds.
    """
    import ray

    from ray_classy.ingest.ray_feed import ClusterFeed
    from ray_classy.ingest.ray_room import room_beside
    from ray_classy.ray_compat.train import resources_per_worker
    from ray_classy.trainer.ray_config import RaySettings

    with locate_errors(config, "ray"):
        settings = RaySettings.of(section, verbose=verbose)
    with settings.connected():
        here = ray.get_runtime_context().get_node_id()
        cpus = settings.most_workers * resources_per_worker(settings.scaling).get("CPU", 0.0)
        room = room_beside({here: cpus})
        found: dict[str, dict[str, Any]] = {}
        for phase_type, dataset in datasets.items():
            found[phase_type] = {"cpus": str(room)}
            if not room.free:
                continue
            dataset.feed = ClusterFeed("cluster", settings.ingest_memory, 1, lambda: room_beside({here: cpus}))
            batches = -(-rows // dataset.get_batchsize_per_replica())
            measure_feed(dataset, phase_type, min(batches, room.slots + 1), device)  # starts the processes
            first, speed = measure_feed(dataset, phase_type, batches, device)
            found[phase_type].update(feed=speed, first_batch=first)
            dataset.feed = None
    return found


def cluster_lines(found: Mapping[str, Any], own: float) -> Iterator[str]:
    """Yields the lines about one dataset.

    Args:
        found: what `measure_on_cluster` returns of it.
        own: rows per second that this process feeds itself with.
    """
    if "feed" not in found:
        yield f"  ray.ingest: worker; the cluster has {found['cpus']}"
        return
    first, ratio = f"{found['first_batch']:.2f} s", found["feed"] / own
    yield f"  {'cluster':<11} {found['feed']:>12,.0f}   all steps, by {found['cpus']}; the first batch after {first}"
    way = "cluster pays" if ratio > _PAYS else "worker: other CPUs do not pay"
    yield f"  ray.ingest: {way}; cluster / feed {ratio:.2f}"
