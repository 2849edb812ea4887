"""Calls a function again and again in a thread, while a block runs."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def repeating(function: Callable[[], None], seconds: float, name: str, once_more: bool = False) -> Iterator[None]:
    """Calls a function every few seconds during the block.

    Args:
        function: is called in a thread.
        seconds: between two calls, and before the first.
        name: of the thread.
        once_more: whether it is also called when the block ends.
    """
    over = threading.Event()

    def work() -> None:
        while not over.wait(seconds):
            function()
        if once_more:
            function()

    thread = threading.Thread(target=work, name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
