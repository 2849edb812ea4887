"""Plain map-style datasets that registered datasets are built on."""

from typing import TYPE_CHECKING

from ray_classy.lazy import lazy_exports

if TYPE_CHECKING:
    from ray_classy.dataset.core.list_dataset import ListDataset
    from ray_classy.dataset.core.random_image_datasets import (
        RandomImageBinaryClassDataset,
        RandomImageDataset,
        SampleType,
    )
    from ray_classy.dataset.core.random_video_datasets import RandomVideoDataset

__all__ = ["ListDataset", "RandomImageBinaryClassDataset", "RandomImageDataset", "RandomVideoDataset", "SampleType"]

__getattr__ = lazy_exports(__name__)
