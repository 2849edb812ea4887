"""Whether a plain value fits a type annotation.

Nothing is coerced: "1" is not an integer, 1 is not a boolean, true is not a number; an integer is a number, and a list
is a tuple. What a config cannot spell (a function, an object of some class) is accepted, because only the
constructor can judge.
"""

from __future__ import annotations

import enum
import functools
import json
import math
import numbers
import os
import pathlib
import typing
from collections.abc import Callable, Sequence
from typing import Any

from ray_classy.config.schema import element_of, is_fixed, is_list, is_mapping, union_members
from ray_classy.config.wording import expectation, shown
from ray_classy.config.yaml_text import plain_value

_AS_THEY_ARE = (int, float, bool, str, type(None))
_NUMBERS = {numbers.Number: float, numbers.Real: float, numbers.Integral: int}


def mismatch(value: Any, annotation: Any) -> str | None:
    """What is wrong with `value`, or None if it fits `annotation`."""
    large = _too_large(value)
    if large is not None:
        return f"{shown(large, 40)} is too large: integers go from -{1 << 63:,} to {(1 << 63) - 1:,} (64 bits)"
    if _fits(value, annotation):
        return None
    return f"expected {expectation(annotation)}, not {shown(value)}{_hint(value, annotation)}"


def _too_large(value: Any) -> int | None:
    """The first integer in a value that has more than 64 bits, which no library takes; None without one."""
    if type(value) is int:
        return None if -(1 << 63) <= value < 1 << 63 else value
    found = map(_too_large, value) if type(value) in (list, tuple) else ()
    return next((one for one in found if one is not None), None)


def _fits(value: Any, annotation: Any) -> bool:
    if _fits_plainly(value, annotation):
        return True
    if annotation is type(None):
        return False
    from pydantic import ValidationError

    try:
        adapter = _adapter(annotation)
    except TypeError:  # an annotation that cannot be hashed
        adapter = _adapter.__wrapped__(annotation)
    if adapter is None:
        return True
    try:
        text = json.dumps(value)
    except (TypeError, ValueError, RecursionError):
        return _fits_as_object(value, annotation)
    try:
        adapter.validate_json(text, strict=True)
    except ValidationError:
        return False
    return True


def _fits_plainly(value: Any, annotation: Any) -> bool:
    """Whether a plain value or a list certainly fits: most values do, and a check of them need not import pydantic."""
    if typing.get_origin(annotation) is typing.Literal:
        return any(type(value) is type(one) and value == one for one in typing.get_args(annotation))
    members = union_members(annotation)
    if len(members) > 1:
        return any(_fits_plainly(value, member) for member in members)
    if type(value) is list and typing.get_origin(annotation) in (list, Sequence):
        return all(_fits_plainly(item, element_of(annotation)) for item in value)
    if type(value) is float and not math.isfinite(value):
        return False
    kinds = (int, float) if annotation is float else (type(None),) if annotation is None else (annotation,)
    return type(value) in _AS_THEY_ARE and type(value) in kinds


def _fits_as_object(value: Any, annotation: Any) -> bool:
    """A config made in Python may hold objects; those are judged by their class, generously."""
    from pydantic import ConfigDict, TypeAdapter, ValidationError

    try:
        TypeAdapter(annotation, config=ConfigDict(arbitrary_types_allowed=True)).validate_python(value)
    except ValidationError:
        return False
    except Exception:
        return True
    return True


@functools.cache
def _adapter(annotation: Any) -> Any:
    """pydantic's validator for the annotation; None where it has none to offer."""
    from pydantic import TypeAdapter

    try:
        return TypeAdapter(_json_type(annotation))
    except Exception:
        return None


