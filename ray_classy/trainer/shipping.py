"""How a task travels to the workers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import cloudpickle

from ray_classy.errors import ShippingError


def pickled(task: Any) -> bytes:
    """The task as it is now, with everything that was set on it.

    Raises:
        ShippingError: a part does not pickle; the message names it by its path.
    """
    try:
        return cloudpickle.dumps(task)
    except Exception as error:
        path, value, reason = _culprit(task, "task", error)
        raise ShippingError(
            f"{path} cannot be sent to the workers: {type(value).__name__} does not pickle ({reason}). "
            f"Make it where it is used (in on_start of a hook, say), or leave it out in __getstate__"
        ) from None


def _culprit(value: Any, path: str, error: Exception, depth: int = 0) -> tuple[str, Any, Exception]:
    """The deepest part that does not pickle."""
    for name, part in _parts(value) if depth < 12 else ():
        try:
            cloudpickle.dumps(part)
        except Exception as deeper:
            return _culprit(part, path + name, deeper, depth + 1)
    return path, value, error


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        yield from ((f"[{key!r}]", part) for key, part in value.items())
    elif isinstance(value, list | tuple | set):
        yield from ((f"[{index}]", part) for index, part in enumerate(value))
    elif hasattr(value, "__dict__") and not isinstance(value, type):
        yield from ((f".{name}", part) for name, part in _pickled_state(value).items())


def _pickled_state(value: Any) -> Mapping[str, Any]:
    """The attributes that are pickled with an object."""
    with contextlib.suppress(Exception):
        state = value.__getstate__()
        if isinstance(state, Mapping):
            return state
    return vars(value)
