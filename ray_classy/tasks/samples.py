"""The batches of a task's steps, and which of their rows count."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from ray_classy.dataset import ClassyDataset
from ray_classy.dataset.known_classes import class_indices
from ray_classy.dataset.loader import PhaseIterator
from ray_classy.dataset.transforms.mixup import MixupTransform
from ray_classy.dataset.transforms.placement import leaves_targets
from ray_classy.distributed import all_reduce_min
from ray_classy.errors import TaskError
from ray_classy.generic.util import get_batchsize_per_replica, recursive_copy_to_device
from ray_classy.losses.loss_weight import divides_by_rows, zero_without_weight
from ray_classy.tasks.user_calls import call

if TYPE_CHECKING:
    from ray_classy.tasks.classification_task import ClassificationTask


def next_sample(iterator: Any, device: torch.device) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the next batch, on the device, and `{"sample_fetch_time": seconds}`.

    Raises:
        StopIteration: the phase has no more.
        TaskError: the batch is not a dict with `input` and `target`.
    """
    began = time.perf_counter()
    sample = next(iterator)
    waited = time.perf_counter() - began
    if not isinstance(sample, dict) or "input" not in sample or "target" not in sample:
        raise TaskError(
            f"a sample must be a dict with `input` and `target`, not "
            f"{sorted(sample) if isinstance(sample, dict) else type(sample).__name__}; "
            f"change the dataset's transform (tuple_to_map makes such a dict of a tuple)"
        )
    return recursive_copy_to_device(sample, True, device), {"sample_fetch_time": waited}


def rows_of(iterator: Any, sample: dict[str, Any]) -> int:
    """Returns how many rows of the last batch count; a padding row does not."""
    share = getattr(iterator, "share", None)
    return share.rows if share is not None else get_batchsize_per_replica(sample["target"])


def record(
    task: ClassificationTask, loss: torch.Tensor, output: Any, sample: dict[str, Any]
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Logs the loss of a step and updates the meters; padding rows, and those that the loss ignores, count in neither.

    Returns:
        The loss, 0 if no row counts, and what its mean divides by; None if that is the number of rows.
    """
    rows = rows_of(task.data_iterator, sample)
    weight = call("the loss", task.loss_weight, output, sample)
    if weight is not None:
        weight = weight if rows else torch.zeros_like(weight)
        loss = zero_without_weight(loss, weight, output, task.base_loss)
    task.losses.append(loss, rows if weight is None else weight)
    if rows:
        call("a meter", task.update_meters, output, sample)
    return loss, weight


def rows_count_alike(task: ClassificationTask) -> bool:
    """Whether the loss of each batch of the current phase is known to be a mean over its rows; every rank must call it.

    That is known of losses that ignore the rows of a label, or can, where the labels of all rows are known.
    """
    dataset, mixup = task.datasets.get(task.phase_type), task.mixup_transform if task.train else None
    labels = None
    if isinstance(dataset, ClassyDataset) and (mixup is None or type(mixup) is MixupTransform):
        known = dataset.samples_are_transformed_rows and leaves_targets(dataset.transform)
        labels = class_indices(dataset) if known else None
    alike = labels is not None and divides_by_rows(task.base_loss, labels)
    return bool(all_reduce_min(torch.tensor(int(alike))))


def rows_consumed(iterator: Any) -> int | None:
    """Returns the rows that all ranks together have consumed in a phase, of which this rank has made its steps.

    Rows consumed before an interruption do not count. None if an iterator of the user's does not know.
    """
    if not isinstance(iterator, PhaseIterator):
        return None
    return iterator.consumed - iterator.plan.start if iterator.plan.train else iterator.plan.rows_left


def detached(value: Any) -> Any:
    """Returns the value with its tensors detached from the graph."""
    if isinstance(value, torch.Tensor):
        return value.detach()
    if isinstance(value, Mapping):
        return {key: detached(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [detached(item) for item in value]
    return value
