"""Finds the rows behind --images, --manifest, --parquet and --shards: the keys of their datasets, and test data."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ray_classy.cli.arguments import UsageError
from ray_classy.urls import expanded, is_url, shown

_TRAIN = ("train", "training")
_TEST = ("val", "valid", "validation", "dev", "test", "testing")  # the first is taken
_SIDE = re.compile(rf"({'|'.join((*_TRAIN, *_TEST))})(?=[-_.\d]|$)", re.IGNORECASE)
_PATHS = (
    *("path", "image", "image_path", "img_path", "img", "file", "filename", "file_name", "filepath", "file_path"),
    *("image_name", "image_file", "image_id", "url", "image_url"),
)
_IMAGES = ("image", "img", "picture", "photo", "jpg", "jpeg", "png", "bytes", "image_bytes", "data")
_LABELS = (
    *("label", "class", "target", "category", "class_name", "classname", "label_name", "class_label", "labels"),
    *("category_name", "class_id", "category_id", "target_name", "y"),
)


@dataclass(frozen=True)
class Source:
    """Where rows come from.

    Attributes:
        name: the place as the user gave it.
        train: keys of `dataset.train`.
        test: keys of `dataset.test`; None if the rows of `train` are to be split.
        remarks: what else was found there.
    """

    name: str
    train: dict[str, Any]
    test: dict[str, Any] | None = None
    remarks: tuple[str, ...] = ()


PLACES = {"images": "image_folder", "manifest": "manifest", "parquet": "files", "shards": "shards"}
"""The key of a dataset that each flag gives."""

FLAGS = ("model", "weights", "split", "test")
"""Flags that go with those of a source."""


def find_source(flag: str, place: str, test: str | None, given: Mapping[str, Any]) -> Source:
    """Finds the data of a flag.

    Args:
        flag: "images", "manifest", "parquet" or "shards".
        place: what the flag names.
        test: likewise, data for the test phases; None looks for some beside the rest.
        given: keys of `dataset.train` that the user sets, such as `label_column`.

    Raises:
        UsageError: it is not clear which column holds the labels, the paths or the images.
        RayClassyError: there is no such data, or it cannot be read.
    """
    name, key = {"images": "image_path", "shards": "webdataset"}.get(flag, flag), PLACES[flag]
    train: Any
    if flag == "images":
        train, beside, remarks = _sides_of_folder(place) if test is None else (place, None, ())
    elif flag == "manifest":
        train, beside, remarks = place, None, ()
    else:
        train, beside, remarks = _sides_of_files(flag, place) if test is None else (place, None, ())
    beside = test if test is not None else beside
    keys = {"name": name, key: train, **_COLUMNS[flag](train, given)}
    return Source(place, keys, None if beside is None else {**keys, key: beside}, remarks)


def _sides_of_folder(folder: str) -> tuple[str, str | None, tuple[str, ...]]:
    """Finds the folders of train and test images in a folder, where each of these has class folders."""
    below = _folders(folder)
    lower = {name.lower(): name for name in below if _folders(os.path.join(folder, name))}
    train = next((lower[name] for name in _TRAIN if name in lower), None)
    tests = [lower[name] for name in _TEST if name in lower]
    test = tests[0] if tests else None
    if train is None or (test is None and any(name.lower() not in _TEST for name in below if name != train)):
        return folder, None, ()
    others = [name for name in below if name not in (train, test)]
    remarks = (f"not read: {', '.join(f'{name}/' for name in others)}",) if others else ()
    return os.path.join(folder, train), None if test is None else os.path.join(folder, test), remarks


def _folders(folder: str) -> list[str]:
    """Lists the folders in a folder on disk, in name order; a class folder has none of images."""
    if is_url(folder):
        return []
    try:
        with os.scandir(expanded(folder)) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith((".", "@")))
    except OSError:
        return []  # the dataset says what is wrong


def _sides_of_files(flag: str, place: str) -> tuple[Any, Any, tuple[str, ...]]:
    """Finds files of train and test rows by their names, as `train-00000.parquet` and `test/0.tar`."""
    files = _files(flag, place)
    sides: dict[str, list[str]] = {}
    for file in files:
        words = [os.path.basename(file), os.path.basename(os.path.dirname(file))]
        found = next((match for match in map(_SIDE.match, words) if match), None)
        sides.setdefault(found[1].lower() if found else "", []).append(file)
    train = next((sides[name] for name in _TRAIN if name in sides), None)
    tests = [name for name in _TEST if name in sides]
    if train is None or not tests or "" in sides:
        return place, None, ()
    others = [f"{name} ({len(sides[name])} files)" for name in tests[1:]]
    return train, sides[tests[0]], (f"not read: {', '.join(others)}",) if others else ()


def _files(flag: str, place: Any) -> list[str]:
    if flag == "shards":
        from ray_classy.dataset.shard_files import find_shards

        return find_shards(place)
    from ray_classy.dataset.source_files import find_files

    return find_files(place, (".parquet",))


def _no_columns(place: str, given: Mapping[str, Any]) -> dict[str, Any]:
    return {}


def _manifest_columns(place: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Finds the columns of paths and labels; their numbers where the first line of CSV is a row."""
    from ray_classy.dataset.image_formats import is_image_name

    names = _manifest_names(place, given.get("delimiter"))
    asked = _labels_given(given)
    if "path_column" not in given and not asked and any(map(is_image_name, names)):
        if len(names) != 2:
            raise UsageError(
                f"{shown(place)} begins with a row of {len(names)} values, not with names of columns: give their "
                f"numbers from 0, as in dataset.train.path_column=0 dataset.train.label_column=1"
            )
        path = 0 if is_image_name(names[0]) else 1
        return {"path_column": path, "label_column": 1 - path}
    found: dict[str, Any] = {}
    path_column = given.get("path_column")
    if path_column is None:
        path_column = found["path_column"] = _only(place, "path_column", "paths of the images", names, _PATHS)
    if not asked:
        rest = [name for name in names if name != path_column]
        found["label_column"] = _label(place, rest, names)
    return found


