"""The files of a folder that has one folder per class."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from ray_classy.errors import DataError
from ray_classy.registry import nearest


def read_class_folders(
    folder: str, classes: Sequence[str] | None, extensions: tuple[str, ...], key: str, what: str
) -> tuple[list[str], np.ndarray | None, list[str] | None]:
    """The files, their targets and the classes in target order; without class folders there are no targets.

    Classes come in name order, files in path order; deeper folders belong to their class. Hidden files and those with
    other extensions are passed over.

    Args:
        folder: a local folder.
        classes: the classes where they are not those of the folder.
        extensions: of the files, in lower case with the dot.
        key: what the folder is called in the config.
        what: what the files are called ("videos").

    Raises:
        DataError: the folder does not exist, has no such files, has some beside the class folders, or has a class that
            `classes` does not list.
    """
    if not os.path.isdir(folder):
        lacks = "is no folder" if os.path.exists(folder) else "does not exist"
        raise DataError(f"{key} {folder!r} {lacks} (looked in {os.getcwd()})")
    sought = f"looked for files ending in {', '.join(extensions)}"
    with os.scandir(folder) as listing:
        entries = [entry for entry in listing if not entry.name.startswith(".")]
    names = sorted(entry.name for entry in entries if entry.is_dir())
    loose = sorted(entry.path for entry in entries if not entry.is_dir() and entry.name.lower().endswith(extensions))
    if not names:
        if not loose:
            raise DataError(f"no {what} in {folder!r}: {sought}, or one folder of such files per class")
        return loose, None, list(classes) if classes is not None else None
    if loose:
        raise DataError(
            f"{folder!r} has {len(loose)} {what} ({os.path.basename(loose[0])}, ...) beside the class folders "
            f"({names[0]}, ...): move them into a class folder or away"
        )
    order = list(classes) if classes is not None else names
    targets = {name: target for target, name in enumerate(order)}
    strange = [name for name in names if name not in targets]
    if strange:
        near = nearest(strange[0], order)
        raise DataError(
            f"{folder!r} has class folders that `classes` does not list: {', '.join(strange[:5])}"
            + (f" (did you mean {near}?)" if near else f" (it lists {', '.join(order[:5])}, ...)")
        )
    paths: list[str] = []
    counts = []
    for name in names:
        inside = sorted(_files_below(os.path.join(folder, name), extensions))
        if not inside:
            raise DataError(f"class folder {os.path.join(folder, name)!r} has no {what}: {sought}")
        paths += inside
        counts.append(len(inside))
    return paths, np.repeat(np.array([targets[name] for name in names], dtype=np.int64), counts), order


def _files_below(folder: str, extensions: tuple[str, ...]) -> list[str]:
    found = []
    pending = [folder]
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir():
                    pending.append(entry.path)
                elif entry.name.lower().endswith(extensions):
                    found.append(entry.path)
    return found
