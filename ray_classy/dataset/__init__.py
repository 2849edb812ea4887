"""Datasets to train and test on."""

from typing import TYPE_CHECKING

from ray_classy.lazy import lazy_exports

if TYPE_CHECKING:
    from ray_classy.dataset.classy_dataset import DATASET_REGISTRY, ClassyDataset, build_dataset, register_dataset
    from ray_classy.dataset.digits import DigitsDataset
    from ray_classy.dataset.image_path import ImagePathDataset
    from ray_classy.dataset.manifest import ManifestDataset
    from ray_classy.dataset.parquet import ParquetDataset
    from ray_classy.dataset.synthetic_image import SyntheticImageDataset
    from ray_classy.dataset.video_path import VideoPathDataset
    from ray_classy.dataset.webdataset import WebDatasetDataset

__all__ = [
    "DATASET_REGISTRY",
    "ClassyDataset",
    "DigitsDataset",
    "ImagePathDataset",
    "ManifestDataset",
    "ParquetDataset",
    "SyntheticImageDataset",
    "VideoPathDataset",
    "WebDatasetDataset",
    "build_dataset",
    "register_dataset",
]

__getattr__ = lazy_exports(__name__)
