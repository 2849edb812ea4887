"""Plain map-style datasets that the registered ones are made of."""

from ray_classy.dataset.core.list_dataset import ListDataset
from ray_classy.dataset.core.random_image_datasets import RandomImageBinaryClassDataset, RandomImageDataset, SampleType

__all__ = ["ListDataset", "RandomImageBinaryClassDataset", "RandomImageDataset", "SampleType"]
