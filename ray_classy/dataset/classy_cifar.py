"""CIFAR-10 and CIFAR-100 (Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from ray_classy.dataset.cifar_files import IMAGE_BYTES, LAYOUTS, read_cifar
from ray_classy.dataset.classy_dataset import ClassyDataset, register_dataset
from ray_classy.dataset.row_dataset import RowDataset
from ray_classy.dataset.row_keys import numbered_keys
from ray_classy.dataset.rows import ItemRows
from ray_classy.dataset.transforms import GenericImageTransform, build_transform
from ray_classy.errors import ComponentError
from ray_classy.registry import reads_signature


class CIFARDataset(ClassyDataset):
    """The base of both datasets: samples `(PIL image of 32 x 32 pixels, class)`, from files in their Python layout.

    Built from a config without `transforms`, samples are `{"input": float tensor (3, 32, 32) in [0, 1], "target"}`. The
    transform `generic_image_transform` makes such dicts of the tuples, `tuple_to_map` names their items.

    Args:
        split: "train", or "test" or None for the test split.
        batchsize_per_replica: see `ClassyDataset`.
        shuffle: see `ClassyDataset`.
        transform: see `ClassyDataset`.
        num_samples: see `ClassyDataset`.
        root: path or URL of the folder that holds `cifar-10-batches-py` or `cifar-100-python`.
        download: without effect: files that are missing are an error, which says where to get them.

    Raises:
        ComponentError: there is no such split, or the class is not one of the two datasets.
        DataError: a file is missing, damaged, or holds something else.
    """

    _CIFAR_TYPE: ClassVar[str | None] = None

    def __init__(
        self,
        split: str | None,
        batchsize_per_replica: int,
        shuffle: bool,
        transform: Callable[[Any], Any] | None,
        num_samples: int | None,
        root: str,
        download: bool | None = None,
    ) -> None:
        if self._CIFAR_TYPE not in LAYOUTS:
            raise ComponentError("CIFARDataset is a base class: use CIFAR10Dataset or CIFAR100Dataset")
        if split not in ("train", "test", None):
            raise ComponentError(f"split must be 'train' or 'test', not {split!r}")
        if not isinstance(root, str):
            raise ComponentError(f"root must be the path of the folder that holds the files, not {root!r}")
        pixels, self._labels, self.classes = read_cifar(LAYOUTS[self._CIFAR_TYPE], root, split == "train")
        self._part = "train" if split == "train" else "test"
        rows = ItemRows(image=_column(pixels), label=self._labels)
        super().__init__(RowDataset(rows, _sample), batchsize_per_replica, shuffle, transform, num_samples)

    @classmethod
    @reads_signature
    def from_config(cls, config: Mapping[str, Any]) -> ClassyDataset:
        """Builds the dataset from a config whose keys are those of `config_keys`."""
        dataset = super().from_config({"split": None, **config})
        if config.get("transforms") is None:
            dataset.transform = GenericImageTransform(build_transform({"name": "ToTensor"}))
        return dataset

    def labels(self) -> np.ndarray | None:
        return self._labels

    def row_keys(self, column: str | None = None) -> np.ndarray:
        return numbered_keys([self._part], [len(self._labels)]) if column is None else super().row_keys(column)

    def keep_rows(self, numbers: np.ndarray) -> None:
        self.dataset.select(numbers)  # type: ignore[union-attr]
        self._labels = self._labels[numbers]


@register_dataset("classy_cifar10")
class CIFAR10Dataset(CIFARDataset):
    """60,000 images of 10 classes, 10,000 of them for testing; see `CIFARDataset`."""

    _CIFAR_TYPE = "cifar10"


@register_dataset("classy_cifar100")
class CIFAR100Dataset(CIFARDataset):
    """60,000 images of 100 classes, 10,000 of them for testing; see `CIFARDataset`."""

    _CIFAR_TYPE = "cifar100"


def _column(pixels: np.ndarray) -> Any:
    """Returns the images as a column of bytes, without a copy."""
    import pyarrow as pa

    pixels = np.ascontiguousarray(pixels)
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(IMAGE_BYTES), len(pixels), [None, pa.py_buffer(pixels)])


def _sample(row: dict[str, Any]) -> tuple[Image.Image, int]:
    pixels = np.frombuffer(row["image"], dtype=np.uint8).reshape(3, 32, 32)
    return Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0))), int(row["label"])
