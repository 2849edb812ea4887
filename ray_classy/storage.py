"""Atomic reads and writes of small files in a folder on a local disk or in a remote store.

A name may come from a file that somebody else wrote. So every method refuses one that leads out of the folder; what is
written or removed is in the folder itself, not behind a link in it; and only regular files are read.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import pathlib
import re
import shutil
import time
import uuid
from collections.abc import Callable
from typing import Any, BinaryIO, TypeVar

from ray_classy.disk_errors import size_text, storage_errors
from ray_classy.errors import RunFolderError, StorageError
from ray_classy.local_files import append, open_regular
from ray_classy.printable import printable
from ray_classy.records import MOST_BYTES
from ray_classy.remote_files import fill, is_file, is_object_store, rename, write_remote
from ray_classy.urls import expanded, is_url, joined, located, reason, shown, without_file_scheme

__all__ = ["Storage", "is_url", "retry_once"]

_log = logging.getLogger(__name__)
_Answer = TypeVar("_Answer")

_SECONDS_TO_NEXT_TRY = 2.0
_MOST_POINTER_BYTES = 4096
_FOLDER_NAME = re.compile(r"[^/\x00-\x1f\x7f\ud800-\udfff\ufffd]+")


class Storage:
    """A folder of small files.

    Args:
        path: a local path, also as a `file://` URL, or a URL that `pyarrow.fs` or fsspec opens.
        filesystem: the `pyarrow.fs.FileSystem` of `path`; None derives it from the path.
    """

    def __init__(self, path: str, filesystem: Any = None) -> None:
        if filesystem is None:
            path = without_file_scheme(path)
        self.local = filesystem is None and not is_url(path)
        self.path = os.path.abspath(expanded(path)) if self.local else path
        self.filesystem = filesystem

    def _local(self, name: str) -> str:
        """Returns the path of a file or folder on the local disk."""
        return os.path.join(self.path, self._checked(name)) if name else self.path

    def _checked(self, name: str) -> str:
        """Returns a name that is inside the folder.

        Raises:
            RunFolderError: it leads out of the folder, or no file can have it.
        """
        try:
            os.fsencode(name)
        except UnicodeEncodeError:
            usable = False
        else:
            usable = "\0" not in name and not {"", ".", ".."} & set(name.split("/"))
        if not usable:
            raise RunFolderError(
                f"{printable(name)!r} is not the name of a file in {shown(self.path)!r}: names are relative, and have "
                f"no '..'; the file that it was read from is damaged"
            )
        return name

    def _own(self, name: str) -> str:
        """Returns the local path of a file or folder that is to be changed.

        Raises:
            OSError: a folder on the way to it, below the storage's own, is a link.
        """
        path = self._local(name)
        folder = name.rpartition("/")[0]
        if folder and self.has_link(folder):
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        return path

    def _remote(self, name: str) -> tuple[Any, str]:
        """Returns the file system and the path of a file in it."""
        if name:
            self._checked(name)
        if self.filesystem is not None:
            return self.filesystem, f"{self.path}/{name}" if name else self.path
        filesystem, root = located(self.path)
        return filesystem, f"{root}/{name}" if name else root

    def join(self, name: str) -> str:
        """Returns the path or URL of a file in the folder, in the form in which a user may pass it."""
        return self._local(name) if self.local else joined(self.path, self._checked(name))

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
                f"cannot create the folder {shown(self.path)!r}: {error.strerror or reason(error)}; "
                f"choose another storage path"
            ) from None

    def exists(self, name: str = "") -> bool:
        """Returns whether a file or folder of that name exists."""
        if self.local:
            return os.path.exists(self._local(name))
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

    def read(self, name: str, start: int = 0, most_bytes: int | None = MOST_BYTES) -> bytes:
        """Reads a regular file.

        Args:
            name: the file.
            start: how many bytes to skip at the beginning.
            most_bytes: the largest size of what is left that is read; None for any.

        Raises:
            FileNotFoundError: there is no such file.
            StorageError: it is larger.
            OSError: the file cannot be read, or is a pipe or a device.
        """
        if self.local:
            with os.fdopen(open_regular(self._local(name), os.O_RDONLY), "rb") as file:
                self._check_size(name, os.fstat(file.fileno()).st_size - start, most_bytes)
                file.seek(start)
                return file.read()
        filesystem, path = self._remote(name)
        if start == 0:
            with filesystem.open_input_stream(path) as stream:
                content = stream.read(None if most_bytes is None else most_bytes + 1)
                self._check_size(name, len(content), most_bytes)
                return content
        with filesystem.open_input_file(path) as file:
            size = max(file.size() - start, 0)
            self._check_size(name, size, most_bytes)
            return file.read_at(size, start) if size else b""

    def _check_size(self, name: str, size: int, most_bytes: int | None) -> None:
        if most_bytes is not None and size > most_bytes:
            raise StorageError(f"cannot read {shown(self.join(name))}: it is larger than {size_text(most_bytes)}")

    def size(self, name: str) -> int:
        """Returns the bytes of a file; 0 if there is none.

        Raises:
            OSError: the store fails.
        """
        if self.local:
            return os.path.getsize(self._local(name)) if self.exists(name) else 0
        filesystem, path = self._remote(name)
        return filesystem.get_file_info(path).size or 0

    def modified(self, name: str) -> float:
        """Returns when a file was written, in seconds, by the clock of the disk or the store.

        Raises:
            OSError: there is no such file, or the store does not say it.
        """
        if self.local:
            return os.stat(self._local(name), follow_symlinks=False).st_mtime
        filesystem, path = self._remote(name)
        written = filesystem.get_file_info(path).mtime_ns
        if written is None:
            raise OSError(errno.ENOENT, "no file with a time", self.join(name))
        return written / 1e9

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
            write_remote(filesystem, path, content)
            return
        path = self._own(name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        half = f"{path}.{uuid.uuid4().hex[:8]}.half"
        try:
            with open(half, "xb") as file:
                fill(file, content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(half, path)
        finally:
            if os.path.exists(half):
                os.remove(half)

    def point(self, name: str, target: str) -> None:
        """Makes a name an alias of a folder beside it: a symbolic link or, where links are not supported, a file that
        contains the folder's name.

        A folder of that name is renamed: where a copy was made that follows links, it is a copy of a folder beside it.
        """
        self._checked(target)
        self._rename_folder(name)
        if self.local:
            path = self._own(name)
            link = f"{path}.{uuid.uuid4().hex[:8]}.half"
            try:
                os.symlink(target, link)
                os.replace(link, path)
                return
            except OSError:
                pathlib.Path(link).unlink(missing_ok=True)
        self.write(name, target.encode())

    def _rename_folder(self, name: str) -> None:
        """Renames a folder to `NAME.copied`, if there is one that is not a link."""
        if self.local:
            path = self._own(name)
            if os.path.islink(path) or not os.path.isdir(path):
                return
            new = self.free_name(f"{name}.copied")
            os.rename(path, self._local(new))
        else:
            from pyarrow import fs

            filesystem, path = self._remote(name)
            if is_object_store(filesystem) or filesystem.get_file_info(path).type != fs.FileType.Directory:
                return
            new = self.free_name(f"{name}.copied")
            rename(filesystem, path, self._remote(new)[1])
        _log.warning("%s was a folder, as in a copy that follows links: renamed to %s", shown(self.join(name)), new)

    def has_link(self, name: str) -> bool:
        """Returns whether a file or folder, or a folder on the way to it, is a link."""
        steps = self._checked(name).split("/")
        paths = (os.path.join(self.path, *steps[:depth]) for depth in range(1, len(steps) + 1))
        return self.local and any(map(os.path.islink, paths))

    def free_name(self, name: str) -> str:
        """Returns a name that nothing in the folder has: the given one, or that with a number."""
        free, number = name, 1
        while self.exists(free):
            number += 1
            free = f"{name}-{number}"
        return free

    def pointed(self, name: str) -> str | None:
        """Returns the folder of which `point` made a name the alias; None if it is not an alias of a folder beside it.

        Raises:
            OSError: the store fails.
        """
        path = self._local(name) if self.local else ""
        if self.local and os.path.islink(path):
            target = os.readlink(path)
        elif os.path.isfile(path) if self.local else is_file(*self._remote(name)):
            if self.size(name) > _MOST_POINTER_BYTES:
                return None
            target = self.read(name).decode(errors="replace")
        else:
            return None
        return target if _FOLDER_NAME.fullmatch(target) and target not in (".", "..") else None

    def remove(self, name: str) -> None:
        """Removes a subfolder with its content, or the link that has its name; a missing one is not an error."""
        self._checked(name)
        if not self.local:
            self._remove_remote(name)
            return
        with contextlib.suppress(OSError):
            path = self._own(name)
            if os.path.islink(path):
                os.unlink(path)
            else:
                shutil.rmtree(path, ignore_errors=True)

    def remove_all(self) -> None:
        """Removes the folder itself with its content; a missing one is not an error."""
        if self.local:
            shutil.rmtree(self.path, ignore_errors=True)
        else:
            self._remove_remote("")

    def _remove_remote(self, name: str) -> None:
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
                pathlib.Path(self._own(name)).unlink(missing_ok=True)
            elif self.exists(name):
                filesystem, path = self._remote(name)
                filesystem.delete_file(path)

    def remove_if_empty(self, name: str) -> None:
        """Removes a subfolder, or the folder itself for an empty name, if it is empty and can be removed."""
        with contextlib.suppress(OSError):
            if self.local:
                os.rmdir(self._own(name))
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
                append(self._own(name), text)
                return
            before = self.read(name, most_bytes=None) if self.exists(name) else b""
            self._write(name, before + text.encode(errors="backslashreplace"))

    def _storage_errors(self, name: str, size: int | None = None) -> contextlib.AbstractContextManager[None]:
        return storage_errors(self.join(name), size, self.path if self.local else None)


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
