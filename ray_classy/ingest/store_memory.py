"""Estimates how much of the cluster's shared memory, and of its machines' disks, the datasets of a run take."""

from __future__ import annotations

import logging
from typing import Any

from ray_classy.dataset.row_dataset import row_dataset_of

_log = logging.getLogger(__name__)

_FULL = 0.7
"""Share of the object store that blocks may fill before a warning: workers and tasks need room in it as well."""

PART_OF_STORE = 0.3
"""Share of the smallest object store of a node that batches of other CPUs may take, if `ray.ingest_memory` is unset."""


def shared_bytes(dataset: Any) -> int:
    """Estimates the bytes of blocks that a dataset has in the object store during training; 0 if it is not there.

    Of image files and tar shards these are paths and offsets, of small Parquet files the images themselves; large ones
    are read through a `LocalCopy`. All ranks read from one copy, so that workers add nothing to it. Batches that other
    CPUs make have a budget of their own.
    """
    base = row_dataset_of(dataset)
    return 0 if base is None else base.rows.shared_bytes()


def disk_bytes(dataset: Any) -> int:
    """Estimates the bytes of a dataset's copy on the disk of each machine."""
    base = row_dataset_of(dataset)
    return 0 if base is None else base.rows.disk_bytes()


def warn_if_too_large(datasets: dict[str, Any], capacity: float) -> None:
    """Logs a warning if the datasets do not fit into the object store, so that Ray spills a part of them to disk.

    Args:
        datasets: by phase type.
        capacity: of all nodes together, in bytes.
    """
    sizes = {phase_type: shared_bytes(dataset) for phase_type, dataset in datasets.items()}
    total = sum(sizes.values())
    if total <= _FULL * capacity:
        return
    _log.warning(
        "the datasets take about %s of Ray's shared memory (%s), which has %s: Ray spills what does not fit to disk, "
        "which is slower. Give Ray more (ray start --object-store-memory), or keep the images in files",
        format_bytes(total),
        ", ".join(f"{phase_type} {format_bytes(count)}" for phase_type, count in sizes.items() if count),
        format_bytes(capacity),
    )


def format_bytes(count: float) -> str:
    """Writes a number of bytes with a unit, for people."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"
