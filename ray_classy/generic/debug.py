"""A debugger that starts at an uncaught error."""

from __future__ import annotations

import sys
import traceback
from types import TracebackType


def debug_info(type: type[BaseException], value: BaseException, tb: TracebackType | None) -> None:
    """Prints an error and starts a debugger where it was raised: `sys.excepthook = debug_info`.

    Without a terminal, and in an interactive session, the error is only printed.
    """
    if hasattr(sys, "ps1") or not sys.stderr.isatty() or not sys.stdin.isatty():
        sys.__excepthook__(type, value, tb)
        return
    import pdb

    traceback.print_exception(type, value, tb)
    pdb.post_mortem(tb)
