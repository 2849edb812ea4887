"""The images that the words of a command name: files, folders, tables, shards, lists; local or in stores."""

from __future__ import annotations

import bisect
import dataclasses
import functools
import glob
import os
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

from ray_classy.dataset.folder_listing import Listing, list_folder, list_url
from ray_classy.dataset.image_dataset import ImageDataset
from ray_classy.dataset.image_formats import IMAGE_EXTENSIONS, is_image_file
from ray_classy.dataset.manifest import ManifestDataset
from ray_classy.dataset.parquet import ParquetDataset
from ray_classy.dataset.row_dataset import row_dataset_of
from ray_classy.dataset.source_files import find_files
from ray_classy.dataset.webdataset import WebDatasetDataset
from ray_classy.errors import ComponentError, DataError
from ray_classy.inference.image_rows import ImageRows, ImageSource
from ray_classy.inference.preprocessing import Preprocessing
from ray_classy.registry import nearest
from ray_classy.urls import expanded, is_url, shown, split_query

MANIFESTS = (".csv", ".tsv", ".jsonl", ".ndjson")
_LISTS = (".txt",)
_SHARDS = (".tar", ".tar.gz", ".tgz")
_COMPRESSIONS = (".gz", ".bz2", ".zst", ".lz4")
_OPTIONS: dict[str, tuple[str, ...]] = {
    "images": (),
    "list": ("root", "path_suffix"),
    "manifest": ("path_column", "root", "path_suffix", "delimiter"),
    "parquet": ("image_column", "root"),
    "webdataset": ("image_extensions",),
}
"""The keys of the dataset that reads each kind of input."""


class Input(NamedTuple):
    """What a word of a command names.

    Attributes:
        kind: "images", "list" (of paths), "manifest", "parquet" or "webdataset".
        files: paths or URLs: of the images, or of the tables, shards or lists.
    """

    kind: str
    files: list[str]


def kind_of_file(path: str) -> str | None:
    """Returns the kind of input that a path or URL names by its suffix; None if it is another one."""
    name = split_query(path)[0].lower()
    if name.endswith(".parquet"):
        return "parquet"
    if name.endswith(_SHARDS):
        return "webdataset"
    for compression in _COMPRESSIONS:
        name = name.removesuffix(compression)
    return "manifest" if name.endswith(MANIFESTS) else "list" if name.endswith(_LISTS) else None


def inputs_in(words: Sequence[str]) -> tuple[list[Input], list[str]]:
    """Returns what words name, in their order, and remarks on what is passed over.

    Args:
        words: image files, folders of images (with those below them), Parquet files, shards (.tar), manifests and lists
            of paths; patterns such as `photos/*.jpg`, and URLs.

    Raises:
        DataError: a word leads to no image.
    """
    found: list[Input] = []
    remarks = []
    for word in map(expanded, words):
        kind = kind_of_file(word)
        if kind is not None and not (not is_url(word) and os.path.isdir(word)):
            listed = kind in ("manifest", "list") and glob.has_magic(split_query(word)[0]) and not os.path.exists(word)
            suffix = os.path.splitext(split_query(word)[0])[1]
            found.append(Input(kind, find_files(word, (suffix,)) if listed else [word]))
            continue
        one, remark = _images_at(word)
        remarks += [f"{shown(word)}: {remark}"] if remark else []
        if one.kind == "images" and found and found[-1].kind == "images":
            found[-1].files.extend(one.files)
        else:
            found.append(one)
    return found, remarks


def _images_at(word: str) -> tuple[Input, str | None]:
    """Returns the images that a word names, or the tables or shards in a folder without images, and a remark."""
    listing = None
    if is_url(word):
        if glob.has_magic(split_query(word)[0]):
            return Input("images", find_files(word, IMAGE_EXTENSIONS)), None
        if split_query(word)[0].lower().endswith(IMAGE_EXTENSIONS):
            return Input("images", [word]), None
        listing = list_url(word, "the folder", IMAGE_EXTENSIONS)
    elif os.path.isdir(word):
        listing = list_folder(word, "the folder", IMAGE_EXTENSIONS, is_image_file)
    elif os.path.exists(word):
        return Input("images", [word]), None
    if listing is None:
        paths = sorted(path for path in glob.glob(word, recursive=True) if os.path.isfile(path))
    else:
        paths = _images_of(listing)
    if paths:
        return Input("images", paths), listing.passed_over() if listing is not None else None
    for kind, suffixes in (("parquet", (".parquet",)), ("webdataset", _SHARDS)) if listing is not None else ():
        try:
            return Input(kind, find_files(word, suffixes)), None
        except DataError:
            continue
    raise DataError(_nothing(word, listing))


def _images_of(listing: Listing) -> list[str]:
    below = (path for name in sorted(listing.folders) for path in listing.folders[name])
    return [*listing.loose, *below]


