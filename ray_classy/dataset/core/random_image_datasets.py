"""Images of random noise that are the same in every epoch."""

from __future__ import annotations

import enum
import functools
from typing import Any

import numpy as np
import torch.utils.data
from PIL import Image

from ray_classy.errors import ComponentError, RowNumberError


class SampleType(enum.Enum):
    """The form of a sample: `{"input", "target", "id"}`, `(input, target)` or `[input, target]`."""

    DICT = "dict"
    TUPLE = "tuple"
    LIST = "list"


def _sample(kind: SampleType, image: Any, target: int, index: int) -> Any:
    if kind is SampleType.DICT:
        return {"input": image, "target": target, "id": index}
    return (image, target) if kind is SampleType.TUPLE else [image, target]


_MOST_SAMPLES = 10_000_000
_LARGEST_SEED = 2**32 - 1 - _MOST_SAMPLES
_LARGEST_SIDE = 10_000


def _check(crop_size: Any, num_samples: Any, seed: Any) -> None:
    for name, value, least, most in (
        ("crop_size", crop_size, 1, _LARGEST_SIDE),
        ("num_samples", num_samples, 1, _MOST_SAMPLES),
        ("seed", seed, 0, _LARGEST_SEED),
    ):
        if not isinstance(value, int) or not least <= value <= most:
            raise ComponentError(f"{name} of random images must be an integer of {least} to {most:,}, not {value!r}")


def _check_number(index: int, num_samples: int) -> None:
    if not 0 <= index < num_samples:
        raise RowNumberError(f"image {index} of {num_samples}")


class RandomImageBinaryClassDataset(torch.utils.data.Dataset):
    """PIL images of two classes that a model can tell apart fully: noise in the red or in the green channel.

    The blue channel is noise in both. Each image is a function of seed + index alone, as in Classy Vision, so a smaller
    dataset of the same seed equals a part of a larger one.

    Args:
        crop_size: side of the images in pixels.
        class_ratio: share of class 1 (green), in [0, 1].
        num_samples: number of images.
        seed: 0 to 2**32 - 10,000,001.
        sample_type: the form of a sample.

    Raises:
        ComponentError: an argument has an invalid value.
    """

    def __init__(
        self,
        crop_size: int,
        class_ratio: float,
        num_samples: int,
        seed: int,
        sample_type: SampleType = SampleType.DICT,
    ) -> None:
        _check(crop_size, num_samples, seed)
        if not isinstance(class_ratio, int | float) or not 0 <= class_ratio <= 1:
            raise ComponentError(f"class_ratio must lie in [0, 1], not {class_ratio!r}")
        self.crop_size = crop_size
        self.class_ratio = class_ratio
        self.num_samples = num_samples
        self.seed = seed
        self.sample_type = sample_type

    @functools.cached_property
    def targets(self) -> np.ndarray:
        """The targets of all images, shape (num_samples,), int64; it takes 10 microseconds per image."""
        state, targets = np.random.RandomState(0), np.zeros(self.num_samples, dtype=np.int64)
        for index in range(self.num_samples):
            state.seed(self.seed + index)
            targets[index] = state.random_sample() < self.class_ratio
        return targets

    def __len__(self) -> int:
        return self.num_samples

    def __getitem__(self, index: int) -> Any:
        _check_number(index, self.num_samples)
        state, side = np.random.RandomState(self.seed + index), self.crop_size
        target = int(state.random_sample() < self.class_ratio)
        pixels = np.zeros((side, side, 3), dtype=np.uint8)
        for channel in (target, 2):
            pixels[:, :, channel] = state.random_sample((side, side)) * 255
        return _sample(self.sample_type, Image.fromarray(pixels), target, index)


class RandomImageDataset(torch.utils.data.Dataset):
    """PIL images of noise in all channels, with random targets.

    Args:
        crop_size: side of the images in pixels.
        num_channels: 1 (grey), 3 (RGB) or 4 (RGBA).
        num_classes: targets are drawn evenly from [0, num_classes).
        num_samples: number of images.
        seed: 0 to 2**32 - 10,000,001; each image is a function of seed + index alone, as in Classy Vision.
        sample_type: the form of a sample.

    Raises:
        ComponentError: an argument has an invalid value.
    """

    def __init__(
        self,
        crop_size: int,
        num_channels: int,
        num_classes: int,
        num_samples: int,
        seed: int,
        sample_type: SampleType = SampleType.DICT,
    ) -> None:
        _check(crop_size, num_samples, seed)
        if num_channels not in (1, 3, 4):
            raise ComponentError(f"num_channels must be 1, 3 or 4, not {num_channels!r}")
        if num_classes < 1:
            raise ComponentError(f"num_classes must be at least 1, not {num_classes!r}")
        self.crop_size = crop_size
        self.num_channels = num_channels
        self.num_classes = num_classes
        self.num_samples = num_samples
        self.seed = seed
        self.sample_type = sample_type

    def __len__(self) -> int:
        return self.num_samples

    def __getitem__(self, index: int) -> Any:
        _check_number(index, self.num_samples)
        state = np.random.RandomState(self.seed + index)
        noise = state.standard_normal((self.crop_size, self.crop_size, self.num_channels)) * 255
        pixels = noise.astype(np.int64).astype(
            np.uint8
        )  # modulo 256; numbers below 0 have no defined uint8 of their own
        target = int(state.randint(self.num_classes))
        image = Image.fromarray(pixels[:, :, 0] if self.num_channels == 1 else pixels)
        return _sample(self.sample_type, image, target, index)