def _manifest_names(file: str, delimiter: str | None) -> list[str]:
    """Returns the names of a manifest's columns: the first line of CSV, or the fields of the first object."""
    from ray_classy.dataset.manifest_file import extension_of, kind_of
    from ray_classy.dataset.manifest_text import check_is_file, read_head
    from ray_classy.dataset.parquet_columns import parquet_names
    from ray_classy.errors import DataError, DataNotFoundError
    from ray_classy.records import parse_json
    from ray_classy.urls import reason

    file = expanded(file)
    extension = extension_of(file, delimiter)
    check_is_file(file)
    if kind_of(extension) == "parquet":
        return list(parquet_names(file))
    try:
        lines = [line for line in read_head(file).splitlines() if line.strip()][:1]
    except FileNotFoundError as error:
        looked = "" if is_url(file) else f" (looked in {os.getcwd()})"
        raise DataNotFoundError(f"there is no manifest {shown(file)!r}{looked}") from error
    except OSError as error:
        raise DataError(f"{shown(file)} cannot be read: {reason(error)}") from error
    if not lines:
        raise DataError(f"{shown(file)} is empty: it has no first line")
    if kind_of(extension) == "json":
        try:
            return [str(name) for name in dict(parse_json(lines[0].encode(), shown(file)))]
        except (ValueError, TypeError) as error:
            raise DataError(f"{shown(file)}: the first line is not an object of JSON: {error}") from None
    usual = "\t" if extension == ".tsv" else ","
    delimiters = [delimiter] if delimiter else [usual, ",", ";", "\t", "|"]
    rows = [next(csv.reader(lines, delimiter="\t" if sign in ("\\t", "tab") else sign)) for sign in delimiters]
    row = next((row for row in rows if len(row) > 1), rows[0])
    return [name.strip() for name in row]


