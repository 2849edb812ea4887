"""Placement of transforms: which run row by row where rows are read, and which on whole batches on the training device.

It depends on the transform alone, not on the device or the number of processes, so that a row is the same wherever it
is made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from ray_classy.dataset.transforms.batched import BatchedTransform, BatchedTransforms
from ray_classy.dataset.transforms.classy_transform import Compose
from ray_classy.dataset.transforms.sample import TupleToMapTransform
from ray_classy.dataset.transforms.traits import batched_form, entry_of, parts_of, traits_of


class Placement(NamedTuple):
    """A transform of samples, divided between the host and the training device.

    Attributes:
        host: what is applied to single samples; None for nothing.
        key: the sample's entry that the batched transforms are applied to.
        batched: what is applied to batches afterwards; None for nothing.
    """

    host: Callable[[Any], Any] | None
    key: str
    batched: BatchedTransforms | None

    @property
    def takes_tensors(self) -> bool:
        """Whether the first transform of a sample's input takes decoded tensors as well as PIL images."""
        first: Any = next(iter(_chain(self.host)), None)
        if entry_of(first) != "input":
            return False
        return any(traits_of(inner).takes_tensors for inner in _chain(first.transform)[:1])

    def names(self) -> tuple[list[str], list[str]]:
        """Returns the names of the transforms on the host, and of the batched ones."""
        return _names(self.host), [step.name for step in self.batched.steps] if self.batched is not None else []

    def is_ready(self, sample: Any) -> bool:
        """Whether a sample that went through `host` can be put into a batch for the batched transforms."""
        if self.batched is None or not isinstance(sample, dict):
            return False
        value = sample.get(self.key)
        if self.batched.take_images:
            return getattr(value, "mode", None) in _PACKED
        return isinstance(value, torch.Tensor)


def place(transform: Any) -> Placement:
    """Splits a transform of samples into a part that runs row by row and the longest part that can run in batches.

    The batched part is at the end of the chain. It consists of batchable transforms of one entry of the sample
    (`apply_transform_to_key`, `generic_image_transform`).
    """
    parts = _chain(transform)
    last = parts[-1] if parts else None
    key = entry_of(last)
    chain = _chain(last.transform) if last is not None and isinstance(key, str) else []
    steps = _batched_end(chain)
    if last is None or not isinstance(key, str) or not steps:
        return Placement(transform, "input", None)
    rest = chain[: len(chain) - len(steps)]
    on_host = last.with_transform(Compose(rest) if rest else None)
    before = parts[:-1] if on_host is None else [*parts[:-1], on_host]
    return Placement(Compose(before) if before else None, key, BatchedTransforms(steps))


def leaves_targets(transform: Any) -> bool:
    """Whether a transform of samples is known to leave their targets as they are."""
    parts = _chain(transform)
    return all(entry_of(part) in ("input", 0) or type(part) is TupleToMapTransform for part in parts)


def _batched_end(chain: list[Any]) -> list[BatchedTransform]:
    """Returns the batched forms of the longest end of a chain that can be batched."""
    forms = [batched_form(transform) for transform in chain]
    for begin in range(len(forms)):
        steps = [form for form in forms[begin:] if form is not None]
        if len(steps) == len(forms) - begin and _fit(steps):
            return steps
    return []


def _fit(steps: list[BatchedTransform]) -> bool:
    """Whether each step can be applied to what the steps before it give."""
    are_images = any(step.makes_tensors for step in steps)
    for step in steps:
        if not (step.on_images if are_images else step.on_tensors):
            return False
        are_images = are_images and not step.makes_tensors
    return True


def _chain(transform: Any) -> list[Any]:
    """Returns the transforms that are applied to a value one after the other, with nested chains unfolded."""
    if transform is None:
        return []
    parts = parts_of(transform) if traits_of(transform).deterministic and entry_of(transform) is None else None
    return [transform] if parts is None else [inner for part in parts for inner in _chain(part)]


def _names(transform: Any) -> list[str]:
    names: list[str] = []
    for part in _chain(transform):
        names += [getattr(part, "__name__", type(part).__name__)] if entry_of(part) is None else _names(part.transform)
    return names


_PACKED = {"RGB": ("RGB;L", 3), "L": ("L", 1)}
"""By mode of a PIL image: its raw mode with the channels one after the other in each line, and their number."""


def packed(images: Sequence[Any]) -> Sequence[torch.Tensor]:
    """Returns the bytes of images of mode "RGB" or "L", tensors (channels, height, width)."""
    if len({(image.mode, image.size) for image in images}) != 1:
        return [packed([image])[0] for image in images]
    layout, channels = _PACKED[images[0].mode]
    lines = np.frombuffer(b"".join([image.tobytes("raw", layout) for image in images]), dtype=np.uint8)
    lines = lines.reshape(len(images), images[0].height, channels, images[0].width)
    return torch.from_numpy(lines.transpose(0, 2, 1, 3).copy()).unbind()
