"""The memory of this machine, and errors where a config asks for more than it has."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from ray_classy.errors import RayClassyError, ResourceError

_LEAST_BYTES = 4 << 30
"""What a block may always take: threads and libraries reserve more than they use."""
_MOST_OF_REASON = 200
_CGROUP = "/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"


def machine_bytes() -> int | None:
    """Returns the memory of this machine, or of its container if that has less; None if it is not known."""
    try:
        known = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    except (ValueError, OSError):
        return None
    for file in _CGROUP:
        with contextlib.suppress(OSError, ValueError), open(file) as text:
            known.append(int(text.read()))
    return min(known)


@contextlib.contextmanager
def within_memory() -> Iterator[None]:
    """Lets a block fail where it asks for more memory than is free, instead of the kernel ending the process.

    One wrong number in a config may ask for terabytes, or for so many gigabytes that Linux gives them, and ends the
    process once it uses them. Elsewhere than on Linux the block runs without a limit.
    """
    free, used = _kilobytes("/proc/meminfo", "MemAvailable:"), _kilobytes("/proc/self/status", "VmData:")
    total = machine_bytes()
    if free is None or used is None or total is None:
        yield
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)  # shared memory and files that are mapped do not count
    limit = used + max(min(free, total), _LEAST_BYTES)
    for other in (soft, hard):
        limit = limit if other == resource.RLIM_INFINITY else min(limit, other)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _kilobytes(file: str, name: str) -> int | None:
    """Returns bytes that the kernel states in kB."""
    try:
        with open(file) as lines:
            return next((int(line.split()[1]) << 10 for line in lines if line.startswith(name)), None)
    except OSError:
        return None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of torch or Python says that memory ran out, on a CPU or a GPU."""
    torchs = type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error)
    return torchs or isinstance(error, MemoryError)


def out_of_memory(error: BaseException, what: str, remedy: str) -> ResourceError | None:
    """Returns the error to raise in place of one of torch's or Python's by which memory ran out; None for others.

    Args:
        error: the error.
        what: was done.
        remedy: what to do.
    """
    if isinstance(error, RayClassyError) or not is_out_of_memory(error):
        return None
    lines = str(error).strip().splitlines()
    reason = f" ({lines[0][:_MOST_OF_REASON]})" if lines else ""
    return ResourceError(f"{what} ran out of memory: {remedy}{reason}")


def reason_of(error: BaseException) -> str:
    """Returns the type of an error and the first line of its message, in plain words where memory ran out."""
    lines = str(error).strip().splitlines()
    if isinstance(error, MemoryError) or (lines and "can't allocate memory" in str(error)):
        what = f" ({lines[0]})" if lines else ""
        return f"it takes more memory than there is{what}; a size or a number may be too large"
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
