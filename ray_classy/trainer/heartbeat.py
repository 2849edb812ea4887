"""Lines in the log of a run in which nothing happens for a while: its first step may compile for minutes."""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections.abc import Callable

from ray_classy.display import duration
from ray_classy.trainer.logs import PROGRESS

_log = logging.getLogger(__name__)
_SHORTEST_SECONDS = 1.0


class Heartbeat:
    """Logs what the run is doing whenever no line has come for some seconds, until it stops or is forgotten.

    Args:
        seconds: without a line.
    """

    def __init__(self, seconds: float) -> None:
        self._what: Callable[[], str] = lambda: "starting"
        self._for = SO_FAR
        self._at = self._line_at = time.monotonic()
        self._over = threading.Event()
        interval = max(seconds, _SHORTEST_SECONDS)
        arguments = (weakref.ref(self), self._over, interval)
        threading.Thread(target=_watch, args=arguments, name="heartbeat", daemon=True).start()

    def beat(self, what: Callable[[], str], for_so_long: str) -> None:
        """Notes that something has happened.

        Args:
            what: says what the run does from now on.
            for_so_long: `SO_FAR` or `NO_STEP`.
        """
        self._what, self._for, self._at = what, for_so_long, time.monotonic()

    def line(self) -> None:
        """Notes that a line has come."""
        self._line_at = time.monotonic()

    def stop(self) -> None:
        """Logs no more."""
        self._over.set()

    def look(self, interval: float) -> None:
        """Logs a line if none has come lately; where steps are made, the next of them brings it."""
        now = time.monotonic()
        if now - self._line_at >= interval and now - self._at >= interval / 3:
            self._line_at = now
            _log.info("%s: %s", self._what(), self._for.format(duration(now - self._at)), extra=PROGRESS)


SO_FAR, NO_STEP = "{} so far", "no step for {}"
"""How a line says for how long the run has been at it."""


def _watch(heartbeat: weakref.ref[Heartbeat], over: threading.Event, interval: float) -> None:
    while not over.wait(interval / 10):
        found = heartbeat()
        if found is None:
            return
        found.look(interval)
        del found
