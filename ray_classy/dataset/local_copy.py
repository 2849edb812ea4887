"""A copy of Parquet files on this machine's disk, from which single rows are read.

A Parquet file is read a row group at a time, but a shuffled epoch needs its rows one by one. So each machine keeps an
uncompressed copy that processes map into their memory: the kernel caches the pages in use and drops them when memory is
short. The ranks of a machine make the copy together, file by file as rows are needed, and later runs use it again.

Copies are in a folder that only this user can write to, no link in it is followed, and each copy is checked before it
is read: a damaged one is made again.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import itertools
import logging
import mmap
import os
import re
import shutil
import tempfile
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from typing import Any

from ray_classy.dataset import parquet_budget
from ray_classy.dataset.parquet_source import opened_parquet
from ray_classy.dataset.private_folder import is_private, make_private, open_private
from ray_classy.dataset.source_files import SourceFiles
from ray_classy.errors import DataError
from ray_classy.urls import shown

CACHE_VARIABLE = "RAY_CLASSY_CACHE"
"""The environment variable that names the folder for copies."""

_log = logging.getLogger(__name__)
_UNUSED_SECONDS = 24 * 3600
_SPARE_BYTES = 256 << 20
_STUCK_SECONDS = 600
_KEY = re.compile(r"[0-9a-f]{24}")


def cache_folder() -> str:
    """Returns the folder of copies on this machine.

    It is `$RAY_CLASSY_CACHE`, if that is this user's alone, or else the folder `ray_classy-UID` in it; without the
    variable, that folder among the temporary files.
    """
    named = os.environ.get(CACHE_VARIABLE)
    chosen = named and os.path.realpath(os.path.expanduser(named))
    if chosen and not (os.path.isdir(chosen) and not is_private(chosen)):
        return chosen
    return os.path.join(chosen or tempfile.gettempdir(), f"ray_classy-{os.geteuid()}")


class LocalCopy:
    """Columns of Parquet files, each file copied to this machine's disk when it is first needed.

    Args:
        files: paths or URLs.
        columns: the columns to copy.
        sources: the files with their size and time of change when the dataset was built.
        rows: rows per file, by which a copy is checked.
    """

    def __init__(self, files: Sequence[str], columns: Sequence[str], sources: SourceFiles, rows: Sequence[int]) -> None:
        self._files, self._columns, self._sources, self._rows = list(files), list(columns), sources, list(rows)
        self._folder: str | None = None
        self._lock = threading.Lock()

    def table(self, number: int) -> Any:
        """Returns the columns of a file as a memory-mapped Arrow table.

        Raises:
            DataError: the file cannot be read or has changed, or the disk has no room for the copies.
        """
        above = cache_folder()
        try:
            with self._lock:
                if self._folder is None:
                    self._folder = self._opened(above)
            path = os.path.join(self._folder, f"{number:06d}.arrow")
            found = self._read(number, path)
            if found is None:
                with _lock_of(path, self._files[number]):
                    found = self._read(number, path)
                    if found is None:
                        self._copy(number, path)
                        found = self._read(number, path)
            if found is None:
                raise OSError(f"{path} cannot be read as it was written")
            return found
        except OSError as error:
            raise DataError(
                f"{above} takes no copy of {shown(self._files[number])}: {error.strerror or error}; set "
                f"{CACHE_VARIABLE} to a folder with room for the Parquet files, on every machine"
            ) from error

    def _read(self, number: int, path: str) -> Any:
        """Returns the table of a copy, mapped into memory; None if there is none, or if it is not a sound one."""
        import pyarrow as pa

        try:
            descriptor = open_private(path, os.O_RDONLY)
        except FileNotFoundError:
            return None
        try:
            mapped = mmap.mmap(descriptor, 0, prot=mmap.PROT_READ)
            table = pa.ipc.open_file(pa.py_buffer(mapped)).read_all()
            table.validate(full=True)  # a position outside of the file would end the process
        except (pa.ArrowException, ValueError):
            return None
        finally:
            os.close(descriptor)
        return table if table.num_rows == self._rows[number] and table.column_names == self._columns else None

    def _opened(self, above: str) -> str:
        """Opens the folder of the copies, which is not removed while this process lives."""
        folder = os.path.join(above, self._key())
        os.makedirs(os.path.dirname(above), exist_ok=True)
        make_private(above)
        weakref.finalize(self, os.close, _held(folder))
        copied = {name for name in os.listdir(folder) if name.endswith(".arrow")}
        missing = [file for number, file in enumerate(self._files) if f"{number:06d}.arrow" not in copied]
        needed = sum(self._sources.stamps[file].size or 0 for file in missing)
        if missing:
            _make_room(folder, needed)
        if not copied:
            _log.info("Parquet files are read through a copy (%.1f GiB) in %s", needed / 2**30, folder)
        return folder

    def _key(self) -> str:
        """Returns a name for the copies; those of files whose changes cannot be seen are for this process alone."""
        stamps = [self._sources.stamps[file] for file in self._files]
        blind = any(stamp.changed_ns is None for stamp in stamps)
        parts = [self._files, self._columns, stamps, os.getpid() if blind else 0]
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:24]

    def _tables(self, file: str, folder: str) -> Iterator[Any]:
        """Yields the columns of a file in tables of some megabytes, once there is room for them."""
        with opened_parquet(file) as source:
            needed = parquet_budget.unpacked_bytes(source, self._columns)
            if shutil.disk_usage(folder).free < needed + _SPARE_BYTES:
                _make_room(folder, needed)
            yield from parquet_budget.tables(source, self._columns)

    def _copy(self, number: int, path: str) -> None:
        import pyarrow as pa

        file = self._files[number]
        self._sources.check([file])
        with contextlib.suppress(FileNotFoundError):  # left by a process that was killed
            os.unlink(path + ".part")
        try:
            tables = self._tables(file, os.path.dirname(path))
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
            with open(open_private(path + ".part", flags), "wb") as part:
                first = next(tables)
                with pa.ipc.new_file(part, first.schema) as writer:
                    for table in itertools.chain([first], tables):
                        writer.write_table(table)
                self._sources.check([file])
                part.flush()
                os.fsync(part.fileno())  # a file that exists is complete, even after a power cut
            os.replace(path + ".part", path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(path + ".part")
            raise


@contextlib.contextmanager
def _lock_of(path: str, file: str) -> Iterator[None]:
    """Holds the lock of a copy within the block; the lock ends with its process at the latest.

    Raises:
        DataError: another process holds it, and has written nothing for ten minutes.
    """
    with open(open_private(path + ".lock", os.O_WRONLY | os.O_CREAT), "w") as lock:
        seen, since = -1, time.monotonic()
        while True:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            size = os.stat(path + ".part").st_size if os.path.exists(path + ".part") else 0
            if size != seen:
                seen, since = size, time.monotonic()
            elif time.monotonic() - since > _STUCK_SECONDS:
                raise DataError(
                    f"waited for another process of this machine to copy {shown(file)} to {path}; it has written "
                    f"nothing for {_STUCK_SECONDS // 60} minutes"
                )
            time.sleep(0.05)
        yield


def _held(folder: str) -> int:
    """Marks a folder as in use, and returns the open file descriptor of the mark."""
    while True:
        with contextlib.suppress(FileNotFoundError):  # another process just removed the folder
            make_private(folder, repair=True)  # earlier versions left it to the umask
            path = os.path.join(folder, "in_use")
            mark = open_private(path, os.O_RDWR | os.O_CREAT)
            fcntl.flock(mark, fcntl.LOCK_SH)
            if os.path.exists(path) and os.path.samestat(os.fstat(mark), os.stat(path)):
                os.utime(path)
                return mark
            os.close(mark)


def _make_room(folder: str, needed: int) -> None:
    """Removes unused copies: old ones, and all of them if the disk has too little room.

    Raises:
        DataError: there is still too little room.
    """
    above = os.path.dirname(folder)
    for seconds in (_UNUSED_SECONDS, 0):
        for other in os.listdir(above):
            if other != os.path.basename(folder) and _KEY.fullmatch(other):  # nothing else is removed
                _remove_unused(os.path.join(above, other), seconds)
        free = shutil.disk_usage(above).free
        if free >= needed + _SPARE_BYTES:
            return
    raise DataError(
        f"{above} has {free / 2**30:.1f} GiB free, and a copy of the Parquet files takes {needed / 2**30:.1f} GiB or "
        f"more: set {CACHE_VARIABLE} to a folder on a larger disk, or keep the images in files or tar shards, which "
        "are read in place"
    )


def _remove_unused(folder: str, seconds: float) -> None:
    if os.path.islink(folder):
        return
    with contextlib.suppress(OSError), open(open_private(os.path.join(folder, "in_use"), os.O_RDWR), "r+") as mark:
        if time.time() - os.fstat(mark.fileno()).st_mtime >= seconds:
            fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
