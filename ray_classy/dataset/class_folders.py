"""Lists the files of a folder that has one folder per class."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from ray_classy.errors import DataError
from ray_classy.registry import nearest
from ray_classy.urls import files_below, is_url, joined, shown


def read_class_folders(
    folder: str, classes: Sequence[str] | None, extensions: tuple[str, ...], key: str, what: str
) -> tuple[list[str], np.ndarray | None, list[str] | None]:
    """Returns the files, their targets and the classes in target order; no targets without class folders.

    Classes come in name order, files in path order; deeper folders belong to their class. Hidden files and those with
    other extensions are ignored.

    Args:
        folder: path or URL.
        classes: the classes where they are not those of the folder.
        extensions: of the files, in lower case with the dot.
        key: name of the folder's key in the config.
        what: noun for the files in messages ("videos").

    Raises:
        DataError: the folder does not exist, has no such files, has some beside the class folders, or has a class that
            `classes` does not list.
    """
    loose, folders = (_listed_url if is_url(folder) else _listed)(folder, extensions, key)
    name, sought = shown(folder), f"looked for files ending in {', '.join(extensions)}"
    if not folders:
        if not loose:
            raise DataError(f"no {what} in {name!r}: {sought}, or one folder of such files per class")
        return loose, None, list(classes) if classes is not None else None
    names = sorted(folders)
    if loose:
        raise DataError(
            f"{name!r} has {len(loose)} {what} ({os.path.basename(shown(loose[0]))}, ...) beside the class folders "
            f"({names[0]}, ...): move them into a class folder or elsewhere"
        )
    targets = {known: target for target, known in enumerate(classes if classes is not None else names)}
    unknown = [found for found in names if found not in targets]
    if unknown:
        near = nearest(unknown[0], list(targets))
        raise DataError(
            f"{name!r} has class folders that `classes` does not list: {', '.join(unknown[:5])}"
            + (f" (did you mean {near}?)" if near else f" (it lists {', '.join(list(targets)[:5])}, ...)")
        )
    for below in names:
        if not folders[below]:
            raise DataError(f"class folder {shown(joined(folder, below))!r} has no {what}: {sought}")
    labels = np.repeat(
        np.array([targets[below] for below in names], dtype=np.int64), [len(folders[below]) for below in names]
    )
    return [path for below in names for path in folders[below]], labels, list(targets)


def _listed(folder: str, extensions: tuple[str, ...], key: str) -> tuple[list[str], dict[str, list[str]]]:
    """Returns the files in a folder itself, and those below each folder in it, in path order."""
    if not os.path.isdir(folder):
        lacks = "is not a folder" if os.path.exists(folder) else "does not exist"
        raise DataError(f"{key} {folder!r} {lacks} (looked in {os.getcwd()})")
    loose, folders = [], {}
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                folders[entry.name] = sorted(_files_below(entry.path, extensions))
            elif entry.name.lower().endswith(extensions):
                loose.append(entry.path)
    return sorted(loose), folders


def _listed_url(folder: str, extensions: tuple[str, ...], key: str) -> tuple[list[str], dict[str, list[str]]]:
    """Does the same for the folder of a URL, with one listing."""
    found = files_below(folder)
    if not found:
        raise DataError(f"{key} {shown(folder)!r} does not exist, or is empty")
    loose: list[str] = []
    folders: dict[str, list[str]] = {}
    for path in sorted(name for name, _ in found if not name.startswith(".") and "/." not in name):
        first, slash, _ = path.partition("/")
        if slash:
            folders.setdefault(first, [])
        if path.lower().endswith(extensions):
            (folders[first] if slash else loose).append(joined(folder, path))
    return loose, folders


def _files_below(folder: str, extensions: tuple[str, ...]) -> list[str]:
    found = []
    pending = [folder]
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.name.lower().endswith(extensions):
                    found.append(entry.path)
                elif entry.is_dir():
                    pending.append(entry.path)
    return found
