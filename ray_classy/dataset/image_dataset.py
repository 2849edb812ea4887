"""What the datasets of image files have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ray_classy.dataset.classy_dataset import ClassyDataset
from ray_classy.dataset.transforms import ApplyTransformToKey, ImagenetNoAugmentTransform, build_transform
from ray_classy.registry import reads_signature


class ImageDataset(ClassyDataset):
    """Samples `{"input": image, "target": class}` of encoded images, with the targets known before any is decoded.

    Attributes:
        image_mode: "RGB" or "L" (grey).
    """

    image_mode: str = "RGB"
    _labels: np.ndarray | None = None

    @classmethod
    @reads_signature
    def from_config(cls, config: Mapping[str, Any]) -> ClassyDataset:
        """Builds the dataset from a config whose keys are those of `config_keys`."""
        dataset = super().from_config(config)
        if config.get("transforms") is None:
            assert isinstance(dataset, ImageDataset)
            dataset.transform = ApplyTransformToKey(dataset.default_transform())
        return dataset

    def default_transform(self) -> Callable[[Any], Any]:
        """What is applied to the image when a config names no transforms."""
        return ImagenetNoAugmentTransform() if self.image_mode == "RGB" else build_transform({"name": "ToTensor"})

    def labels(self) -> np.ndarray | None:
        return self._labels
