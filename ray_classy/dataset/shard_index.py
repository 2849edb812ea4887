"""Indexes tar files in WebDataset layout: each is scanned once, and its index is cached."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import json
import os
import re
from dataclasses import asdict, dataclass
from typing import Any, BinaryIO

from ray_classy.dataset.labels import TOO_LARGE
from ray_classy.dataset.source_files import SourceFiles
from ray_classy.dataset.tar_members import tar_members
from ray_classy.errors import DataError, RecordError, RunFolderError
from ray_classy.printable import printable
from ray_classy.records import parse_json
from ray_classy.registry import nearest
from ray_classy.storage import Storage
from ray_classy.urls import Stamp, is_url, located, reason, shown

_SCAN_BYTES = 4 << 20
_VERSION = 2
_LABEL_BYTES = 1 << 20
"""Size of the largest member that holds a label: a JSON object with all that is known of an image has kilobytes."""


@dataclass(frozen=True)
class Layout:
    """Tells the image and the label of a sample from the other members of a shard.

    Attributes:
        image_extensions: extensions of images, in lower case, without the dot; the first that a sample has is used.
        label_extension: extension of labels, likewise; None if there are no labels.
        label_field: field of the label in a JSON object; None if the member holds nothing but the label.
    """

    image_extensions: tuple[str, ...]
    label_extension: str | None
    label_field: str | None


def shard_index(shard: str, layout: Layout, stamp: Stamp | None = None) -> Any:
    """Returns an Arrow table with a row per sample, in the order of the shard: member, offset, size and label, if any.

    It is cached in this process, and between processes in `$XDG_CACHE_HOME/ray_classy` (by default in `~/.cache`), for
    as long as the shard has the same size and time of change.

    Args:
        shard: a path or URL.
        layout: which members are images and labels.
        stamp: the shard's size and time of change; None reads them.

    Raises:
        DataError: the shard cannot be read, is compressed, damaged or not a tar file; or a sample lacks image or label.
    """
    if stamp is None:
        stamp = SourceFiles([shard]).stamps[shard]
    return _remembered(shard if is_url(shard) else os.path.abspath(shard), stamp, layout)


@functools.lru_cache(maxsize=4096)
def _remembered(shard: str, stamp: Stamp, layout: Layout) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    # Named after the shard, so that the index of a changed shard replaces the former one.
    described = {"version": _VERSION, "shard": shown(shard), "layout": asdict(layout)}
    name = hashlib.sha256(json.dumps(described).encode()).hexdigest()[:32] + ".parquet"
    key = json.dumps({**described, "size": stamp.size, "mtime_ns": stamp.changed_ns}).encode()
    folder = cache_folder()
    try:
        table = pq.read_table(os.path.join(folder, name), page_checksum_verification=True)
        known = stamp.changed_ns is not None  # else other content might have the same stamp
        if known and (table.schema.metadata or {}).get(b"shard") == key and _is_sound(table, layout, stamp):
            return table
    except (OSError, pa.ArrowException, ValueError):
        pass  # there is none, or it is damaged
    table, remarks = _scan(shard, layout)
    table = table.replace_schema_metadata({b"shard": key, b"remarks": "\n".join(remarks).encode()})
    with contextlib.suppress(OSError, RunFolderError):  # not writable: the next process scans again
        Storage(folder).write(name, lambda file: pq.write_table(table, file, write_page_checksum=True))
    return table


def cache_folder() -> str:
    """Returns the folder in which indexes are cached between processes."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(home, "ray_classy", "shards")


