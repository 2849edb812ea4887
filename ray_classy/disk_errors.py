"""Errors of disks and stores, with what they mean and what to do."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator

from ray_classy.errors import StorageError
from ray_classy.urls import reason, shown

_FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
_HINTS = {
    errno.ENOTDIR: "a file has the name of a folder in this path",
    errno.EEXIST: "a file has the name of a folder in this path",
    errno.EISDIR: "a folder has this name",
    errno.EFBIG: "it exceeds the file size limit of this process (ulimit -f) or of the file system",
    errno.EDQUOT: "the disk quota is exceeded",
    errno.ELOOP: "it is a link, or in a folder that is one, and links in a run's folder are not written through: "
    "replace the link by what it leads to, or remove it",
    errno.ENXIO: "it is a pipe or a device: remove it",
}


@contextlib.contextmanager
def storage_errors(file: str, size: int | None = None, folder: str | None = None) -> Iterator[None]:
    """Converts an `OSError` in the block, in which a file is written, to an error with the remedy.

    Args:
        file: its path or URL.
        size: the number of bytes to be written, if it is known.
        folder: on the disk of the file, whose free space is given; None for a store.

    Raises:
        StorageError: in place of an `OSError`.
    """
    try:
        yield
    except OSError as error:
        what = shown(file) + ("" if size is None else f" ({size_text(size)})")
        hint = _HINTS.get(error.errno or 0)
        text = f"cannot write {what}: {error.strerror or reason(error)}" + (f" ({hint})" if hint else "")
        raise StorageError(text + (_room(folder) if error.errno in _FULL and folder else "")) from error


def _room(folder: str) -> str:
    """Returns the free space of a folder's disk for an error message; an empty string if it is not known."""
    try:
        usage = shutil.disk_usage(folder if os.path.isdir(folder) else os.path.dirname(folder))
    except OSError:
        return ""
    return f"; {size_text(usage.free)} of {size_text(usage.total)} are free there"


def size_text(number: float) -> str:
    """Returns a number of bytes in the unit that fits it, KiB at least."""
    for unit in ("KiB", "MiB"):
        number /= 1024
        if number < 1024:
            return f"{number:.1f} {unit}"
    return f"{number / 1024:.1f} GiB"
