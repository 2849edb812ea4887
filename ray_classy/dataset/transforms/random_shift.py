"""Shifts images by a few pixels, in whole batches."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ray_classy.dataset.transforms.batched import BatchedTransform
from ray_classy.dataset.transforms.classy_transform import ClassyTransform
from ray_classy.errors import ComponentError, DataError


class _Shift(BatchedTransform):
    """Shifts each row of a batch by numbers of its own."""

    draws = 2

    def batch(self, images: torch.Tensor, drawn: np.ndarray) -> torch.Tensor:
        pixels = self.transform.pixels
        check_shift(images, pixels)
        shifts = torch.from_numpy((drawn * (2 * pixels + 1)).astype(np.int64) - pixels)
        return shifted(images, *shifts.to(images.device, non_blocking=True).unbind(1))

    def row(self, image: Any, drawn: np.ndarray) -> Any:
        return self.batch(image[None], drawn[None])[0] if isinstance(image, torch.Tensor) else self.transform(image)


class RandomShift(ClassyTransform):
    """Shifts an image, a tensor, by up to so many pixels in each direction; what is missing is mirrored at the edge.

    It gives what a random crop of the image padded by reflection gives, in batches on the training device.

    Args:
        pixels: the greatest shift, at least 1; less than the sides of the images.

    Raises:
        ComponentError: `pixels` is not a positive integer.
        DataError: (when called) the image is not a tensor, or not larger than `pixels`.
    """

    draws = "torch"
    batchable = _Shift

    def __init__(self, pixels: int) -> None:
        if type(pixels) is not int or pixels < 1:
            raise ComponentError(f"pixels of random_shift must be an integer of at least 1, not {pixels!r}")
        self.pixels = pixels

    def __call__(self, image: Any) -> torch.Tensor:
        if not isinstance(image, torch.Tensor):
            raise DataError(
                f"random_shift takes tensors, not {type(image).__name__}: put ToImage or ToTensor before it"
            )
        check_shift(image, self.pixels)
        down, right = torch.randint(-self.pixels, self.pixels + 1, (2, 1))
        return shifted(image[None], down, right)[0]


def check_shift(images: torch.Tensor, pixels: int) -> None:
    """Checks that images, tensors (..., H, W), are larger than a shift by so many pixels.

    Raises:
        DataError: they are not.
    """
    height, width = images.shape[-2:]
    if min(height, width) <= pixels:
        raise DataError(f"images of {height} x {width} pixels cannot be shifted by {pixels}: shift by less")


def shifted(images: torch.Tensor, down: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Shifts images; what is missing at an edge is mirrored there, without the edge itself.

    Args:
        images: shape (N, ..., H, W).
        down: pixels by which the content of each image moves down, shape (N,) or (1,), in (-H, H).
        right: the same to the right, in (-W, W).
    """
    rows, columns = (_sources(side, moved) for side, moved in zip(images.shape[-2:], (down, right), strict=True))
    flat = images.reshape(len(images), -1, *images.shape[-2:])
    each = torch.arange(len(images), device=images.device).view(-1, 1, 1, 1)
    channels = torch.arange(flat.shape[1], device=images.device).view(1, -1, 1, 1)
    return flat[each, channels, rows[:, None, :, None], columns[:, None, None, :]].reshape(images.shape)


def _sources(side: int, moved: torch.Tensor) -> torch.Tensor:
    """Returns the positions that the positions of a shifted line show, shape (N, side)."""
    positions = (torch.arange(side, device=moved.device) - moved[:, None]).abs()
    return (side - 1) - ((side - 1) - positions).abs()
