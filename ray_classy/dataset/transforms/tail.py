"""The end of a chain of image transforms, applied to whole batches on the device that trains.

Each step gives every row of a batch what its transform would give the row alone, to the last bit: the same arithmetic
in the same order, with draws that belong to the row (`row_uniforms`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from ray_classy.dataset.transforms.reused import empty
from ray_classy.seeding import row_uniforms


class Step:
    """One transform, for batches.

    Args:
        transform: the transform of torchvision that it stands for.

    Attributes:
        draws: random numbers that it takes per row.
    """

    draws = 0

    def __init__(self, transform: Any) -> None:
        self.transform = transform

    @property
    def name(self) -> str:
        """The transform's name, as a config writes it."""
        return type(self.transform).__name__

    def batch(self, images: torch.Tensor, drawn: np.ndarray) -> torch.Tensor:
        """The transformed batch.

        Args:
            images: shape (N, ..., H, W); it may be written to.
            drawn: shape (N, draws), in [0, 1).
        """
        raise NotImplementedError

    def row(self, image: Any, drawn: np.ndarray) -> Any:
        """The same for one row's value, whatever that is: what has no form in which it could be batched."""
        return self.transform(image)


class _AsItIs(Step):
    """A transform that leaves a batch of bytes as it is: what it does to an image was done when they were read."""

    def batch(self, images: torch.Tensor, drawn: np.ndarray) -> torch.Tensor:
        return images


class _ToTensor(Step):
    """Bytes as floats in [0, 1]."""

    def batch(self, images: torch.Tensor, drawn: np.ndarray) -> torch.Tensor:
        floats = _floats(images, torch.get_default_dtype())
        # A number instead of a tensor would be turned into a factor on a GPU, which rounds otherwise.
        return floats.div_(torch.full((), 255.0, dtype=floats.dtype, device=floats.device))


class _ToDtype(Step):
    def batch(self, images: torch.Tensor, drawn: np.ndarray) -> torch.Tensor:
        dtype = self.transform.dtype
        if images.dtype != torch.uint8 or dtype not in (torch.float32, torch.float64):
            return self.transform(images)
        floats = _floats(images, dtype)
        return floats.mul_(1.0 / 255) if getattr(self.transform, "scale", True) else floats


class _Normalize(Step):
    def __init__(self, transform: Any) -> None:
        super().__init__(transform)
        self._statistics: dict[Any, tuple[torch.Tensor, torch.Tensor]] = {}

    def batch(self, images: torch.Tensor, drawn: np.ndarray) -> torch.Tensor:
        channels = {1, images.shape[-3]} if images.ndim > 3 else set()
        sizes = {len(self.transform.mean), len(self.transform.std)}
        if not images.is_floating_point() or not sizes <= channels or not all(self.transform.std):
            return torch.stack([self.transform(image) for image in images])  # or it says what is wrong
        key = images.device, images.dtype
        if key not in self._statistics:  # they would be copied to the device, and waited for, at each step
            numbers = (self.transform.mean, self.transform.std)
            mean, std = (torch.tensor(n, dtype=images.dtype, device=images.device).view(-1, 1, 1) for n in numbers)
            self._statistics[key] = mean, std
        mean, std = self._statistics[key]
        return images.sub_(mean).div_(std)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_statistics": {}}


_CACHED_BYTES = 1 << 17
"""What a CPU flips at once. `torch.where` on bytes takes it several times as long as copies of the flipped rows."""


class _Flip(Step):
    draws = 1

    def __init__(self, transform: Any, dimension: int) -> None:
        super().__init__(transform)
        self.dimension = dimension

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


class _Erase(Step):
    """Random erasing with a given value; where ten tries gave no box that fits, nothing is erased."""

    draws = 1 + 10 * 2 + 2

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
            return torch.stack([self.transform(image) for image in images])  # or it says what is wrong
        for channel, value in enumerate(values):
            images.narrow(-3, channel, 1).masked_fill_(inside, _of_type(value, images))
        return images

    def _boxes(self, drawn: np.ndarray, height: int, width: int) -> np.ndarray:
        """Top, left, height and width of what is erased of each row, shape (4, N), int64; empty where nothing is."""
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
    """A value as torch stores it among the images, which have no halves if they are integers."""
    return value if images.is_floating_point() else int(value)


def _floats(images: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """The same numbers as floats, in memory of their own."""
    return images.to(dtype) if images.device.type != "cpu" else empty(images.shape, dtype).copy_(images)


def step_of(transform: Any, on_bytes: bool) -> Step | None:
    """The step that does what a transform does; None if there is none: only for torchvision's classes themselves.

    Args:
        transform: any transform of images.
        on_bytes: whether the batch at this point still stands for images as they were read, not for tensors.
    """
    kind = f"{type(transform).__module__}.{type(transform).__name__}"
    if not kind.startswith("torchvision.transforms.v2.") and kind != f"{_OURS}.ToTensor":
        return None
    name = type(transform).__name__
    if name in ("RandomHorizontalFlip", "RandomVerticalFlip"):
        return _Flip(transform, -1 if name == "RandomHorizontalFlip" else -2)
    if name == "Identity":
        return _AsItIs(transform)
    if on_bytes:
        if kind == f"{_OURS}.ToTensor":
            return _ToTensor(transform)
        return _AsItIs(transform) if name in ("ToImage", "PILToTensor") else None
    if name == "Normalize":
        return _Normalize(transform)
    if name == "ConvertImageDtype" or (name == "ToDtype" and isinstance(transform.dtype, torch.dtype)):
        return _ToDtype(transform)
    if name == "RandomErasing" and transform.value is not None:
        return _Erase(transform)
    return _AsItIs(transform) if name == "ToPureTensor" else None


_OURS = "ray_classy.dataset.transforms.torchvision_transforms"
CONVERTERS = ("ToTensor", "ToImage", "PILToTensor")
"""The transforms that make a tensor of an image."""


class Tail:
    """Steps one after the other.

    Args:
        steps: at least one.
    """

    def __init__(self, steps: Sequence[Step]) -> None:
        self.steps = list(steps)

    @property
    def of_images(self) -> bool:
        """Whether a batch must hold the bytes of images: one of the steps makes tensors of them."""
        return any(step.name in CONVERTERS for step in self.steps)

    def batch(self, images: torch.Tensor, seed: int, epoch: int, rows: np.ndarray) -> torch.Tensor:
        """The transformed batch.

        Args:
            images: shape (N, ...), on any device; it may be written to.
            seed: the run's seed.
            epoch: pass over the dataset.
            rows: whose images they are, shape (N,).
        """
        for purpose, step in enumerate(self.steps):
            images = step.batch(images, row_uniforms(seed, epoch, rows, purpose, step.draws))
        return images

    def row(self, image: Any, seed: int, epoch: int, row: int) -> Any:
        """The same for one row's value, whatever that is."""
        for purpose, step in enumerate(self.steps):
            image = step.row(image, row_uniforms(seed, epoch, np.array([row]), purpose, step.draws)[0])
        return image
