"""JSON text to values and line marks."""

from __future__ import annotations

import bisect
import json
import re
from typing import Any

from ray_classy.config.document import MOST_LEVELS, Mark, Path, dotted, too_deep
from ray_classy.config.numbers import number
from ray_classy.errors import ConfigError

_SPACE = re.compile(r"[ \t\n\r]*")


def parse_json(text: str, file: str) -> tuple[Any, dict[Path, Mark]]:
    """Returns the value of `text`, as `json.loads` does, and the line of each value in it.

    Raises:
        ConfigError: the text is not JSON, or an object has a key twice.
    """
    try:
        json.loads(text, parse_int=_number, parse_float=_number)
        walk = _Walk(text, file)
        return walk.value(_SPACE.match(text).end(), ())[0], walk.marks  # type: ignore[union-attr]
    except _OutOfRange as error:
        line = text.count("\n", 0, text.find(error.text)) + 1
        raise ConfigError(f"{Mark(file, line)}: {error}") from None
    except json.JSONDecodeError as error:
        raise ConfigError(
            f"{file}:{error.lineno}:{error.colno}: not JSON: {error.msg} "
            "(JSON takes no comments, single quotes or trailing commas; a .yaml file does)"
        ) from None
    except RecursionError:
        raise too_deep(file) from None


class _OutOfRange(Exception):
    def __init__(self, text: str, message: str) -> None:
        super().__init__(message)
        self.text = text


def _number(text: str) -> int | float:
    try:
        return number(text)
    except ValueError as error:
        raise _OutOfRange(text, str(error)) from None


class _Walk:
    """A second pass over text that is known to be JSON: structure here, scalars by the json module."""

    def __init__(self, text: str, file: str) -> None:
        self.text = text
        self.file = file
        self.marks: dict[Path, Mark] = {}
        self._scalar = json.JSONDecoder().raw_decode
        self._line_starts = [0] + [match.end() for match in re.finditer("\n", text)]

    def value(self, start: int, path: Path) -> tuple[Any, int]:
        """The value that begins at `start`, and the position behind it."""
        self.marks.setdefault(path, self._mark(start))  # a mapping's entry has that of its key already
        if len(path) > MOST_LEVELS:
            raise too_deep(str(self._mark(start)))
        if self.text[start] == "{":
            return self._object(start, path)
        if self.text[start] == "[":
            return self._array(start, path)
        return self._scalar(self.text, start)

    def _object(self, start: int, path: Path) -> tuple[dict[str, Any], int]:
        values: dict[str, Any] = {}
        position = self._behind_space(start + 1)
        while self.text[position] != "}":
            if self.text[position] == ",":
                position = self._behind_space(position + 1)
            key, behind = self._scalar(self.text, position)
            inner = (*path, key)
            if key in values:
                raise ConfigError(duplicate(self._mark(position), inner, self.marks[inner]))
            self.marks[inner] = self._mark(position)
            colon = self._behind_space(behind)
            values[key], position = self.value(self._behind_space(colon + 1), inner)
            position = self._behind_space(position)
        return values, position + 1

    def _array(self, start: int, path: Path) -> tuple[list[Any], int]:
        values: list[Any] = []
        position = self._behind_space(start + 1)
        while self.text[position] != "]":
            if self.text[position] == ",":
                position = self._behind_space(position + 1)
            value, position = self.value(position, (*path, len(values)))
            values.append(value)
            position = self._behind_space(position)
        return values, position + 1

    def _behind_space(self, position: int) -> int:
        return _SPACE.match(self.text, position).end()  # type: ignore[union-attr]

    def _mark(self, position: int) -> Mark:
        return Mark(self.file, bisect.bisect_right(self._line_starts, position))


def duplicate(second: Mark, path: Path, first: Mark) -> str:
    """What to say about a key that stands twice in one mapping."""
    at = f"line {first.line}" if first.line != second.line else "the same line"
    first_on = f" (first on {at})" if first.line is not None else ""
    return f"{second}: {dotted(path)}: the key stands here a second time{first_on}; keep one of the two"
