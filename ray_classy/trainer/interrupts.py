"""What Ctrl-C does to a run: the first one lets it write a checkpoint and stop, the next one ends it at once."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)
_STOPPING = "stopping: a checkpoint is written after the current step; once more (Ctrl-C) ends the run at once"


def first_stops(request: Callable[[], Any]) -> None:
    """Lets the first interrupt, or the first SIGTERM, call `request`; the handlers of before are for the next.

    A signal that is ignored, as Ctrl-C is in the background of a shell script, stays so.
    """
    before = {number: signal.getsignal(number) for number in SIGNALS}
    before = {number: handler for number, handler in before.items() if handler is not signal.SIG_IGN}

    def handler(number: int, frame: Any) -> None:
        for each, earlier in before.items():
            signal.signal(each, earlier)
        sys.stderr.write(f"\n{_STOPPING}\n")
        sys.stderr.flush()
        try:
            request()
        except Exception as error:
            sys.stderr.write(f"the run cannot be asked to stop ({type(error).__name__}: {error}); Ctrl-C ends it\n")

    for number in before:
        signal.signal(number, handler)


@contextlib.contextmanager
def handlers_kept() -> Iterator[None]:
    """Puts the handlers of Ctrl-C and SIGTERM back after the block."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def stopping_gently(request: Callable[[], Any] | None) -> Iterator[None]:
    """For the block, the first interrupt calls `request`; without one, or in a thread, it does what it always does."""
    with handlers_kept():
        if request is not None and threading.current_thread() is threading.main_thread():
            first_stops(request)
        yield
