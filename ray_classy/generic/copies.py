"""Copies of a user's objects, on which something is tried."""

from __future__ import annotations

import copy
from typing import TypeVar

_Part = TypeVar("_Part")


def copied(part: _Part) -> _Part | None:
    """Returns a deep copy; None of an object that cannot be copied, such as one that holds a lock or an open file."""
    try:
        return copy.deepcopy(part)
    except Exception:  # of whatever the object's own code raises
        return None
