"""Helpers for the ImageNet transforms, under their Classy Vision names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from ray_classy.dataset.transforms.classy_transform import Compose, build_transforms
from ray_classy.dataset.transforms.imagenet import (
    ImagenetAugmentTransform,
    ImagenetConstants,
    ImagenetNoAugmentTransform,
)
from ray_classy.dataset.transforms.sample import ApplyTransformToKey, GenericImageTransform, TupleToMapTransform
from ray_classy.errors import ComponentError

__all__ = [
    "DEFAULT_KEY_MAP",
    "ApplyTransformToKey",
    "GenericImageTransform",
    "ImagenetAugmentTransform",
    "ImagenetConstants",
    "ImagenetNoAugmentTransform",
    "TupleToMapTransform",
    "build_field_transform_default_imagenet",
    "default_unnormalize",
]

DEFAULT_KEY_MAP = TupleToMapTransform(["input", "target"])
"""Names the items of the samples `(input, target)`."""


def build_field_transform_default_imagenet(
    config: Sequence[Mapping[str, Any]] | None,
    default_transform: Callable[[Any], Any] | None = None,
    split: str | None = None,
    key: str | int = "input",
    key_map_transform: Callable[[Any], Any] | None = DEFAULT_KEY_MAP,
) -> Callable[[Any], Any]:
    """Builds a transform of samples that names their items and transforms one of them.

    Args:
        config: transform configs for the entry `key`; None uses a default.
        default_transform: the transform to use without a config.
        split: in place of `default_transform`, "train" for `imagenet_augment` or "test" for `imagenet_no_augment`.
        key: the entry to transform.
        key_map_transform: applied to the whole sample first; None if samples are dicts already.

    Raises:
        ComponentError: both defaults are given, or no config and no default.
    """
    if default_transform is not None and split is not None:
        raise ComponentError("give default_transform or split, not both")
    transform: Callable[[Any], Any]
    if config is not None:
        transform = build_transforms(config)
    elif default_transform is not None:
        transform = default_transform
    elif split is not None:
        transform = ImagenetAugmentTransform() if split == "train" else ImagenetNoAugmentTransform()
    else:
        raise ComponentError("there are no transforms: give a config, a default_transform or a split")
    applied = ApplyTransformToKey(transform, key=key)
    return applied if key_map_transform is None else Compose([key_map_transform, applied])


def default_unnormalize(img: torch.Tensor) -> torch.Tensor:
    """Undoes the ImageNet normalisation, and returns a new tensor (..., 3, H, W) with channels in [0, 1]."""
    mean = torch.tensor(ImagenetConstants.MEAN, dtype=img.dtype, device=img.device).view(3, 1, 1)
    std = torch.tensor(ImagenetConstants.STD, dtype=img.dtype, device=img.device).view(3, 1, 1)
    return img * std + mean