def _nothing(word: str, listing: Listing | None) -> str:
    if listing is not None:
        passed = listing.passed_over()
        return f"the folder {shown(word)!r} has no images{f' ({passed})' if passed else ''}"
    if glob.has_magic(word):
        return f"no file matches {word!r} (looked in {os.getcwd()})"
    return f"there is no file or folder {shown(word)!r} (looked in {os.getcwd()})"


def rows_of(
    inputs: Sequence[Input],
    how: Preprocessing,
    options: Mapping[str, Any] | None = None,
    id_column: str | None = None,
) -> ImageRows:
    """Opens inputs as rows of images.

    Args:
        inputs: from `inputs_in`.
        how: the preprocessing of the model.
        options: keys of the datasets that read them, such as `image_column`; where they are left out, those of the
            model's own dataset count, if it is of the kind.
        id_column: a column of tables whose values name the rows besides their paths; None for no such ids.

    Raises:
        CheckpointError: the model has no preprocessing for images.
        ComponentError: an option is none of these inputs, or they have no columns.
        DataError: a file cannot be read; the message names it.
    """
    how.check()
    given = dict(options or {})
    known = list(dict.fromkeys(key for one in inputs for key in _OPTIONS[_kind(one, given)]))
    for key in given:
        if key not in known:
            near = nearest(key, known)
            hint = f"did you mean {near}?" if near else f"keys of these inputs: {', '.join(known) or 'none'}"
            raise ComponentError(f"the inputs have no key {key!r}; {hint}")
    return ImageRows([_source(one, how, given, id_column) for one in inputs])


def _kind(one: Input, options: Mapping[str, Any]) -> str:
    """The kind of dataset that reads an input: a Parquet file may hold images or their paths."""
    return "manifest" if one.kind == "parquet" and "path_column" in options else one.kind


def _source(one: Input, how: Preprocessing, options: Mapping[str, Any], id_column: str | None) -> ImageSource:
    kind = _kind(one, options)
    if id_column is not None and kind in ("images", "list"):
        raise ComponentError(f"{shown(one.files[0])!r} has no column {id_column!r}: manifests and Parquet files have")
    if kind == "images":
        return how.source(one.files)
    own = {key: how.dataset[key] for key in _OPTIONS[kind] if key in how.dataset} if how.dataset else {}
    own = own if how.dataset.get("name") == kind else {}
    keys = {**own, **{key: options[key] for key in _OPTIONS[kind] if key in options}}
    decoding = {field.name: getattr(how.options, field.name) for field in dataclasses.fields(how.options)}
    common: dict[str, Any] = {"image_mode": how.mode, **decoding, **keys}
    dataset: ImageDataset
    if kind == "parquet":
        dataset = ParquetDataset(1, False, files=one.files, label_column=None, **common)
    elif kind == "webdataset":
        dataset = WebDatasetDataset(1, False, shards=one.files, label_extension=None, **common)
    else:
        if kind == "list":  # of one column, whose lines have no tab
            common = {"path_column": 0, "delimiter": "\t", **common}
        dataset = ManifestDataset(1, False, manifest=one.files, label_column=None, **common)
    ids = None if id_column is None else dataset.read_column(id_column)
    return _opened(kind, dataset, ids)


def _opened(kind: str, dataset: ImageDataset, ids: Any) -> ImageSource:
    base = row_dataset_of(dataset)
    assert base is not None
    rows: Any = base.rows
    if kind == "parquet":
        ends = list(accumulate(rows.sizes))
        name_of = functools.partial(_row_of_file, files=[shown(path) for path in rows.paths], ends=ends)
        return ImageSource(rows, base.decode, name_of, _stamped(rows.sources), ids)
    if kind == "webdataset":
        name_of = functools.partial(_member, paths=rows.columns["path"], members=rows.columns["member"])
        return ImageSource(rows, base.decode, name_of, _stamped(base.sources), ids)
    paths = rows.columns["path"]
    return ImageSource(rows, base.decode, functools.partial(_value, paths), paths.to_pylist(), ids)


def _stamped(sources: Any) -> list[str]:
    return [f"{file} {stamp.size} {stamp.changed_ns}" for file, stamp in sources.stamps.items()]


def _row_of_file(number: int, files: Sequence[str], ends: Sequence[int]) -> str:
    """Names a row of a table: `part-0.parquet:17`."""
    file = bisect.bisect_right(ends, number)
    return f"{files[file]}:{number - (ends[file - 1] if file else 0)}"


def _member(number: int, paths: Any, members: Any) -> str:
    """Names a member of a shard: `train-000.tar/0001.jpg`."""
    return f"{shown(paths[number].as_py())}/{members[number].as_py()}"


def _value(values: Any, number: int) -> str:
    return str(values[number].as_py())
