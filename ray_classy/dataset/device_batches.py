"""Copies batches to the training device and applies the batched transforms there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch

from ray_classy.dataset.plan import PhasePlan
from ray_classy.dataset.seeded_rows import Batch
from ray_classy.dataset.transforms.placement import Placement
from ray_classy.generic.util import map_tensors, recursive_copy_to_device


def batches_on_device(
    batches: Iterable[Batch], placement: Placement | None, plan: PhasePlan, device: torch.device | None
) -> Iterator[Batch]:
    """Yields the batches on a device, with the batched transforms applied to them there.

    A GPU receives them on a separate stream. A training step never waits for the GPU, so it asks for the next batch
    while the GPU still works on this one: copying and transforming the next batch overlaps with that work.

    Args:
        batches: batches on the host; in pinned memory if the device is a GPU.
        placement: the transform whose host part the rows went through; None if there are no batched transforms.
        plan: the phase, which seeds the batched transforms.
        device: the device; None leaves the batches on the host.
    """
    stream = torch.cuda.Stream(device) if device is not None and device.type == "cuda" else None
    for batch in batches:
        if stream is None:
            yield _transformed(batch, placement, plan, device)
            continue
        with torch.cuda.stream(stream):
            ready = _transformed(batch, placement, plan, device)
        current = torch.cuda.current_stream(device)
        current.wait_stream(stream)
        _reserve_for(current, ready)
        yield ready


def _transformed(batch: Batch, placement: Placement | None, plan: PhasePlan, device: torch.device | None) -> Batch:
    sample = batch.sample if device is None else recursive_copy_to_device(batch.sample, True, device)
    if batch.numbers is not None and placement is not None and placement.batched is not None:
        images = placement.batched.batch(sample[placement.key], plan.seed, plan.epoch, batch.numbers)
        sample = {**sample, placement.key: images}
    return batch._replace(sample=sample, numbers=None)


def _reserve_for(stream: torch.cuda.Stream, batch: Batch) -> None:
    """Keeps the memory of a batch's tensors from being reused before a stream is done with them."""

    def reserve(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.is_cuda:
            tensor.record_stream(stream)
        return tensor

    map_tensors(batch.sample, reserve)
