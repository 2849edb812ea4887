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
    """Logs what the run is doing whenever it has not beaten for some seconds, until it stops or is forgotten.

    Args:
        seconds: without a beat.
    """

    def __init__(self, seconds: float) -> None:
        self._what: Callable[[], str] = lambda: "starting"
        self._at = self._said = time.monotonic()
        self._over = threading.Event()
        interval = max(seconds, _SHORTEST_SECONDS)
        arguments = (weakref.ref(self), self._over, interval)
        threading.Thread(target=_watch, args=arguments, name="heartbeat", daemon=True).start()

    def beat(self, what: Callable[[], str]) -> None:
        """Notes that something has happened.

        Args:
            what: says what the run does from now on.
        """
        self._what, self._at = what, time.monotonic()

    def stop(self) -> None:
        """Logs no more."""
        self._over.set()

    def look(self, interval: float) -> None:
        """Logs a line if none is known of the last seconds."""
        now = time.monotonic()
        if now - max(self._at, self._said) >= interval:
            self._said = now
            _log.info("%s: still at it after %s", self._what(), duration(now - self._at), extra=PROGRESS)


def _watch(heartbeat: weakref.ref[Heartbeat], over: threading.Event, interval: float) -> None:
    while not over.wait(interval / 3):
        found = heartbeat()
        if found is None:
            return
        found.look(interval)
        del found
