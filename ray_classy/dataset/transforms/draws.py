"""Whether a transform draws at random."""

from __future__ import annotations

from typing import Any

from ray_classy.dataset.transforms.classy_transform import Compose
from ray_classy.dataset.transforms.imagenet import ImagenetNoAugmentTransform
from ray_classy.dataset.transforms.sample import ApplyTransformToKey, GenericImageTransform, TupleToMapTransform

_TORCHVISION = {
    "CenterCrop",
    "ConvertImageDtype",
    "FiveCrop",
    "Grayscale",
    "Identity",
    "Normalize",
    "PILToTensor",
    "Pad",
    "RGB",
    "Resize",
    "TenCrop",
    "ToDtype",
    "ToImage",
    "ToPureTensor",
    "ToTensor",
}
_WRAPPERS = (ApplyTransformToKey, GenericImageTransform, ImagenetNoAugmentTransform)


def draws(transform: Any) -> bool:
    """False if a transform surely gives the same result every time; True also where that is not known."""
    if transform is None or type(transform) is TupleToMapTransform:
        return False
    if type(transform) in _WRAPPERS:
        return draws(transform.transform)
    cls = type(transform)
    ours = cls.__module__ == "ray_classy.dataset.transforms.torchvision_transforms"
    theirs = cls.__module__.startswith("torchvision.transforms.")
    if cls is Compose or (theirs and cls.__name__ == "Compose"):
        return any(draws(part) for part in transform.transforms)
    return not ((ours or theirs) and cls.__name__ in _TORCHVISION)