def _json_type(annotation: Any) -> Any:
    """Returns the annotation with types that JSON lacks replaced by those that represent them there."""
    if annotation is None or annotation in _AS_THEY_ARE:
        return annotation
    members = union_members(annotation)
    if len(members) > 1:
        return typing.Union[tuple(_json_type(member) for member in members)]  # noqa: UP007
    if annotation in _NUMBERS:
        return _NUMBERS[annotation]
    if typing.get_origin(annotation) is typing.Literal:
        return _checked(functools.partial(_is_one_of, typing.get_args(annotation)))
    if is_list(annotation):
        return _list_type(annotation)
    if is_mapping(annotation):
        return dict[str, _json_type(element_of(annotation))]  # type: ignore[misc]
    return _class_type(annotation) if isinstance(annotation, type) else Any


def _list_type(annotation: Any) -> Any:
    arguments = typing.get_args(annotation)
    if is_fixed(annotation):
        return tuple[tuple(_json_type(argument) for argument in arguments)]  # type: ignore[misc]
    return list[_json_type(element_of(annotation))]  # type: ignore[misc]


def _class_type(cls: type) -> Any:
    if issubclass(cls, enum.Enum):
        members = [*(member.value for member in cls), *(name for name in cls.__members__)]
        # In configs for the predecessor the names of an enum are written in small letters.
        return _checked(functools.partial(_is_one_of, (*members, *(name.lower() for name in cls.__members__))))
    if issubclass(cls, pathlib.PurePath) or cls is os.PathLike:
        return str
    if cls.__module__ == "torch" and cls.__name__ == "Tensor":
        return _checked(_is_tensor)
    if cls.__module__ == "torch" and cls.__name__ == "dtype":
        return _checked(_is_dtype)
    if cls.__module__ == "torch" and cls.__name__ == "device":
        return str | int
    return Any


def _checked(test: Callable[[Any], bool]) -> Any:
    from pydantic import AfterValidator

    def validate(value: Any) -> Any:
        if not test(value):
            raise ValueError
        return value

    return typing.Annotated[Any, AfterValidator(validate)]


def _is_one_of(allowed: tuple[Any, ...], value: Any) -> bool:
    return any(value == candidate and _may_stand_for(type(value), candidate) for candidate in allowed)


def _may_stand_for(kind: type, candidate: Any) -> bool:
    """True equals 1 and 1.0 equals 1, but only an integer for a float is no slip."""
    if bool in (kind, type(candidate)):
        return kind is type(candidate)
    return isinstance(candidate, kind) or (kind is int and isinstance(candidate, float))


def _is_tensor(value: Any) -> bool:
    if isinstance(value, list):
        return all(_is_tensor(item) for item in value)
    return isinstance(value, int | float)


def _is_dtype(value: Any) -> bool:
    import torch

    return isinstance(value, str) and isinstance(getattr(torch, value.removeprefix("torch."), None), torch.dtype)


def _hint(value: Any, annotation: Any) -> str:
    """How to write what was probably meant."""
    members = union_members(annotation)
    if isinstance(value, str):
        word = value.strip().lower()
        if bool in members and word in ("true", "yes", "on", "false", "no", "off"):
            return _write(word in ("true", "yes", "on"), value)
        if any(member in (int, float) for member in members):
            return _number_hint(value)
    for member in members:
        if (
            is_list(member)
            and element_of(member) is not Any
            and not is_fixed(member)
            and _fits(value, element_of(member))
        ):
            return f"; write [{shown(value)}]"
    if isinstance(value, float) and value.is_integer() and int in members and abs(value) < 1e18:
        return f"; write {int(value)}"
    return ""


def _number_hint(text: str) -> str:
    word = text.strip()
    try:
        number = int(word) if word.replace("_", "").lstrip("+-").isdigit() else float(word)
    except ValueError:
        return ""
    return _write(number, text) if math.isfinite(number) else ""


def _write(meant: bool | int | float, text: str) -> str:
    """Says to write a value; "without quotes" if these are all that is wrong with the text."""
    try:
        quoted = plain_value(text) == meant
    except ValueError:  # a number out of range
        quoted = False
    return f"; write {shown(meant)}{' without quotes' if quoted else ''}"
