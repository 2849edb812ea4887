"""Transforms of whole batches on the training device.

Each gives every row of a batch what its transform would give the row alone, to the last bit: the same arithmetic in the
same order, with random numbers that belong to the row (`row_uniforms`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch

from ray_classy.dataset.transforms.reused import empty
from ray_classy.seeding import row_uniforms

_CACHED_BYTES = 1 << 17
"""Size of what a CPU flips at once. `torch.where` on bytes takes several times as long as copying the flipped rows."""


class BatchedTransform:
    """One transform, applied to whole batches.

    Args:
        transform: the transform of single images.

    Attributes:
        draws: random numbers needed per row.
        on_images: whether it can be applied to a batch of bytes that the transform would see as PIL images.
        on_tensors: whether it can be applied to a batch that the transform would see as tensors.
        makes_tensors: whether the transform turns PIL images into tensors.
    """

    draws: ClassVar[int] = 0
    on_images: ClassVar[bool] = False
    on_tensors: ClassVar[bool] = True
    makes_tensors: ClassVar[bool] = False

    def __init__(self, transform: Any) -> None:
        self.transform = transform

    @classmethod
    def accepts(cls, transform: Any) -> bool:
        """Whether a transform can be applied to batches with the arguments that it was built with."""
        return True

    @property
    def name(self) -> str:
        """The transform's name, as a config writes it."""
        return type(self.transform).__name__

    def drawn(self, seed: int, epoch: int, rows: np.ndarray, purpose: int) -> np.ndarray:
        """Returns the random numbers of rows, shape (N, draws): other ones in each epoch."""
        return row_uniforms(seed, epoch, rows, purpose, self.draws)

    def batch(self, images: torch.Tensor, drawn: np.ndarray) -> torch.Tensor:
        """Transforms a batch.

        Args:
            images: shape (N, ..., H, W); it may be written to.
            drawn: random numbers in [0, 1), shape (N, draws).
        """
        raise NotImplementedError

    def row(self, image: Any, drawn: np.ndarray) -> Any:
        """Transforms the value of one row, which may be of a kind that cannot be batched."""
        return self.transform(image)


class Itself(BatchedTransform):
    """A transform that takes a batch as it takes an image."""

    def batch(self, images: torch.Tensor, drawn: np.ndarray) -> torch.Tensor:
        return self.transform(images)


class Identity(BatchedTransform):
    """Leaves a batch unchanged."""

    on_images = True

    def batch(self, images: torch.Tensor, drawn: np.ndarray) -> torch.Tensor:
        return images


class ToPureTensor(Identity):
    """Leaves a batch unchanged; the transform takes tensors."""

    on_images = False


class ToImage(Identity):
    """Leaves the bytes of images unchanged, which the transform makes a tensor of."""

    on_tensors = False
    makes_tensors = True


class ToTensor(BatchedTransform):
    """Converts the bytes of images to floats in [0, 1]."""

    on_images = True
    on_tensors = False
    makes_tensors = True

    def batch(self, images: torch.Tensor, drawn: np.ndarray) -> torch.Tensor:
        floats = _floats(images, torch.get_default_dtype())
        # A number instead of a tensor would become a factor on a GPU, which rounds differently.
        return floats.div_(torch.full((), 255.0, dtype=floats.dtype, device=floats.device))


class ToDtype(BatchedTransform):
    """Converts a batch to another type."""

    @classmethod
    def accepts(cls, transform: Any) -> bool:
        return isinstance(transform.dtype, torch.dtype)

    def batch(self, images: torch.Tensor, drawn: np.ndarray) -> torch.Tensor:
        dtype = self.transform.dtype
        if images.dtype != torch.uint8 or dtype not in (torch.float32, torch.float64):
            return self.transform(images)
        floats = _floats(images, dtype)
        return floats.mul_(1.0 / 255) if getattr(self.transform, "scale", True) else floats


class Normalize(BatchedTransform):
    """Subtracts the mean of each channel and divides by its standard deviation."""

    def __init__(self, transform: Any) -> None:
        super().__init__(transform)
        self._statistics: dict[Any, tuple[torch.Tensor, torch.Tensor]] = {}

    def batch(self, images: torch.Tensor, drawn: np.ndarray) -> torch.Tensor:
        channels = {1, images.shape[-3]} if images.ndim > 3 else set()
        sizes = {len(self.transform.mean), len(self.transform.std)}
        if not images.is_floating_point() or not sizes <= channels or not all(self.transform.std):
            return torch.stack([self.transform(image) for image in images])  # or torchvision says what is wrong
        key = images.device, images.dtype
        if key not in self._statistics:  # copying them to the device would wait for it at each step
            numbers = (self.transform.mean, self.transform.std)
            mean, std = (torch.tensor(n, dtype=images.dtype, device=images.device).view(-1, 1, 1) for n in numbers)
            self._statistics[key] = mean, std
        mean, std = self._statistics[key]
        return images.sub_(mean).div_(std)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_statistics": {}}


