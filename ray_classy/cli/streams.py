"""The text that a command reads and writes: neither an encoding nor a closed pipe ends it."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from typing import Any


class LenientStream(io.TextIOWrapper):
    """Writes text to a stream of bytes, whatever the encoding and whether anybody still reads it.

    What the encoding lacks is written as an escape (`\\xe4`). Once the other end is closed, as by `| head -1` or with a
    terminal that is gone, everything further is dropped.

    Args:
        stream: of text; its bytes go where they went.

    Attributes:
        error: why the stream could not be written, if it could not.
    """

    def __init__(self, stream: io.TextIOWrapper) -> None:
        buffered = {"line_buffering": stream.line_buffering, "write_through": stream.write_through}
        super().__init__(stream.buffer, stream.encoding, "backslashreplace", newline="\n", **buffered)
        self._stream = stream  # when it is collected, it closes the bytes
        self.error: OSError | None = None

    def write(self, text: str) -> int:
        """Writes text; returns its length."""
        try:
            return super().write(text)
        except OSError as error:
            self._drop(error)
            return len(text)

    def flush(self) -> None:
        """Writes what is buffered."""
        try:
            super().flush()
        except OSError as error:
            self._drop(error)

    def _drop(self, error: OSError) -> None:
        self.error = error
        with contextlib.suppress(OSError, io.UnsupportedOperation):
            _to_null(self.fileno())  # what is still buffered goes there, also when the interpreter ends
            super().flush()


def use_utf8() -> None:
    """Starts this process again in Python's UTF-8 mode if file names are not UTF-8, as with `LC_ALL=C`.

    Names of runs, files and classes could not be used otherwise. The processes that this one starts have the same mode.
    """
    if sys.getfilesystemencoding().lower() == "utf-8" or os.environ.get("PYTHONUTF8") == "1":
        return
    os.environ["PYTHONUTF8"] = "1"
    os.environ.setdefault("PYTHONIOENCODING", f"{getattr(sys.stdout, 'encoding', 'utf-8')}:backslashreplace")
    os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])


def make_lenient() -> None:
    """Puts lenient streams in the place of standard output and error, and opens those that the caller closed."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        _open(number)
        stream: Any = getattr(sys, name)
        if stream is None:
            stream = open(number, "r" if number == 0 else "w", closefd=False)  # noqa: SIM115 - for the process's life
            setattr(sys, name, stream)
        if number and isinstance(stream, io.TextIOWrapper):
            setattr(sys, name, LenientStream(stream))


def _open(number: int) -> None:
    """Opens a standard file descriptor that is closed: the next file that is opened would get its number."""
    try:
        os.fstat(number)
    except OSError:
        _to_null(number)


def _to_null(number: int) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    if null != number:
        os.dup2(null, number)
        os.close(null)
    else:
        os.set_inheritable(null, True)
