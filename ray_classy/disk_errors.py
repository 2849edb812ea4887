"""What the errors of a disk mean, in words for messages."""

from __future__ import annotations

import errno

FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
HINTS = {
    errno.ENOTDIR: "a file has the name of a folder in this path",
    errno.EEXIST: "a file has the name of a folder in this path",
    errno.EISDIR: "a folder has this name",
    errno.EFBIG: "it exceeds the file size limit of this process (ulimit -f) or of the file system",
    errno.EDQUOT: "the disk quota is exceeded",
    errno.ELOOP: "it is a link, or in a folder that is one, and links in a run's folder are not written through: "
    "replace the link by what it leads to, or remove it",
    errno.ENXIO: "it is a pipe or a device: remove it",
}


def size_text(number: float) -> str:
    """Returns a number of bytes in the unit that fits it, KiB at least."""
    for unit in ("KiB", "MiB"):
        number /= 1024
        if number < 1024:
            return f"{number:.1f} {unit}"
    return f"{number / 1024:.1f} GiB"
