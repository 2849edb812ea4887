"""Finds images that are in both phases: local files of one size and one content."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from ray_classy.dataset.row_dataset import RowDataset
from ray_classy.urls import is_url

_CHUNK = 2048
_THREADS = 8
_TAIL = 4096
"""Last bytes of a file that are compared before all of it is: the first ones are alike in images of one camera."""


class Copies(NamedTuple):
    """Images of the test phases that are in the train phases too.

    Attributes:
        pairs: number and path of a test row, and of a train row of the same content.
        files: how many files there are in both phases.
        looked_at: how many of them were looked at; fewer if time ran out.
    """

    pairs: list[tuple[tuple[int, str], tuple[int, str]]]
    files: int
    looked_at: int


class _File(NamedTuple):
    row: int
    path: str
    size: int


def find_copies(train: RowDataset, test: RowDataset, end: float) -> Copies | None:
    """Compares the files of two phases; None if they are not local files.

    Args:
        train, test: the rows.
        end: on the clock of `time.monotonic`; what was not looked at by then is left out.
    """
    if not (_has_files(train) and _has_files(test)):
        return None
    total = len(train) + len(test)
    with ThreadPoolExecutor(_THREADS) as pool:
        of_size: dict[int, list[_File]] = {}
        tails: dict[str, int | None] = {}
        seen = 0
        for file in _files(test, pool.map, end):
            seen += 1
            of_size.setdefault(file.size, []).append(file)
        pairs = []
        for chunk in _chunks(_files(train, pool.map, end)):
            seen += len(chunk)
            alike = [file for file in chunk if file.size > 0 and file.size in of_size]
            wanted = {other.path for file in alike for other in of_size[file.size]} - tails.keys()
            tails.update(zip(wanted, pool.map(_tail, wanted), strict=True))
            for file, tail in zip(alike, pool.map(_tail, [file.path for file in alike]), strict=True):
                for other in of_size[file.size]:
                    if tail is not None and tail == tails[other.path] and _same(file.path, other.path):
                        pairs.append(((other.row, other.path), (file.row, file.path)))
    return Copies(pairs, total, seen)


def _has_files(base: RowDataset) -> bool:
    if not len(base) or not base.rows.random_access:
        return False
    row = base.rows.take([0])[0]
    return isinstance(row.get("path"), str) and "member" not in row and not is_url(row["path"])


def _files(base: RowDataset, each: Callable[..., Any], end: float) -> Iterator[_File]:
    """Yields the files of rows with their sizes, -1 where one cannot be read, until time runs out."""
    for start in range(0, len(base), _CHUNK):
        if time.monotonic() > end:
            return
        numbers = range(start, min(start + _CHUNK, len(base)))
        paths = [row["path"] for row in base.take(numbers)]
        for number, path, size in zip(numbers, paths, each(_size, paths), strict=True):
            yield _File(number, path, size)


def _chunks(files: Iterator[_File]) -> Iterator[list[_File]]:
    chunk = []
    for file in files:
        chunk.append(file)
        if len(chunk) == _CHUNK:
            yield chunk
            chunk = []
    yield chunk


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return -1


def _tail(path: str) -> int | None:
    """Returns a hash of the end of a file; None if it cannot be read."""
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _TAIL))
            return hash(file.read(_TAIL))
    except OSError:
        return None


def _same(one: str, other: str) -> bool:
    if os.path.realpath(one) == os.path.realpath(other):
        return True
    try:
        with open(one, "rb") as first, open(other, "rb") as second:
            while True:
                part = first.read(1 << 20)
                if part != second.read(1 << 20):
                    return False
                if not part:
                    return True
    except OSError:
        return False
