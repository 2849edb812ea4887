"""Opening regular files of this machine: without waiting, and not through links where they are written."""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import stat


def append(path: str, text: str) -> None:
    """Adds text to the end of a file; no part of it stays if it cannot be written whole."""
    with os.fdopen(open_regular(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW), "ab") as file:
        before = os.fstat(file.fileno()).st_size
        try:
            file.write(text.encode(errors="backslashreplace"))
            file.flush()
        except OSError:
            with contextlib.suppress(OSError):  # an incomplete line would corrupt the next one
                os.truncate(file.fileno(), before)
            raise


def open_regular(path: str, flags: int) -> int:
    """Opens a regular file, without waiting for the other end of a pipe, and returns its descriptor."""
    descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return descriptor
    os.close(descriptor)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    raise OSError(errno.ENXIO, "not a regular file", path)


def mapped(path: str) -> bytes | mmap.mmap:
    """Maps a regular file into memory, for reading without a copy; where that is not possible, reads it.

    The map is private: what is written to it does not reach the file.
    """
    with os.fdopen(open_regular(path, os.O_RDONLY), "rb") as file:
        try:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        except (OSError, ValueError):  # a file system without maps, or an empty file
            return file.read()
