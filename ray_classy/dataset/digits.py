"""Handwritten digits that come with the package, to train on without a download."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from ray_classy.dataset.classy_dataset import register_dataset
from ray_classy.dataset.parquet import ParquetDataset
from ray_classy.dataset.row_dataset import RowDataset
from ray_classy.dataset.transforms import build_transform
from ray_classy.errors import ComponentError

DATA_FOLDER = Path(__file__).parent.parent / "data"


@register_dataset("digits")
class DigitsDataset(ParquetDataset):
    """1,797 handwritten digits of 8 x 8 pixels (UCI, see NOTICE): samples `{"input": image, "target": 0..9}`.

    Built from a config without `transforms`, images become float tensors (1, 8, 8) in [0, 1].

    Args (after the common ones, see `ImageDataset`):
        split: "train" (1,438 rows) or "test" (359 rows), with the classes in equal shares in both.
        image_mode: "L" (grey) or "RGB", for images (3, 8, 8).

    Raises:
        ComponentError: there is no such split.
    """

    decodes = False

    def open_rows(  # type: ignore[override]
        self, *, split: Literal["train", "test"], image_mode: Literal["RGB", "L"] = "L"
    ) -> RowDataset:
        if split not in ("train", "test"):
            raise ComponentError(f"digits has the splits 'train' and 'test', not {split!r}")
        return super().open_rows(
            files=str(DATA_FOLDER / f"digits_{split}.parquet"),
            classes=[str(digit) for digit in range(10)],
            image_mode=image_mode,
        )

    def default_transform(self) -> Callable[[Any], Any]:
        return build_transform({"name": "ToTensor"})
