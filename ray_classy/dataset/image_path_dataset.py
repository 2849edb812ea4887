"""Images in a folder with one folder per class, or in a list of files."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Sequence
from typing import Any

from ray_classy.dataset.class_folders import FileKind, read_class_folders
from ray_classy.dataset.classy_dataset import register_dataset
from ray_classy.dataset.decode import decode_image
from ray_classy.dataset.folder_listing import check_encoding
from ray_classy.dataset.image_dataset import ImageDataset
from ray_classy.dataset.image_formats import IMAGE_EXTENSIONS, is_image_file
from ray_classy.dataset.image_options import ImageOptions
from ray_classy.dataset.row_dataset import RowDataset
from ray_classy.dataset.row_keys import keys_below, keys_of_paths
from ray_classy.dataset.rows import ItemRows
from ray_classy.errors import ComponentError, DataError
from ray_classy.urls import expanded, shown


@register_dataset("image_path")
class ImagePathDataset(ImageDataset):
    """Images from files: samples `{"input": RGB image, "target": class}`, or without a target where there is none.

    A folder of folders has one class per folder: classes in name order, files in path order, deeper folders belong to
    their class. A folder of files, and a list of files, have no classes. Images are found by extension, on a disk also
    by content; hidden files are ignored, and other files are counted in `remarks`. The files are listed when the
    dataset is built; one that is removed or changed afterwards is an error when it is read. Built from a config without
    `transforms`, the dataset applies `imagenet_no_augment` to the image.

    Args (after the common ones, see `ImageDataset`):
        image_folder: path or URL of the folder; exactly one of this and `image_files`.
        image_files: paths or URLs.
        classes: names and order of the classes, or a file of them (see `read_classes`), where they are not those of the
            folder: a test folder that lacks some, or images for a trained model.
        max_bad_rows: images per phase that are skipped if they cannot be decoded; one more is an error.

    Raises:
        ComponentError: not exactly one of image_folder and image_files is given.
        DataError: the folder does not exist, has no images, or a class that `classes` does not list.
    """

    FORMER_KEYS = (*ImageDataset.FORMER_KEYS, "split", "num_classes")

    decodes = True

    def open_rows(
        self,
        image_folder: str | None = None,
        image_files: list[str] | None = None,
        classes: list[str] | None = None,
        max_bad_rows: int = 0,
    ) -> RowDataset:
        if (image_folder is None) == (image_files is None):
            given = "both" if image_folder is not None else "neither"
            raise ComponentError(f"image_path takes either image_folder or image_files; {given} is given")
        columns: dict[str, Any]
        began = time.time()
        if image_folder is not None:
            if not isinstance(image_folder, str | os.PathLike):
                raise ComponentError(f"image_folder must be a path or a URL, not {image_folder!r}")
            folder = expanded(image_folder)
            kind = FileKind("image_folder", "images", IMAGE_EXTENSIONS, is_image_file)
            paths, labels, self.classes, self.remarks = read_class_folders(folder, classes, kind)
            self.without_targets = (
                f"image_folder {shown(folder)!r} has no class folders: expected one folder of images per class "
                f"(cat/1.png, dog/2.png, ...)"
            )
            columns = {"path": paths} if labels is None else {"path": paths, "label": labels}
            self._keys_of_rows = functools.partial(keys_below, folder, paths)
        else:
            assert image_files is not None
            if not isinstance(image_files, Sequence) or isinstance(image_files, str) or not image_files:
                raise DataError(f"image_files must be a list of at least one path, not {image_files!r}")
            columns = {"path": [expanded(file) for file in image_files]}
            check_encoding(columns["path"])
            self._keys_of_rows = functools.partial(keys_of_paths, list(image_files))
            self.classes = classes
            self.without_targets = "image_files have no labels: list files and labels in a `manifest`"
        decode = functools.partial(_sample, since=began, listed=image_folder is not None, options=self.image_options)
        self._labels = columns.get("label")
        return RowDataset(ItemRows(**columns), decode, max_bad_rows)


def _sample(row: dict[str, Any], since: float, listed: bool, options: ImageOptions) -> dict[str, Any]:
    path = row["path"]
    try:
        image = decode_image(path, since=since, as_tensor=row.get("as_tensor", False), options=options)
    except DataError as error:
        if listed and isinstance(error.__cause__, FileNotFoundError):
            raise DataError(f"{shown(path)!r} was removed since the run began") from error
        raise
    sample: dict[str, Any] = {"input": image}
    if "label" in row:
        sample["target"] = int(row["label"])
    return sample
