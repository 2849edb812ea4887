"""The content of checkpoints: tensors and plain values, in containers of a bounded depth and number."""

from __future__ import annotations

import copy
from collections import Counter, OrderedDict
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch

from ray_classy.errors import CheckpointError
from ray_classy.printable import printable

MOST_LEVELS = 100
"""Levels of nesting, so that recursive functions can walk through every checkpoint."""
MOST_VALUES = 10_000_000
"""Values, those in shared containers counted each time, so that walking through a checkpoint takes seconds."""
MOST_BITS = 1024
"""Bits of an integer, so that each can be printed, and converted to a float."""


class Foreign(NamedTuple):
    """Placeholder for an object of an unknown class; only the name of the class is kept."""

    name: str


SCALARS = frozenset((bool, int, float, complex, str, bytes, type(None)))
"""Types of keys and of members of sets."""
_PLAIN = SCALARS | {bytearray, torch.dtype, torch.device, Foreign}
_MAPPINGS = (dict, OrderedDict, Counter)
_CONTAINERS = (*_MAPPINGS, list, tuple, set, torch.Size)


def check_plain(content: Any, name: str = "") -> None:
    """Refuses a content that a checkpoint cannot hold.

    Args:
        content: the content.
        name: what it is called in the message.

    Raises:
        CheckpointError: there is something else in it than dense tensors and plain values, or it is nested too deeply,
            contains itself, or is too large when shared parts are counted each time.
    """
    _Walk().size(content, name, 0)


class _Walk:
    def __init__(self) -> None:
        self._sizes: dict[int, int] = {}

    def size(self, value: Any, path: str, level: int) -> int:
        """Returns the number of values in a value, itself included."""
        kind = type(value)
        if kind not in _CONTAINERS:
            _check_leaf(value, kind, path)
            return 1
        if level > MOST_LEVELS:
            raise CheckpointError(f"it is nested more than {MOST_LEVELS} levels deep, or contains itself")
        known = self._sizes.get(id(value))
        if known is not None:
            return known
        items = value.items() if kind in _MAPPINGS else enumerate(value)
        total = 1
        for key, item in items:
            where = f"{path}.{key}" if path else str(key)
            if kind in _MAPPINGS and not is_key(key):
                raise CheckpointError(f"a key of {printable(path) or 'it'} is a {type(key).__qualname__}")
            total += self.size(item, where, level + 1)
            if total > MOST_VALUES:
                raise CheckpointError(f"it has more than {MOST_VALUES:,} values")
        self._sizes[id(value)] = total
        return total


def is_key(value: Any) -> bool:
    """Whether a value can be a key: a scalar, or a tuple of scalars."""
    values = value if type(value) is tuple else (value,)
    return all(type(part) in SCALARS and (type(part) is not int or part.bit_length() < 63) for part in values)


def _check_leaf(value: Any, kind: type, path: str) -> None:
    if kind in _PLAIN:
        if kind is int and value.bit_length() > MOST_BITS:
            raise CheckpointError(f"{printable(path)} is an integer of {value.bit_length()} bits")
        return
    if not isinstance(value, torch.Tensor):
        raise CheckpointError(f"{printable(path)} is a {kind.__qualname__}")
    if kind not in (torch.Tensor, torch.nn.Parameter) or value.layout != torch.strided or value.is_quantized:
        layout = "quantized" if value.is_quantized else str(value.layout).removeprefix("torch.")
        raise CheckpointError(f"{printable(path)} is a {kind.__qualname__} ({layout}), and not a dense tensor")


def in_full(value: Any) -> Any:
    """Returns a content whose tensors have what files can: each number written, and no conjugate or negative views.

    Args:
        value: what `check_plain` has accepted.
    """
    if isinstance(value, torch.Tensor):
        tensor = value.detach().resolve_conj().resolve_neg()
        return tensor.contiguous() if tensor.nbytes > tensor.untyped_storage().nbytes() else tensor
    if type(value) in _MAPPINGS:
        copied = copy.copy(value)  # with the `_metadata` of a state dict
        for key, item in value.items():
            copied[key] = in_full(item)
        return copied
    return type(value)(map(in_full, value)) if type(value) in (list, tuple) else value


def outline(content: Any) -> str:
    """Describes a content for an error message."""
    if not isinstance(content, Mapping):
        return f"a {type(content).__name__}"
    names = ", ".join(printable(key)[:40] for key in list(content)[:5])
    return f"only {names}" if content else "nothing"
