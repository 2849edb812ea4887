"""Images that are listed in a file with their labels."""

from __future__ import annotations

import bisect
import functools
import os
import time
from itertools import accumulate
from typing import Any, Literal

from ray_classy.dataset.classy_dataset import register_dataset
from ray_classy.dataset.decode import check_image_mode, decode_image
from ray_classy.dataset.image_dataset import ImageDataset
from ray_classy.dataset.image_options import ImageOptions
from ray_classy.dataset.labels import class_targets
from ray_classy.dataset.manifest_column import read_column
from ray_classy.dataset.manifest_file import read_manifest
from ray_classy.dataset.manifest_targets import holds_lists, read_label_table
from ray_classy.dataset.row_dataset import RowDataset
from ray_classy.dataset.row_keys import text_keys
from ray_classy.dataset.rows import ItemRows
from ray_classy.dataset.target_columns import ONLY
from ray_classy.dataset.target_options import TargetOptions, target_options
from ray_classy.dataset.target_reading import read_targets
from ray_classy.errors import ComponentError, DataError
from ray_classy.urls import expanded, is_url, parent, shown, split_query


@register_dataset("manifest")
class ManifestDataset(ImageDataset):
    """Images whose paths and labels are the rows of a file: samples `{"input": image, "target": class}`.

    With several labels in a row, the target has one value per class, 1.0 or 0.0; with `targets` it is a dict of such
    targets.

    The file is CSV (.csv, .tsv; .txt with `delimiter`), JSON Lines (.jsonl, .ndjson) or Parquet; other columns are
    ignored. The first line of CSV names the columns, unless they are given by number. Paths are files or URLs. The
    images are first opened when they are read. Built from a config without `transforms`, the dataset applies
    `imagenet_no_augment` to RGB images and only `ToTensor` to grey ones.

    Args (after the common ones, see `ImageDataset`):
        manifest: path or URL of the file, or a list of them, read in that order.
        path_column: name of the column of paths; its number, from 0, if CSV does not begin with names of columns.
        label_column: name or number of the column of labels; None for samples without a target. A column of lists
            has any number of labels in a row; in CSV they are texts such as `['cat', 'dog']`.
        label_separator: what stands between the labels of a row ("|"), where a column of texts has several.
        label_columns: names or globs of columns with 0 or 1, one for each class, in the place of `label_column`.
        targets: several targets by name: a column each, or a mapping of the arguments of `TargetOptions` (`column`,
            `separator`, `columns`, `classes`, `optional`).
        root: folder or URL at which relative paths start; None is the folder of the manifest.
        path_suffix: what is added to each path (".jpg", where the column has names without an extension).
        delimiter: what separates values in CSV; None finds it among comma, semicolon, tab and |.
        classes: class names in the order of their targets, or a file of them (see `read_classes`). Without them,
            string labels are sorted, and integer labels are the targets.
        image_mode: "RGB" or "L" (grey).
        max_bad_rows: images per phase that are skipped if they are missing or cannot be decoded; one more is an error.

    Raises:
        ComponentError: an argument has an invalid value.
        DataError: no file, one of an unknown kind or damaged, no such column, no rows, a row without a path, labels of
            mixed types, or a label that is not one of the classes.
    """

    decodes = True

    def open_rows(
        self,
        *,
        manifest: str | list[str],
        path_column: str | int = "path",
        label_column: str | int | None = "label",
        label_separator: str | None = None,
        label_columns: str | list[str] | None = None,
        targets: dict[str, Any] | None = None,
        root: str | None = None,
        path_suffix: str = "",
        delimiter: str | None = None,
        classes: list[str] | None = None,
        image_mode: Literal["RGB", "L"] = "RGB",
        max_bad_rows: int = 0,
    ) -> RowDataset:
        import pyarrow as pa

        check_image_mode(image_mode)
        if not isinstance(path_suffix, str):
            raise ComponentError(f"path_suffix must be text such as '.jpg', not {path_suffix!r}")
        given = [manifest] if isinstance(manifest, str | os.PathLike) else manifest
        if not given or not all(given):
            raise ComponentError(f"manifest must be a path or a list of at least one, not {manifest!r}")
        files = [expanded(file) for file in given]
        roots = [parent(file) if root is None else expanded(root) for file in files]
        began = time.time()
        several = target_options(label_column, label_separator, label_columns, targets, classes)
        if several is None and label_column is not None and holds_lists(files[0], label_column, delimiter):
            several = {ONLY: TargetOptions(label_column, classes=classes)}
        if several is not None:
            label_column = None
        elif label_column is None:
            self.without_targets = "label_column is null: set it to the column of labels"
        self.image_mode = image_mode
        self.classes = classes
        paths, labels, named = [], [], []
        ids: list[Any] = []
        for file, start in zip(files, roots, strict=True):
            found = read_manifest(file, path_column, label_column, classes, delimiter)
            ids.append(found.paths)
            paths.append(_located(found.paths, start, path_suffix))
            labels.append(found.labels)
            named.append(found.label_names)
        ends = list(accumulate(len(part) for part in paths))
        if not ends[-1]:
            raise DataError(f"no rows in {', '.join(map(shown, files[:3]))}{', ...' if len(files) > 3 else ''}")
        columns: dict[str, Any] = {"path": pa.concat_arrays(paths)}
        self._keys_of_rows = functools.partial(text_keys, pa.chunked_array(ids))
        self._read_column = functools.partial(read_column, files, delimiter)
        if label_column is not None:
            self._labels, self.classes, _, self.remarks = class_targets(
                labels, [shown(file) for file in files], str(label_column), classes, named=named
            )
            columns["label"] = self._labels
        decode: Any = functools.partial(
            _sample,
            mode=image_mode,
            files=files,
            roots=roots,
            ends=ends,
            since=began,
            options=self.image_options,
        )
        if several is not None:
            tables = [read_label_table(file, several, path_column, delimiter) for file in files]
            decode = self.with_targets(decode, read_targets(tables, several))
        return RowDataset(ItemRows(**columns), decode, max_bad_rows)


