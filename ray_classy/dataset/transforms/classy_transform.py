"""The base of transforms, their registry, and how a config becomes one callable."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ray_classy.errors import ConfigError
from ray_classy.registry import Registry, constructor_arguments, reads_signature

TRANSFORM_REGISTRY: Registry[ClassyTransform] = Registry(
    "transform",
    {
        "apply_transform_to_key": "ray_classy.dataset.transforms.sample:ApplyTransformToKey",
        "clip_to_tensor": "ray_classy.dataset.transforms.clip_to_tensor:ClipToTensor",
        "generic_image_transform": "ray_classy.dataset.transforms.sample:GenericImageTransform",
        "imagenet_augment": "ray_classy.dataset.transforms.imagenet:ImagenetAugmentTransform",
        "imagenet_no_augment": "ray_classy.dataset.transforms.imagenet:ImagenetNoAugmentTransform",
        "lighting": "ray_classy.dataset.transforms.lighting_transform:LightingTransform",
        "tuple_to_map": "ray_classy.dataset.transforms.sample:TupleToMapTransform",
    },
    fallback="ray_classy.dataset.transforms.torchvision_lookup:find",
    fallback_names="ray_classy.dataset.transforms.torchvision_lookup:names",
)
register_transform = TRANSFORM_REGISTRY.register


class ClassyTransform(ABC):
    """Maps an image, or a whole sample, to another."""

    @classmethod
    @reads_signature
    def from_config(cls, config: Mapping[str, Any]) -> Any:
        """Builds the transform; the keys of `config` are the constructor's arguments."""
        return cls(**constructor_arguments(cls, config))

    @abstractmethod
    def __call__(self, image: Any) -> Any:
        """The transformed image (or sample)."""


TRANSFORM_REGISTRY.base = ClassyTransform


class Compose(ClassyTransform):
    """Applies transforms one after the other; none of them returns what it is given."""

    def __init__(self, transforms: Sequence[Callable[[Any], Any]]) -> None:
        self.transforms = list(transforms)

    def __call__(self, image: Any) -> Any:
        for transform in self.transforms:
            image = transform(image)
        return image

    def __repr__(self) -> str:
        return f"Compose({self.transforms!r})"


def build_transform(config: Mapping[str, Any]) -> Callable[[Any], Any]:
    """Builds one transform: `name` chooses it, the other keys are its arguments.

    A name that is not registered here means the class of that name in `torchvision.transforms.v2`, written as there
    (`RandomHorizontalFlip`) or in snake case (`random_horizontal_flip`).

    Raises:
        UnknownComponentError: no transform has that name.
        ComponentError: an argument is unknown or impossible.
    """
    cls = TRANSFORM_REGISTRY.named_class(config)
    arguments = {key: copy.deepcopy(value) for key, value in config.items() if key != "name"}
    return cls.from_config(arguments)


def build_transforms(configs: Sequence[Mapping[str, Any]]) -> Compose:
    """Builds the transforms of a list into one callable that applies them in order (and can be pickled).

    Raises:
        ConfigError: `configs` is no list.
    """
    if isinstance(configs, (str, Mapping)) or not isinstance(configs, Sequence):
        raise ConfigError(f"transforms must be a list of configs with a `name` each, not {configs!r}")
    return Compose([build_transform(config) for config in configs])
