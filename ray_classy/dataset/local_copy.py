"""A copy of Parquet files on this machine's disk, from which single rows are read.

A Parquet file is read a row group at a time, but a shuffled epoch needs its rows one by one. So each machine keeps an
uncompressed copy that processes map into their memory: the kernel caches the pages in use and drops them when memory is
short. The ranks of a machine make the copy together, file by file as rows are needed, and later runs use it again.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import os
import shutil
import tempfile
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from typing import Any

from ray_classy.dataset.parquet_columns import opened_parquet
from ray_classy.dataset.source_files import SourceFiles
from ray_classy.errors import DataError
from ray_classy.urls import shown

CACHE_VARIABLE = "RAY_CLASSY_CACHE"
"""The environment variable that names the folder for copies."""

_log = logging.getLogger(__name__)
_UNUSED_SECONDS = 24 * 3600
_SPARE_BYTES = 256 << 20
_STUCK_SECONDS = 600


def cache_folder() -> str:
    """Returns the folder of copies on this machine: `$RAY_CLASSY_CACHE`, or one among the user's temporary files."""
    return os.environ.get(CACHE_VARIABLE) or os.path.join(tempfile.gettempdir(), f"ray_classy-{os.getuid()}")


class LocalCopy:
    """Columns of Parquet files, each file copied to this machine's disk when it is first needed.

    Args:
        files: paths or URLs.
        columns: the columns to copy.
        sources: the files with their size and time of change when the dataset was built.
    """

    def __init__(self, files: Sequence[str], columns: Sequence[str], sources: SourceFiles) -> None:
        self._files, self._columns, self._sources = list(files), list(columns), sources
        self._folder: str | None = None
        self._lock = threading.Lock()

    def table(self, number: int) -> Any:
        """Returns the columns of a file as a memory-mapped Arrow table.

        Raises:
            DataError: the file cannot be read or has changed, or the disk has no room for the copies.
        """
        import pyarrow as pa

        above = cache_folder()
        try:
            with self._lock:
                if self._folder is None:
                    self._folder = self._opened(above)
            path = os.path.join(self._folder, f"{number:06d}.arrow")
            if not os.path.exists(path):
                with _lock_of(path, self._files[number]):
                    if not os.path.exists(path):
                        self._copy(number, path)
            return pa.ipc.open_file(pa.memory_map(path)).read_all()
        except OSError as error:
            raise DataError(
                f"{above} takes no copy of {shown(self._files[number])}: {error.strerror or error}; set "
                f"{CACHE_VARIABLE} to a folder with room for the Parquet files, on every machine"
            ) from error

    def _opened(self, above: str) -> str:
        """Opens the folder of the copies, which is not removed while this process lives."""
        folder = os.path.join(above, self._key())
        os.makedirs(above, mode=0o700, exist_ok=True)
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

    def _tables(self, file: str) -> Iterator[Any]:
        """Yields the columns of a file: an empty table with the schema, then a table per row group."""
        with opened_parquet(file) as opened:
            yield opened.schema_arrow.empty_table().select(self._columns)
            for group in range(opened.num_row_groups):
                yield opened.read_row_group(group, columns=self._columns)

    def _copy(self, number: int, path: str) -> None:
        import pyarrow as pa

        file = self._files[number]
        self._sources.check([file])
        try:
            tables = self._tables(file)
            with pa.OSFile(path + ".part", "wb") as sink, pa.ipc.new_file(sink, next(tables).schema) as writer:
                for table in tables:
                    writer.write_table(table.combine_chunks())
            self._sources.check([file])
            with open(path + ".part", "rb") as part:
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
    with open(path + ".lock", "w") as lock:
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
        os.makedirs(folder, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):  # another process just removed the folder
            path = os.path.join(folder, "in_use")
            mark = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
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
            if other != os.path.basename(folder):
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
    with contextlib.suppress(OSError), open(os.path.join(folder, "in_use"), "r+") as mark:
        if time.time() - os.fstat(mark.fileno()).st_mtime >= seconds:
            fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
