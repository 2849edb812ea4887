"""Synthetic images of two classes, for tests and benchmarks of a setup."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ray_classy.dataset.classy_dataset import ClassyDataset, register_dataset
from ray_classy.dataset.core import RandomImageBinaryClassDataset
from ray_classy.dataset.transforms import ApplyTransformToKey, build_transforms
from ray_classy.dataset.transforms.util import ImagenetConstants
from ray_classy.registry import Key, Keys, reads_signature

_MOST_LABELS = 100_000
"""Labels that are drawn without their images, which takes a second."""


@register_dataset("synthetic_image")
class SyntheticImageDataset(ClassyDataset):
    """Noise images of two classes that a model can learn to tell apart: samples `{"input", "target", "id"}`.

    Inputs are PIL images. Built from a config without `transforms`, the dataset makes them normalised float tensors
    (3, crop_size, crop_size).

    Args:
        batchsize_per_replica: see `ClassyDataset`.
        shuffle: see `ClassyDataset`.
        transform: see `ClassyDataset`.
        num_samples: number of images.
        crop_size: side of the images in pixels.
        class_ratio: share of class 1, in [0, 1].
        seed: of the first image; the next one has the next seed.

    Raises:
        ComponentError: an argument has an invalid value.
    """

    FORMER_KEYS = (*ClassyDataset.FORMER_KEYS, "split", "num_classes")

    def __init__(
        self,
        batchsize_per_replica: int,
        shuffle: bool,
        transform: Callable[[Any], Any] | None,
        num_samples: int,
        crop_size: int,
        class_ratio: float,
        seed: int,
    ) -> None:
        self._images = RandomImageBinaryClassDataset(crop_size, class_ratio, num_samples, seed)
        self.classes = ["red", "green"]
        super().__init__(self._images, batchsize_per_replica, shuffle, transform, num_samples)

    @classmethod
    def config_keys(cls) -> Keys:
        """Returns the common keys, of which `num_samples` is required."""
        return {**super().config_keys(), "num_samples": Key(int)}

    @classmethod
    @reads_signature
    def from_config(cls, config: Mapping[str, Any]) -> ClassyDataset:
        """Builds the dataset from a config whose keys are those of `config_keys`."""
        dataset = super().from_config(config)
        if config.get("transforms") is None:
            normalize = {"name": "Normalize", "mean": ImagenetConstants.MEAN, "std": ImagenetConstants.STD}
            dataset.transform = ApplyTransformToKey(build_transforms([{"name": "ToTensor"}, normalize]))
        return dataset

    def labels(self) -> np.ndarray | None:
        return self._images.targets if len(self._images) <= _MOST_LABELS else None
