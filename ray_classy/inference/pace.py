"""Progress of predictions and evaluations, in lines: how many images are done, and how long the others will take."""

from __future__ import annotations

import time
from collections.abc import Callable

from ray_classy.display import duration

OnProgress = Callable[[str], None]
_SECONDS_BETWEEN_LINES = 10.0
_FAST = 10.0


def ignore(line: str) -> None:
    """Drops a line."""


class Pace:
    """Reports how many images are done, each time that more are.

    Args:
        images: how many there are.
        on_progress: called with each line.
        what: what is counted, in the plural.
    """

    def __init__(self, images: int, on_progress: OnProgress = ignore, what: str = "images") -> None:
        self._images, self._on_progress, self._what = images, on_progress, what
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
        self._on_progress(f"{self._done:,} of {self._images:,} {self._what}, {rate:,.{digits}f} {self._what}/s{left}")


def seldom(on_progress: OnProgress) -> OnProgress:
    """Passes a line on unless it comes less than 10 seconds after the last one."""
    last = -_SECONDS_BETWEEN_LINES

    def line(text: str) -> None:
        nonlocal last
        if time.monotonic() - last >= _SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            on_progress(text)

    return line
