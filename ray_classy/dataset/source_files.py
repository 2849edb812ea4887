"""Finds the files of a dataset, and checks that they have not changed since it was built."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from ray_classy.errors import DataError
from ray_classy.urls import Stamp, each, expanded, files_below, is_url, joined, reason, shown, split_query, stamp_of

_WILD = re.compile(r"[*?\[]")


def find_files(pattern: str | Sequence[str], suffixes: tuple[str, ...]) -> list[str]:
    """Finds the files of a path, a glob, a folder or a list of those, sorted by name; each may be a URL.

    A path that exists is that path, also if it has signs of a glob in it (`data[v2]/t.parquet`); so is the part of it
    that exists. A glob that matches only folders means the files in them. Hidden files and folders, and those
    whose names begin with `_`, are not among those of a folder.

    Args:
        pattern: one or several of them.
        suffixes: of the files in a folder; messages name the first.

    Raises:
        DataError: there is none, or a store cannot be read.
    """
    if not isinstance(pattern, str | os.PathLike):
        return [file for entry in pattern for file in find_files(entry, suffixes)]
    pattern = expanded(pattern)
    if is_url(pattern):
        found = _find_urls(pattern, suffixes)
    elif os.path.exists(pattern):
        found = _files_of(pattern, suffixes)
    else:
        matched = _globbed(pattern)
        found = sorted(path for path in matched if not os.path.isdir(path))
        found = found or [file for folder in sorted(matched) for file in _files_of(folder, suffixes)]
    if not found:
        where = "" if is_url(pattern) else f" (looked in {os.getcwd()})"
        raise DataError(f"no {suffixes[0]} file at {shown(pattern)!r}{where}")
    return found


def names_within(pattern: str | Sequence[str], files: Sequence[str]) -> list[str]:
    """Returns the names of found files within the folder that they were looked for in, so that it can be moved.

    The folder of `data/train-*.tar` is `data`, and so is that of `data` itself; of a path to a file it is the one that
    the file is in.

    Args:
        pattern: as given to `find_files`.
        files: what that found.
    """
    entries = [pattern] if isinstance(pattern, str | os.PathLike) else pattern
    paths = [split_query(file)[0] for file in files]
    there = set(paths)
    folders = {_fixed_folder(split_query(expanded(entry))[0], there) for entry in entries}
    longest = sorted(folders, key=len, reverse=True)
    names = []
    for path in paths:
        folder = next((one for one in longest if path.startswith(one)), "")
        names.append(path[len(folder) :])
    return names


def _fixed_folder(entry: str, files: set[str]) -> str:
    """Returns the part of an entry, with its last slash, that names a folder before the first sign of a pattern."""
    if entry in files:
        return entry[: entry.rfind("/") + 1]
    if not is_url(entry) and os.path.isdir(entry):
        return os.path.join(entry, "")
    wild = re.search(r"[*?\[{]", entry)
    if wild is None:
        return entry.rstrip("/") + "/"
    return entry[: entry.rfind("/", 0, wild.start()) + 1]


def _files_of(path: str, suffixes: tuple[str, ...]) -> list[str]:
    """Returns the files of a folder, or the path of a file."""
    if not os.path.isdir(path):
        return [path]
    found: list[str] = []
    for folder, below, files in os.walk(path):
        below[:] = [name for name in below if not name.startswith((".", "_"))]
        found.extend(os.path.join(folder, file) for file in files if _is_wanted(file, suffixes))
    return sorted(found)


def _globbed(pattern: str) -> list[str]:
    parts = pattern.split(os.sep)
    there = 0
    while there < len(parts) - 1 and os.path.isdir(os.sep.join(parts[: there + 1]) or os.sep):
        there += 1
    start, rest = os.sep.join(parts[:there]), os.sep.join(parts[there:])
    return glob.glob(os.path.join(glob.escape(start + os.sep), rest) if there else rest, recursive=True)


def _is_wanted(name: str, suffixes: tuple[str, ...]) -> bool:
    return name.lower().endswith(suffixes) and not any(part.startswith((".", "_")) for part in name.split("/"))


def _find_urls(pattern: str, suffixes: tuple[str, ...]) -> list[str]:
    start, query = split_query(pattern)
    host = start.index("/", start.index("://") + 3) if "/" in start.partition("://")[2] else len(start)
    wild = _WILD.search(start, host)
    if wild is not None and _stamp(pattern) is not None:
        return [pattern]
    if wild is None:
        names = [name for name, _ in files_below(pattern) or () if _is_wanted(name, suffixes)]
        if not names and _stamp(pattern) is not None:
            return [pattern]
        return [joined(pattern, name) for name in sorted(names)]
    base = start.rindex("/", 0, wild.start())
    folder, wanted = start[:base] + query, re.compile(_as_regex(start[base + 1 :]))
    names = sorted(name for name, _ in files_below(folder) or ())
    found = [name for name in names if wanted.fullmatch(name)]
    found = found or [name for name in names if _is_wanted(name, suffixes) and any(map(wanted.fullmatch, _above(name)))]
    return [joined(folder, name) for name in found]


def _above(name: str) -> list[str]:
    """Returns the folders that a file is in: `a/b/c.tar` is in `a` and `a/b`."""
    parts = name.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts))]


def _as_regex(pattern: str) -> str:
    """Converts a glob to a regular expression: `**` matches any number of folders, the other signs none."""
    text = ""
    for part in pattern.split("/"):
        if part == "**":
            text += "(?:[^/.][^/]*/)*"
            continue
        for sign in re.findall(r"\[!?\]?[^\]]*\]|.", part):
            if len(sign) > 1:
                text += "[" + sign[1:].replace("\\", "\\\\").replace("!", "^", sign[1] == "!")
            else:
                text += {"*": "[^/]*", "?": "[^/]"}.get(sign) or re.escape(sign)
        text += "/"
    return text.removesuffix("/") if text.endswith("/") else f"{text}[^/]+"


def _stamp(file: str) -> Stamp | None:
    try:
        return stamp_of(file)
    except OSError as error:
        raise DataError(f"cannot read {shown(file)!r}: {reason(error)}") from None


class SourceFiles:
    """The files that a dataset is made of, with their sizes and times of change when it was built.

    Attributes:
        stamps: size and time of change by file.

    Args:
        files: paths or URLs.

    Raises:
        DataError: one does not exist, cannot be read, or is not a plain file.
    """

    def __init__(self, files: Iterable[str]) -> None:
        listed = list(dict.fromkeys(files))
        self._on_disk = [file for file in listed if not is_url(file)]
        self._in_stores = [file for file in listed if is_url(file)]
        self._just_checked = False
        self.stamps: Mapping[str, Stamp] = dict(
            zip(listed, each(self._first, listed, bool(self._in_stores)), strict=True)
        )

    @staticmethod
    def _first(file: str) -> Stamp:
        stamp = _stamp(file)
        if stamp is None:
            raise DataError(f"there is no file {shown(file)!r}")
        if not is_url(file) and not os.path.isfile(file):
            raise DataError(f"{shown(file)!r} is not a file but a folder, pipe or device; rename or remove it")
        return stamp

    def check(self, files: Iterable[str] | None = None) -> None:
        """Checks that files are as they were.

        Args:
            files: some of them; None checks all.

        Raises:
            DataError: one was removed, replaced or cut off since; the message names it.
        """
        each(self._check, self.stamps if files is None else files, bool(self._in_stores))

    def check_in_phase(self, rank: int, ends: bool) -> None:
        """Checks the files as one of many ranks, at the beginning or at the end of a phase.

        Every rank checks local files, since each machine may have its own. A file in a store costs a request and is the
        same for all ranks: rank 0 checks it at the end of a phase, and at the beginning if no check has just ended
        another phase.

        Args:
            rank: the rank of this process.
            ends: whether the phase ends, or begins.

        Raises:
            DataError: one was removed, replaced or cut off since; the message names it.
        """
        self.check(self._on_disk)
        if rank != 0:
            return
        if ends or not self._just_checked:
            self.check(self._in_stores)
        self._just_checked = ends

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_just_checked": False}

    def _check(self, file: str) -> None:
        self.compare(file, _stamp(file))

    def compare(self, file: str, now: Stamp | None) -> None:
        """Checks one file whose stamp was just read; None if it does not exist any more."""
        then = self.stamps[file]
        if now is None:
            raise DataError(
                f"{shown(file)!r} was removed since the run began: put it back, or start a new run without it"
            )
        if now != then:
            raise DataError(
                f"{shown(file)!r} was changed since the run began: it had {_described(then)}, and has "
                f"{_described(now)}; put the former file back or start a new run"
            )


def _described(stamp: Stamp) -> str:
    size = "an unknown size" if stamp.size is None else f"{stamp.size} bytes"
    if stamp.changed_ns is None:
        return size
    return f"{size} of {datetime.fromtimestamp(stamp.changed_ns / 1e9):%Y-%m-%d %H:%M:%S.%f}"
