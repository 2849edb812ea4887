"""Checks for the options of a task: each takes a name and a value, and returns the value or says what is wrong."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from ray_classy.errors import ComponentError
from ray_classy.hooks import CheckpointHook, ClassyHook

T = TypeVar("T")


def at_least(least: int) -> Callable[[str, Any], int]:
    """Makes a check for an integer of at least `least`."""

    def check(name: str, value: Any) -> int:
        if type(value) is not int or value < least:
            raise ComponentError(f"{name} must be an integer of at least {least}, not {value!r}")
        return value

    return check


def flag(name: str, value: Any) -> bool:
    """Checks for True or False."""
    if type(value) is not bool:
        raise ComponentError(f"{name} must be true or false, not {value!r}")
    return value


def flag_or_none(name: str, value: Any) -> bool | None:
    """Checks for True, False or None."""
    if value is not None and type(value) is not bool:
        raise ComponentError(f"{name} must be true, false or null (None in Python), not {value!r}")
    return value


MOST_PHASES = 1_000_000
"""Epochs and phases of a run, whose list is made before it starts."""


def epochs(name: str, value: Any) -> int | float:
    """Checks for a number above 0, and not more than a run can have."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= MOST_PHASES:
        raise ComponentError(f"{name} must be a number above 0 and at most {MOST_PHASES:,}, not {value!r}")
    return value


def norm(name: str, value: Any) -> float | None:
    """Checks for a number above 0, or None."""
    if value is not None and not (isinstance(value, int | float) and value > 0):
        raise ComponentError(f"{name} must be a number above 0, or null (None in Python), not {value!r}")
    return value


def rows_at_once(name: str, value: Any) -> Any:
    """Checks for "auto", an integer of at least 1, or None."""
    if value is None or value == "auto" or (type(value) is int and value >= 1):
        return value
    raise ComponentError(f"{name} must be 'auto', an integer of at least 1, or null (None in Python), not {value!r}")


def choice(name: str, value: T, choices: Sequence[T]) -> T:
    """Checks for one of `choices`."""
    if value not in choices:
        raise ComponentError(f"{name} must be {', '.join(map(repr, choices[:-1]))} or {choices[-1]!r}, not {value!r}")
    return value


def ordered_hooks(hooks: Any) -> list[ClassyHook]:
    """Returns the hooks with checkpoint hooks last, so that they see what the others changed.

    Raises:
        ComponentError: it is not a list of hooks, or two hooks have the same name.
    """
    if not isinstance(hooks, list) or not all(isinstance(hook, ClassyHook) for hook in hooks):
        raise ComponentError(f"hooks must be a list of ClassyHook objects, not {hooks!r}")
    names = [hook.name() for hook in hooks]
    for name in names:
        if names.count(name) > 1:
            raise ComponentError(f"two hooks are called {name!r}; a task has one of each, so leave one out")
    return sorted(hooks, key=lambda hook: isinstance(hook, CheckpointHook))
