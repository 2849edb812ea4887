"""The transforms of torchvision by name, for checks of configs, which import torchvision only to build one.

Importing torchvision takes seconds, and a mistake in a config is reported without it.
"""

from __future__ import annotations

import functools
import importlib.metadata
import re
from collections.abc import Mapping
from typing import Any, ClassVar

from ray_classy.dataset.transforms.torchvision_keys import KEYS, VERSION
from ray_classy.registry import Keys


class TorchvisionTransform:
    """Describes a torchvision class to the config; `from_config` returns an instance of that class itself."""

    keys: ClassVar[Keys]

    @classmethod
    def config_keys(cls) -> Keys:
        """Returns the constructor's keys, with types that a config can hold."""
        return cls.keys

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Any:
        """Builds the transform.

        Raises:
            ComponentError: torchvision refuses the arguments.
        """
        from ray_classy.dataset.transforms.torchvision_transforms import build

        return build(cls.__name__, config)


_OF_CLIPS = (
    "CenterCropVideo",
    "NormalizeVideo",
    "RandomCropVideo",
    "RandomHorizontalFlipVideo",
    "RandomResizedCropVideo",
    "ToTensorVideo",
)
"""The transforms of clips that torchvision had, which are in `video.py`."""


def find(name: str) -> type | None:
    """Finds a transform by its name in torchvision, or that in snake case; None if torchvision has none."""
    title = next((one for one in _OF_CLIPS if name in (one, _snake(one))), None)
    if title is not None:
        from ray_classy.dataset.transforms.video import CLASSES

        return CLASSES[title]
    if name != name.lower():
        return _classes().get(name)
    by_snake_case = {known.lower(): cls for known, cls in _classes().items()}
    return by_snake_case.get(name.replace("_", ""))


def names() -> list[str]:
    """Returns the names of all transforms, as in torchvision."""
    return sorted([*_classes(), *_OF_CLIPS])


def _snake(name: str) -> str:
    return re.sub("(?<!^)([A-Z])", r"_\1", name).lower()


@functools.cache
def _classes() -> dict[str, type]:
    return {name: type(name, (TorchvisionTransform,), {"keys": keys}) for name, keys in _keys().items()}


def is_known() -> bool:
    """Whether the transforms of the installed torchvision are known without importing it."""
    return ".".join(importlib.metadata.version("torchvision").split(".")[:2]) == VERSION


def _keys() -> dict[str, Keys]:
    if is_known():
        return KEYS
    from ray_classy.dataset.transforms.torchvision_transforms import classes, keys_of

    return {name: keys_of(cls) for name, cls in classes().items()}
