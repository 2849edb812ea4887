"""Lines on how far many images are, and how long the others will take."""

from __future__ import annotations

import time
from collections.abc import Callable

from ray_classy.display import duration

Told = Callable[[str], None]
_SECONDS_BETWEEN_LINES = 10.0
_FAST = 10.0


def nobody(line: str) -> None:
    """Drops a line."""


class Pace:
    """Says how many images are done, whenever more are.

    Args:
        images: their number.
        told: gets the lines.
        what: they are, in the plural.
    """

    def __init__(self, images: int, told: Told = nobody, what: str = "images") -> None:
        self._images, self._told, self._what = images, told, what
        self._began = time.monotonic()
        self._parts: dict[int, int] = {}
        self._done = 0

    def reach(self, done: int, part: int = 0) -> None:
        """Sets how many images of a part are done."""
        self._done += done - self._parts.get(part, 0)
        self._parts[part] = done
        rate = self._done / max(time.monotonic() - self._began, 1e-9)
        digits = 1 if rate < _FAST else 0
        left = f", {duration((self._images - self._done) / rate)} left" if 0 < self._done < self._images else ""
        self._told(f"{self._done:,} of {self._images:,} {self._what}, {rate:,.{digits}f} {self._what}/s{left}")


def seldom(told: Told) -> Told:
    """Passes a line on, if the last one was not a moment ago."""
    last = -_SECONDS_BETWEEN_LINES

    def line(text: str) -> None:
        nonlocal last
        if time.monotonic() - last >= _SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            told(text)

    return line
