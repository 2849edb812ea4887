"""Opens manifests that are text, and checks their encoding and the names of their columns."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ray_classy.errors import DataError
from ray_classy.registry import nearest
from ray_classy.urls import is_url, located, shown

_HEAD_BYTES = 1 << 20
_OTHER_ENCODINGS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}


def check_is_file(file: str) -> None:
    """Checks that a path, if there is anything, is that of a file: reading from a pipe might never end.

    Raises:
        DataError: it is a folder, pipe or device.
    """
    if not is_url(file) and os.path.exists(file) and not os.path.isfile(file):
        raise DataError(f"manifest {file!r} is a folder, pipe or device: give the path of a file")


@contextmanager
def open_manifest(file: str) -> Iterator[Any]:
    """Opens a manifest as a stream of bytes, uncompressed.

    Raises:
        DataError: it is a folder, pipe or device.
        OSError: it cannot be read.
    """
    check_is_file(file)
    filesystem, path = located(file)
    with filesystem.open_input_stream(path) as stream:
        yield stream


def read_head(file: str) -> str:
    """Returns the first MiB of a manifest as text, without a byte order mark.

    Raises:
        DataError: it is not UTF-8.
    """
    with open_manifest(file) as stream:
        head = stream.read(_HEAD_BYTES)
    encoding = _OTHER_ENCODINGS.get(head[:2]) or ("UTF-16, or binary" if b"\0" in head else None)
    if encoding is not None:
        raise DataError(f"{shown(file)} is not UTF-8 text but {encoding}: save it as UTF-8")
    return head.decode("utf-8-sig", errors="replace")


@contextmanager
def open_lines(file: str) -> Iterator[io.TextIOWrapper]:
    """Opens a manifest as text, with its line ends and without a byte order mark."""
    with open_manifest(file) as stream:
        yield io.TextIOWrapper(io.BufferedReader(stream), encoding="utf-8-sig", newline="")


def not_utf8(file: str) -> DataError | None:
    """Returns the error that names the first line that is not UTF-8; None if all are."""
    with open_manifest(file) as stream:
        for number, line in enumerate(io.BufferedReader(stream), 1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                return DataError(
                    f"{shown(file)}, line {number}: not UTF-8 text (byte 0x{line[error.start]:02x}): save it as UTF-8"
                )
    return None


def check_names(file: str, wanted: Sequence[Any], there: Sequence[str], where: str = "") -> None:
    """Checks that a manifest has each wanted column once.

    Args:
        file: its path or URL.
        wanted: the column of paths, then that of labels, if they are read.
        there: the columns that it has.
        where: where the names were found, for errors.

    Raises:
        DataError: one is missing, or is there twice.
    """
    for key, column in zip(("path_column", "label_column"), wanted, strict=False):
        if column not in there:
            near = nearest(column, list(there))
            hint = f"did you mean {near}?" if near else f"set {key} to one of them"
            if "line" in where and not near:
                hint += ", or to its number from 0 if that line has no names"
            raise DataError(
                f"{shown(file)} has no column {column!r}: it has {', '.join(there) or 'none'}{where}; {hint}"
            )
        if list(there).count(column) > 1:
            raise DataError(
                f"{shown(file)} has {list(there).count(column)} columns {column!r}{where}: rename all but one, or set "
                f"{key} to another"
            )
