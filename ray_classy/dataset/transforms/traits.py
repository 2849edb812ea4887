"""What the data loader may do with a transform: cache its results, run it in threads, apply it to whole batches.

A class declares it in its attributes `deterministic`, `draws` and `batchable` (see `ClassyTransform`), torchvision's
classes in the table below. Of a class that declares nothing, nothing is assumed: it runs row by row, in one thread, in
every epoch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

from ray_classy.dataset.transforms import batched
from ray_classy.dataset.transforms.batched import BatchedTransform

_BEHAVIOUR = frozenset({"__call__", "forward", "transform", "make_params"})
"""Methods that decide what a transform does; a class that overrides one must declare again what it is."""


class Traits(NamedTuple):
    """The declarations of one transform.

    Attributes:
        deterministic: see `ClassyTransform`.
        draws: see `ClassyTransform`.
        batchable: see `ClassyTransform`.
        parts: returns the transforms that it is made of. It counts as deterministic or thread-safe only if all of them
            are, and a deterministic one applies them one after the other and does nothing else.
        takes_tensors: whether a decoded uint8 tensor serves it as well as a PIL image.
    """

    deterministic: bool = False
    draws: Literal["torch"] | None = None
    batchable: bool | type[BatchedTransform] = False
    parts: Callable[[Any], Sequence[Any] | None] | None = None
    takes_tensors: bool = False


def _members(container: Any) -> Sequence[Any]:
    return container.transforms


_FIXED = Traits(deterministic=True)
_RANDOM = Traits(draws="torch")

TORCHVISION: dict[str, Traits] = {
    "AutoAugment": _RANDOM,
    "CenterCrop": _FIXED,
    "ColorJitter": _RANDOM,
    "Compose": Traits(deterministic=True, parts=_members),
    "ConvertImageDtype": Traits(deterministic=True, batchable=batched.ToDtype),
    "FiveCrop": _FIXED,
    "GaussianBlur": _RANDOM,
    "Grayscale": _FIXED,
    "Identity": Traits(deterministic=True, batchable=batched.Identity),
    "Normalize": Traits(deterministic=True, batchable=batched.Normalize),
    "PILToTensor": Traits(deterministic=True, batchable=batched.ToImage),
    "Pad": _FIXED,
    "RGB": _FIXED,
    "RandAugment": _RANDOM,
    "RandomAdjustSharpness": _RANDOM,
    "RandomAffine": _RANDOM,
    "RandomApply": Traits(draws="torch", parts=_members),
    "RandomAutocontrast": _RANDOM,
    "RandomChannelPermutation": _RANDOM,
    "RandomChoice": Traits(draws="torch", parts=_members),
    "RandomCrop": _RANDOM,
    "RandomEqualize": _RANDOM,
    "RandomErasing": Traits(draws="torch", batchable=batched.RandomErasing),
    "RandomGrayscale": _RANDOM,
    "RandomHorizontalFlip": Traits(draws="torch", batchable=batched.RandomHorizontalFlip),
    "RandomInvert": _RANDOM,
    "RandomOrder": Traits(draws="torch", parts=_members),
    "RandomPerspective": _RANDOM,
    "RandomPhotometricDistort": _RANDOM,
    "RandomPosterize": _RANDOM,
    "RandomResize": _RANDOM,
    "RandomResizedCrop": _RANDOM,
    "RandomRotation": _RANDOM,
    "RandomShortestSize": _RANDOM,
    "RandomSolarize": _RANDOM,
    "RandomVerticalFlip": Traits(draws="torch", batchable=batched.RandomVerticalFlip),
    "Resize": _FIXED,
    "ScaleJitter": _RANDOM,
    "TenCrop": _FIXED,
    "ToDtype": Traits(deterministic=True, batchable=batched.ToDtype),
    "ToImage": Traits(deterministic=True, batchable=batched.ToImage, takes_tensors=True),
    "ToPureTensor": Traits(deterministic=True, batchable=batched.ToPureTensor),
    "ToTensor": _FIXED,
    "TrivialAugmentWide": _RANDOM,
}
"""The classes of `torchvision.transforms.v2` by name. Of the older `torchvision.transforms`, only `deterministic` and
`parts` hold; of a subclass, nothing."""


def traits_of(transform: Any) -> Traits:
    """Returns what a transform, or any other callable, declares."""
    cls = type(transform)
    if cls.__module__.startswith("torchvision.transforms."):
        traits = TORCHVISION.get(cls.__name__, Traits())
        newer = cls.__module__.startswith("torchvision.transforms.v2.")
        return traits if newer else Traits(deterministic=traits.deterministic, parts=traits.parts)
    return Traits(
        deterministic=_declared(cls, "deterministic") is True,
        draws=_declared(cls, "draws"),
        batchable=_declared(cls, "batchable") or False,
        parts=_declared(cls, "parts"),
        takes_tensors=_declared(cls, "takes_tensors") is True,
    )


def _declared(cls: type, name: str) -> Any:
    """Returns what a class, or a base whose behaviour it does not override, declares; None if it declares nothing."""
    for base in cls.__mro__:
        if name in vars(base):
            return vars(base)[name]
        if _BEHAVIOUR & vars(base).keys():
            return None
    return None


def parts_of(transform: Any) -> Sequence[Any] | None:
    """Returns the transforms that a transform is made of; None if it is not made of others."""
    parts = traits_of(transform).parts
    return None if parts is None else parts(transform)


def entry_of(transform: Any) -> str | int | None:
    """Returns the entry of a sample that a transform is applied to; None if it is applied to the whole value.

    Such a transform applies its attribute `transform` to the entry `key`, and has a method `with_transform`.
    """
    return transform.key if _declared(type(transform), "with_transform") is not None else None


def is_deterministic(transform: Any) -> bool:
    """Whether a transform is known to give the same result every time; None, no transform, is."""
    traits = traits_of(transform)
    return transform is None or (traits.deterministic and all(map(is_deterministic, parts_of(transform) or ())))


def is_thread_safe(transform: Any) -> bool:
    """Whether a transform may run in several threads, each under a `ThreadGenerator`; False if that is not known."""
    traits = traits_of(transform)
    known = traits.deterministic or traits.draws == "torch"
    return transform is None or (known and all(map(is_thread_safe, parts_of(transform) or ())))


def batched_form(transform: Any) -> BatchedTransform | None:
    """Returns a transform's form for whole batches; None if it has none."""
    traits = traits_of(transform)
    if traits.batchable is True:
        return batched.Itself(transform) if traits.deterministic else None
    return traits.batchable(transform) if traits.batchable and traits.batchable.accepts(transform) else None
