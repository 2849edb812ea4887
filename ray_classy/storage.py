"""Atomic reads and writes of small files in a folder on a local disk or in a remote store."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import pathlib
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, TypeVar

from ray_classy.errors import RunFolderError, StorageError
from ray_classy.urls import is_url, joined, located, reason, shown

__all__ = ["Storage", "is_url", "retry_once"]

_log = logging.getLogger(__name__)
_Answer = TypeVar("_Answer")

_SECONDS_TO_NEXT_TRY = 2.0
_FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
_OBJECT_STORES = ("s3", "gcs", "abfs")
_HINTS = {
    errno.ENOTDIR: "a file has the name of a folder in this path",
    errno.EEXIST: "a file has the name of a folder in this path",
    errno.EISDIR: "a folder has this name",
    errno.EFBIG: "it exceeds the file size limit of this process (ulimit -f) or of the file system",
    errno.EDQUOT: "the disk quota is exceeded",
}


class Storage:
    """A folder of small files.

    Args:
        path: a local path, or a URL that `pyarrow.fs` or fsspec opens.
        filesystem: the `pyarrow.fs.FileSystem` of `path`; None derives it from the path.
    """

    def __init__(self, path: str, filesystem: Any = None) -> None:
        self.path = path if filesystem is not None or is_url(path) else os.path.abspath(path)
        self.local = filesystem is None and not is_url(path)
        self.filesystem = filesystem

    def _remote(self, name: str) -> tuple[Any, str]:
        """Returns the file system and the path of a file in it."""
        if self.filesystem is not None:
            return self.filesystem, f"{self.path}/{name}" if name else self.path
        filesystem, root = located(self.path)
        return filesystem, f"{root}/{name}" if name else root

    def join(self, name: str) -> str:
        """Returns the path or URL of a file in the folder, in the form in which a user may pass it."""
        return os.path.join(self.path, name) if self.local else joined(self.path, name)

    def make(self) -> None:
        """Creates the folder and its parents, if they are missing.

        Raises:
            RunFolderError: the folder cannot be created: a file has its name, or the parent is not writable.
        """
        try:
            if self.local:
                os.makedirs(self.path, exist_ok=True)
            else:
                filesystem, path = self._remote("")
                filesystem.create_dir(path, recursive=True)
        except OSError as error:
            raise RunFolderError(
                f"cannot create the folder {self.path!r}: {error.strerror or error}; choose another storage path"
            ) from None

    def exists(self, name: str = "") -> bool:
        """Returns whether a file or folder of that name exists."""
        if self.local:
            return os.path.exists(os.path.join(self.path, name) if name else self.path)
        from pyarrow import fs

        filesystem, path = self._remote(name)
        return filesystem.get_file_info(path).type != fs.FileType.NotFound

    def names(self) -> list[str]:
        """Returns the sorted names of the files and folders in the folder; an empty list if there is no folder."""
        if self.local:
            return sorted(os.listdir(self.path)) if os.path.isdir(self.path) else []
        from pyarrow import fs

        filesystem, path = self._remote("")
        entries = filesystem.get_file_info(fs.FileSelector(path, allow_not_found=True))
        return sorted(entry.base_name for entry in entries)

    def read(self, name: str, start: int = 0) -> bytes:
        """Reads a file.

        Args:
            name: the file.
            start: how many bytes to skip at the beginning.

        Raises:
            FileNotFoundError: there is no such file.
            OSError: the file cannot be read.
        """
        if self.local:
            with open(os.path.join(self.path, name), "rb") as file:
                file.seek(start)
                return file.read()
        filesystem, path = self._remote(name)
        if start == 0:
            with filesystem.open_input_stream(path) as stream:
                return stream.read()
        with filesystem.open_input_file(path) as file:
            return file.read_at(file.size() - start, start) if file.size() > start else b""

    def write(self, name: str, content: bytes | Callable[[BinaryIO], None]) -> None:
        """Creates or replaces a file atomically: readers see the old content or the new, never a part of it.

        Args:
            name: the file; a relative path with slashes goes to subfolders, which are created.
            content: the bytes, or a function that writes them to the stream it is called with.

        Raises:
            StorageError: the file cannot be written; the message says why and, for a full disk, what is free.
        """
        with self._storage_errors(name, None if callable(content) else len(content)):
            self._write(name, content)

    def _write(self, name: str, content: bytes | Callable[[BinaryIO], None]) -> None:
        if not self.local:
            filesystem, path = self._remote(name)
            filesystem.create_dir(path.rpartition("/")[0], recursive=True)
            _write_remote(filesystem, path, content)
            return
        path = os.path.join(self.path, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        half = f"{path}.{uuid.uuid4().hex[:8]}.half"
        try:
            with open(half, "wb") as file:
                _fill(file, content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(half, path)
        finally:
            if os.path.exists(half):
                os.remove(half)

    def point(self, name: str, target: str) -> None:
        """Makes a name an alias of a folder beside it: a symbolic link or, where links are not supported, a file that
        contains the folder's name.
        """
        if self.local:
            link = os.path.join(self.path, f"{name}.{uuid.uuid4().hex[:8]}.half")
            try:
                os.symlink(target, link)
                os.replace(link, os.path.join(self.path, name))
                return
            except OSError:
                pathlib.Path(link).unlink(missing_ok=True)
        self.write(name, target.encode())

    def pointed(self, name: str) -> str | None:
        """Returns the folder of which `point` made a name the alias; None if it is not an alias."""
        path = os.path.join(self.path, name)
        if self.local and os.path.islink(path):
            return os.readlink(path)
        if os.path.isfile(path) if self.local else _is_file(*self._remote(name)):
            return self.read(name).decode()
        return None

    def json_lines(self, name: str) -> list[dict[str, Any]]:
        """Reads a file with one JSON object per line; an empty list if there is no file.

        The last line is ignored if it is incomplete, as after a kill in the middle of a write.
        """
        lines: list[dict[str, Any]] = []
        for line in self.read(name).decode().splitlines() if self.exists(name) else ():
            try:
                lines.append(json.loads(line))
            except ValueError:
                break
        return lines

    def remove(self, name: str = "") -> None:
        """Removes a subfolder with its content, or the folder itself; a missing one is not an error."""
        if self.local:
            shutil.rmtree(os.path.join(self.path, name) if name else self.path, ignore_errors=True)
            return
        from pyarrow import fs

        filesystem, path = self._remote(name)
        if filesystem.get_file_info(path).type == fs.FileType.Directory:
            filesystem.delete_dir(path)

    def remove_file(self, name: str) -> None:
        """Removes a file; a missing one is not an error.

        Raises:
            StorageError: the file cannot be removed.
        """
        with self._storage_errors(name):
            if self.local:
                pathlib.Path(self.path, name).unlink(missing_ok=True)
            elif self.exists(name):
                filesystem, path = self._remote(name)
                filesystem.delete_file(path)

    def remove_if_empty(self, name: str) -> None:
        """Removes a subfolder if it is empty and can be removed."""
        with contextlib.suppress(OSError):
            if self.local:
                os.rmdir(os.path.join(self.path, name))
                return
            from pyarrow import fs

            filesystem, path = self._remote(name)
            if not filesystem.get_file_info(fs.FileSelector(path)):
                filesystem.delete_dir(path)

    def append(self, name: str, text: str) -> None:
        """Appends text to a file, all of it or nothing; in a remote store by writing the whole file again.

        Raises:
            StorageError: the file cannot be written.
        """
        with self._storage_errors(name, len(text)):
            if self.local:
                _append(os.path.join(self.path, name), text)
                return
            before = self.read(name) if self.exists(name) else b""
            self._write(name, before + text.encode())

    @contextlib.contextmanager
    def _storage_errors(self, name: str, size: int | None = None) -> Iterator[None]:
        """Converts an `OSError` in the block to a `StorageError` that names the file and the remedy.

        Args:
            name: the file.
            size: the number of bytes to be written, if it is known.
        """
        try:
            yield
        except OSError as error:
            what = shown(self.join(name)) + ("" if size is None else f" ({_size(size)})")
            hint = _HINTS.get(error.errno or 0)
            text = f"cannot write {what}: {error.strerror or reason(error)}" + (f" ({hint})" if hint else "")
            raise StorageError(text + (self._room() if error.errno in _FULL else "")) from error

    def _room(self) -> str:
        """Returns the free space of the disk for an error message; an empty string if it is not known."""
        if not self.local:
            return ""
        try:
            usage = shutil.disk_usage(self.path if os.path.isdir(self.path) else os.path.dirname(self.path))
        except OSError:
            return ""
        return f"; {_size(usage.free)} of {_size(usage.total)} are free there"


def _fill(stream: Any, content: bytes | Callable[[BinaryIO], None]) -> None:
    if callable(content):
        content(stream)
    else:
        stream.write(content)


def _write_remote(filesystem: Any, path: str, content: bytes | Callable[[BinaryIO], None]) -> None:
    """Writes a file of a `pyarrow.fs.FileSystem` atomically.

    An object store shows a file once it is complete. On any other file system the content is written under a temporary
    name, which is then changed.
    """
    if _is_object_store(filesystem):
        with filesystem.open_output_stream(path) as stream:
            _fill(stream, content)
        return
    half = f"{path}.{uuid.uuid4().hex[:8]}.half"
    try:
        with filesystem.open_output_stream(half) as stream:
            _fill(stream, content)
        _replace(filesystem, half, path)
    except BaseException:
        with contextlib.suppress(Exception):
            filesystem.delete_file(half)
        raise


def _is_object_store(filesystem: Any) -> bool:
    """Returns whether a file becomes visible once it is complete, rather than growing as it is written.

    A file system of fsspec is taken for an object store if it has no rename of its own: fsspec then copies the file,
    which is no more atomic than writing it.
    """
    from pyarrow import fs

    if isinstance(filesystem, fs.SubTreeFileSystem):
        return _is_object_store(filesystem.base_fs)
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
        _rename(filesystem, source, target)
    except Exception:
        if not _is_file(filesystem, target):
            raise
    if _is_file(filesystem, source):  # WebHDFS refuses without an error
        filesystem.delete_file(target)
        _rename(filesystem, source, target)


def _rename(filesystem: Any, source: str, target: str) -> None:
    inner = _fsspec_of(filesystem)
    if inner is None:
        filesystem.move(source, target)
    else:
        inner.mv(source, target)  # pyarrow's call has an argument that fsspec's SFTP does not take


def _is_file(filesystem: Any, path: str) -> bool:
    return filesystem.get_file_info(path).is_file


def _append(path: str, text: str) -> None:
    before = os.path.getsize(path) if os.path.exists(path) else 0
    try:
        with open(path, "a", encoding="utf-8") as file:
            file.write(text)
    except OSError:
        with contextlib.suppress(OSError):  # an incomplete line would corrupt the next one
            os.truncate(path, before)
        raise


def _size(number: float) -> str:
    for unit in ("KiB", "MiB"):
        number /= 1024
        if number < 1024:
            return f"{number:.1f} {unit}"
    return f"{number / 1024:.1f} GiB"


def retry_once(action: Callable[[], _Answer]) -> _Answer:
    """Runs something that uses a store, and runs it again after two seconds if the store fails.

    Args:
        action: may be repeated from its start.

    Returns:
        What the action returned.

    Raises:
        OSError: it failed both times.
    """
    try:
        return action()
    except OSError as error:
        _log.warning("%s; trying once more in %g s", reason(error), _SECONDS_TO_NEXT_TRY)
        time.sleep(_SECONDS_TO_NEXT_TRY)
        return action()
