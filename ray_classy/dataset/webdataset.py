"""Images in tar files in WebDataset layout."""

from __future__ import annotations

import functools
from typing import Any, Literal

import numpy as np

from ray_classy.dataset.classy_dataset import register_dataset
from ray_classy.dataset.decode import MAX_FILE_BYTES, check_image_mode, decode_image
from ray_classy.dataset.image_dataset import ImageDataset
from ray_classy.dataset.image_formats import IMAGE_EXTENSIONS
from ray_classy.dataset.image_options import ImageOptions
from ray_classy.dataset.labels import Labels, class_targets, typed_labels
from ray_classy.dataset.row_dataset import RowDataset
from ray_classy.dataset.row_keys import member_keys
from ray_classy.dataset.rows import ItemRows
from ray_classy.dataset.shard_files import ShardFiles, find_shards
from ray_classy.dataset.shard_index import Layout, shard_index, shard_remarks
from ray_classy.dataset.source_files import SourceFiles, names_within
from ray_classy.errors import ComponentError, DataError
from ray_classy.urls import each, is_url, shown

_MOST_REMARKS = 3  # about shards


@register_dataset("webdataset")
class WebDatasetDataset(ImageDataset):
    """Images and labels in tar files (WebDataset): samples `{"input": image, "target": class}`.

    The members of a sample have the same name up to the first dot: `0001.jpg` and `0001.cls`. The shards are plain tar
    files, indexed when they are first used (see `shard_index`), so that any row can be read alone and rows are shuffled
    over all shards. Built from a config without `transforms`, the dataset applies `imagenet_no_augment` to RGB images
    and only `ToTensor` to grey ones.

    Args (after the common ones, see `ImageDataset`):
        shards: a path, a glob, a folder, a path with braces (`train-{000..012}.tar`), or a list of those;
            each may be a URL.
        image_extensions: of the images; of several in a sample, the first in this order is taken. None are those of
            all formats that are decoded.
        label_extension: of the labels: text, an integer or a name; or "json", with label_field. None for samples
            without a target.
        label_field: the label's field in the JSON object.
        classes: class names in the order of their targets, or a file of them (see `read_classes`). Without them,
            string labels are sorted, and integer labels are the targets.
        image_mode: "RGB" or "L" (grey).
        max_bad_rows: images per phase that are skipped if they cannot be decoded; one more is an error.

    Raises:
        ComponentError: an argument has an invalid value.
        DataError: no shard, one that is compressed or damaged, no rows, a sample without image or label, labels of
            mixed types, or a label that is not one of the classes.
    """

    decodes = True

    def open_rows(
        self,
        *,
        shards: str | list[str],
        image_extensions: list[str] | None = None,
        label_extension: str | None = "cls",
        label_field: str | None = None,
        classes: list[str] | None = None,
        image_mode: Literal["RGB", "L"] = "RGB",
        max_bad_rows: int = 0,
    ) -> RowDataset:
        import pyarrow as pa
        import pyarrow.compute as pc

        check_image_mode(image_mode)
        layout = _layout(image_extensions, label_extension, label_field)
        files = find_shards(shards)
        sources = SourceFiles(files)
        tables = each(lambda file: shard_index(file, layout, sources.stamps[file]), files, any(map(is_url, files)))
        counts = [len(table) for table in tables]
        if not sum(counts):
            raise DataError(f"no samples in {', '.join(map(shown, files[:3]))}{', ...' if len(files) > 3 else ''}")
        self.image_mode = image_mode
        self.classes = classes
        numbers = pa.array(np.repeat(np.arange(len(files), dtype=np.int32), counts))
        columns: dict[str, Any] = {"path": pa.DictionaryArray.from_arrays(numbers, pa.array(files))}
        for name in ("member", "offset", "size"):
            columns[name] = pa.chunked_array([chunk for table in tables for chunk in table.column(name).chunks])
            columns[name] = columns[name].combine_chunks()
        if label_extension is not None:
            self._labels, self.classes, _, self.remarks = _targets(tables, files, layout, classes)
            columns["label"] = self._labels
        stems = pc.replace_substring_regex(columns["member"], r"\.[^/]*$", "")  # a sample's files share it
        self._keys_of_rows = functools.partial(member_keys, names_within(shards, files), counts, stems)
        odd = [remark for table in tables for remark in shard_remarks(table)]
        more = [f"so it is with {len(odd) - _MOST_REMARKS:,} more shards"] if len(odd) > _MOST_REMARKS else []
        self.remarks = [*self.remarks, *odd[:_MOST_REMARKS], *more]
        return RowDataset(ItemRows(**columns), _Decode(image_mode, sources, self.image_options), max_bad_rows, sources)


def _layout(image_extensions: Any, label_extension: str | None, label_field: str | None) -> Layout:
    if image_extensions is None:
        image_extensions = IMAGE_EXTENSIONS
    elif isinstance(image_extensions, str) or not image_extensions:
        raise ComponentError(f"image_extensions must be a list of at least one, not {image_extensions!r}")
    if (label_extension == "json") != (label_field is not None):
        what = "needs the name of the label's field" if label_field is None else "goes with label_extension 'json' only"
        raise ComponentError(f"label_field {what}: label_extension is {label_extension!r}, label_field {label_field!r}")
    images = tuple(extension.lower().removeprefix(".") for extension in image_extensions)
    return Layout(images, label_extension and label_extension.lower().removeprefix("."), label_field)


def _targets(tables: list[Any], files: list[str], layout: Layout, classes: list[str] | None) -> Labels:
    def place(number: int, row: int) -> str:
        return f"{shown(files[number])}, {tables[number].column('member')[row].as_py()}"

    filled = [number for number, table in enumerate(tables) if len(table)]
    labels = [tables[number].column("label") for number in filled]
    if layout.label_field is None:
        labels = [
            typed_labels(part, classes, lambda row, number=number: place(number, row))  # type: ignore[misc]
            for number, part in zip(filled, labels, strict=True)
        ]
    names = [shown(files[number]) for number in filled]
    column = layout.label_field or layout.label_extension or ""
    return class_targets(labels, names, column, classes, lambda part, row: place(filled[part], row))


class _Decode:
    """Reads the image of a row from its shard and decodes it."""

    def __init__(self, mode: str, sources: SourceFiles, options: ImageOptions) -> None:
        self.mode, self.options = mode, options
        self.files = ShardFiles(sources)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        source, size = f"{shown(row['path'])}, {row['member']}", int(row["size"])
        if size > MAX_FILE_BYTES:
            raise DataError(f"{source}: {size:,} bytes, and at most {MAX_FILE_BYTES:,} are read")
        data = self.files.read(row["path"], int(row["offset"]), size)
        image = decode_image(data, self.mode, source, as_tensor=row.get("as_tensor", False), options=self.options)
        sample: dict[str, Any] = {"input": image}
        if "label" in row:
            sample["target"] = int(row["label"])
        return sample
