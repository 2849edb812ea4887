"""Numbers in the text of a config."""

from __future__ import annotations

import math

_MOST_DIGITS = 300
"""Digits of an integer, so that each can be converted to a float."""


def number(text: str) -> int | float:
    """Converts what is written as a number in JSON.

    Raises:
        ValueError: the number is out of range.
    """
    if text.lstrip("-").isdigit():
        if len(text) > _MOST_DIGITS:
            raise ValueError(
                f"the integer {text[:10]}... has {len(text)} digits, and a number has at most {_MOST_DIGITS}"
            )
        return int(text)
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"{text[:40]} is out of range: numbers go up to 1.8e308 (infinity is .inf in a .yaml file)")
    return value
