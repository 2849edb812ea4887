"""Small files in a folder that is local or in object storage, written so that a reader never sees half of one."""

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

__all__ = ["Storage", "is_url", "tried_twice"]

_log = logging.getLogger(__name__)
_Answer = TypeVar("_Answer")

_SECONDS_TO_NEXT_TRY = 2.0
_FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
_OBJECT_STORES = ("s3", "gcs", "abfs")
_HINTS = {
    errno.ENOTDIR: "a file stands where a folder must be",
    errno.EEXIST: "a file stands where a folder must be",
    errno.EISDIR: "a folder stands where the file must be",
    errno.EFBIG: "the limit of this process (ulimit -f) or of the file system is lower",
    errno.EDQUOT: "the quota is used up",
}


class Storage:
    """A folder of small files.

    Args:
        path: a local path, or a URL that `pyarrow.fs` or fsspec opens.
        filesystem: a `pyarrow.fs.FileSystem` in which `path` lies; None finds it from the path.
    """

    def __init__(self, path: str, filesystem: Any = None) -> None:
        self.path = path if filesystem is not None or is_url(path) else os.path.abspath(path)
        self.local = filesystem is None and not is_url(path)
        self.filesystem = filesystem

    def _remote(self, name: str) -> tuple[Any, str]:
        """The file system and the path in it."""
        if self.filesystem is not None:
            return self.filesystem, f"{self.path}/{name}" if name else self.path
        filesystem, root = located(self.path)
        return filesystem, f"{root}/{name}" if name else root

    def join(self, name: str) -> str:
        """The path of a file in the folder, as a user may give it back."""
        return os.path.join(self.path, name) if self.local else joined(self.path, name)

    def make(self) -> None:
        """Makes the folder and its parents.

        Raises:
            RunFolderError: it cannot be made; a file stands in the way, or the place is not writable.
        """
        try:
            if self.local:
                os.makedirs(self.path, exist_ok=True)
            else:
                filesystem, path = self._remote("")
                filesystem.create_dir(path, recursive=True)
        except OSError as error:
            raise RunFolderError(
                f"cannot make the folder {self.path!r}: {error.strerror or error}; give another storage path"
            ) from None

    def exists(self, name: str = "") -> bool:
        """Whether there is a file or folder of that name."""
        if self.local:
            return os.path.exists(os.path.join(self.path, name) if name else self.path)
        from pyarrow import fs

        filesystem, path = self._remote(name)
        return filesystem.get_file_info(path).type != fs.FileType.NotFound

    def names(self) -> list[str]:
        """The names of the files and folders in the folder, sorted; none if there is no folder."""
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
            start: bytes to leave out at its beginning.

        Raises:
            OSError: it cannot be read; FileNotFoundError if there is none.
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
        """Writes a file, in place of any there, so that a reader sees the old content or the new, never a part.

        Args:
            name: the file, in a folder of the folder if it has a slash.
            content: the bytes, or a function that writes them to the stream it is given.

        Raises:
            StorageError: it cannot be written; the message says why, and how much room there is.
        """
        with self._told(name, None if callable(content) else len(content)):
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
        """Lets a name stand for a folder beside it: as a link, or where there are none as a file with its name."""
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
        """The folder that a name stands for by `point`; None if it is no such name."""
        path = os.path.join(self.path, name)
        if self.local and os.path.islink(path):
            return os.readlink(path)
        if os.path.isfile(path) if self.local else self.exists(name):
            return self.read(name).decode()
        return None

    def json_lines(self, name: str) -> list[dict[str, Any]]:
        """The objects in a file with one per line; none if there is no file. A last line that was cut off by a kill is
        passed over.
        """
        lines: list[dict[str, Any]] = []
        for line in self.read(name).decode().splitlines() if self.exists(name) else ():
            try:
                lines.append(json.loads(line))
            except ValueError:
                break
        return lines

    def remove(self, name: str = "") -> None:
        """Removes a folder in the folder with all that is in it, or the folder itself; none there is no error."""
        if self.local:
            shutil.rmtree(os.path.join(self.path, name) if name else self.path, ignore_errors=True)
            return
        from pyarrow import fs

        filesystem, path = self._remote(name)
        if filesystem.get_file_info(path).type == fs.FileType.Directory:
            filesystem.delete_dir(path)

    def remove_file(self, name: str) -> None:
        """Removes a file; none there is no error.

        Raises:
            StorageError: it cannot be removed.
        """
        with self._told(name):
            if self.local:
                pathlib.Path(self.path, name).unlink(missing_ok=True)
            elif self.exists(name):
                filesystem, path = self._remote(name)
                filesystem.delete_file(path)

    def remove_if_empty(self, name: str) -> None:
        """Removes a folder in the folder if nothing is in it; one that cannot be removed stays."""
        with contextlib.suppress(OSError):
            if self.local:
                os.rmdir(os.path.join(self.path, name))
                return
            from pyarrow import fs

            filesystem, path = self._remote(name)
            if not filesystem.get_file_info(fs.FileSelector(path)):
                filesystem.delete_dir(path)

    def append(self, name: str, text: str) -> None:
        """Adds text at the end of a file, all of it or nothing; object storage does it by writing the file anew.

        Raises:
            StorageError: it cannot be written.
        """
        with self._told(name, len(text)):
            if self.local:
                _append(os.path.join(self.path, name), text)
                return
            before = self.read(name) if self.exists(name) else b""
            self._write(name, before + text.encode())

    @contextlib.contextmanager
    def _told(self, name: str, size: int | None = None) -> Iterator[None]:
        """Makes a `StorageError` of what goes wrong with a file in the block.

        Args:
            name: the file.
            size: what is to be written, in bytes, if it is known.
        """
        try:
            yield
        except OSError as error:
            what = shown(self.join(name)) + ("" if size is None else f" ({_size(size)})")
            hint = _HINTS.get(error.errno or 0)
            text = f"cannot write {what}: {error.strerror or reason(error)}" + (f" ({hint})" if hint else "")
            raise StorageError(text + (self._room() if error.errno in _FULL else "")) from error

    def _room(self) -> str:
        """How much there is on the disk, for an error; empty if that is not known."""
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
    """Writes a file of a `pyarrow.fs.FileSystem` under another name first, unless it appears when it is complete."""
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
    """Whether a file appears when it is complete, rather than growing as it is written.

    Of fsspec's file systems, those that cannot rename: they would copy, which makes no file appear as a whole that does
    not anyhow.
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
    """The fsspec file system that a pyarrow one wraps; None if it is pyarrow's own."""
    handler = getattr(filesystem, "handler", None)
    return getattr(handler, "fs", None)


def _replace(filesystem: Any, source: str, target: str) -> None:
    """Renames a file, in place of any there.

    Where a rename never replaces a file (SMB, HDFS, some FTP servers), the old file is removed first: for a moment
    there is neither.
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
        with contextlib.suppress(OSError):  # a part of a line would spoil the next one
            os.truncate(path, before)
        raise


def _size(number: float) -> str:
    for unit in ("KiB", "MiB"):
        number /= 1024
        if number < 1024:
            return f"{number:.1f} {unit}"
    return f"{number / 1024:.1f} GiB"


def tried_twice(action: Callable[[], _Answer]) -> _Answer:
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