def _parquet_columns(files: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """Finds the column of images by its type, and that of labels by its name, its classes, or the files' folders."""
    from ray_classy.dataset.parquet_columns import classes_of_columns, holds_images, parquet_names, partition_keys

    first = _files("parquet", files)[0]
    types = parquet_names(first)
    place = shown(first)
    found: dict[str, Any] = {}
    image_column = given.get("image_column")
    if image_column is None:
        images = [name for name, kind in types.items() if holds_images(kind)]
        if not images:
            raise UsageError(f"{place} has no column of images (bytes, {{bytes, path}}, uint8): it has {_list(types)}")
        image_column = images[0] if len(images) == 1 else _only(place, "image_column", "images", images, _IMAGES)
        found["image_column"] = image_column
    if not _labels_given(given):
        named = [name for name in classes_of_columns(first) if name != image_column]
        keys = partition_keys(first)
        rest = [name for name in types if name != image_column]
        if len(named) == 1:
            found["label_column"] = named[0]
        else:
            found["label_column"] = _label(place, [*rest, *(key for key in keys if key not in rest)], list(types))
    return found


def _shard_labels(shards: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """Finds what holds the labels of samples: `.cls`, `.txt`, or a field of `.json`."""
    if "label_extension" in given:
        return {}
    from ray_classy.dataset.shard_index import first_sample
    from ray_classy.records import parse_json

    shard = _files("shards", shards)[0]
    sample = first_sample(shard)
    if "cls" in sample or not sample:
        return {}  # an empty shard, or the first of several, is indexed like the others
    if "json" in sample:
        try:
            fields = parse_json(sample["json"], shown(shard))
        except ValueError:
            fields = None
        names = [str(name) for name in fields] if isinstance(fields, dict) else []
        field = given.get("label_field") or _label(shown(shard), names, names, "label_field", "json")
        return {"label_extension": "json", "label_field": field}
    if "txt" in sample:
        return {"label_extension": "txt"}
    raise UsageError(
        f"the samples of {shown(shard)} have no .cls, .json or .txt, but {_list(sample)}: name the extension of the "
        f"labels, dataset.train.label_extension=NAME"
    )


_COLUMNS: dict[str, Callable[[Any, Mapping[str, Any]], dict[str, Any]]] = {
    "images": _no_columns,
    "manifest": _manifest_columns,
    "parquet": _parquet_columns,
    "shards": _shard_labels,
}


def _labels_given(given: Mapping[str, Any]) -> bool:
    return bool({"label_column", "label_columns", "targets"} & set(given))


def _label(place: str, rest: Sequence[str], names: Sequence[str], key: str = "label_column", among: str = "") -> str:
    """Returns the column of labels: the only one that is left, or the only one named like labels."""
    if len(rest) == 1:
        return rest[0]
    return _only(f"{place} (.{among})" if among else place, key, "labels", rest, _LABELS, names)


def _only(
    place: str, key: str, what: str, names: Sequence[str], usual: Sequence[str], listed: Collection[str] | None = None
) -> str:
    """Returns the one column of a usual name; the most usual one (the first), if it is there, counts before others."""
    lower = {name.lower().replace(" ", "_"): name for name in names}
    found = [lower[name] for name in usual if name in lower]
    if found and (len(found) == 1 or usual[0] in lower):
        return found[0]
    which = f"{_list(found)} may hold the {what}" if found else f"no column is named like {what}"
    raise UsageError(
        f"{shown(place)}: {which}; it has {_list(names if listed is None else listed)}. Name the one with the {what}: "
        f"dataset.train.{key}=NAME"
    )


def _list(names: Collection[Any]) -> str:
    shown_names = [str(name) for name in list(names)[:20]]
    return ", ".join(shown_names) + (", ..." if len(names) > 20 else "") if shown_names else "none"
