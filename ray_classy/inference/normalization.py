"""Moves the normalization of images from the preprocessing into the exported model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ray_classy.dataset import DATASET_REGISTRY
from ray_classy.dataset.image_dataset import ImageDataset
from ray_classy.dataset.transforms.imagenet import ImagenetConstants
from ray_classy.errors import CheckpointError
from ray_classy.tasks.data_sections import with_test_section

_IMAGENET = ("imagenet_no_augment", "imagenet_augment")
"""Transforms that end with a normalization, whose mean and standard deviation are arguments."""


@dataclass(frozen=True)
class Normalization:
    """What is subtracted from the channels of an image in [0, 1], and by what they are divided.

    Attributes:
        mean, std: one number for each channel, or one for all.
    """

    mean: list[float]
    std: list[float]

    def problem(self, channels: int) -> str:
        """Returns what is wrong with the numbers for so many channels; empty if nothing is."""
        for name, numbers in (("mean", self.mean), ("std", self.std)):
            if len(numbers) not in (1, channels) or not all(map(math.isfinite, numbers)):
                return f"its normalization has no {name} for {channels} channels"
        return "" if all(self.std) else "its normalization divides by 0"


class Normalized(nn.Module):
    """A model that normalizes its inputs first.

    Args:
        model: takes normalized images.
        normalization: of images in [0, 1].
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, model: nn.Module, normalization: Normalization) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("mean", torch.tensor(normalization.mean).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(normalization.std).view(-1, 1, 1))

    def forward(self, images: torch.Tensor) -> Any:
        """Returns the outputs for images of shape (rows, channels, height, width) in [0, 1]."""
        return self.model((images - self.mean) / self.std)


def without_normalization(config: Mapping[str, Any]) -> tuple[dict[str, Any], Normalization]:
    """Returns the config of a task whose test images stay in [0, 1], and how they were normalized before.

    Args:
        config: of the run's task.

    Raises:
        CheckpointError: the transforms do not end with a normalization.
    """
    sections = dict(with_test_section(config).get("dataset") or {})
    phase_type = "test" if sections.get("test") else "train"
    section = dict(sections[phase_type])
    transforms = section.get("transforms")
    if transforms is None:
        transforms = _default(section)
    left, normalization = _without_the_last(transforms)
    if normalization is None:
        raise CheckpointError(
            "normalize: the transforms of the test images do not end with Normalize, so there is nothing to move into "
            "the model: leave it out"
        )
    return {**config, "dataset": {**sections, phase_type: {**section, "transforms": left}}}, normalization


def _default(section: Mapping[str, Any]) -> list[Any]:
    """The transforms of a dataset of RGB images for which none are given."""
    known = DATASET_REGISTRY.get(str(section.get("name")))
    own = getattr(known, "default_transform", None) is not ImageDataset.default_transform
    if own or section.get("image_mode", "RGB") != "RGB":
        return []
    return [{"name": "apply_transform_to_key", "key": "input", "transforms": [{"name": _IMAGENET[0]}]}]


def _without_the_last(transforms: Any) -> tuple[list[Any], Normalization | None]:
    """Transforms without the normalization at their end; None if they do not end with one."""
    if not isinstance(transforms, Sequence) or not transforms or not isinstance(transforms[-1], Mapping):
        return transforms, None
    *before, last = transforms
    if last.get("name") == "Normalize":
        own = Normalization([float(n) for n in last["mean"]], [float(n) for n in last["std"]])
        return before, own if before else None
    if last.get("name") in _IMAGENET:
        mean, std = last.get("mean", ImagenetConstants.MEAN), last.get("std", ImagenetConstants.STD)
        return [*before, {**last, "mean": [0.0] * len(mean), "std": [1.0] * len(std)}], Normalization(
            [float(n) for n in mean], [float(n) for n in std]
        )
    left, found = _without_the_last(last.get("transforms"))
    return [*before, {**last, "transforms": left}], found
