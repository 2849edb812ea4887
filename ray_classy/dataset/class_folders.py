"""Lists the files of a folder that has one folder per class."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple
from urllib.parse import unquote

import numpy as np

from ray_classy.dataset.class_match import check_class_names, few
from ray_classy.dataset.folder_listing import Listing, list_folder, list_url
from ray_classy.errors import DataError
from ray_classy.registry import nearest
from ray_classy.urls import is_url, joined, shown

_SPLITS = {"train", "training", "val", "valid", "validation", "test", "testing"}


class FileKind(NamedTuple):
    """The files that are looked for in a folder.

    Attributes:
        key: name of the folder's key in the config.
        what: noun for the files in messages ("videos").
        extensions: in lower case with the dot.
        recognises: whether a local file without such an extension is one by its content; None looks at extensions only.
    """

    key: str
    what: str
    extensions: tuple[str, ...]
    recognises: Callable[[str], bool] | None = None


class ClassFolders(NamedTuple):
    """The files of a folder.

    Attributes:
        paths: of the files.
        labels: their targets; None without class folders.
        classes: names in the order of their targets; None if they are not known.
        remarks: what was passed over.
    """

    paths: list[str]
    labels: np.ndarray | None
    classes: list[str] | None
    remarks: list[str]


def read_class_folders(folder: str, classes: Sequence[str] | None, kind: FileKind) -> ClassFolders:
    """Returns the files, their targets and the classes in target order; no targets without class folders.

    Classes come in name order, files in path order; deeper folders belong to their class. Of folders that are all named
    as Hive does it (`label=cat`), the value is the class. Hidden files and folders, and those that file servers add
    (`@eaDir`), are not read, other files are counted. Links are followed, but not back into a folder above.

    Args:
        folder: path or URL.
        classes: the classes where they are not those of the folder.
        kind: the files that are looked for.

    Raises:
        DataError: the folder does not exist, has no such files, has some beside the class folders, has a link that
            leads nowhere, or a class that `classes` does not list.
    """
    listing = (
        list_url(folder, kind.key, kind.extensions)
        if is_url(folder)
        else list_folder(folder, kind.key, kind.extensions, kind.recognises)
    )
    name, sought = shown(folder), f"looked for files ending in {', '.join(kind.extensions)}"
    passed_over = listing.passed_over()
    also = f"; {passed_over}" if passed_over else ""
    remarks = [passed_over] if passed_over else []
    if listing.dangling:
        raise DataError(
            f"{len(listing.dangling)} links in {name!r} lead nowhere ({few(listing.dangling)}): put back the files "
            f"that they link to, or remove the links"
        )
    if not any(listing.folders.values()) and not listing.loose:
        raise DataError(f"no {kind.what} in {name!r}: {sought}, or one folder of such files per class{also}")
    if not listing.folders:
        return ClassFolders(listing.loose, None, list(classes) if classes is not None else None, remarks)
    by_class = _by_class(listing, name)
    names = sorted(by_class)
    if listing.loose:
        raise DataError(
            f"{name!r} has {len(listing.loose)} {kind.what} ({os.path.basename(shown(listing.loose[0]))}, ...) beside "
            f"the class folders ({by_class[names[0]]}, ...): move them into a class folder or elsewhere"
        )
    targets = {known: target for target, known in enumerate(classes if classes is not None else names)}
    unknown = [found for found in names if found not in targets]
    if unknown:
        near = nearest(unknown[0], list(targets))
        raise DataError(
            f"{name!r} has class folders that `classes` does not list: {few(unknown)}"
            + (f" (did you mean {near}?)" if near else f" (it lists {few(list(targets))})")
        )
    files = [listing.folders[by_class[below]] for below in names]
    for below, found in zip(names, files, strict=True):
        if not found:
            raise DataError(
                f"class folder {shown(joined(folder, by_class[below]))!r} has no {kind.what}: {sought}{also}; remove "
                f"it if it is not a class"
            )
    labels = np.repeat(np.array([targets[below] for below in names], dtype=np.int64), [len(found) for found in files])
    return ClassFolders([path for found in files for path in found], labels, list(targets), remarks)


def _by_class(listing: Listing, name: str) -> dict[str, str]:
    """Returns the folders by the names of their classes, which are the folders' own or those after `label=`."""
    folders = list(listing.folders)
    parts = [re.fullmatch(r"([A-Za-z_]\w*)=(.+)", below) for below in folders]
    keys = {part[1] if part is not None else None for part in parts}
    if None in keys or len(keys) != 1:
        check_class_names(sorted(folders), f"class folders of {name!r}, sorted")
        if {below.lower() for below in folders} <= _SPLITS and not listing.direct:
            raise DataError(
                f"the class folders of {name!r} are {few(sorted(folders))}, each with folders in it: give one of them, "
                f"{joined(name, sorted(folders)[0])!r} say, which has one folder per class"
            )
        return {below: below for below in folders}
    found = {unquote(part[2]): part[0] for part in parts if part is not None}
    check_class_names(sorted(found), f"class folders of {name!r}, sorted")
    return found
