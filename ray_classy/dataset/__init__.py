"""Datasets to train and test on."""

from typing import TYPE_CHECKING

from ray_classy.lazy import lazy_exports

if TYPE_CHECKING:
    from ray_classy.dataset.classy_cifar import CIFAR10Dataset, CIFAR100Dataset, CIFARDataset
    from ray_classy.dataset.classy_dataset import DATASET_REGISTRY, ClassyDataset, build_dataset, register_dataset
    from ray_classy.dataset.classy_hmdb51 import HMDB51Dataset
    from ray_classy.dataset.classy_kinetics400 import Kinetics400Dataset
    from ray_classy.dataset.classy_synthetic_image import SyntheticImageDataset
    from ray_classy.dataset.classy_synthetic_image_streaming import SyntheticImageStreamingDataset
    from ray_classy.dataset.classy_synthetic_video import SyntheticVideoDataset
    from ray_classy.dataset.classy_ucf101 import UCF101Dataset
    from ray_classy.dataset.classy_video_dataset import ClassyVideoDataset
    from ray_classy.dataset.dataloader_async_gpu_wrapper import DataloaderAsyncGPUWrapper
    from ray_classy.dataset.dataloader_limit_wrapper import DataloaderLimitWrapper
    from ray_classy.dataset.dataloader_skip_none_wrapper import DataloaderSkipNoneWrapper
    from ray_classy.dataset.dataloader_wrapper import DataloaderWrapper
    from ray_classy.dataset.digits import DigitsDataset
    from ray_classy.dataset.image_path_dataset import ImagePathDataset
    from ray_classy.dataset.manifest import ManifestDataset
    from ray_classy.dataset.parquet import ParquetDataset
    from ray_classy.dataset.video_path import VideoPathDataset
    from ray_classy.dataset.webdataset import WebDatasetDataset

__all__ = [
    "DATASET_REGISTRY",
    "CIFAR10Dataset",
    "CIFAR100Dataset",
    "CIFARDataset",
    "ClassyDataset",
    "ClassyVideoDataset",
    "DataloaderAsyncGPUWrapper",
    "DataloaderLimitWrapper",
    "DataloaderSkipNoneWrapper",
    "DataloaderWrapper",
    "DigitsDataset",
    "HMDB51Dataset",
    "ImagePathDataset",
    "Kinetics400Dataset",
    "ManifestDataset",
    "ParquetDataset",
    "SyntheticImageDataset",
    "SyntheticImageStreamingDataset",
    "SyntheticVideoDataset",
    "UCF101Dataset",
    "VideoPathDataset",
    "WebDatasetDataset",
    "build_dataset",
    "register_dataset",
]

__getattr__ = lazy_exports(__name__)
