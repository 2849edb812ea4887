"""RandAugment, TrivialAugment and random resized crops of whole batches, on the training device."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
import torch
from torch.nn.functional import grid_sample

from ray_classy.dataset.transforms import batched_operations as operations
from ray_classy.dataset.transforms.batched import BatchedTransform
from ray_classy.dataset.transforms.classy_transform import ClassyTransform
from ray_classy.errors import ComponentError, DataError
from ray_classy.seeding import row_uniforms

Range = tuple[operations.Operation, float, float, bool]
"""An operation, its magnitude at strength 0 and at strength 1, and whether its sign is drawn."""


def _space(shear: float, shift: float, degrees: float, change: float, bits: int) -> list[Range]:
    """Returns the 14 operations of both papers with their ranges; `shift` in pixels, `bits` those that are removed."""
    changes = (operations.brightness, operations.color, operations.contrast, operations.sharpness)
    return [
        (operations.identity, 0.0, 0.0, False),
        (operations.shear_x, 0.0, shear, True),
        (operations.shear_y, 0.0, shear, True),
        (operations.translate_x, 0.0, shift, True),
        (operations.translate_y, 0.0, shift, True),
        (operations.rotate, 0.0, degrees, True),
        *((change_of, 0.0, change, True) for change_of in changes),
        (operations.posterize, 8.0, 8.0 - bits, False),
        (operations.solarize, 255.0, 0.0, False),
        (operations.autocontrast, 0.0, 0.0, False),
        (operations.equalize, 0.0, 0.0, False),
    ]


def _checked(images: torch.Tensor, name: str) -> torch.Tensor:
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] not in (1, 3):
        raise DataError(
            f"{name} takes images of bytes with 1 or 3 channels, not {images.dtype} of shape {tuple(images.shape)}: "
            f"put it after ToImage and before ToDtype"
        )
    return images


def _applied(
    images: torch.Tensor, chosen: np.ndarray, strength: np.ndarray, signs: np.ndarray, space: list[Range]
) -> torch.Tensor:
    """Applies an operation to each image: the images of one operation together.

    Args:
        images: bytes, shape (N, C, H, W); they are not written to.
        chosen: number of the operation of each image, shape (N,).
        strength: of each, in [0, 1], shape (N,).
        signs: -1 or 1, shape (N,).
        space: the operations.
    """
    result = images.clone()
    for number in np.unique(chosen):
        operation, low, high, signed = space[number]
        if operation is operations.identity:
            continue
        rows = np.flatnonzero(chosen == number)
        magnitude = low + strength[rows] * (high - low)
        magnitude = magnitude * signs[rows] if signed else magnitude
        some = torch.from_numpy(rows).to(images.device, non_blocking=True)
        amount = torch.from_numpy(magnitude).to(images.device, non_blocking=True)
        result[some] = operation(images[some], amount)
    return result


def _bins(name: str, value: Any) -> int:
    if type(value) is not int or value < 2:
        raise ComponentError(f"num_magnitude_bins of {name} must be an integer of at least 2, not {value!r}")
    return value


class _OnBatches(BatchedTransform):
    """A transform whose `of_batch` does all the work."""

    def batch(self, images: torch.Tensor, drawn: np.ndarray) -> torch.Tensor:
        return self.transform.of_batch(images, drawn)

    def drawn(self, seed: int, epoch: int, rows: np.ndarray, purpose: int) -> np.ndarray:
        return row_uniforms(seed, epoch, rows, purpose, self.transform.count)

    def row(self, image: Any, drawn: np.ndarray) -> Any:
        if not isinstance(image, torch.Tensor):
            return self.transform(image)
        return self.transform.of_batch(image[None], drawn[None])[0]


class _Augment(ClassyTransform):
    draws = "torch"
    batchable: ClassVar[Any] = _OnBatches
    count = 0
    """Random numbers of an image."""

    def of_batch(self, images: torch.Tensor, drawn: np.ndarray) -> torch.Tensor:
        """Transforms a batch of bytes, shape (N, C, H, W), with numbers in [0, 1), shape (N, count)."""
        raise NotImplementedError

    def __call__(self, image: Any) -> torch.Tensor:
        if not isinstance(image, torch.Tensor):
            raise DataError(f"{type(self).__name__} takes tensors, not {type(image).__name__}: put ToImage before it")
        return self.of_batch(image[None], torch.rand(1, self.count, dtype=torch.float64).numpy())[0]


class BatchedRandAugment(_Augment):
    """Applies random operations of one strength, in batches on the training device.

    RandAugment (Cubuk et al. 2020, arXiv:1909.13719) with the operations and ranges of torchvision's `RandAugment`; the
    numbers that are drawn are others. Images are bytes: put it after `ToImage` and before `ToDtype`.

    Args:
        num_ops: operations per image, at least 1.
        magnitude: strength, in [0, num_magnitude_bins).
        num_magnitude_bins: number of strengths, at least 2.

    Raises:
        ComponentError: an argument is out of its range.
        DataError: (when called) the images are not bytes with 1 or 3 channels.
    """

    def __init__(self, num_ops: int = 2, magnitude: int = 9, num_magnitude_bins: int = 31) -> None:
        if type(num_ops) is not int or num_ops < 1:
            raise ComponentError(f"num_ops of batched_rand_augment must be an integer of at least 1, not {num_ops!r}")
        most = _bins("batched_rand_augment", num_magnitude_bins) - 1
        if type(magnitude) is not int or not 0 <= magnitude <= most:
            raise ComponentError(
                f"magnitude of batched_rand_augment must be an integer from 0 to {most}, not {magnitude!r}"
            )
        self.num_ops, self.strength = num_ops, magnitude / most
        self.count = 2 * num_ops

    def of_batch(self, images: torch.Tensor, drawn: np.ndarray) -> torch.Tensor:
        images = _checked(images, "batched_rand_augment")
        space = _space(0.3, 150.0 / 331.0 * images.shape[-1], 30.0, 0.9, 4)
        strength = np.full(len(images), self.strength)
        for which, sign in zip(drawn.T[::2], drawn.T[1::2], strict=True):
            images = _applied(images, (which * len(space)).astype(int), strength, np.where(sign < 0.5, -1, 1), space)
        return images


class BatchedTrivialAugment(_Augment):
    """Applies one random operation of random strength, in batches on the training device.

    TrivialAugment with the wide ranges (Müller & Hutter 2021, arXiv:2103.10158), as in torchvision's
    `TrivialAugmentWide`; the numbers that are drawn are others. Images are bytes: put it after `ToImage` and before
    `ToDtype`.

    Args:
        num_magnitude_bins: number of strengths, at least 2.

    Raises:
        ComponentError: the argument is out of its range.
        DataError: (when called) the images are not bytes with 1 or 3 channels.
    """

    count = 3

    def __init__(self, num_magnitude_bins: int = 31) -> None:
        self.num_magnitude_bins = _bins("batched_trivial_augment", num_magnitude_bins)

    def of_batch(self, images: torch.Tensor, drawn: np.ndarray) -> torch.Tensor:
        images = _checked(images, "batched_trivial_augment")
        space = _space(0.99, 32.0, 135.0, 0.99, 6)
        which, strength, sign = drawn.T
        bins = (strength * self.num_magnitude_bins).astype(int) / (self.num_magnitude_bins - 1)
        return _applied(images, (which * len(space)).astype(int), bins, np.where(sign < 0.5, -1, 1), space)


class BatchedRandomResizedCrop(_Augment):
    """Crops a random part of each image and resizes it, in batches on the training device.

    The parts are drawn as in `RandomResizedCrop`; pixels are interpolated bilinearly, without antialiasing. All images
    of a batch have one size: put `Resize` and `CenterCrop`, to somewhat more than `size`, and `ToImage` before it.

    Args:
        size: height and width of the results, in pixels, at least 1.
        scale: least and greatest share of the area, in (0, 1].
        ratio: least and greatest ratio of width to height, above 0.

    Raises:
        ComponentError: an argument is out of its range.
        DataError: (when called) the images are not bytes with 1 or 3 channels.
    """

    count = 22

    def __init__(
        self, size: int, scale: tuple[float, float] = (0.08, 1.0), ratio: tuple[float, float] = (0.75, 4 / 3)
    ) -> None:
        if type(size) is not int or size < 1:
            raise ComponentError(f"size of batched_random_resized_crop must be an integer of at least 1, not {size!r}")
        for name, pair, most in (("scale", scale, 1.0), ("ratio", ratio, math.inf)):
            if not (len(pair) == 2 and 0 < pair[0] <= pair[1] <= most):
                raise ComponentError(
                    f"{name} of batched_random_resized_crop must be two rising numbers above 0, not {pair!r}"
                )
        self.size, self.scale, self.ratio = size, tuple(scale), tuple(ratio)

    def of_batch(self, images: torch.Tensor, drawn: np.ndarray) -> torch.Tensor:
        images = _checked(images, "batched_random_resized_crop")
        height, width = images.shape[-2:]
        top, left, tall, wide = torch.from_numpy(self._boxes(drawn, height, width)).to(images.device, non_blocking=True)
        steps = (torch.arange(self.size, device=images.device, dtype=torch.float64) + 0.5) / self.size
        # grid_sample counts from -1 to 1, the outer edges of the first and the last pixel
        y = (top[:, None] + steps * tall[:, None]) * (2 / height) - 1
        x = (left[:, None] + steps * wide[:, None]) * (2 / width) - 1
        shape = (len(images), self.size, self.size)
        grid = torch.stack([x[:, None, :].expand(shape), y[:, :, None].expand(shape)], 3).float()
        taken = grid_sample(images.float(), grid, mode="bilinear", padding_mode="border", align_corners=False)
        return taken.round_().to(torch.uint8)

    def _boxes(self, drawn: np.ndarray, height: int, width: int) -> np.ndarray:
        """Returns top, left, height and width of each image's part, shape (4, N): of ten tries the first that fits."""
        low, high = np.log(self.ratio[0]), np.log(self.ratio[1])
        area = height * width * (self.scale[0] + drawn[:, :10] * (self.scale[1] - self.scale[0]))
        ratio = np.exp(low + drawn[:, 10:20] * (high - low))
        wide, tall = np.rint(np.sqrt(area * ratio)), np.rint(np.sqrt(area / ratio))
        fits = (wide > 0) & (wide <= width) & (tall > 0) & (tall <= height)
        each, first = np.arange(len(drawn)), fits.argmax(1)
        widest, tallest = min(width, round(height * self.ratio[1])), min(height, round(width / self.ratio[0]))
        wide = np.where(fits.any(1), wide[each, first], widest)
        tall = np.where(fits.any(1), tall[each, first], tallest)
        centre = ~fits.any(1)
        top = np.where(centre, (height - tall) // 2, np.floor(drawn[:, 20] * (height - tall + 1)))
        left = np.where(centre, (width - wide) // 2, np.floor(drawn[:, 21] * (width - wide + 1)))
        return np.stack([top, left, tall, wide]).astype(np.float64)
