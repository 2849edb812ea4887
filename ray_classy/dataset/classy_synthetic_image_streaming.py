"""Synthetic images that are read like a stream: a phase has a given number of batches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ray_classy.dataset.classy_dataset import ClassyDataset, register_dataset
from ray_classy.dataset.core import RandomImageBinaryClassDataset
from ray_classy.dataset.dataloader_async_gpu_wrapper import DataloaderAsyncGPUWrapper
from ray_classy.dataset.dataloader_limit_wrapper import DataloaderLimitWrapper
from ray_classy.dataset.transforms import build_transforms
from ray_classy.dataset.transforms.util import ImagenetConstants, build_field_transform_default_imagenet
from ray_classy.errors import DataError
from ray_classy.registry import Key, Keys


@register_dataset("synthetic_image_streaming")
class SyntheticImageStreamingDataset(ClassyDataset):
    """The images of `synthetic_image`, of which a phase reads full global batches only.

    It shows how a dataset limits, repeats or prefetches its batches with a `DataloaderWrapper`. Built from a config,
    `transforms` are those of the image; without them it becomes a normalised float tensor (3, crop_size, crop_size).

    Args:
        batchsize_per_replica: see `ClassyDataset`.
        shuffle: see `ClassyDataset`.
        transform: see `ClassyDataset`.
        num_samples: images per phase; those that do not fill a global batch are not read.
        crop_size: side of the images in pixels.
        class_ratio: share of class 1, in [0, 1].
        seed: of the first image; the next one has the next seed.
        length: number of images, at least `num_samples`; by default `num_samples`.
        async_gpu_copy: copy the next batch to the GPU meanwhile (`DataloaderAsyncGPUWrapper`).

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
        length: int | None = None,
        async_gpu_copy: bool = False,
    ) -> None:
        images = RandomImageBinaryClassDataset(crop_size, class_ratio, num_samples if length is None else length, seed)
        super().__init__(images, batchsize_per_replica, shuffle, transform, num_samples)
        self.drop_last = True
        self.async_gpu_copy = async_gpu_copy

    @classmethod
    def config_keys(cls) -> Keys:
        """Returns the common keys, of which `num_samples` is required."""
        return {**super().config_keys(), "num_samples": Key(int)}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> ClassyDataset:
        """Builds the dataset from a config whose keys are those of `config_keys`."""
        dataset = super().from_config({**config, "transforms": None})
        normalize = {"name": "Normalize", "mean": ImagenetConstants.MEAN, "std": ImagenetConstants.STD}
        dataset.transform = build_field_transform_default_imagenet(
            config.get("transforms"), default_transform=build_transforms([{"name": "ToTensor"}, normalize])
        )
        return dataset

    def iterator(self, **options: Any) -> Any:
        """Returns a loader of `num_samples // global batch size` batches; see `ClassyDataset.iterator`.

        Raises:
            DataError: `num_samples` are less than a global batch, or see `ClassyDataset.iterator`.
        """
        limit = len(self) // self.get_global_batchsize()
        if limit == 0:
            raise DataError(
                f"num_samples is {self.num_samples}, which is less than a global batch of "
                f"{self.get_global_batchsize()}: raise it, or lower batchsize_per_replica"
            )
        loader = DataloaderLimitWrapper(super().iterator(**options), limit)
        return DataloaderAsyncGPUWrapper(loader) if self.async_gpu_copy else loader
