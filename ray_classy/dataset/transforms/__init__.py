"""Transforms of samples between the dataset and the batch."""

from typing import TYPE_CHECKING

from ray_classy.lazy import lazy_exports

if TYPE_CHECKING:
    from ray_classy.dataset.transforms.autoaugment import ImagenetAutoAugment
    from ray_classy.dataset.transforms.classy_transform import (
        TRANSFORM_REGISTRY,
        ClassyTransform,
        build_transform,
        build_transforms,
        register_transform,
    )
    from ray_classy.dataset.transforms.clip_to_tensor import ClipToTensor
    from ray_classy.dataset.transforms.imagenet import ImagenetAugmentTransform, ImagenetNoAugmentTransform
    from ray_classy.dataset.transforms.lighting_transform import LightingTransform
    from ray_classy.dataset.transforms.sample import ApplyTransformToKey, GenericImageTransform, TupleToMapTransform

__all__ = [
    "TRANSFORM_REGISTRY",
    "ApplyTransformToKey",
    "ClassyTransform",
    "ClipToTensor",
    "GenericImageTransform",
    "ImagenetAugmentTransform",
    "ImagenetAutoAugment",
    "ImagenetNoAugmentTransform",
    "LightingTransform",
    "TupleToMapTransform",
    "build_transform",
    "build_transforms",
    "register_transform",
]

__getattr__ = lazy_exports(__name__)
