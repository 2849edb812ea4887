"""A batch as the host made it becomes one for the model: on its device, with the tail of the transforms applied."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch

from ray_classy.dataset.plan import PhasePlan
from ray_classy.dataset.seeded_rows import Batch
from ray_classy.dataset.transforms.split import Split
from ray_classy.generic.util import recursive_copy_to_device


def finished(
    batches: Iterable[Batch], split: Split | None, plan: PhasePlan, device: torch.device | None
) -> Iterator[Batch]:
    """The batches on a device, with the tail of the transforms applied there.

    To a GPU they go on a stream of their own. A training step never waits for the GPU, so it asks for the next batch
    while the GPU still works on this one: the next is copied and transformed beside that work.

    Args:
        batches: from the host; in pinned memory if the device is a GPU.
        split: the transform that they went through the first part of.
        plan: gives the seeds of the tail's draws.
        device: where to; None leaves them on the host.
    """
    stream = torch.cuda.Stream(device) if device is not None and device.type == "cuda" else None
    for batch in batches:
        if stream is None:
            yield _finish(batch, split, plan, device)
            continue
        with torch.cuda.stream(stream):
            done = _finish(batch, split, plan, device)
        current = torch.cuda.current_stream(device)
        current.wait_stream(stream)
        _used_on(done.sample, current)
        yield done


def _finish(batch: Batch, split: Split | None, plan: PhasePlan, device: torch.device | None) -> Batch:
    sample = batch.sample if device is None else recursive_copy_to_device(batch.sample, True, device)
    if batch.numbers is not None and split is not None and split.tail is not None:
        images = split.tail.batch(sample[split.key], plan.seed, plan.epoch, batch.numbers)
        sample = {**sample, split.key: images}
    return batch._replace(sample=sample, numbers=None)


def _used_on(value: Any, stream: torch.cuda.Stream) -> None:
    """Keeps the memory of all tensors in a sample from being given away before `stream` is done with them."""
    if isinstance(value, torch.Tensor):
        if value.is_cuda:
            value.record_stream(stream)
    elif isinstance(value, Mapping):
        for part in value.values():
            _used_on(part, stream)
    elif isinstance(value, list | tuple):
        for part in value:
            _used_on(part, stream)
