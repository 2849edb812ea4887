"""Lists the files of one kind in a folder and in the folders below it, and counts the others."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from ray_classy.errors import DataError, DataNotFoundError
from ray_classy.urls import files_below, joined, shown

_OF_SYSTEMS = {"@eadir", "#recycle", "__macosx", "$recycle.bin", "system volume information", "lost+found"}
"""Folders that file servers and systems add; some have a copy of each image."""
_NOT_OPENED = re.compile(
    r"\.(cls|csv|db|gz|html|ini|jsonl?|lock|log|md|np[yz]|parquet|pkl|pth?|py|sh|tar|tmp|tsv|txt|xml|ya?ml|zip)", re.I
)
"""Extensions of files that are common beside images, and are not opened to see whether they are some."""
_MOST_KINDS = 6


@dataclass
class Listing:
    """The files of one kind in a folder.

    Attributes:
        loose: those in the folder itself, in path order.
        folders: those below each folder in it, in path order.
        direct: folders in it that have such files not only in folders of their own.
        dangling: links that lead nowhere.
        others: other files by extension, or by name if they are hidden.
        loops: links that lead back into a folder above.
    """

    loose: list[str] = field(default_factory=list)
    folders: dict[str, list[str]] = field(default_factory=dict)
    direct: set[str] = field(default_factory=set)
    dangling: list[str] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)
    loops: int = 0

    def passed_over(self) -> str:
        """Describes what is not read: "12 files passed over: 8 .txt, 4 .DS_Store"; empty if that is nothing."""
        count = sum(self.others.values())
        parts = []
        if count:
            kinds = sorted(self.others.items(), key=lambda item: (-item[1], item[0]))[:_MOST_KINDS]
            listed = ", ".join(f"{number:,} {kind}" for kind, number in kinds)
            more = ", ..." if len(self.others) > _MOST_KINDS else ""
            parts.append(f"{count:,} {'file' if count == 1 else 'files'} passed over: {listed}{more}")
        if self.loops:
            parts.append(f"{self.loops} links back into a folder above are not followed")
        return "; ".join(parts)

    def pass_over(self, name: str, kind: str | None = None) -> None:
        """Counts a file that is not read."""
        extension = name if name.startswith(".") else os.path.splitext(name)[1].lower()
        self.others[kind or extension or "no extension"] += 1


def list_folder(
    folder: str, key: str, extensions: tuple[str, ...], recognises: Callable[[str], bool] | None = None
) -> Listing:
    """Lists a folder on disk.

    Args:
        folder: its path.
        key: name of its key in the config.
        extensions: of the files that are listed, in lower case with the dot.
        recognises: whether a file without such an extension is to be listed; None lists none.

    Raises:
        DataError: it is not a folder, or one in it cannot be listed.
    """
    if not os.path.isdir(folder):
        lacks = "is not a folder" if os.path.exists(folder) else "does not exist"
        error = DataError if os.path.exists(folder) else DataNotFoundError
        raise error(f"{key} {folder!r} {lacks} (looked in {os.getcwd()})")
    listing, top = Listing(), _Folder(folder, None, _identity(os.stat(folder)), None)
    pending = [top]
    while pending:
        at = pending.pop()
        try:
            with os.scandir(at.path) as entries:
                for entry in entries:
                    if _is(entry.is_dir):
                        pending.extend(_folders(listing, entry, at))
                    else:
                        _add(listing, entry, at, extensions, recognises)
        except OSError as error:
            raise DataError(f"{key}: cannot list {at.path!r}: {error.strerror or error}") from None
    check_encoding([*listing.folders, *listing.loose, *(path for files in listing.folders.values() for path in files)])
    listing.loose.sort()
    for files in listing.folders.values():
        files.sort()
    return listing


def check_encoding(paths: Iterable[str]) -> None:
    """Checks that names of files are UTF-8, as configs, logs and Ray's blocks need them.

    Raises:
        DataError: one is not.
    """
    for path in paths:
        try:
            path.encode()
        except UnicodeEncodeError:
            raise DataError(
                f"the name of {os.fsencode(path)!r} is not UTF-8: rename it (convmv converts whole folders)"
            ) from None


class _Folder(NamedTuple):
    """A folder that is listed: its path, the name of its class, what it is on the disk, and the folder it is in."""

    path: str
    name: str | None
    identity: tuple[int, int]
    above: _Folder | None


def _is(kind: Callable[[], bool]) -> bool:
    try:
        return kind()
    except OSError:  # a link to itself
        return False


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _folders(listing: Listing, entry: os.DirEntry[str], at: _Folder) -> Iterator[_Folder]:
    """Yields the folder of an entry, if it is to be listed."""
    if entry.name.startswith(".") or entry.name.lower() in _OF_SYSTEMS:
        return
    identity = _identity(entry.stat())
    above: _Folder | None = at
    while above is not None:
        if above.identity == identity:
            listing.loops += 1
            return
        above = above.above
    if at.name is None:
        listing.folders[entry.name] = []
    yield _Folder(entry.path, at.name or entry.name, identity, at)


def _add(
    listing: Listing,
    entry: os.DirEntry[str],
    at: _Folder,
    extensions: tuple[str, ...],
    recognises: Callable[[str], bool] | None,
) -> None:
    """Adds a file to the listing, or counts it."""
    name, hidden = entry.name, entry.name.startswith(".")
    wanted = not hidden and name.lower().endswith(extensions)
    if not _is(entry.is_file):  # a link that leads nowhere, or a pipe, from which reading would never end
        link = entry.is_symlink() and not os.path.exists(entry.path)
        if link and wanted:
            listing.dangling.append(entry.path)
        else:
            listing.pass_over(name, "links that lead nowhere" if link else "pipes or devices")
        return
    if not wanted and not hidden and recognises is not None:
        wanted = not _NOT_OPENED.fullmatch(os.path.splitext(name)[1]) and recognises(entry.path)
    if not wanted:
        listing.pass_over(name)
    elif at.name is None:
        listing.loose.append(entry.path)
    else:
        listing.folders[at.name].append(entry.path)
        if at.above is not None and at.above.name is None:
            listing.direct.add(at.name)


def list_url(folder: str, key: str, extensions: tuple[str, ...]) -> Listing:
    """Lists the folder of a URL, with one request; no file is opened.

    Raises:
        DataError: it does not exist, or cannot be listed.
    """
    found = files_below(folder)
    if not found:
        raise DataNotFoundError(f"{key} {shown(folder)!r} does not exist, or is empty")
    listing = Listing()
    for path in sorted(name for name, _ in found):
        *folders, name = path.split("/")
        if any(part.startswith(".") or part.lower() in _OF_SYSTEMS for part in folders):
            continue
        if folders:
            listing.folders.setdefault(folders[0], [])
        if name.startswith(".") or not name.lower().endswith(extensions):
            listing.pass_over(name)
        elif folders:
            listing.folders[folders[0]].append(joined(folder, path))
            if len(folders) == 1:
                listing.direct.add(folders[0])
        else:
            listing.loose.append(joined(folder, path))
    return listing