def _located(paths: Any, root: str, suffix: str) -> Any:
    """Adds the suffix to paths, and joins relative ones to the root."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if suffix:
        paths = pc.binary_join_element_wise(
            paths, pa.scalar(suffix, pa.large_string()), pa.scalar("", pa.large_string())
        )
    if not root or pc.all(pc.starts_with(paths, "/")).as_py():  # (the usual cases, and fast)
        return paths
    start, query = split_query(root)
    before, after, between = (pa.scalar(text, pa.large_string()) for text in (start.rstrip("/") + "/", query, ""))
    complete = pc.match_substring_regex(paths, r"^(/|[A-Za-z][A-Za-z0-9+.-]*://)")
    return pc.if_else(complete, paths, pc.binary_join_element_wise(before, paths, after, between))


def _sample(
    row: dict[str, Any],
    mode: str,
    files: list[str],
    roots: list[str],
    ends: list[int],
    since: float,
    options: ImageOptions,
) -> dict[str, Any]:
    path = row["path"]
    try:
        image = decode_image(path, mode, since=since, as_tensor=row.get("as_tensor", False), options=options)
    except DataError as error:
        number = bisect.bisect_right(ends, row["row"])
        place = f"{shown(files[number])}, row {row['row'] - (ends[number - 1] if number else 0)}"
        missing = not is_url(path) and not os.path.exists(path)
        hint = f"; relative paths start at {roots[number] or os.getcwd()!r}, see `root`" if missing else ""
        raise DataError(f"{error} ({place}{hint})") from error
    sample: dict[str, Any] = {"input": image}
    if "label" in row:
        sample["target"] = int(row["label"])
    return sample
