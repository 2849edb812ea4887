"""The batches that a task's steps work on."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ray_classy.errors import TaskError
from ray_classy.generic.util import get_batchsize_per_replica, recursive_copy_to_device


def next_sample(iterator: Any, device: torch.device) -> tuple[dict[str, Any], dict[str, Any]]:
    """The next batch, on the device, and `{"sample_fetch_time": seconds}`.

    Raises:
        StopIteration: there is none.
        TaskError: it is no dict with `input` and `target`.
    """
    began = time.perf_counter()
    sample = next(iterator)
    waited = time.perf_counter() - began
    if not isinstance(sample, dict) or not {"input", "target"} <= set(sample):
        raise TaskError(
            f"a sample must be a dict with `input` and `target`, not "
            f"{sorted(sample) if isinstance(sample, dict) else type(sample).__name__}; "
            f"change the dataset's transform (tuple_to_map makes such a dict of a tuple)"
        )
    return recursive_copy_to_device(sample, True, device), {"sample_fetch_time": waited}


def rows_of(iterator: Any, sample: dict[str, Any]) -> int:
    """Rows of the last batch that count: none of a borrowed row."""
    share = getattr(iterator, "share", None)
    return share.rows if share is not None else get_batchsize_per_replica(sample["target"])


def detached(value: Any) -> Any:
    """The same value with its tensors out of the graph."""
    if isinstance(value, torch.Tensor):
        return value.detach()
    if isinstance(value, Mapping):
        return {key: detached(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [detached(item) for item in value]
    return value
