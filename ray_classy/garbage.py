"""Python's garbage collector, while nothing becomes garbage.

An import makes objects that stay, and the collector looks through all of them again and again: a fifth of the time that
the imports of torch, torchvision and Ray take.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def no_collection() -> Iterator[None]:
    """Stops the garbage collector for the block, unless it is stopped already."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
