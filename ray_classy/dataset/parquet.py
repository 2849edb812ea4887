"""Images and labels in Parquet files."""

from __future__ import annotations

import bisect
import functools
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import Any, Literal

import numpy as np

from ray_classy.dataset.classy_dataset import register_dataset
from ray_classy.dataset.confined import confined
from ray_classy.dataset.decode import MAX_FILE_BYTES, check_image_mode, decode_image
from ray_classy.dataset.image_dataset import ImageDataset
from ray_classy.dataset.image_options import DEFAULT_OPTIONS, ImageOptions
from ray_classy.dataset.multi_label import is_list
from ray_classy.dataset.parquet_columns import (
    check_columns,
    parquet_names,
    read_labels,
    read_parquet_column,
    read_parquet_labels,
    read_partition,
)
from ray_classy.dataset.parquet_rows import ParquetRows
from ray_classy.dataset.row_dataset import RowDataset
from ray_classy.dataset.row_keys import numbered_keys
from ray_classy.dataset.source_files import SourceFiles, find_files, names_within
from ray_classy.dataset.target_columns import ONLY
from ray_classy.dataset.target_options import TargetOptions, target_options
from ray_classy.dataset.target_reading import LabelTable, read_targets
from ray_classy.errors import DataError
from ray_classy.urls import each, expanded, is_url, read_bytes, shown


@register_dataset("parquet")
class ParquetDataset(ImageDataset):
    """Rows of Parquet files with an image and a label column: samples `{"input": image, "target": class}`.

    Images are encoded bytes, structs `{bytes, path}` as Hugging Face writes them, or arrays of uint8 (lists of lists
    or fixed-shape tensors) of shape (H, W) or (H, W, channels). Labels are integers or strings; where Hugging Face
    wrote names for the integers (`ClassLabel`), the classes have these. Built from a config without `transforms`, the
    dataset applies `imagenet_no_augment` to RGB images and only `ToTensor` to grey ones. With several labels in a row,
    the target has one value per class, 1.0 or 0.0; with `targets` it is a dict of targets.

    Args (after the common ones, see `ImageDataset`):
        files: a path, a glob, a folder, or a list of those; each may be a URL; read in name order.
        image_column: name of the column of images.
        label_column: name of the column of labels; None for samples without a target. If the files do not have it, but
            lie in folders that name it (`label=cat/part-0.parquet`), those give the labels. A column of lists has any
            number of labels in a row.
        label_separator: what stands between the labels of a row ("|"), where a column of texts has several.
        label_columns: names or globs of columns with 0 or 1, one for each class, in the place of `label_column`.
        targets: several targets by name: a column each, or a mapping of the arguments of `TargetOptions` (`column`,
            `separator`, `columns`, `classes`, `optional`).
        root: folder or URL below which images lie that rows only refer to (`{bytes: null, path: ...}`); None reads no
            such images.
        classes: class names in the order of their targets, or a file of them (see `read_classes`). Without them,
            string labels are sorted, and integer labels are the targets.
        image_mode: "RGB" or "L" (grey).
        max_bad_rows: images per phase that are skipped if they cannot be decoded; one more is an error.

    Raises:
        ComponentError: an argument has an invalid value.
        DataError: no file, no such column, a column of the wrong type, no rows, or a label that is not one of the
            classes.
    """

    decodes = True

    def open_rows(
        self,
        *,
        files: str | list[str],
        image_column: str = "image",
        label_column: str | None = "label",
        label_separator: str | None = None,
        label_columns: str | list[str] | None = None,
        targets: dict[str, Any] | None = None,
        root: str | None = None,
        classes: list[str] | None = None,
        image_mode: Literal["RGB", "L"] = "RGB",
        max_bad_rows: int = 0,
    ) -> RowDataset:
        check_image_mode(image_mode)
        found = find_files(files, (".parquet",))
        sources = SourceFiles(found)
        several = target_options(label_column, label_separator, label_columns, targets, classes)
        if several is None and label_column is not None and is_list(parquet_names(found[0]).get(label_column)):
            several = {ONLY: TargetOptions(label_column, classes=classes)}
        if several is not None:
            label_column = None
        partition = None if label_column is None else read_partition(found, label_column, classes)
        if partition is not None:
            label_column = None
        sizes = check_columns(found, image_column, label_column)
        self._keys_of_rows = functools.partial(numbered_keys, names_within(files, found), sizes)
        self._read_column = functools.partial(read_parquet_column, found)
        self.image_mode = image_mode
        self.classes = classes
        columns, by_label = [image_column], None
        if label_column is not None:
            columns.append(label_column)
            self._labels, self.classes, by_label, self.remarks = read_labels(found, label_column, classes)
        elif partition is None and several is None:
            self.without_targets = "label_column is null: set it to the column of labels"
        decode: Any = functools.partial(
            encoded_sample,
            image_column=image_column,
            label_column=label_column,
            targets=by_label,
            mode=image_mode,
            root=root if root is None else expanded(root),
            options=self.image_options,
            files=shown(found[0]) + (f" and {len(found) - 1} more files" if len(found) > 1 else ""),
        )
        if partition is not None:
            self._labels, self.classes = np.repeat(partition.targets, sizes), partition.classes
            self.remarks = partition.remarks
            ends = list(accumulate(sizes))
            decode = functools.partial(_of_partition, decode=decode, targets=partition.targets.tolist(), ends=ends)
        if several is not None:
            decode = self.with_targets(decode, read_targets(_label_tables(found, several, image_column), several))
        return RowDataset(ParquetRows(found, columns, sizes, sources), decode, max_bad_rows)


