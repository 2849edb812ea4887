"""The usual transforms of ImageNet images, for training and for testing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ray_classy.dataset.transforms.classy_transform import ClassyTransform, register_transform


class ImagenetConstants:
    """Channel means and standard deviations of ImageNet (RGB in [0, 1]) and the usual sizes in pixels."""

    MEAN = [0.485, 0.456, 0.406]
    STD = [0.229, 0.224, 0.225]
    CROP_SIZE = 224
    RESIZE = 256


@register_transform("imagenet_augment")
class ImagenetAugmentTransform(ClassyTransform):
    """Crops, resizes and flips a PIL image at random and normalises it to a float tensor (3, crop_size, crop_size).

    Args:
        crop_size: side of the crop in pixels.
        mean: subtracted from each channel in [0, 1].
        std: divides each channel afterwards.
    """

    deterministic = True

    def __init__(
        self,
        crop_size: int = ImagenetConstants.CROP_SIZE,
        mean: list[float] = ImagenetConstants.MEAN,
        std: list[float] = ImagenetConstants.STD,
    ) -> None:
        from torchvision.transforms import v2

        from ray_classy.dataset.transforms.random_resized_crop import RandomResizedCrop
        from ray_classy.dataset.transforms.torchvision_transforms import ToTensor

        self.transform = v2.Compose(
            [RandomResizedCrop(crop_size), v2.RandomHorizontalFlip(), ToTensor(), v2.Normalize(mean=mean, std=std)]
        )

    def __call__(self, image: Any) -> Any:
        return self.transform(image)

    def parts(self) -> Sequence[Any]:
        return [self.transform]


@register_transform("imagenet_no_augment")
class ImagenetNoAugmentTransform(ClassyTransform):
    """Resizes a PIL image, crops its centre and normalises it to a float tensor (3, crop_size, crop_size).

    Args:
        resize: the shorter side in pixels before the crop.
        crop_size: side of the crop in pixels.
        mean: subtracted from each channel in [0, 1].
        std: divides each channel afterwards.
    """

    deterministic = True

    def __init__(
        self,
        resize: int = ImagenetConstants.RESIZE,
        crop_size: int = ImagenetConstants.CROP_SIZE,
        mean: list[float] = ImagenetConstants.MEAN,
        std: list[float] = ImagenetConstants.STD,
    ) -> None:
        from torchvision.transforms import v2

        from ray_classy.dataset.transforms.torchvision_transforms import ToTensor

        self.transform = v2.Compose(
            [v2.Resize(resize), v2.CenterCrop(crop_size), ToTensor(), v2.Normalize(mean=mean, std=std)]
        )

    def __call__(self, image: Any) -> Any:
        return self.transform(image)

    def parts(self) -> Sequence[Any]:
        return [self.transform]
