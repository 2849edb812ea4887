"""The operations of pickles that protocols 3 to 5 add to the protocol 2 of `torch.save`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ray_classy.checkpoint.plain import Foreign, is_key
from ray_classy.errors import CheckpointError

_MOST_LETTERS = 200
"""Of the name of a module, or of something in it."""


def _global(unpickler: Any) -> None:
    name, module = unpickler._stack.pop(), unpickler._stack.pop()
    if not all(isinstance(part, str) and len(part) <= _MOST_LETTERS for part in (module, name)):
        raise CheckpointError("it names something in an unknown way")
    unpickler._name(module, name)


def _memoize(unpickler: Any) -> None:
    unpickler._put(len(unpickler._memo))


def _add_to_set(unpickler: Any) -> None:
    items = [item for item in unpickler._to_mark() if type(item) is not Foreign]
    target = unpickler._stack[-1]
    if type(target) is Foreign:
        return
    if type(target) is not set or not all(map(is_key, items)):
        raise CheckpointError("it holds a set of something else than plain values")
    target.update(items)


def _frozen_set(unpickler: Any) -> None:
    items = unpickler._to_mark()
    unpickler._push_container(set())
    unpickler._stacks.append(unpickler._stack)
    unpickler._stack = items
    _add_to_set(unpickler)


def _new_with_keywords(unpickler: Any) -> None:
    keywords, _, cls = unpickler._stack.pop(), unpickler._stack.pop(), unpickler._stack.pop()
    if type(cls) is not Foreign or not isinstance(keywords, dict):
        raise CheckpointError("it makes an object of something else than a class")
    unpickler._push(cls)


def _bytes(size: str) -> Callable[[Any], None]:
    return lambda unpickler: unpickler._push(bytes(unpickler._take(unpickler._number(size))))


def _text(size: str) -> Callable[[Any], None]:
    return lambda unpickler: unpickler._text(unpickler._number(size))


LATER_OPERATIONS: dict[int, Callable[[Any], None]] = {
    ord("B"): _bytes("<I"),
    ord("C"): _bytes("<B"),
    0x8C: _text("<B"),
    0x8D: _text("<Q"),
    0x8E: _bytes("<Q"),
    0x8F: lambda unpickler: unpickler._push_container(set()),
    0x90: _add_to_set,
    0x91: _frozen_set,
    0x92: _new_with_keywords,
    0x93: _global,
    0x94: _memoize,
    0x95: lambda unpickler: unpickler._take(8),  # the size of a frame
    0x96: lambda unpickler: unpickler._push(bytearray(unpickler._take(unpickler._number("<Q")))),
}
"""What each opcode does with an `Unpickler`."""
