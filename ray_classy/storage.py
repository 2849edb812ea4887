"""Small files in a folder that is local or in object storage, written so that a reader never sees half of one."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import uuid
from collections.abc import Callable
from typing import Any, BinaryIO

from ray_classy.errors import RunFolderError
from ray_classy.urls import is_url, joined, located

__all__ = ["Storage", "is_url"]


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

    def read(self, name: str) -> bytes:
        """The content of a file."""
        if self.local:
            with open(os.path.join(self.path, name), "rb") as file:
                return file.read()
        filesystem, path = self._remote(name)
        with filesystem.open_input_stream(path) as stream:
            return stream.read()

    def write(self, name: str, content: bytes | Callable[[BinaryIO], None]) -> None:
        """Writes a file, in place of any there, so that a reader sees the old content or the new, never a part.

        Args:
            name: the file, in a folder of the folder if it has a slash.
            content: the bytes, or a function that writes them to the stream it is given.
        """
        if not self.local:
            filesystem, path = self._remote(name)
            filesystem.create_dir(path.rpartition("/")[0], recursive=True)
            # An object store shows a file when it is complete, a file system every part of it as it is written.
            grows = filesystem.type_name in ("local", "hdfs")
            target = f"{path}.{uuid.uuid4().hex[:8]}.half" if grows else path
            try:
                with filesystem.open_output_stream(target) as stream:
                    _fill(stream, content)
                if grows:
                    filesystem.move(target, path)
            except BaseException:
                if grows:
                    filesystem.delete_file(target)
                raise
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
        """Removes a file; none there is no error."""
        if self.local:
            pathlib.Path(self.path, name).unlink(missing_ok=True)
        elif self.exists(name):
            filesystem, path = self._remote(name)
            filesystem.delete_file(path)

    def append(self, name: str, text: str) -> None:
        """Adds text at the end of a file, which object storage does by writing it anew."""
        if self.local:
            with open(os.path.join(self.path, name), "a", encoding="utf-8") as file:
                file.write(text)
            return
        before = self.read(name) if self.exists(name) else b""
        self.write(name, before + text.encode())


def _fill(stream: Any, content: bytes | Callable[[BinaryIO], None]) -> None:
    if callable(content):
        content(stream)
    else:
        stream.write(content)
