"""Images in a folder, one folder per class, or in a list of files."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np

from ray_classy.dataset.classy_dataset import register_dataset
from ray_classy.dataset.decode import decode_image
from ray_classy.dataset.image_dataset import ImageDataset
from ray_classy.dataset.rows import ItemRows, RowDataset
from ray_classy.errors import ComponentError, DataError
from ray_classy.registry import nearest

IMAGE_EXTENSIONS = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm")


@register_dataset("image_path")
class ImagePathDataset(ImageDataset):
    """Images from files: samples `{"input": RGB image, "target": class}`, or without a target where there is none.

    A folder of folders has one class per folder: classes in name order, files in path order, deeper folders belong to
    their class. A folder of files, and a list of files, have no classes. Hidden files are passed over. Built from a
    config without `transforms`, the dataset applies `imagenet_no_augment` to the image.

    Args:
        batchsize_per_replica: see `ClassyDataset`.
        shuffle: see `ClassyDataset`.
        transform: see `ClassyDataset`; the task wants one that makes tensors of the images.
        num_samples: see `ClassyDataset`.
        image_folder: the folder; exactly one of this and `image_files`.
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
        if image_folder is not None:
            columns, found = _read_folder(os.path.expanduser(image_folder), classes)
            self.classes = found
        else:
            assert image_files is not None
            if isinstance(image_files, str) or not image_files:
                raise DataError(f"image_files must be a list of at least one path, not {image_files!r}")
            columns = {"path": [os.fspath(file) for file in image_files]}
            self.classes = classes
        dataset = RowDataset(ItemRows(**columns), _sample, max_bad_rows)
        self._labels = columns.get("label")
        super().__init__(dataset, batchsize_per_replica, shuffle, transform, num_samples)


def _sample(row: dict[str, Any]) -> dict[str, Any]:
    sample: dict[str, Any] = {"input": decode_image(row["path"])}
    if "label" in row:
        sample["target"] = int(row["label"])
    return sample


def _read_folder(folder: str, classes: list[str] | None) -> tuple[dict[str, Any], list[str] | None]:
    """The columns `path` and (with class folders) `label`, and the classes in target order."""
    if not os.path.isdir(folder):
        what = "is no folder" if os.path.exists(folder) else "does not exist"
        raise DataError(f"image_folder {folder!r} {what} (looked in {os.getcwd()})")
    with os.scandir(folder) as entries:
        folders, images = [], []
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                folders.append(entry.name)
            elif _is_image(entry.name):
                images.append(entry.path)
    if not folders:
        if not images:
            raise DataError(f"no images in {folder!r}: {_sought()}, or one folder of such files per class")
        return {"path": sorted(images)}, classes
    if images:
        raise DataError(
            f"{folder!r} has {len(images)} images ({os.path.basename(min(images))}, ...) beside the class folders "
            f"({min(folders)}, ...): move them into a class folder or away"
        )
    names = sorted(folders)
    if classes is not None:
        strange = [name for name in names if name not in set(classes)]
        if strange:
            near = nearest(strange[0], classes)
            raise DataError(
                f"{folder!r} has class folders that `classes` does not list: {', '.join(strange[:5])}"
                + (f" (did you mean {near}?)" if near else f" (it lists {', '.join(classes[:5])}, ...)")
            )
    targets = {name: target for target, name in enumerate(classes if classes is not None else names)}
    paths: list[str] = []
    counts = []
    for name in names:
        inside = sorted(_images_below(os.path.join(folder, name)))
        if not inside:
            raise DataError(f"class folder {os.path.join(folder, name)!r} has no images: {_sought()}")
        paths += inside
        counts.append(len(inside))
    labels = np.repeat(np.array([targets[name] for name in names], dtype=np.int64), counts)
    return {"path": paths, "label": labels}, list(targets)


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
