"""Which transforms run row by row where rows are read, and which on whole batches on the device that trains.

It is a matter of the transform alone, not of the device or of the number of processes: what a row becomes never depends
on where it is made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch

from ray_classy.dataset.transforms.classy_transform import Compose
from ray_classy.dataset.transforms.imagenet import ImagenetAugmentTransform, ImagenetNoAugmentTransform
from ray_classy.dataset.transforms.sample import ApplyTransformToKey, GenericImageTransform
from ray_classy.dataset.transforms.tail import CONVERTERS, Step, Tail, step_of


class Split(NamedTuple):
    """A transform of samples in two parts.

    Attributes:
        host: the first part, of one sample; None for nothing.
        key: the sample's entry that the second part is for.
        tail: the second part, of batches; None for nothing.
    """

    host: Callable[[Any], Any] | None
    key: str
    tail: Tail | None

    @property
    def takes_tensors(self) -> bool:
        """Whether the first that happens to a sample's input is `ToImage`, which leaves tensors as they are."""
        first: Any = next(iter(_flat(self.host)), None)
        named = type(first) is GenericImageTransform or (type(first) is ApplyTransformToKey and first.key == "input")
        inner = type(next(iter(_flat(first.transform)), None)) if named else None
        return inner is not None and inner.__name__ == "ToImage" and inner.__module__.startswith("torchvision.")

    def names(self) -> tuple[list[str], list[str]]:
        """What the two parts consist of, by name."""
        return _names(self.host), [step.name for step in self.tail.steps] if self.tail is not None else []

    def is_ready(self, sample: Any) -> bool:
        """Whether the tail can take a sample that went through `host`, in a batch."""
        if self.tail is None or not isinstance(sample, dict):
            return False
        value = sample.get(self.key)
        if self.tail.of_images:
            return getattr(value, "mode", None) in _PACKED
        return isinstance(value, torch.Tensor)


def split(transform: Any) -> Split:
    """The longest tail of a transform that can be batched, and what comes before it.

    Only a chain of image transforms on one named entry (`apply_transform_to_key`, `generic_image_transform`) at the end
    of the transform has a tail; the steps are those of `step_of`, of the exact classes.
    """
    parts = _flat(transform)
    last = parts[-1] if parts else None
    named = type(last) is GenericImageTransform or (type(last) is ApplyTransformToKey and isinstance(last.key, str))
    if last is None or not named:
        return Split(transform, "input", None)
    chain = _flat(last.transform)
    steps = _steps(chain)
    if not steps:
        return Split(transform, "input", None)
    rest = chain[: len(chain) - len(steps)]
    before: list[Any] = parts[:-1]
    if type(last) is GenericImageTransform:
        before = [*before, GenericImageTransform(Compose(rest) if rest else None)]
    elif rest:
        before = [*before, ApplyTransformToKey(Compose(rest), last.key)]
    key = getattr(last, "key", "input")
    return Split(Compose(before) if before else None, key, Tail(steps))


def _steps(chain: list[Any]) -> list[Step]:
    """The steps of the longest end of a chain that can be batched."""
    for begin in range(len(chain)):
        steps: list[Step] = []
        on_bytes = any(type(one).__name__ in CONVERTERS for one in chain[begin:])
        for transform in chain[begin:]:
            step = step_of(transform, on_bytes)
            if step is None:
                break
            steps.append(step)
            on_bytes = on_bytes and step.name not in CONVERTERS
        else:
            return steps
    return []


def _flat(transform: Any) -> list[Any]:
    """The members of a chain, those of chains within it among them."""
    if transform is None:
        return []
    cls = type(transform)
    if cls in (ImagenetAugmentTransform, ImagenetNoAugmentTransform):
        return _flat(transform.transform)
    theirs = cls.__module__.startswith("torchvision.transforms.v2.") and cls.__name__ == "Compose"
    if cls is Compose or theirs:
        return [inner for part in transform.transforms for inner in _flat(part)]
    return [transform]


def _names(transform: Any) -> list[str]:
    names = []
    for part in _flat(transform):
        if type(part) in (ApplyTransformToKey, GenericImageTransform):
            names += _names(part.transform)
        else:
            names.append(getattr(part, "__name__", type(part).__name__))
    return names


_PACKED = {"RGB": ("RGB;L", 3), "L": ("L", 1)}
"""By mode of a PIL image: how its bytes are packed, line by line with one channel after the other; and channels."""


def with_packed(sample: Mapping[str, Any], key: str) -> dict[str, Any]:
    """The sample with its image of mode "RGB" or "L" as a tensor of bytes (channels, height, width)."""
    image = sample[key]
    layout, channels = _PACKED[image.mode]
    lines = np.frombuffer(image.tobytes("raw", layout), dtype=np.uint8).reshape(image.height, channels, image.width)
    return {**sample, key: torch.from_numpy(lines.transpose(1, 0, 2).copy())}
