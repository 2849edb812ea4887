"""AutoAugment's policy for ImageNet."""

from __future__ import annotations

import torch
from PIL import Image

from ray_classy.dataset.transforms.classy_transform import ClassyTransform, register_transform
from ray_classy.errors import ComponentError, DataError

MIDDLE_GRAY = (128, 128, 128)


@register_transform("imagenet_autoaugment")
class ImagenetAutoAugment(ClassyTransform):
    """Applies one of the 24 different pairs of operations that AutoAugment found for ImageNet, drawn for each image.

    Each operation has a probability and a magnitude (Cubuk et al., AutoAugment: Learning Augmentation Policies from
    Data, 2019, arXiv:1805.09501, table 9). Colour, contrast, sharpness and shear are in- or decreased, with equal
    chances. The image is an RGB PIL image, and so is the result.

    Args:
        fillcolor: the colour (red, green, blue) of the pixels that shear and rotation leave empty.

    Raises:
        ComponentError: `fillcolor` is not a colour.
        DataError: (when called) the image is not a PIL image.
    """

    draws = "torch"

    def __init__(self, fillcolor: tuple[int, int, int] = MIDDLE_GRAY) -> None:
        if len(fillcolor) != 3 or not all(type(value) is int and 0 <= value <= 255 for value in fillcolor):
            raise ComponentError(f"imagenet_autoaugment: fillcolor must be 3 integers in [0, 255], not {fillcolor!r}")
        self.fillcolor = tuple(fillcolor)
        self.policies = _POLICIES

    def __call__(self, image: Image.Image) -> Image.Image:
        if not isinstance(image, Image.Image):
            raise DataError(
                f"imagenet_autoaugment needs a PIL image, not {type(image).__name__}: put it before ToTensor in "
                f"`transforms`"
            )
        image = image.convert("RGB")
        for operation, probability, magnitude in self.policies[int(torch.randint(len(self.policies), ()))]:
            if float(torch.rand(())) < probability:
                image = self._applied(image, operation, magnitude)
        return image

    def _applied(self, image: Image.Image, operation: str, magnitude: float) -> Image.Image:
        """Applies one operation, whose sign is drawn where it has one."""
        from torchvision.transforms.v2 import functional

        if operation in ("color", "contrast", "sharpness", "shear_x") and int(torch.randint(2, ())):
            magnitude = -magnitude
        if operation == "shear_x":
            shear = (1, magnitude, 0, 0, 1, 0)
            transform, resample = Image.Transform.AFFINE, Image.Resampling.BICUBIC
            return image.transform(image.size, transform, shear, resample, fillcolor=self.fillcolor)
        if operation == "rotate":
            return functional.rotate(image, magnitude, fill=list(self.fillcolor))
        if operation == "posterize":
            return functional.posterize(image, int(magnitude))
        if operation == "solarize":
            return functional.solarize(image, magnitude)
        if operation == "color":
            return functional.adjust_saturation(image, 1 + magnitude)
        if operation == "contrast":
            return functional.adjust_contrast(image, 1 + magnitude)
        if operation == "sharpness":
            return functional.adjust_sharpness(image, 1 + magnitude)
        return {
            "autocontrast": functional.autocontrast,
            "equalize": functional.equalize,
            "invert": functional.invert,
        }[operation](image)

    def __repr__(self) -> str:
        return f"ImagenetAutoAugment(fillcolor={self.fillcolor})"


# The paper's magnitudes 0 to 9 lie evenly in a range: rotation in [0, 30] degrees, bits of posterize in [8, 4], the
# threshold of solarize in [256, 0], shear in [0, 0.3], the others in [0, 0.9]. Its last pair repeats the third.
_POLICIES: tuple[tuple[tuple[str, float, float], tuple[str, float, float]], ...] = (
    (("posterize", 0.4, 4), ("rotate", 0.6, 30)),
    (("solarize", 0.6, 1024 / 9), ("autocontrast", 0.6, 0)),
    (("equalize", 0.8, 0), ("equalize", 0.6, 0)),
    (("posterize", 0.6, 5), ("posterize", 0.6, 5)),
    (("equalize", 0.4, 0), ("solarize", 0.2, 1280 / 9)),
    (("equalize", 0.4, 0), ("rotate", 0.8, 80 / 3)),
    (("solarize", 0.6, 1536 / 9), ("equalize", 0.6, 0)),
    (("posterize", 0.8, 6), ("equalize", 1.0, 0)),
    (("rotate", 0.2, 10), ("solarize", 0.6, 256 / 9)),
    (("equalize", 0.6, 0), ("posterize", 0.4, 5)),
    (("rotate", 0.8, 80 / 3), ("color", 0.4, 0)),
    (("rotate", 0.4, 30), ("equalize", 0.6, 0)),
    (("equalize", 0.0, 0), ("equalize", 0.8, 0)),
    (("invert", 0.6, 0), ("equalize", 1.0, 0)),
    (("color", 0.6, 0.4), ("contrast", 1.0, 0.8)),
    (("rotate", 0.8, 80 / 3), ("color", 1.0, 0.2)),
    (("color", 0.8, 0.8), ("solarize", 0.8, 512 / 9)),
    (("sharpness", 0.4, 0.7), ("invert", 0.6, 0)),
    (("shear_x", 0.6, 1 / 6), ("equalize", 1.0, 0)),
    (("color", 0.4, 0), ("equalize", 0.6, 0)),
    (("equalize", 0.4, 0), ("solarize", 0.2, 1280 / 9)),
    (("solarize", 0.6, 1024 / 9), ("autocontrast", 0.6, 0)),
    (("invert", 0.6, 0), ("equalize", 1.0, 0)),
    (("color", 0.6, 0.4), ("contrast", 1.0, 0.8)),
)
