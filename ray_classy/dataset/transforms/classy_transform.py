"""The base class of transforms, their registry, and how a config is built into one callable."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal

from ray_classy.dataset.transforms.batched import BatchedTransform
from ray_classy.errors import ComponentError, ConfigError
from ray_classy.registry import Registry, construct, reads_signature

TRANSFORM_REGISTRY: Registry[ClassyTransform] = Registry(
    "transform",
    {
        "alternating_flip": "ray_classy.dataset.transforms.alternating_flip:AlternatingFlip",
        "apply_transform_to_key": "ray_classy.dataset.transforms.sample:ApplyTransformToKey",
        "batched_rand_augment": "ray_classy.dataset.transforms.batched_augment:BatchedRandAugment",
        "batched_random_resized_crop": "ray_classy.dataset.transforms.batched_augment:BatchedRandomResizedCrop",
        "batched_trivial_augment": "ray_classy.dataset.transforms.batched_augment:BatchedTrivialAugment",
        "clip_to_tensor": "ray_classy.dataset.transforms.clip_to_tensor:ClipToTensor",
        "dummy_audio_transform": "ray_classy.dataset.transforms.util_video:DummyAudioTransform",
        "generic_image_transform": "ray_classy.dataset.transforms.sample:GenericImageTransform",
        "imagenet_augment": "ray_classy.dataset.transforms.imagenet:ImagenetAugmentTransform",
        "imagenet_autoaugment": "ray_classy.dataset.transforms.autoaugment:ImagenetAutoAugment",
        "imagenet_no_augment": "ray_classy.dataset.transforms.imagenet:ImagenetNoAugmentTransform",
        "lighting": "ray_classy.dataset.transforms.lighting_transform:LightingTransform",
        "model_preprocessing": "ray_classy.dataset.transforms.model_preprocessing:ModelPreprocessing",
        "random_shift": "ray_classy.dataset.transforms.random_shift:RandomShift",
        "tuple_to_map": "ray_classy.dataset.transforms.sample:TupleToMapTransform",
        "video_clip_random_resize_crop": "ray_classy.dataset.transforms.util_video:VideoClipRandomResizeCrop",
        "video_clip_resize": "ray_classy.dataset.transforms.util_video:VideoClipResize",
        "video_default_augment": "ray_classy.dataset.transforms.util_video:VideoDefaultAugmentTransform",
        "video_default_no_augment": "ray_classy.dataset.transforms.util_video:VideoDefaultNoAugmentTransform",
    },
    fallback="ray_classy.dataset.transforms.torchvision_lookup:find",
    fallback_names="ray_classy.dataset.transforms.torchvision_lookup:names",
    reserves_fallback=True,
    any_base=True,
)

register_transform = TRANSFORM_REGISTRY.register


class ClassyTransform(ABC):
    """Maps an image, or a whole sample, to another.

    A class declares what the data loader may do with it. The declarations hold for subclasses too, as long as these do
    not override `__call__`. A class that declares nothing runs row by row, in one thread, in every epoch.

    Attributes:
        deterministic: whether the result depends on the argument alone, so that it may be cached in memory.
        draws: "torch" if it may run in several threads at once and draws only from torch's global CPU generator, with
            `torch.rand`, `randint`, `randn` and the other functions that `ThreadGenerator` lists; None if it draws
            otherwise, or nothing.
        batchable: whether it also accepts a batch, a tensor (N, ..., H, W) on any device, and gives each row the same
            bits as alone, so that it may run on the training device; it must be deterministic. A `BatchedTransform`
            class in place of True replaces the transform for batches.
    """

    deterministic: ClassVar[bool] = False
    draws: ClassVar[Literal["torch"] | None] = None
    batchable: ClassVar[bool | type[BatchedTransform]] = False

    @classmethod
    @reads_signature
    def from_config(cls, config: Mapping[str, Any]) -> Any:
        """Builds the transform; the keys of `config` are the constructor's arguments."""
        return construct(cls, config)

    @abstractmethod
    def __call__(self, image: Any) -> Any:
        """Transforms an image (or a sample)."""

    def parts(self) -> Sequence[Any] | None:
        """Returns the transforms that this one applies one after the other, doing nothing else; None if it does more.

        What it declares holds as far as all of them declare the same.
        """
        return None


TRANSFORM_REGISTRY.base = ClassyTransform


class Compose(ClassyTransform):
    """Applies transforms one after the other; without any, it returns its argument."""

    deterministic = True

    def __init__(self, transforms: Sequence[Callable[[Any], Any]]) -> None:
        self.transforms = list(transforms)

    def __call__(self, image: Any) -> Any:
        for transform in self.transforms:
            image = transform(image)
        return image

    def parts(self) -> Sequence[Any]:
        return self.transforms

    def __repr__(self) -> str:
        return f"Compose({self.transforms!r})"


def build_transform(transform_config: Mapping[str, Any]) -> Callable[[Any], Any]:
    """Builds one transform: `name` chooses it, the other keys are its arguments.

    A name that is not registered here means the class of that name in `torchvision.transforms.v2`, written as there
    (`RandomHorizontalFlip`) or in snake case (`random_horizontal_flip`).

    Raises:
        UnknownComponentError: no transform has that name.
        ComponentError: an argument is unknown or has an invalid value.
    """
    cls = TRANSFORM_REGISTRY.named_class(transform_config)
    arguments = {key: copy.deepcopy(value) for key, value in transform_config.items() if key != "name"}
    if cls.__module__.startswith(("ray_classy.", "torchvision.")):
        _check_counts(transform_config["name"], arguments)
    return cls.from_config(arguments)


_MOST = 1 << 16
"""The greatest integer that a transform of this package or torchvision takes: no side of an image is longer, and no
operation is applied more often."""


def _check_counts(name: str, arguments: Mapping[str, Any]) -> None:
    for key, value in arguments.items():
        items = value if isinstance(value, list | tuple) else [value]
        if key != "num_classes" and any(type(item) is int and abs(item) > _MOST for item in items):
            raise ComponentError(f"{key} of {name} is {value!r}, and must be at most {_MOST:,}")


def build_transforms(transforms_config: Sequence[Mapping[str, Any]]) -> Compose:
    """Builds the transforms of a list into one callable that applies them in order (and can be pickled).

    Raises:
        ConfigError: `transforms_config` is not a list.
    """
    if isinstance(transforms_config, (str, Mapping)) or not isinstance(transforms_config, Sequence):
        raise ConfigError(f"transforms must be a list of configs with a `name` each, not {transforms_config!r}")
    return Compose([build_transform(config) for config in transforms_config])