def _is_sound(table: Any, layout: Layout, stamp: Stamp) -> bool:
    """Whether a cached index has the columns of one, and all its members lie within the shard."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kinds = {"member": {pa.large_string()}, "offset": {pa.int64()}, "size": {pa.int64()}}
    if layout.label_extension is not None:
        kinds["label"] = {pa.int64(), pa.string()}
    if table.column_names != list(kinds) or any(column.null_count for column in table.columns):
        return False
    if any(table.column(name).type not in allowed for name, allowed in kinds.items()):
        return False
    offsets, sizes = table.column("offset"), table.column("size")
    if not len(table):
        return True
    least = min(pc.min(offsets).as_py(), pc.min(sizes).as_py())
    return least >= 0 and (stamp.size is None or pc.max(pc.add(offsets, sizes)).as_py() <= stamp.size)


def shard_remarks(index: Any) -> list[str]:
    """Returns what a user should know about the shard of an index, such as that it has no end mark."""
    return index.schema.metadata.get(b"remarks", b"").decode(errors="replace").splitlines()


def _scan(shard: str, layout: Layout) -> tuple[Any, list[str]]:
    import pyarrow as pa

    name, remarks = shown(shard), list[str]()
    try:
        with _opened(shard) as file:
            samples, labels = _samples(name, file, layout, remarks)
    except OSError as error:
        raise DataError(f"cannot read the shard {name!r}: {reason(error)}") from error
    chosen = [_image(name, key, members, layout) for key, members in samples.items()]
    columns: dict[str, Any] = {
        "member": pa.array([member[0] for member in chosen], pa.large_string()),
        "offset": pa.array([member[1] for member in chosen], pa.int64()),
        "size": pa.array([member[2] for member in chosen], pa.int64()),
    }
    if layout.label_extension is not None:
        for key, members in samples.items():
            if key not in labels:
                raise DataError(
                    f"{name}, sample {key!r}: no label: it has {_listed(members)}, and label_extension is "
                    f"{layout.label_extension!r}; set it to another, or to null for images without labels"
                )
        columns["label"] = _label_column(name, list(samples), [labels[key] for key in samples])
    return pa.table(columns), remarks


def first_sample(shard: str) -> dict[str, bytes]:
    """Returns the members of the first sample of a shard by extension; the content only of small ones.

    Raises:
        DataError: the shard cannot be read, is compressed or not a tar file.
    """
    first, found = "", dict[str, bytes]()
    try:
        with _opened(shard) as file:
            for name, offset, size in tar_members(shown(shard), file, []):
                folder, _, base = name.removeprefix("./").rpartition("/")
                stem, _, extension = base.partition(".")
                if not stem or stem.startswith("__"):
                    continue
                if (first := first or f"{folder}/{stem}") != f"{folder}/{stem}":
                    break
                file.seek(offset)
                found[extension.lower()] = file.read(size) if size <= _LABEL_BYTES else b""
    except OSError as error:
        raise DataError(f"cannot read the shard {shown(shard)!r}: {reason(error)}") from error
    return found


def _opened(shard: str) -> BinaryIO:
    if not is_url(shard):
        return open(shard, "rb")
    filesystem, path = located(shard)
    # A request for each header would take longer than the bytes between them.
    return io.BufferedReader(filesystem.open_input_file(path), _SCAN_BYTES)


def _samples(
    shard: str, file: BinaryIO, layout: Layout, remarks: list[str]
) -> tuple[dict[str, dict[str, tuple[str, int, int]]], dict[str, str | int]]:
    """Returns name, offset and size of each member, by key and extension; and the labels, by key."""
    samples: dict[str, dict[str, tuple[str, int, int]]] = {}
    labels: dict[str, str | int] = {}
    for name, offset, size in tar_members(shard, file, remarks):
        folder, _, base = name.removeprefix("./").rpartition("/")
        stem, _, extension = base.partition(".")
        if not stem or (stem.startswith("__") and stem.endswith("__")):  # hidden files, and metadata of the shard
            continue
        key = f"{folder}/{stem}" if folder else stem
        members = samples.setdefault(key, {})
        if extension.lower() in members:
            raise DataError(
                f"{shard} has {printable(name)!r} twice: write each sample once, with all its members, under one key"
            )
        members[extension.lower()] = (name, offset, size)
        if extension.lower() == layout.label_extension:  # now: a second pass would read the whole shard again
            place = f"{shard}, sample {printable(key)!r}"
            if size > _LABEL_BYTES:
                raise DataError(f"{place}: {printable(name)!r} has {size:,} bytes, which is too much for a label")
            file.seek(offset)
            labels[key] = _label(place, printable(name), file.read(size), layout)
    return samples, labels


def _image(shard: str, key: str, members: dict[str, tuple[str, int, int]], layout: Layout) -> tuple[str, int, int]:
    for extension in layout.image_extensions:
        if extension in members:
            return members[extension]
    raise DataError(
        f"{shard}, sample {key!r}: no image: it has {_listed(members)}, and image_extensions are "
        f"{', '.join(layout.image_extensions)}; add one or remove the sample"
    )


def _label(place: str, name: str, content: bytes, layout: Layout) -> str | int:
    try:
        value = parse_json(content, name) if layout.label_field is not None else content.decode("utf-8-sig").strip()
    except (ValueError, RecordError) as error:
        raise DataError(f"{place}: {name!r} holds no label: {error}; correct or remove it") from error
    if layout.label_field is not None:
        if not isinstance(value, dict) or layout.label_field not in value:
            fields = [printable(field) for field in value] if isinstance(value, dict) else []
            near = nearest(layout.label_field, fields)
            hint = f"did you mean {near}?" if near else "set label_field to one of them"
            listed = ", ".join(fields[:10]) + (", ..." if len(fields) > 10 else "")
            raise DataError(f"{place}: no field {layout.label_field!r}: it has {listed or 'none'}; {hint}")
        value = value[layout.label_field]
    if value is None or value == "":
        raise DataError(f"{place}: no label in {name!r}; fill it in or remove the sample")
    if isinstance(value, str) and not re.search("[\ud800-\udfff]", value):
        return value
    if isinstance(value, int):
        if not -(2**63) <= value < 2**63:
            raise DataError(f"{place}: label in {name!r} {TOO_LARGE}")
        return int(value)
    raise DataError(f"{place}: label {printable(value)[:100]} in {name!r}: expected an integer or a string")


def _label_column(shard: str, keys: list[str], labels: list[str | int]) -> Any:
    import pyarrow as pa

    kinds = [isinstance(label, str) for label in labels]
    if len(set(kinds)) > 1:
        a, b = kinds.index(True), kinds.index(False)
        raise DataError(
            f"labels are of mixed types in {shard}: sample {keys[a]!r} has {labels[a]!r}, sample {keys[b]!r} has "
            f"{labels[b]!r}; make them all integers or all strings"
        )
    return pa.array(labels, pa.string() if not labels or kinds[0] else pa.int64())


def _listed(members: dict[str, Any]) -> str:
    return ", ".join(f".{extension}" for extension in list(members)[:5])