class RandomHorizontalFlip(BatchedTransform):
    """Mirrors a random part of the rows, left to right."""

    draws = 1
    on_images = True
    dimension: ClassVar[int] = -1

    def batch(self, images: torch.Tensor, drawn: np.ndarray) -> torch.Tensor:
        chosen = drawn[:, 0] < self.transform.p
        if images.device.type == "cpu" and images.dtype != torch.bfloat16:  # which NumPy does not have
            rows, values = np.flatnonzero(chosen), images.numpy()
            at_once = 1 + _CACHED_BYTES // (images[0].nbytes or 1)
            for some in (rows[at : at + at_once] for at in range(0, len(rows), at_once)):
                values[some] = images.index_select(0, torch.from_numpy(some)).flip(self.dimension).numpy()
            return images
        flipped = torch.from_numpy(chosen).to(images.device, non_blocking=True).view(-1, *[1] * (images.ndim - 1))
        return torch.where(flipped, images.flip(self.dimension), images)

    def row(self, image: Any, drawn: np.ndarray) -> Any:
        from torchvision.transforms.v2 import functional

        flip = functional.horizontal_flip if self.dimension == -1 else functional.vertical_flip
        return flip(image) if drawn[0] < self.transform.p else image


class RandomVerticalFlip(RandomHorizontalFlip):
    """Mirrors a random part of the rows, top to bottom."""

    dimension = -2


class RandomErasing(BatchedTransform):
    """Erases a random box with a given value; a row for which ten attempts give no box that fits stays as it is."""

    draws = 1 + 10 * 2 + 2

    @classmethod
    def accepts(cls, transform: Any) -> bool:
        return transform.value is not None

    def batch(self, images: torch.Tensor, drawn: np.ndarray) -> torch.Tensor:
        height, width = images.shape[-2:]
        boxes = torch.from_numpy(self._boxes(drawn, height, width)).to(images.device, non_blocking=True)
        top, left, high, wide = boxes.view(4, len(images), *[1] * (images.ndim - 1))
        y = torch.arange(height, device=images.device).view(-1, 1)
        x = torch.arange(width, device=images.device)
        inside = (y >= top) & (y < top + high) & (x >= left) & (x < left + wide)
        values = self.transform.value
        if len(values) == 1:
            return images.masked_fill_(inside, _of_type(values[0], images))
        if len(values) != images.shape[-3]:
            return torch.stack([self.transform(image) for image in images])  # or torchvision says what is wrong
        for channel, value in enumerate(values):
            images.narrow(-3, channel, 1).masked_fill_(inside, _of_type(value, images))
        return images

    def _boxes(self, drawn: np.ndarray, height: int, width: int) -> np.ndarray:
        """Returns top, left, height and width of each row's box, shape (4, N), int64; of size 0 to erase nothing."""
        one = self.transform
        low, high = np.log(one.ratio[0]), np.log(one.ratio[1])
        area = height * width * (one.scale[0] + drawn[:, 1:11] * (one.scale[1] - one.scale[0]))
        aspect = np.exp(low + drawn[:, 11:21] * (high - low))
        tall = np.rint(np.sqrt(area * aspect)).astype(np.int64)
        wide = np.rint(np.sqrt(area / aspect)).astype(np.int64)
        fits = (tall < height) & (wide < width)
        first = fits.argmax(1)
        each = np.arange(len(drawn))
        erased = (drawn[:, 0] < one.p) & fits.any(1)
        tall, wide = np.where(erased, tall[each, first], 0), np.where(erased, wide[each, first], 0)
        top = (drawn[:, 21] * (height - tall + 1)).astype(np.int64)
        left = (drawn[:, 22] * (width - wide + 1)).astype(np.int64)
        return np.stack([top, left, tall, wide])

    def row(self, image: Any, drawn: np.ndarray) -> Any:
        if not isinstance(image, torch.Tensor):
            return self.transform(image)
        return self.batch(image.clone()[None], drawn[None])[0]


def _of_type(value: float, images: torch.Tensor) -> float:
    """Converts a value to what torch stores for it: an integer among integers."""
    return value if images.is_floating_point() else int(value)


def _floats(images: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Converts images to floats in memory of their own."""
    return images.to(dtype) if images.device.type != "cpu" else empty(images.shape, dtype).copy_(images)


class BatchedTransforms:
    """Applies several batched transforms, one after the other.

    Args:
        steps: at least one.

    Attributes:
        take_images: whether a batch must hold the bytes of images, which one of the transforms makes tensors of.
    """

    def __init__(self, steps: Sequence[BatchedTransform]) -> None:
        self.steps = list(steps)
        self.take_images = any(step.makes_tensors for step in self.steps)

    def batch(self, images: torch.Tensor, seed: int, epoch: int, rows: np.ndarray) -> torch.Tensor:
        """Transforms a batch.

        Args:
            images: shape (N, ...), on any device; it may be written to.
            seed: the run's seed.
            epoch: the pass over the dataset, from 0.
            rows: number in the dataset of each image's row, shape (N,).
        """
        for purpose, step in enumerate(self.steps):
            images = step.batch(images, step.drawn(seed, epoch, rows, purpose))
        return images

    def row(self, image: Any, seed: int, epoch: int, row: int) -> Any:
        """Transforms the value of one row, with the same random numbers as in a batch."""
        for purpose, step in enumerate(self.steps):
            image = step.row(image, step.drawn(seed, epoch, np.array([row]), purpose)[0])
        return image
