"""What an annotation means in a config."""

from __future__ import annotations

import collections.abc as abc
import types
import typing
from collections import OrderedDict, defaultdict
from typing import Any

from ray_classy.registry import ByName, registry_of

_LISTS = {list, tuple, set, frozenset, abc.Sequence, abc.MutableSequence, abc.Iterable, abc.Collection, abc.Set}
_MAPPINGS = {dict, OrderedDict, defaultdict, abc.Mapping, abc.MutableMapping}


def union_members(annotation: Any) -> list[Any]:
    """Returns the alternatives of a union; other annotations are their only alternative."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return [member for argument in typing.get_args(annotation) for member in union_members(argument)]
    return [annotation]


def is_list(annotation: Any) -> bool:
    """Whether the annotation describes a list of any kind (a tuple or sequence is written as a list too)."""
    return _origin(annotation) in _LISTS


def is_fixed(annotation: Any) -> bool:
    """Whether the annotation describes a list with a fixed number of elements: a tuple of several types."""
    arguments = typing.get_args(annotation)
    return typing.get_origin(annotation) is tuple and bool(arguments) and Ellipsis not in arguments


def is_mapping(annotation: Any) -> bool:
    """Whether the annotation describes a mapping whose keys the user chooses."""
    return _origin(annotation) in _MAPPINGS


def element_of(annotation: Any) -> Any:
    """Returns the annotation of the elements of a list or the values of a mapping; Any if there is none."""
    arguments = typing.get_args(annotation)
    if is_mapping(annotation):
        return arguments[1] if len(arguments) == 2 else Any
    arguments = tuple(argument for argument in arguments if argument is not Ellipsis)
    return arguments[0] if arguments and all(argument == arguments[0] for argument in arguments) else Any


def is_structured(annotation: Any) -> bool:
    """Whether the annotation holds a section or a component somewhere, so that a value is checked key by key."""
    if isinstance(annotation, dict | ByName) or registry_of(annotation) is not None:
        return True
    members = union_members(annotation)
    if len(members) > 1:
        return any(is_structured(member) for member in members)
    return (is_list(annotation) or is_mapping(annotation)) and is_structured(element_of(annotation))


def _origin(annotation: Any) -> Any:
    origin = typing.get_origin(annotation) or annotation
    return origin if isinstance(origin, type) else None
