"""What the setters of a task accept; each function returns the value it was given, or says what is wrong with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from ray_classy.errors import ComponentError
from ray_classy.hooks import CheckpointHook, ClassyHook

T = TypeVar("T")


def integer(name: str, value: Any, least: int) -> int:
    """An integer of at least `least`.

    Raises:
        ComponentError: it is none; so for all functions here.
    """
    if type(value) is not int or value < least:
        raise ComponentError(f"{name} must be an integer of at least {least}, not {value!r}")
    return value


def flag(name: str, value: Any) -> bool:
    """True or False."""
    if type(value) is not bool:
        raise ComponentError(f"{name} must be true or false, not {value!r}")
    return value


def number_of_epochs(value: Any) -> int | float:
    """A number of at least 0."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
        raise ComponentError(f"num_epochs must be a number of at least 0, not {value!r}")
    return value


def norm(name: str, value: Any) -> float | None:
    """A number above 0, or None."""
    if value is not None and not value > 0:
        raise ComponentError(f"{name} must be a number above 0 or None, not {value!r}")
    return value


def choice(name: str, value: T, choices: Sequence[T]) -> T:
    """One of `choices`."""
    if value not in choices:
        raise ComponentError(f"{name} must be {', '.join(map(repr, choices[:-1]))} or {choices[-1]!r}, not {value!r}")
    return value


def ordered_hooks(hooks: Any) -> list[ClassyHook]:
    """The hooks with checkpoint hooks last, so that they see what the others changed; no two have one name."""
    if not isinstance(hooks, list) or not all(isinstance(hook, ClassyHook) for hook in hooks):
        raise ComponentError(f"hooks must be a list of ClassyHook objects, not {hooks!r}")
    names = [hook.name() for hook in hooks]
    for name in names:
        if names.count(name) > 1:
            raise ComponentError(f"two hooks are called {name!r}; a task has one of each, so leave one out")
    return sorted(hooks, key=lambda hook: isinstance(hook, CheckpointHook))
