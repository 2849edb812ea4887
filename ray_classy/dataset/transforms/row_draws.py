"""Random transforms in several threads at once, each row with draws of its own.

Transforms draw from the generators of the process, which threads share. Those of torchvision draw from torch's alone,
and torch lets a thread say that its draws come from elsewhere: the same numbers as if the row's seed had been set for
the process.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from ray_classy.dataset.transforms.classy_transform import Compose
from ray_classy.dataset.transforms.draws import draws
from ray_classy.dataset.transforms.imagenet import ImagenetAugmentTransform
from ray_classy.dataset.transforms.lighting_transform import LightingTransform
from ray_classy.dataset.transforms.sample import ApplyTransformToKey, GenericImageTransform

DRAWING = (
    "AutoAugment",
    "ColorJitter",
    "GaussianBlur",
    "RandAugment",
    "RandomAdjustSharpness",
    "RandomAffine",
    "RandomAutocontrast",
    "RandomChannelPermutation",
    "RandomCrop",
    "RandomEqualize",
    "RandomErasing",
    "RandomGrayscale",
    "RandomHorizontalFlip",
    "RandomInvert",
    "RandomPerspective",
    "RandomPhotometricDistort",
    "RandomPosterize",
    "RandomResize",
    "RandomResizedCrop",
    "RandomRotation",
    "RandomShortestSize",
    "RandomSolarize",
    "RandomVerticalFlip",
    "ScaleJitter",
    "TrivialAugmentWide",
)
"""Classes of torchvision whose draws are calls of the functions in `_DRAW`."""

_CONTAINERS = ("Compose", "RandomApply", "RandomChoice", "RandomOrder")
_DRAW = {torch.rand, torch.randint, torch.randn, torch.randperm, torch.multinomial}
_DRAW |= {torch.Tensor.uniform_, torch.Tensor.normal_}


def threads_can_run(transform: Any) -> bool:
    """Whether a transform may run in several threads at once, under `RowDraws`; False where that is not known."""
    cls = type(transform)
    if cls in (ApplyTransformToKey, GenericImageTransform, ImagenetAugmentTransform):
        return threads_can_run(transform.transform)
    ours = cls.__module__ == "ray_classy.dataset.transforms.random_resized_crop"
    theirs = ours or cls.__module__.startswith("torchvision.transforms.v2.")
    if cls is Compose or (theirs and cls.__name__ in _CONTAINERS):
        return all(threads_can_run(part) for part in transform.transforms)
    return not draws(transform) or cls is LightingTransform or (theirs and cls.__name__ in DRAWING)


class RowDraws(TorchFunctionMode):
    """Within the block, this thread draws from a generator of its own, which `seed` sets."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = torch.Generator()

    def seed(self, seed: int) -> None:
        """Begins the draws of another row."""
        self.generator.manual_seed(seed)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in _DRAW:
            kwargs = {"generator": self.generator, **kwargs}
        return func(*args, **kwargs)
