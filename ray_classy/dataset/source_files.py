"""Which files a dataset is made of, and whether they still are what they were when it was built."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from ray_classy.errors import DataError
from ray_classy.urls import Stamp, each, files_below, is_url, joined, reason, shown, split_query, stamp_of

_WILD = re.compile(r"[*?\[]")


def find_files(pattern: str | Sequence[str], suffixes: tuple[str, ...]) -> list[str]:
    """The files that a path, a glob, a folder or a list of those stands for, sorted by name; each may be a URL.

    Raises:
        DataError: there is none, or a store cannot be read.
    """
    if not isinstance(pattern, str | os.PathLike):
        return [file for entry in pattern for file in find_files(entry, suffixes)]
    pattern = os.fspath(pattern)
    if is_url(pattern):
        found = _find_urls(pattern, suffixes)
    elif os.path.isdir(pattern):
        found = sorted(
            os.path.join(folder, file)
            for folder, _, files in os.walk(pattern)
            for file in files
            if _is_wanted(file, suffixes)
        )
    else:
        found = sorted(glob.glob(pattern, recursive=True))
    if not found:
        where = "" if is_url(pattern) else f" (looked in {os.getcwd()})"
        raise DataError(f"no {' or '.join(suffixes)} file at {shown(pattern)!r}{where}")
    return found


def _is_wanted(name: str, suffixes: tuple[str, ...]) -> bool:
    return name.lower().endswith(suffixes) and not name.startswith((".", "_"))


def _find_urls(pattern: str, suffixes: tuple[str, ...]) -> list[str]:
    start, query = split_query(pattern)
    host = start.index("/", start.index("://") + 3) if "/" in start.partition("://")[2] else len(start)
    wild = _WILD.search(start, host)
    if wild is None:
        names = [name for name, _ in files_below(pattern) or () if _is_wanted(name.rpartition("/")[2], suffixes)]
        if not names and _stamp(pattern) is not None:
            return [pattern]
        return [joined(pattern, name) for name in sorted(names)]
    base = start.rindex("/", 0, wild.start())
    folder, wanted = start[:base] + query, re.compile(_as_regex(start[base + 1 :]))
    return [
        joined(folder, name) for name in sorted(name for name, _ in files_below(folder) or ()) if wanted.fullmatch(name)
    ]


def _as_regex(pattern: str) -> str:
    """A glob as a regular expression: `**` stands for any number of folders, the other signs for none."""
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
        stamps: by file.

    Args:
        files: paths or URLs.

    Raises:
        DataError: one does not exist, or cannot be read.
    """

    def __init__(self, files: Iterable[str]) -> None:
        listed = list(dict.fromkeys(files))
        self._urls = any(is_url(file) for file in listed)
        self.stamps: Mapping[str, Stamp] = dict(zip(listed, each(self._first, listed, self._urls), strict=True))

    @staticmethod
    def _first(file: str) -> Stamp:
        stamp = _stamp(file)
        if stamp is None:
            raise DataError(f"there is no file {shown(file)!r}")
        return stamp

    def check(self, files: Iterable[str] | None = None) -> None:
        """Looks whether files are what they were.

        Args:
            files: some of them; None stands for all.

        Raises:
            DataError: one was removed, replaced or cut off since; the message names it.
        """
        each(self._check, self.stamps if files is None else files, self._urls)

    def _check(self, file: str) -> None:
        self.compare(file, _stamp(file))

    def compare(self, file: str, now: Stamp | None) -> None:
        """As `check`, where the file's stamp is known already."""
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
