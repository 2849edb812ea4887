"""Files of a run's folder with one JSON object per line."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from typing import Any

from ray_classy.errors import RecordError
from ray_classy.records import parse_json, read_record
from ray_classy.storage import Storage
from ray_classy.urls import shown

_log = logging.getLogger(__name__)

_MOST_BYTES = 2**30
"""Size of the largest file that is read: the metrics of a million phases fit."""


class RecordLines:
    """A file with one JSON object per line.

    A line that cannot be read is passed over, with a warning, and never lost: `replace` moves it to a file beside this
    one, `NAME.damaged`. The exception is the last line, if a kill in the middle of a write left only its beginning.

    Args:
        storage: the folder.
        name: the file's name.
        shape: a dataclass of the fields that each line must have, and of the types of those that it may have.
    """

    def __init__(self, storage: Storage, name: str, shape: type) -> None:
        self._storage, self._name, self._shape = storage, name, shape
        self._warned = False

    def read(self) -> list[dict[str, Any]]:
        """Returns the lines that can be read; an empty list if there is no file.

        Raises:
            OSError: the file cannot be read.
        """
        lines, damaged, error = self._split()
        if damaged and not self._warned:
            count = "a line" if len(damaged) == 1 else f"{len(damaged)} lines"
            _log.warning("%s of %s cannot be read and is passed over: %s", count, self._where, error)
            self._warned = True
        return lines

    def add(self, line: Mapping[str, Any]) -> None:
        """Appends a line."""
        self._storage.append(self._name, json.dumps(line) + "\n")

    def replace(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Puts lines in place of those that can be read, and moves the others to a file beside this one."""
        damaged = self._split()[1]
        if damaged and not self._storage.has_link(self._name):  # what is behind a link stays there
            self._keep_aside(damaged)
        self._storage.write(self._name, "".join(json.dumps(line) + "\n" for line in lines).encode())

    @property
    def _where(self) -> str:
        return shown(self._storage.join(self._name))

    def _split(self) -> tuple[list[dict[str, Any]], list[bytes], RecordError | None]:
        """The lines that can be read, the others, and what is wrong with the first of these."""
        lines: list[dict[str, Any]] = []
        damaged: list[bytes] = []
        first: RecordError | None = None
        content = self._storage.read(self._name, most_bytes=_MOST_BYTES) if self._storage.exists(self._name) else b""
        for number, raw in enumerate(content.splitlines(keepends=True), 1):
            try:
                line = parse_json(raw, f"{self._where}, line {number}")
                read_record(self._shape, line, f"{self._where}, line {number}")
                lines.append(line)
            except RecordError as error:
                if raw.startswith(b"{") and not raw.endswith(b"\n") and _is_text(raw):
                    continue
                damaged.append(raw)
                first = first or error
        return lines, damaged, first

    def _keep_aside(self, damaged: list[bytes]) -> None:
        name = self._storage.free_name(f"{self._name}.damaged")
        self._storage.write(name, b"".join(damaged))
        _log.warning("what cannot be read of %s is kept in %s", self._where, name)


def _is_text(content: bytes) -> bool:
    try:
        return "\0" not in content.decode()
    except UnicodeDecodeError:
        return False
