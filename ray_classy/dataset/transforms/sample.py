"""Transforms of whole samples: name their items, or transform one of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from ray_classy.dataset.transforms.classy_transform import ClassyTransform, build_transforms, register_transform
from ray_classy.dataset.transforms.imagenet import ImagenetAugmentTransform, ImagenetNoAugmentTransform
from ray_classy.errors import ArgumentNameError, ComponentError, DataError
from ray_classy.registry import Key, Keys


@register_transform("apply_transform_to_key")
class ApplyTransformToKey(ClassyTransform):
    """Applies a transform to one entry of a sample and leaves the others; a sample of None stays None.

    The sample is a dict, a list or a tuple; dicts and lists are changed in place, as in Classy Vision. In a config,
    `transforms` is a list of transform configs.

    Args:
        transform: applied to the entry.
        key: the entry's name in a dict, or its position in a list or tuple.

    Raises:
        DataError: (when called) the sample has no such entry.
    """

    deterministic = True

    def __init__(self, transform: Callable[[Any], Any], key: str | int = "input") -> None:
        self.transform = transform
        self.key = key

    @classmethod
    def config_keys(cls) -> Keys:
        """Returns the keys, with a list of transforms in place of the constructor's argument."""
        return {
            "transforms": Key(list[ClassyTransform], doc="applied one after the other."),
            "key": Key(str | int, "input"),
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> ApplyTransformToKey:
        """Builds the transform from `transforms` and `key`."""
        if "transforms" not in config:
            raise ArgumentNameError("the config of 'apply_transform_to_key' has no `transforms`, which it requires")
        return cls(build_transforms(config["transforms"]), config.get("key", "input"))

    def __call__(self, sample: Any) -> Any:
        if sample is None:
            return None
        try:
            value = sample[self.key]
        except (KeyError, IndexError, TypeError) as error:
            has = f"keys {list(sample)}" if isinstance(sample, Mapping) else f"a {type(sample).__name__}"
            raise DataError(f"apply_transform_to_key: the sample has no entry {self.key!r} (it is {has})") from error
        transformed = self.transform(value)
        if isinstance(sample, tuple):
            position = range(len(sample))[self.key]  # type: ignore[index]
            return (*sample[:position], transformed, *sample[position + 1 :])
        sample[self.key] = transformed
        return sample

    def parts(self) -> Sequence[Any]:
        return [self.transform]

    def with_transform(self, transform: Callable[[Any], Any] | None) -> ApplyTransformToKey | None:
        """Returns the same with another transform; None if nothing is left to apply."""
        return None if transform is None else ApplyTransformToKey(transform, self.key)

    def __repr__(self) -> str:
        return f"ApplyTransformToKey({self.transform!r}, key={self.key!r})"


@register_transform("tuple_to_map")
class TupleToMapTransform(ClassyTransform):
    """Names the items of a tuple: `(image, 3)` becomes `{"input": image, "target": 3}`; such maps are left unchanged.

    Args:
        list_of_map_keys: one name per item; items of the same name are collected in a list.

    Raises:
        DataError: (when called) the sample has a different number of items, or is a map without those keys.
    """

    deterministic = True

    def __init__(self, list_of_map_keys: list[str]) -> None:
        if not isinstance(list_of_map_keys, list | tuple):
            raise ComponentError(f"list_of_map_keys must be a list of names, not {list_of_map_keys!r}")
        self.list_of_map_keys = list(list_of_map_keys)

    def __call__(self, sample: Any) -> Any:
        keys = self.list_of_map_keys
        if isinstance(sample, Mapping):
            missing = [key for key in keys if key not in sample]
            if missing:
                raise DataError(f"tuple_to_map: the sample has keys {list(sample)}, but not {missing}")
            return sample
        if not isinstance(sample, Sequence):
            raise DataError(f"tuple_to_map: the sample is a {type(sample).__name__}, not a tuple of items")
        if len(sample) != len(keys):
            raise DataError(f"tuple_to_map: the sample has {len(sample)} items, list_of_map_keys names {len(keys)}")
        collected: dict[str, list[Any]] = {key: [] for key in keys}
        for key, item in zip(keys, sample, strict=True):
            collected[key].append(item)
        return {key: items[0] if len(items) == 1 else items for key, items in collected.items()}


@register_transform("generic_image_transform")
class GenericImageTransform(ClassyTransform):
    """Transforms the image of a sample and returns a dict with `input` and `target`.

    A tuple `(image, target, ...)` becomes `{"input", "target", "2", ...}`; of a map, `input` is transformed. In a
    config, `transforms` is a list of transform configs.

    Args:
        transform: applied to the image; None leaves it unchanged.
        split: "train" for `imagenet_augment` or "test" for `imagenet_no_augment`, in place of `transform`.

    Raises:
        ComponentError: both are given, or `split` is neither "train" nor "test".
    """

    deterministic = True
    key = "input"

    def __init__(
        self, transform: Callable[[Any], Any] | None = None, split: Literal["train", "test"] | None = None
    ) -> None:
        if transform is not None and split is not None:
            raise ComponentError("generic_image_transform takes `transforms` or `split`, not both")
        if split not in (None, "train", "test"):
            raise ComponentError(f"generic_image_transform: split must be 'train' or 'test', not {split!r}")
        if split is not None:
            transform = ImagenetAugmentTransform() if split == "train" else ImagenetNoAugmentTransform()
        self.transform = transform

    @classmethod
    def config_keys(cls) -> Keys:
        """Returns the keys, with a list of transforms in place of the constructor's argument."""
        return {
            "transforms": Key(list[ClassyTransform] | None, None, "applied to the image, one after the other."),
            "split": Key(Literal["train", "test"] | None, None),
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> GenericImageTransform:
        """Builds the transform from `transforms` or `split`."""
        transforms = config.get("transforms")
        return cls(None if transforms is None else build_transforms(transforms), config.get("split"))

    def __call__(self, sample: Any) -> dict[str, Any]:
        if isinstance(sample, Mapping):
            if "input" not in sample:
                raise DataError(f"generic_image_transform: the sample has no `input`, only {list(sample)}")
            named = dict(sample)
        else:
            names = ["input", "target", *(str(i) for i in range(2, len(sample)))]
            named = dict(zip(names, sample, strict=False))
        if self.transform is not None:
            named["input"] = self.transform(named["input"])
        return named

    def parts(self) -> Sequence[Any]:
        return [] if self.transform is None else [self.transform]

    def with_transform(self, transform: Callable[[Any], Any] | None) -> GenericImageTransform:
        """Returns the same with another transform, or with none."""
        return GenericImageTransform(transform)
