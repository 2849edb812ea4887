"""How much of the cluster's shared memory, and of its machines' disks, the datasets of a run take."""

from __future__ import annotations

import logging
from typing import Any

from ray_classy.dataset import ClassyDataset
from ray_classy.dataset.rows import ItemRows, ParquetRows, RowDataset

_log = logging.getLogger(__name__)

_FULL = 0.7
"""Part of the store that blocks may fill before it is told: workers and tasks put things there as well."""


def held_bytes(dataset: Any) -> int:
    """About how many bytes of blocks a dataset has in the store while it is trained on; 0 if it does not go there.

    Of image files and tar shards these are paths and places, of small Parquet files the images themselves; large ones
    are read through a `LocalCopy`. Each rank reads rows from the one copy; batches are never put into the store, so
    neither workers nor prefetching add to it.
    """
    rows = getattr(getattr(dataset, "dataset", None), "rows", None)
    if not isinstance(dataset, ClassyDataset) or not isinstance(dataset.dataset, RowDataset):
        return 0
    if isinstance(rows, ItemRows):
        return sum(_column_bytes(values) for values in rows.columns.values())
    if isinstance(rows, ParquetRows):
        return 0 if rows.are_large else rows.bytes
    source = getattr(rows, "source", None)
    return int(source.size_bytes()) if source is not None else 0


def copied_bytes(dataset: Any) -> int:
    """About how many bytes of a dataset each machine keeps a copy of on its disk."""
    rows = getattr(getattr(dataset, "dataset", None), "rows", None)
    return rows.bytes if isinstance(rows, ParquetRows) and rows.are_large else 0


def _column_bytes(values: Any) -> int:
    if hasattr(values, "nbytes"):
        return int(values.nbytes)
    some = values[:1000]
    each = sum(len(value) if isinstance(value, str | bytes) else 8 for value in some) / max(1, len(some))
    return int(len(values) * (each + 8))


def tell_if_too_large(datasets: dict[str, Any], capacity: float) -> None:
    """Says so in the log if the datasets do not fit into the store, so that Ray keeps a part of them in files.

    Args:
        datasets: by phase type.
        capacity: of all nodes together, in bytes.
    """
    held = {phase_type: held_bytes(dataset) for phase_type, dataset in datasets.items()}
    if sum(held.values()) <= _FULL * capacity:
        return
    parts = ", ".join(f"{phase_type} {in_units(count)}" for phase_type, count in held.items() if count)
    _log.warning(
        "the datasets take about %s of Ray's shared memory (%s), which has %s: Ray keeps what does not fit in files on "
        "disk, which is slower. Give Ray more (ray start --object-store-memory), or keep the images in files",
        in_units(sum(held.values())),
        parts,
        in_units(capacity),
    )


def in_units(count: float) -> str:
    """A number of bytes for people."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"
