"""A folder for cached files that no other user of the machine can have made, or can change."""

from __future__ import annotations

import contextlib
import os
import stat

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def make_private(folder: str, repair: bool = False) -> None:
    """Makes a folder that only this user can write to, or checks that one is.

    Args:
        folder: its path; the folder above it exists.
        repair: whether to close a folder that others may write to, but never reached, since the one above is closed to
            them.

    Raises:
        OSError: it cannot be made, belongs to another user, others may write to it, or it is a link or a file.
    """
    with contextlib.suppress(FileExistsError):
        os.mkdir(folder, 0o700)
    status = os.lstat(folder)
    if not stat.S_ISDIR(status.st_mode):
        raise PermissionError(f"{folder} is not a folder but a link or a file; remove it")
    if status.st_uid != os.geteuid():
        raise PermissionError(f"{folder} belongs to user {status.st_uid}, and this is user {os.geteuid()}")
    if repair and status.st_mode & _OTHERS_WRITE and _is_closed(os.path.dirname(folder)):
        os.chmod(folder, 0o700)
    elif status.st_mode & _OTHERS_WRITE:
        raise PermissionError(f"{folder} may be written to by other users; remove it")


def _is_closed(folder: str) -> bool:
    """Whether a folder belongs to this user, and others can neither list nor enter it."""
    status = os.lstat(folder)
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not stat.S_IMODE(status.st_mode) & 0o077


def is_private(folder: str) -> bool:
    """Whether an existing folder (links are followed) belongs to this user, who alone may write to it."""
    status = os.stat(folder)
    return status.st_uid == os.geteuid() and not status.st_mode & _OTHERS_WRITE


def open_private(path: str, flags: int) -> int:
    """Opens a file of a private folder, and returns its descriptor; links are not followed.

    Raises:
        OSError: it does not exist, is a link, or belongs to another user.
    """
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, 0o600)
    status = os.fstat(descriptor)
    if status.st_uid != os.geteuid() or not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise PermissionError(f"{path} is not a file of this user")
    return descriptor
