"""Checks of optimizers' arguments that name the argument in the message."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ray_classy.errors import ArgumentTypeError, ComponentError


def check_number(name: str, value: Any, *, below: float = math.inf, example: str = "0.1") -> float:
    """Returns `value` if it is a number (int or float, not a bool) in [0, `below`).

    Raises:
        ArgumentTypeError: it is not a number.
        ComponentError: it is out of the range.
    """
    span = "of at least 0" if below == math.inf else f"in [0, {below:g})"
    message = f"{name} must be a number {span}, such as {example}, not {value!r}"
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise ArgumentTypeError(message)
    if not 0 <= value < below:
        raise ComponentError(message)
    return value


def check_bool(name: str, value: Any) -> bool:
    """Returns `value` if it is True or False.

    Raises:
        ComponentError: it is not.
    """
    if not isinstance(value, bool):
        raise ComponentError(f"{name} must be true or false, not {value!r}")
    return value


def check_betas(betas: Any) -> tuple[float, float]:
    """Returns the two decay rates of Adam's moments.

    Raises:
        ComponentError: they are not two numbers in [0, 1).
    """
    if not isinstance(betas, Sequence) or isinstance(betas, str) or len(betas) != 2:
        raise ComponentError(f"betas must be two numbers in [0, 1), such as [0.9, 0.999], not {betas!r}")
    first, second = (check_number("betas", beta, below=1, example="[0.9, 0.999]") for beta in betas)
    return float(first), float(second)  # torch takes no integers
