"""Limits how many bytes the threads of a process use at one time."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class ByteBudget:
    """Lets threads wait until the memory they are about to use is within a limit, all of them together.

    Args:
        limit: in bytes. Who needs more than that is let in alone.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._renew()
        os.register_at_fork(after_in_child=self._renew)  # threads that hold bytes do not exist in the child

    def _renew(self) -> None:
        self._used = 0
        self._changed = threading.Condition()

    @contextmanager
    def hold(self, count: int) -> Iterator[None]:
        """Waits for so many bytes, and holds them within the block."""
        with self._changed:
            self._changed.wait_for(lambda: self._used == 0 or self._used + count <= self._limit)
            self._used += count
        try:
            yield
        finally:
            with self._changed:
                self._used -= count
                self._changed.notify_all()
