"""Computes a batch part by part, where the memory of a device does not hold all of its rows at once."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch

from ray_classy.generic.util import get_batchsize_per_replica
from ray_classy.losses.loss_weight import zero_without_weight
from ray_classy.tasks.precision import autocast
from ray_classy.tasks.samples import detached, rows_of
from ray_classy.tasks.update_step import WHOLE, Part
from ray_classy.tasks.user_calls import call

if TYPE_CHECKING:
    from ray_classy.tasks.classification_task import ClassificationTask


def number_of_parts(rows: int, most: int) -> int:
    """Returns into how many parts of at most `most` rows a batch of `rows` is split."""
    return -(-rows // most)


def train_in_parts(task: ClassificationTask, sample: dict[str, Any]) -> tuple[torch.Tensor, Any]:
    """Runs forward and backward pass of a train step on one part of the batch after the other; the last one updates.

    Every row has the weight that it has in the whole batch: the update is the same, up to rounding, but for layers that
    look at all rows of a call, such as batch norm. The meters are updated once, with all rows.

    Args:
        task: in a train phase.
        sample: the batch, of more rows than a part may have.

    Returns:
        The loss of the batch, detached, and its output.
    """
    size = get_batchsize_per_replica(sample["target"])
    most = task.device_setup.part_rows or size
    rows, step, steps = rows_of(task.data_iterator, sample), task._steps_made, len(task.data_iterator)
    losses, weights, outputs = [], [], []
    try:
        for part, some in _parts(sample, size, most):
            task.update_step.part = part
            with task.update_step.begin(task.model, task.optimizer, step, steps):
                with autocast(task.precision, task.device), task.device_setup.recomputed(task):
                    output = call("the model", task.compute_model, some)
                    loss = call("the loss", task.compute_loss, output, some)
                weight = call("the loss", task.loss_weight, output, some)
                if weight is not None:
                    weight = weight if rows else torch.zeros_like(weight)
                    loss = zero_without_weight(loss, weight, output, task.base_loss)
                task._loss_weight = weight
                call("the optimizer", task.run_optimizer, loss)
            losses.append(loss.detach())
            weights.append(part.fraction * size if weight is None else weight.detach())
            outputs.append(detached(output))
    finally:
        task.update_step.part = WHOLE
    output, counted = joined(outputs), isinstance(weights[0], torch.Tensor)
    loss, total = _whole_loss(losses, weights, getattr(task.base_loss, "reduction", "mean") == "sum" and not counted)
    task.losses.append(loss, total if counted else rows)
    if rows:
        call("a meter", task.update_meters, output, sample)
    return loss, output


def eval_output(task: ClassificationTask, sample: dict[str, Any]) -> Any:
    """Returns the output of a test step for a batch; one that does not fit is computed part by part."""
    parts = [sample]
    if task.device_setup.splits(sample):
        size = get_batchsize_per_replica(sample["target"])
        parts = [some for _, some in _parts(sample, size, task.device_setup.part_rows or size)]
    outputs = [task.test_time_augmentation.output(task.compute_model, part) for part in parts]
    return outputs[0] if len(outputs) == 1 else joined(outputs)


def _parts(sample: dict[str, Any], size: int, most: int) -> Iterator[tuple[Part, dict[str, Any]]]:
    """Yields the parts of a batch, whose sizes differ by at most one row."""
    parts = number_of_parts(size, most)
    edges = [size * index // parts for index in range(parts + 1)]
    for index, (begin, end) in enumerate(itertools.pairwise(edges)):
        yield Part(index == 0, index == parts - 1, (end - begin) / size), _rows(sample, begin, end, size)


def _rows(value: Any, begin: int, end: int, size: int) -> Any:
    """Returns some rows of a batch: of each tensor and list with one entry per row; all else as it is."""
    if isinstance(value, torch.Tensor):
        return value[begin:end] if value.ndim and len(value) == size else value
    if isinstance(value, Mapping):
        return {key: _rows(item, begin, end, size) for key, item in value.items()}
    if isinstance(value, list | tuple):
        if len(value) == size and not any(isinstance(item, torch.Tensor) for item in value):
            return value[begin:end]
        return [_rows(item, begin, end, size) for item in value]
    return value


def joined(outputs: list[Any]) -> Any:
    """Returns the outputs for the parts of a batch as that for all its rows."""
    first = outputs[0]
    if isinstance(first, torch.Tensor):
        return torch.cat(outputs) if first.ndim else torch.stack(outputs).mean()
    if isinstance(first, Mapping):
        return {key: joined([output[key] for output in outputs]) for key in first}
    if isinstance(first, list | tuple):
        return [joined(list(same)) for same in zip(*outputs, strict=True)]
    return first


def _whole_loss(losses: list[torch.Tensor], weights: list[Any], is_sum: bool) -> tuple[torch.Tensor, Any]:
    """Returns the loss of a batch from those of its parts, and what its mean divides by."""
    total = sum(weights[1:], weights[0])
    if is_sum:
        return torch.stack(losses).sum(), total
    loss = torch.stack([one * weight for one, weight in zip(losses, weights, strict=True)]).sum()
    if isinstance(total, torch.Tensor):
        return (loss / total).masked_fill(total == 0, 0).to(losses[0].dtype), total
    return loss / total, total
