"""Images of random noise that are the same in every epoch."""

from __future__ import annotations

import enum
from typing import Any

import numpy as np
import torch.utils.data
from PIL import Image

from ray_classy.errors import ComponentError


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
_LARGEST_SIDE = 10_000


def _check(crop_size: int, num_samples: int, seed: int) -> None:
    if not 1 <= crop_size <= _LARGEST_SIDE or not 1 <= num_samples <= _MOST_SAMPLES or seed < 0:
        raise ComponentError(
            f"random images need a crop_size of 1 to {_LARGEST_SIDE:,}, num_samples of 1 to {_MOST_SAMPLES:,} and a "
            f"seed of at least 0, not {crop_size!r}, {num_samples!r} and {seed!r}"
        )


class RandomImageBinaryClassDataset(torch.utils.data.Dataset):
    """PIL images of two classes that a model can tell apart fully: noise in the red or in the green channel.

    The blue channel is noise in both. Each image is a function of (seed, index) alone, so a smaller dataset of the same
    seed equals a part of a larger one.

    Args:
        crop_size: side of the images in pixels.
        class_ratio: share of class 1 (green), in [0, 1].
        num_samples: number of images.
        seed: at least 0.
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
        if not 0 <= class_ratio <= 1:
            raise ComponentError(f"class_ratio must lie in [0, 1], not {class_ratio!r}")
        self.crop_size = crop_size
        self.class_ratio = class_ratio
        self.num_samples = num_samples
        self.seed = seed
        self.sample_type = sample_type
        self.targets = (np.random.default_rng(seed).random(num_samples) < class_ratio).astype(np.int64)

    def __len__(self) -> int:
        return self.num_samples

    def __getitem__(self, index: int) -> Any:
        if not 0 <= index < self.num_samples:
            raise IndexError(f"image {index} of {self.num_samples}")
        target = int(self.targets[index])
        pixels = np.zeros((self.crop_size, self.crop_size, 3), dtype=np.uint8)
        generator = np.random.default_rng([self.seed, index])
        pixels[:, :, [target, 2]] = generator.integers(0, 256, (self.crop_size, self.crop_size, 2), np.uint8)
        return _sample(self.sample_type, Image.fromarray(pixels), target, index)


class RandomImageDataset(torch.utils.data.Dataset):
    """Float tensors of noise (num_channels, crop_size, crop_size) from N(0, 1), with random targets.

    Args:
        crop_size: side of the images in pixels.
        num_channels: number of channels.
        num_classes: targets are drawn evenly from [0, num_classes).
        num_samples: number of images.
        seed: at least 0; each image is a function of (seed, index) alone.
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
        if num_channels < 1 or num_classes < 1:
            raise ComponentError(
                f"num_channels and num_classes must be at least 1, not {num_channels!r} and {num_classes!r}"
            )
        self.crop_size = crop_size
        self.num_channels = num_channels
        self.num_classes = num_classes
        self.num_samples = num_samples
        self.seed = seed
        self.sample_type = sample_type

    def __len__(self) -> int:
        return self.num_samples

    def __getitem__(self, index: int) -> Any:
        if not 0 <= index < self.num_samples:
            raise IndexError(f"image {index} of {self.num_samples}")
        generator = np.random.default_rng([self.seed, index])
        target = int(generator.integers(self.num_classes))
        image = generator.standard_normal((self.num_channels, self.crop_size, self.crop_size), np.float32)
        return _sample(self.sample_type, torch.from_numpy(image), target, index)
