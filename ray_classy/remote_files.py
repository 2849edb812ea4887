"""Atomic writes of files to a `pyarrow.fs.FileSystem`."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable
from typing import Any, BinaryIO

_OBJECT_STORES = ("s3", "gcs", "abfs")


def fill(stream: Any, content: bytes | Callable[[BinaryIO], None]) -> None:
    """Writes the content of a file, which may be a function that writes it."""
    if callable(content):
        content(stream)
    else:
        stream.write(content)


def write_remote(filesystem: Any, path: str, content: bytes | Callable[[BinaryIO], None]) -> None:
    """Writes a file of a `pyarrow.fs.FileSystem` atomically.

    An object store shows a file once it is complete. On any other file system the content is written under a temporary
    name, which is then changed.
    """
    if is_object_store(filesystem):
        with filesystem.open_output_stream(path) as stream:
            fill(stream, content)
        return
    half = f"{path}.{uuid.uuid4().hex[:8]}.half"
    try:
        with filesystem.open_output_stream(half) as stream:
            fill(stream, content)
        _replace(filesystem, half, path)
    except BaseException:
        with contextlib.suppress(Exception):
            filesystem.delete_file(half)
        raise


def is_object_store(filesystem: Any) -> bool:
    """Returns whether a file becomes visible once it is complete, rather than growing as it is written.

    A file system of fsspec is taken for an object store if it has no rename of its own: fsspec then copies the file,
    which is no more atomic than writing it.
    """
    from pyarrow import fs

    if isinstance(filesystem, fs.SubTreeFileSystem):
        return is_object_store(filesystem.base_fs)
    inner = _fsspec_of(filesystem)
    if inner is None:
        return filesystem.type_name in _OBJECT_STORES
    from fsspec import AbstractFileSystem  # type: ignore[import-untyped]
    from fsspec.implementations.dirfs import DirFileSystem  # type: ignore[import-untyped]

    while isinstance(inner, DirFileSystem):
        inner = inner.fs
    return type(inner).mv is AbstractFileSystem.mv


def _fsspec_of(filesystem: Any) -> Any:
    """Returns the fsspec file system that a pyarrow one wraps; None if it is pyarrow's own."""
    handler = getattr(filesystem, "handler", None)
    return getattr(handler, "fs", None)


def _replace(filesystem: Any, source: str, target: str) -> None:
    """Renames a file to a name that another file may have.

    Where a rename does not replace a file (SMB, HDFS, some FTP servers), the old file is removed first; until the new
    one has its name, readers find no file.
    """
    try:
        rename(filesystem, source, target)
    except Exception:
        if not is_file(filesystem, target):
            raise
    if is_file(filesystem, source):  # WebHDFS refuses without an error
        filesystem.delete_file(target)
        rename(filesystem, source, target)


def rename(filesystem: Any, source: str, target: str) -> None:
    """Renames a file or folder; whether it replaces another one depends on the file system."""
    inner = _fsspec_of(filesystem)
    if inner is None:
        filesystem.move(source, target)
    else:
        inner.mv(source, target)  # pyarrow's call has an argument that fsspec's SFTP does not take


def is_file(filesystem: Any, path: str) -> bool:
    """Returns whether a file has that path."""
    return filesystem.get_file_info(path).is_file
