"""A debugger for processes whose standard input is closed, such as those of a DataLoader."""

from __future__ import annotations

import multiprocessing
import os
import pdb
import sys

__all__ = ["set_trace"]

_lock = multiprocessing.Lock()


class MultiprocessingPdb(pdb.Pdb):
    """A debugger on the terminal of the parent process; one process at a time has it."""

    def __init__(self) -> None:
        pdb.Pdb.__init__(self, nosigint=True)

    def _cmdloop(self) -> None:
        before = sys.stdin
        with _lock:
            try:
                sys.stdin = os.fdopen(os.dup(0)) if before is None or before.closed else before
                self.cmdloop()
            finally:
                sys.stdin = before


def set_trace() -> None:
    """Starts the debugger at the caller's line."""
    MultiprocessingPdb().set_trace(sys._getframe().f_back)
