"""What lies where in a tar file in WebDataset layout: scanned once, and remembered."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import tarfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, BinaryIO

from ray_classy.errors import DataError, RunFolderError
from ray_classy.registry import nearest
from ray_classy.storage import Storage

_VERSION = 1
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\x00": "xz", b"\x28\xb5\x2f\xfd": "zstd"}


@dataclass(frozen=True)
class Layout:
    """Which members of a shard are the image and the label of a sample.

    Attributes:
        image_extensions: in lower case, without the dot; of several images in a sample, the first in this order.
        label_extension: likewise; None if there are no labels.
        label_field: field of the label in a JSON object; None if the member holds the label alone.
    """

    image_extensions: tuple[str, ...]
    label_extension: str | None
    label_field: str | None


def shard_index(shard: str, layout: Layout) -> Any:
    """An Arrow table with a row per sample, in the order of the shard: member, offset, size and, if any, label.

    It is kept in this process, and between processes in `$XDG_CACHE_HOME/ray_classy` (by default in `~/.cache`), until
    the shard's size or time of change differs.

    Raises:
        DataError: the shard is compressed, damaged or no tar file, or a sample lacks its image or label.
    """
    try:
        status = os.stat(shard)
    except OSError as error:
        raise DataError(f"cannot read the shard {shard!r}: {error}") from error
    return _remembered(os.path.abspath(shard), status.st_size, status.st_mtime_ns, layout)


@functools.lru_cache(maxsize=4096)
def _remembered(shard: str, size: int, mtime_ns: int, layout: Layout) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    # The name is that of the shard, so that the index of a shard that has changed takes the place of the former one.
    described = {"version": _VERSION, "shard": shard, "layout": asdict(layout)}
    name = hashlib.sha256(json.dumps(described).encode()).hexdigest()[:32] + ".parquet"
    key = json.dumps({**described, "size": size, "mtime_ns": mtime_ns}).encode()
    folder = cache_folder()
    try:
        table = pq.read_table(os.path.join(folder, name), page_checksum_verification=True)
        if (table.schema.metadata or {}).get(b"shard") == key and table.column_names == _columns(layout):
            return table
    except (OSError, pa.ArrowException, ValueError):
        pass  # there is none, or it is damaged
    table = _scan(shard, layout).replace_schema_metadata({b"shard": key})
    with contextlib.suppress(OSError, RunFolderError):  # not writable: the next process scans anew
        Storage(folder).write(name, lambda file: pq.write_table(table, file, write_page_checksum=True))
    return table


def cache_folder() -> str:
    """Where indexes are kept between processes."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(home, "ray_classy", "shards")


def _columns(layout: Layout) -> list[str]:
    return ["member", "offset", "size"] + ([] if layout.label_extension is None else ["label"])


def _scan(shard: str, layout: Layout) -> Any:
    import pyarrow as pa

    with open(shard, "rb") as file:
        samples = _samples(shard, file, layout)
        chosen = [_image(shard, key, members, layout) for key, members in samples.items()]
        columns: dict[str, Any] = {
            "member": pa.array([member[0] for member in chosen], pa.large_string()),
            "offset": pa.array([member[1] for member in chosen], pa.int64()),
            "size": pa.array([member[2] for member in chosen], pa.int64()),
        }
        if layout.label_extension is not None:
            labels = [_label(shard, key, members, file, layout) for key, members in samples.items()]
            columns["label"] = _label_column(shard, list(samples), labels)
    return pa.table(columns)


def _samples(shard: str, file: BinaryIO, layout: Layout) -> dict[str, dict[str, tuple[str, int, int]]]:
    """Per key and extension: name, offset and size of a member."""
    samples: dict[str, dict[str, tuple[str, int, int]]] = {}
    for name, offset, size in _members(shard, file):
        folder, _, base = name.removeprefix("./").rpartition("/")
        stem, _, extension = base.partition(".")
        if not stem or (stem.startswith("__") and stem.endswith("__")):  # hidden files, and what describes the shard
            continue
        key = f"{folder}/{stem}" if folder else stem
        members = samples.setdefault(key, {})
        if extension.lower() in members:
            raise DataError(f"{shard} has {name!r} twice: write each sample once, with all its members, under one key")
        members[extension.lower()] = (name, offset, size)
    return samples


def _members(shard: str, file: BinaryIO) -> Iterator[tuple[str, int, int]]:
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            while (member := tar.next()) is not None:
                tar.members = []  # type: ignore[attr-defined]  # it would keep them all
                if member.isdir():
                    continue
                if not member.isfile() or member.issparse():
                    raise DataError(f"{shard}: {member.name!r} is a link or no plain file; write it with its content")
                yield member.name, member.offset_data, member.size
            end = tar.offset
    except tarfile.TarError as error:
        file.seek(0)
        start = file.read(6)
        for magic, kind in _COMPRESSED.items():
            if start.startswith(magic):
                raise DataError(
                    f"{shard} is compressed ({kind}), and nothing can be read from the middle of it: unpack it into a "
                    f"plain .tar (images are compressed already)"
                ) from None
        raise DataError(f"{shard} cannot be read as a tar file: {error}; write or copy it anew") from error
    file.seek(end)
    if file.read(512).strip(b"\0"):  # tarfile takes a damaged header for the end
        raise DataError(f"{shard} is damaged at byte {end}: write or copy it anew")


def _image(shard: str, key: str, members: dict[str, tuple[str, int, int]], layout: Layout) -> tuple[str, int, int]:
    for extension in layout.image_extensions:
        if extension in members:
            return members[extension]
    raise DataError(
        f"{shard}, sample {key!r}: no image: it has {_listed(members)}, and image_extensions are "
        f"{', '.join(layout.image_extensions)}; add one or remove the sample"
    )


def _label(shard: str, key: str, members: dict[str, tuple[str, int, int]], file: BinaryIO, layout: Layout) -> str | int:
    extension, place = layout.label_extension, f"{shard}, sample {key!r}"
    if extension not in members:
        raise DataError(
            f"{place}: no label: it has {_listed(members)}, and label_extension is {extension!r}; set it to another, "
            f"or to null for images without labels"
        )
    name, offset, size = members[extension]
    file.seek(offset)
    try:
        text = file.read(size).decode().strip()
        value = text if layout.label_field is None else json.loads(text)
    except ValueError as error:
        raise DataError(f"{place}: {name!r} holds no label: {error}; correct or remove it") from error
    if layout.label_field is not None:
        if not isinstance(value, dict) or layout.label_field not in value:
            fields = list(value) if isinstance(value, dict) else []
            near = nearest(layout.label_field, fields)
            hint = f"did you mean {near}?" if near else "set label_field to one of them"
            raise DataError(f"{place}: no field {layout.label_field!r}: it has {', '.join(fields) or 'none'}; {hint}")
        value = value[layout.label_field]
    if value is None or value == "":
        raise DataError(f"{place}: no label in {name!r}; fill it in or remove the sample")
    if not isinstance(value, str | int):
        raise DataError(f"{place}: label {value!r} in {name!r}: expected an integer or a string")
    return value if isinstance(value, str) else int(value)


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
