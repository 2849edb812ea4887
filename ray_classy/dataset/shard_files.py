"""Finds tar files by name, and reads bytes in them by offset."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Sequence
from typing import Any

from ray_classy.dataset.source_files import SourceFiles, find_files
from ray_classy.errors import ComponentError, DataError
from ray_classy.urls import Stamp, expanded, is_url, located, reason, shown

_OPEN_FILES = 64
_MOST_NAMES = 1_000_000  # for which the braces of a pattern may stand
_BRACES = re.compile(r"\{(?:(\d+)\.\.(\d+)|([^{}]*,[^{}]*))\}")


def find_shards(shards: str | Sequence[str]) -> list[str]:
    """Finds the tar files of a path, a glob, a folder, a path with braces or a list of those; each may be a URL.

    Raises:
        ComponentError: one is a pipe.
        DataError: there is none.
    """
    given = [shards] if isinstance(shards, str | os.PathLike) else shards
    if not given or not all(given):
        raise ComponentError(f"shards must be a path or a list of at least one, not {shards!r}")
    entries = [expanded(entry) for entry in given]
    patterns = [name for entry in entries for name in ([entry] if os.path.exists(entry) else expand_braces(entry))]
    for pattern in patterns:
        if pattern.startswith("pipe:"):
            raise ComponentError(f"shards are read by offset, not from {pattern!r}: give paths or URLs of tar files")
    # Compressed ones are found too, so that the index can say what is wrong with them.
    return find_files(patterns, (".tar", ".tar.gz", ".tgz"))


def expand_braces(pattern: str) -> list[str]:
    """Expands a pattern such as `train-{000..012}.tar` or `{a,b}.tar` to names, in its order.

    Raises:
        ComponentError: the pattern expands to too many names.
    """
    count = 1
    for first, last, listed in _BRACES.findall(pattern):
        long = max(len(first), len(last)) > 20
        count *= listed.count(",") + 1 if listed else abs(int(last) - int(first)) + 1 if not long else _MOST_NAMES + 1
        if count > _MOST_NAMES:
            raise ComponentError(f"{pattern[:200]!r} expands to more than {_MOST_NAMES:,} names; correct the numbers")
    braces = _BRACES.search(pattern)
    if braces is None:
        return [pattern]
    first, last, listed = braces.groups()
    if listed is not None:
        inside = listed.split(",")
    else:
        step = 1 if int(first) <= int(last) else -1
        width = len(first) if first.startswith("0") or last.startswith("0") else 0
        inside = [str(number).zfill(width) for number in range(int(first), int(last) + step, step)]
    before, after = pattern[: braces.start()], expand_braces(pattern[braces.end() :])
    return [before + middle + end for middle in inside for end in after]


class ShardFiles:
    """Reads ranges of bytes from files, and keeps the most recently used files open.

    Threads may share it, since each read names its offset. A pickled copy opens its own files.

    Args:
        sources: the files with their size and time of change when they were indexed; a change is an error.
    """

    def __init__(self, sources: SourceFiles | None = None) -> None:
        self.sources = sources
        self._open = functools.lru_cache(maxsize=_OPEN_FILES)(self._opened)

    def _opened(self, path: str) -> _LocalFile | _UrlFile:
        if not is_url(path):
            return _LocalFile(path)
        file = _UrlFile(path)
        if self.sources is not None:
            self.sources.check([path])
        return file

    def read(self, path: str, offset: int, size: int) -> bytes:
        """Reads `size` bytes from `offset`.

        Raises:
            DataError: there is no such file, it has changed, it is shorter than that, or it cannot be read.
        """
        try:
            file = self._open(path)
            data = file.read(size, offset)
            if self.sources is not None and isinstance(file, _LocalFile):
                self.sources.compare(path, file.stamp())
        except FileNotFoundError as error:
            if self.sources is not None:
                self.sources.compare(path, None)
            raise DataError(f"there is no file {shown(path)!r}") from error
        except OSError as error:
            raise DataError(f"cannot read {shown(path)!r}: {reason(error)}") from error
        if len(data) < size:
            raise DataError(f"{shown(path)} ends before byte {offset + size}: it was cut after it was indexed")
        return data

    def __getstate__(self) -> dict[str, Any]:
        return {"sources": self.sources}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["sources"])  # type: ignore[misc]


class _LocalFile:
    """A local file, closed when no thread reads from it any more."""

    def __init__(self, path: str) -> None:
        self._descriptor = -1
        self._descriptor = os.open(path, os.O_RDONLY)

    def stamp(self) -> Stamp:
        status = os.fstat(self._descriptor)
        return Stamp(status.st_size, status.st_mtime_ns)

    def read(self, size: int, offset: int) -> bytes:
        data = os.pread(self._descriptor, size, offset)
        while 0 < len(data) < size:  # one call reads 2 GiB at most
            more = os.pread(self._descriptor, size - len(data), offset + len(data))
            if not more:
                break
            data += more
        return data

    def __del__(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)


class _UrlFile:
    """A file of a store, which is read by range."""

    def __init__(self, path: str) -> None:
        filesystem, inside = located(path)
        self._file = filesystem.open_input_file(inside)

    def read(self, size: int, offset: int) -> bytes:
        return self._file.read_at(size, offset)
