"""Builds the transforms of torchvision from arguments as a config file can write them."""

from __future__ import annotations

import enum
import functools
import inspect
import numbers
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import PIL.Image
import torch
from torchvision.transforms import functional, v2

from ray_classy.dataset.transforms import batched
from ray_classy.dataset.transforms.classy_transform import ClassyTransform, build_transform
from ray_classy.dataset.transforms.random_resized_crop import RandomResizedCrop
from ray_classy.errors import ArgumentTypeError, ComponentError
from ray_classy.registry import Key, Keys, nearest, signature_keys

# Where torchvision takes more than its annotation says.
_WIDER: dict[tuple[str, str], Any] = {("RandomErasing", "value"): float | Literal["random"] | list[float]}


class ToTensor(v2.Transform):
    """Converts a PIL image or uint8 array (H, W, C) to a float tensor (C, H, W) in [0, 1], like torchvision's v1."""

    deterministic = True
    batchable = batched.ToTensor

    _transformed_types = (PIL.Image.Image, np.ndarray)

    def transform(self, inpt: Any, params: dict[str, Any]) -> torch.Tensor:
        return functional.to_tensor(inpt)


@functools.cache
def classes() -> dict[str, type]:
    """Returns the transforms by their names in torchvision."""
    found = {
        name: cls
        for name, cls in vars(v2).items()
        if inspect.isclass(cls) and issubclass(cls, v2.Transform) and cls is not v2.Transform
    }
    found["ToTensor"] = ToTensor  # v2's own warns of its deprecation at every construction
    found["RandomResizedCrop"] = RandomResizedCrop
    return found


def keys_of(cls: type) -> Keys:
    """Returns the keys of the constructor, with types that a config can hold."""
    return {
        name: Key(_WIDER.get((cls.__name__, name), _writable(key.annotation)), key.default)
        for name, key in signature_keys(cls).items()
    }


def build(name: str, config: Mapping[str, Any]) -> Any:
    """Builds the transform of that name from its arguments.

    Raises:
        ComponentError: torchvision refuses the arguments.
    """
    cls = classes()[name]
    keys = signature_keys(cls)
    for argument in config:
        if argument not in keys:
            near = nearest(argument, list(keys))
            hint = f"did you mean {near}?" if near else f"it has {', '.join(keys) or 'none'}"
            raise ArgumentTypeError(f"transform {name} has no argument {argument!r}: {hint}")
    arguments = {argument: _converted(keys[argument].annotation, value) for argument, value in config.items()}
    try:
        return cls(**arguments)
    except (TypeError, ValueError, NotImplementedError, RuntimeError) as error:
        kind = ArgumentTypeError if isinstance(error, TypeError) else ComponentError
        raise kind(f"cannot build transform {name} from {dict(config)!r}: {error}") from error


def _parts(annotation: Any) -> tuple[Any, ...]:
    """Returns the members of a union; of any other annotation, itself."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return typing.get_args(annotation)
    return (annotation,)


def _is_enum(annotation: Any) -> bool:
    return inspect.isclass(annotation) and issubclass(annotation, enum.Enum)


def _is_transform_list(annotation: Any) -> bool:
    arguments = typing.get_args(annotation)
    return (
        typing.get_origin(annotation) is Sequence
        and len(arguments) == 1
        and (arguments[0] is Callable or typing.get_origin(arguments[0]) is Callable)
    )


def _writable(annotation: Any) -> Any:
    """Converts a type to one that a config can hold: without tensors, dtypes, enums, functions or modules."""
    parts = _parts(annotation)
    enums = [part for part in parts if _is_enum(part)]
    members: list[Any] = []
    for part in parts:
        if part is torch.dtype:
            members.append(str)
        elif _is_transform_list(part):
            members.append(list[ClassyTransform])
        elif _is_enum(part):
            members.append(Literal[tuple(member.value for member in part)])
        elif part is numbers.Number:
            members.append(float)
        elif part is torch.Tensor:
            members.append(list)
        elif part is str and enums:
            pass  # the enum's own values say it more precisely
        elif typing.get_origin(part) not in (dict, Callable) and part is not torch.nn.ModuleList:
            members.append(part)
    return functools.reduce(lambda one, other: one | other, members) if members else Any


def _converted(annotation: Any, value: Any) -> Any:
    """Converts a value of a config to the type that torchvision expects."""
    for part in _parts(annotation):
        if part is torch.dtype and isinstance(value, str):
            return _dtype(value)
        if part is torch.Tensor and isinstance(value, (list, tuple)):
            return torch.tensor(value)
        if _is_enum(part) and isinstance(value, str):
            return _member(part, value)
        if _is_transform_list(part) and isinstance(value, (list, tuple)):
            return [build_transform(entry) if isinstance(entry, Mapping) else entry for entry in value]
    return value


def _dtype(name: str) -> torch.dtype:
    found = getattr(torch, name.removeprefix("torch."), None)
    if not isinstance(found, torch.dtype):
        raise ComponentError(f"{name!r} is not a dtype of torch: write for example 'float32' or 'uint8'")
    return found


def _member(kind: type[enum.Enum], name: str) -> enum.Enum:
    for member in kind:
        if name.lower() in (str(member.value).lower(), member.name.lower()):
            return member
    raise ComponentError(f"{name!r} is not a {kind.__name__}: expected one of {[member.value for member in kind]}")
