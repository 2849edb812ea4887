"""Handling of Ctrl-C and SIGTERM: the first lets the run write a checkpoint and stop, the next ends it at once."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)
_STDERR = 2
_STOPPING = "stopping after a checkpoint at the current step; press Ctrl-C again to end the run at once"


def install_stop_handlers(request: Callable[[], Any]) -> None:
    """Installs handlers with which the first SIGINT or SIGTERM calls `request`; the next one has the former handlers.

    A signal that is ignored, as Ctrl-C is in the background of a shell script, stays ignored.
    """
    before = {number: signal.getsignal(number) for number in SIGNALS}
    before = {number: handler for number, handler in before.items() if handler is not signal.SIG_IGN}

    def handler(number: int, frame: Any) -> None:
        for each, earlier in before.items():
            signal.signal(each, earlier)
        try:
            request()
        except Exception as error:
            _print(f"cannot ask the run to stop ({type(error).__name__}: {error}); press Ctrl-C again to end it")
        else:
            _print(_STOPPING)

    for number in before:
        signal.signal(number, handler)


def _print(text: str) -> None:
    """Writes a line past `sys.stderr`, which raises if the signal came in the middle of a write to it."""
    with contextlib.suppress(OSError):
        os.write(_STDERR, f"\n{text}\n".encode(errors="replace"))


@contextlib.contextmanager
def restore_handlers() -> Iterator[None]:
    """Restores the handlers of SIGINT and SIGTERM after the block."""
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
def stop_on_signal(request: Callable[[], Any] | None) -> Iterator[None]:
    """Lets the first interrupt within the block call `request`.

    Args:
        request: asks the run to stop; None, as in another thread than the main one, leaves the handlers as they are.
    """
    with restore_handlers():
        if request is not None and threading.current_thread() is threading.main_thread():
            install_stop_handlers(request)
        yield