def _label_tables(files: Sequence[str], options: Mapping[str, TargetOptions], image_column: str) -> list[LabelTable]:
    """Reads the columns of labels of all files."""
    there = list(parquet_names(files[0]))
    wanted = [name for one in options.values() for name in one.columns_among(there, shown(files[0]), [image_column])]
    return each(lambda file: read_parquet_labels(file, list(dict.fromkeys(wanted))), files, any(map(is_url, files)))


def _of_partition(
    row: dict[str, Any], decode: Callable[[dict[str, Any]], dict[str, Any]], targets: list[int], ends: list[int]
) -> dict[str, Any]:
    """Decodes a row whose label is that of its file."""
    return {**decode(row), "target": targets[bisect.bisect_right(ends, row["row"])]}


def encoded_sample(
    row: dict[str, Any],
    image_column: str,
    label_column: str | None,
    targets: dict[Any, int] | None,
    mode: str,
    files: str,
    root: str | None = None,
    options: ImageOptions = DEFAULT_OPTIONS,
) -> dict[str, Any]:
    """Decodes a row with an image and a label column.

    Args:
        row: the values, and its number under "row".
        image_column: name of the column of images.
        label_column: name of the column of labels; None for samples without a target.
        targets: class indices by label; None where labels are class indices.
        mode: a PIL mode, see `decode_image`.
        files: name of the files in errors.
        root: folder below which the paths lie that a row may have instead of bytes; None follows no path.
        options: see `decode_image`.

    Raises:
        DataError: the image cannot be decoded.
    """
    data, source = row[image_column], f"row {row['row']} of {files}" if "row" in row else files
    if isinstance(data, dict):  # the struct of an encoded image or of a reference to one
        named = data.get("path")
        data = data["bytes"] if data.get("bytes") is not None else named
        source = f"{source} ({shown(named)})" if isinstance(named, str) and named else source
    if isinstance(data, str):
        try:
            data = read_bytes(confined(data, root), most=MAX_FILE_BYTES)
        except DataError as error:
            raise DataError(f"{source}: {error}") from error
    image = decode_image(data, mode, source, as_tensor=row.get("as_tensor", False), options=options)
    sample: dict[str, Any] = {"input": image}
    if label_column is not None:
        label = row[label_column]
        sample["target"] = int(label) if targets is None else targets[label]
    return sample
