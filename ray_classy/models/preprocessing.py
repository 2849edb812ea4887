"""The preprocessing of images that a network was trained with, as a list of transforms."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """How images become the input of a network; the defaults are the usual ones of ImageNet.

    Attributes:
        size: height and width of the input in pixels.
        resize: the shorter side in pixels of an image in testing, of which the centre is cropped.
        interpolation: "bilinear", "bicubic", or another that torchvision's `Resize` takes.
        mean: subtracted from each channel in [0, 1].
        std: divides each channel afterwards.
        squash: resize an image in testing to a square, whatever its shape.
    """

    size: tuple[int, int] = (224, 224)
    resize: int = 256
    interpolation: str = "bilinear"
    mean: Sequence[float] = _MEAN
    std: Sequence[float] = _STD
    squash: bool = False

    def of_size(self, size: int) -> Preprocessing:
        """Returns the same for inputs of another height and width; the part of an image that is cropped stays."""
        resize = round(self.resize * size / min(self.size))
        return dataclasses.replace(self, size=(size, size), resize=resize)

    def transforms(self, train: bool) -> list[dict[str, Any]]:
        """Returns the configs of the transforms of a PIL image.

        Args:
            train: crop, resize and flip at random (Szegedy et al. 2015, arXiv:1409.4842); otherwise resize and crop the
                centre.
        """
        height, width = self.size
        size: Any = height if height == width else [height, width]
        how = {"interpolation": self.interpolation}
        if train:
            first = [
                {"name": "RandomResizedCrop", "size": size, **how},
                {"name": "RandomHorizontalFlip"},
            ]
        else:
            resize = [self.resize, self.resize] if self.squash else self.resize
            first = [{"name": "Resize", "size": resize, **how}, {"name": "CenterCrop", "size": size}]
        normalize = {"name": "Normalize", "mean": list(self.mean), "std": list(self.std)}
        return [*first, {"name": "ToTensor"}, normalize]
