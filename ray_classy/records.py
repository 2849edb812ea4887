"""Files that are read back: JSON that is checked before anything in it is used.

A file in a run's folder may have been truncated by a full disk, edited, or planted. `parse_json` returns plain values
of a bounded size, or raises one error; `read_record` then builds a dataclass from them, with the types of its fields.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import re
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from ray_classy.errors import RecordError
from ray_classy.printable import printable

_Record = TypeVar("_Record")

MOST_BYTES = 64 * 2**20
"""Size of the largest file that is read back: the manifest of a million classes fits."""
_MOST_LEVELS = 64
"""Levels of nesting; a config has about ten."""
_MOST_CONTAINERS = 1_000_000
"""Objects and lists in a file, as an empty one of 3 bytes takes 60 bytes of memory."""
_MOST_DIGITS = 300
"""Digits of an integer, so that each can be converted to a float."""
_SURROGATE = re.compile("[\ud800-\udc7f\udd00-\udfff]")
"""Surrogates, but for those by which Python names files that are not in UTF-8."""


def parse_json(content: bytes | str, where: str, most_bytes: int = MOST_BYTES) -> Any:
    """Returns the value of a JSON text: plain, at most 64 levels deep, and of text that can be encoded.

    Args:
        content: the text.
        where: the file, and the line if there are several values in it, for the error.
        most_bytes: how long the text may be.

    Raises:
        RecordError: the text breaks one of these limits or is not JSON; the message says why, and where.
    """
    if len(content) > most_bytes:
        raise damaged(where, f"it has {len(content):,} bytes, and at most {most_bytes:,} are read")
    try:
        text = content.decode("utf-8-sig") if isinstance(content, bytes) else content
        if text.count("[") + text.count("{") > _MOST_CONTAINERS:
            raise damaged(where, f"it has more than {_MOST_CONTAINERS:,} objects and lists")
        value = json.loads(text, parse_int=_integer)
    except UnicodeDecodeError as error:
        raise damaged(where, f"byte {error.start} is not UTF-8") from None
    except json.JSONDecodeError as error:
        raise damaged(where, f"line {error.lineno}, column {error.colno} is not JSON: {error.msg}") from None
    except RecursionError:
        raise damaged(where, f"it is nested more than {_MOST_LEVELS} levels deep") from None
    except _TooLong:
        raise damaged(where, f"it has an integer of more than {_MOST_DIGITS} digits") from None
    _check_nesting(value, text, where)
    return value


def parse_json_object(content: bytes | str, where: str, most_bytes: int = MOST_BYTES) -> dict[str, Any]:
    """Returns a JSON object; arguments and errors as those of `parse_json`."""
    value = parse_json(content, where, most_bytes)
    if not isinstance(value, dict):
        raise damaged(where, f"it holds {_kind(value)} in place of an object")
    return value


def read_record(cls: type[_Record], value: Any, where: str, unknown: str = "ignore") -> _Record:
    """Builds a dataclass from a mapping, and checks the type of each field.

    Args:
        cls: a dataclass whose fields are plain values, lists, dicts, dataclasses, and unions of these. A float accepts
            an integer; nothing accepts a boolean but bool and Any.
        value: what was parsed.
        where: the file, for the error.
        unknown: "ignore" passes over keys that are not fields, as a newer version may add them; "refuse" does not.

    Raises:
        RecordError: it is not a mapping, a field without a default is missing, or one has another type.
    """
    if not isinstance(value, Mapping):
        raise damaged(where, f"it holds {_kind(value)} in place of an object")
    hints = _hints(cls)  # type: ignore[arg-type]
    strange = sorted(map(str, value.keys() - hints.keys())) if unknown == "refuse" else []
    if strange:
        raise damaged(where, f"it has an unknown key {printable(strange[0])!r}; the keys are {', '.join(hints)}")
    given: dict[str, Any] = {}
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        if field.name in value:
            given[field.name] = _converted(hints[field.name], value[field.name], f"{where}: {field.name}", unknown)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise damaged(where, f"it has no {field.name!r}")
    return cls(**given)


def damaged(where: str, what: str) -> RecordError:
    """The error for a file that cannot be read back.

    Args:
        where: the file.
        what: what is wrong with it.
    """
    return RecordError(f"{printable(where)} is damaged: {what}; restore the file from a copy")


def what_is_wrong(error: Exception, where: str) -> str:
    """Returns what an error of `parse_json` or `read_record` says, for one that names the file and the remedy itself.

    Args:
        error: the error.
        where: the file that it was given.
    """
    text = str(error).removeprefix(f"{printable(where)} is damaged: ").removeprefix(f"{printable(where)}: ")
    return text.partition("; restore the file")[0].replace(" is damaged: it must", " must")


class _TooLong(Exception):
    """An integer has too many digits."""


def _integer(digits: str) -> int:
    if len(digits) > _MOST_DIGITS:
        raise _TooLong
    return int(digits)


def _check_nesting(value: Any, text: str, where: str) -> None:
    """Refuses values that are nested too deeply for the code that uses them, and strings that cannot be printed."""
    escapes = "\\ud" in text or "\\uD" in text
    if not escapes and text.count("[") + text.count("{") <= _MOST_LEVELS:
        return
    level = [value]
    for depth in range(_MOST_LEVELS + 1):
        if depth == _MOST_LEVELS and any(isinstance(item, dict | list) for item in level):
            raise damaged(where, f"it is nested more than {_MOST_LEVELS} levels deep")
        below: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                below += item
                below += item.values()
            elif isinstance(item, list):
                below += item
            elif escapes and isinstance(item, str) and _SURROGATE.search(item):
                raise damaged(where, f"it has text that cannot be encoded: {printable(item)[:80]!r}")
        level = below


@functools.cache
def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _converted(hint: Any, value: Any, where: str, unknown: str) -> Any:
    """Returns a value of a field, with the dataclasses in it."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin in (types.UnionType, typing.Union):
        for option in arguments:
            if _fits(option, value):
                return _converted(option, value, where, unknown)
    elif _fits(hint, value):
        if dataclasses.is_dataclass(hint):
            return read_record(hint, value, where, unknown)  # type: ignore[arg-type]
        if origin is list and arguments:
            return [_converted(arguments[0], item, f"{where}[{index}]", unknown) for index, item in enumerate(value)]
        if origin is dict and arguments:
            return {key: _converted(arguments[1], item, f"{where}.{key}", unknown) for key, item in value.items()}
        return float(value) if hint is float else value
    raise damaged(where, f"it must be {_expected(hint)}, not {_kind(value)}")


def _fits(hint: Any, value: Any) -> bool:
    """Whether a value has the outer type of a hint."""
    base = typing.get_origin(hint) or hint
    if base is Any:
        return True
    if base is types.NoneType or base is None:
        return value is None
    if dataclasses.is_dataclass(base):
        return isinstance(value, Mapping)
    if isinstance(value, bool):
        return base is bool
    return isinstance(value, (int, float) if base is float else base)


def _expected(hint: Any) -> str:
    names = {
        str: "text",
        int: "an integer",
        float: "a number",
        bool: "true or false",
        list: "a list",
        dict: "an object",
    }
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        return " or ".join(_expected(option) for option in typing.get_args(hint))
    base = typing.get_origin(hint) or hint
    return "null" if base is types.NoneType else names.get(base, "an object")


def _kind(value: Any) -> str:
    """A value in an error message, by its kind and, if it is short, itself."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list"
    text = printable(json.dumps(value, ensure_ascii=False, default=str))
    return text if len(text) <= 80 else f"{text[:77]}..."
