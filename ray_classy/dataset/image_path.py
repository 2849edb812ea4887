"""Images in a folder, one folder per class, or in a list of files."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from ray_classy.dataset.classy_dataset import register_dataset
from ray_classy.dataset.decode import decode_image
from ray_classy.dataset.image_dataset import ImageDataset
from ray_classy.dataset.rows import ItemRows, RowDataset
from ray_classy.errors import ComponentError, DataError
from ray_classy.registry import nearest
from ray_classy.urls import files_below, is_url, joined, shown

IMAGE_EXTENSIONS = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm")


@register_dataset("image_path")
class ImagePathDataset(ImageDataset):
    """Images from files: samples `{"input": RGB image, "target": class}`, or without a target where there is none.

    A folder of folders has one class per folder: classes in name order, files in path order, deeper folders belong to
    their class. A folder of files, and a list of files, have no classes. Hidden files are passed over. Which files
    there are is settled here; one that is removed or changed afterwards is an error when its turn comes. Built from a
    config without `transforms`, the dataset applies `imagenet_no_augment` to the image.

    Args:
        batchsize_per_replica: see `ClassyDataset`.
        shuffle: see `ClassyDataset`.
        transform: see `ClassyDataset`; the task wants one that makes tensors of the images.
        num_samples: see `ClassyDataset`.
        image_folder: path or URL of the folder; exactly one of this and `image_files`.
        image_files: paths or URLs.
        classes: names and order of the classes where they are not those of the folder: a test folder that lacks some,
            or pictures for a trained model.
        max_bad_rows: images that may fail to decode before it is an error.

    Raises:
        ComponentError: not exactly one of image_folder and image_files is given.
        DataError: the folder does not exist, has no images, or a class that `classes` does not list.
    """

    def __init__(
        self,
        batchsize_per_replica: int,
        shuffle: bool,
        transform: Callable[[Any], Any] | None = None,
        num_samples: int | None = None,
        image_folder: str | None = None,
        image_files: list[str] | None = None,
        classes: list[str] | None = None,
        max_bad_rows: int = 0,
    ) -> None:
        if (image_folder is None) == (image_files is None):
            given = "both" if image_folder is not None else "neither"
            raise ComponentError(f"image_path takes either image_folder or image_files; {given} is given")
        columns: dict[str, Any]
        began = time.time()
        if image_folder is not None:
            columns, found = _read_folder(os.path.expanduser(image_folder), classes)
            self.classes = found
        else:
            assert image_files is not None
            if isinstance(image_files, str) or not image_files:
                raise DataError(f"image_files must be a list of at least one path, not {image_files!r}")
            columns = {"path": [os.fspath(file) for file in image_files]}
            self.classes = classes
        decode = functools.partial(_sample, since=began, listed=image_folder is not None)
        dataset = RowDataset(ItemRows(**columns), decode, max_bad_rows)
        self._labels = columns.get("label")
        super().__init__(dataset, batchsize_per_replica, shuffle, transform, num_samples)


def _sample(row: dict[str, Any], since: float, listed: bool) -> dict[str, Any]:
    path = row["path"]
    try:
        sample: dict[str, Any] = {"input": decode_image(path, since=since)}
    except DataError as error:
        if listed and isinstance(error.__cause__, FileNotFoundError):
            raise DataError(f"{shown(path)!r} was removed since the run began") from error
        raise
    if "label" in row:
        sample["target"] = int(row["label"])
    return sample


def _read_folder(folder: str, classes: list[str] | None) -> tuple[dict[str, Any], list[str] | None]:
    """The columns `path` and (with class folders) `label`, and the classes in target order."""
    images, folders = _url_images(folder) if is_url(folder) else _local_images(folder)
    name = shown(folder)
    if not folders:
        if not images:
            raise DataError(f"no images in {name!r}: {_sought()}, or one folder of such files per class")
        return {"path": images}, classes
    if images:
        raise DataError(
            f"{name!r} has {len(images)} images ({os.path.basename(shown(images[0]))}, ...) beside the class folders "
            f"({min(folders)}, ...): move them into a class folder or away"
        )
    names = sorted(folders)
    if classes is not None:
        strange = [name for name in names if name not in set(classes)]
        if strange:
            near = nearest(strange[0], classes)
            raise DataError(
                f"{name!r} has class folders that `classes` does not list: {', '.join(strange[:5])}"
                + (f" (did you mean {near}?)" if near else f" (it lists {', '.join(classes[:5])}, ...)")
            )
    targets = {name: target for target, name in enumerate(classes if classes is not None else names)}
    paths: list[str] = []
    counts = []
    for below in names:
        if not folders[below]:
            raise DataError(f"class folder {shown(joined(folder, below))!r} has no images: {_sought()}")
        paths += folders[below]
        counts.append(len(folders[below]))
    labels = np.repeat(np.array([targets[name] for name in names], dtype=np.int64), counts)
    return {"path": paths, "label": labels}, list(targets)


def _local_images(folder: str) -> tuple[list[str], dict[str, list[str]]]:
    """The images that lie in a folder itself, and those below each folder in it, in path order."""
    if not os.path.isdir(folder):
        what = "is no folder" if os.path.exists(folder) else "does not exist"
        raise DataError(f"image_folder {folder!r} {what} (looked in {os.getcwd()})")
    images, folders = [], {}
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                folders[entry.name] = sorted(_images_below(entry.path))
            elif _is_image(entry.name):
                images.append(entry.path)
    return sorted(images), folders


def _url_images(folder: str) -> tuple[list[str], dict[str, list[str]]]:
    """As `_local_images`, from one listing."""
    found = files_below(folder)
    if not found:
        raise DataError(f"image_folder {shown(folder)!r} does not exist, or is empty")
    images: list[str] = []
    folders: dict[str, list[str]] = {}
    for path in sorted(name for name, _ in found if not name.startswith(".") and "/." not in name):
        first, slash, _ = path.partition("/")
        if slash:
            folders.setdefault(first, [])
        if _is_image(path):
            (folders[first] if slash else images).append(joined(folder, path))
    return images, folders


def _images_below(folder: str) -> list[str]:
    found = []
    pending = [folder]
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if _is_image(entry.name):
                    found.append(entry.path)
                elif entry.is_dir():
                    pending.append(entry.path)
    return found


def _is_image(name: str) -> bool:
    return name.lower().endswith(IMAGE_EXTENSIONS)


def _sought() -> str:
    return f"looked for files ending in {', '.join(IMAGE_EXTENSIONS)}"
