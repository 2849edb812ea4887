from dataclasses import dataclass, field
from typing import Any

import pytest

from ray_classy.errors import RecordError
from ray_classy.records import parse_json, parse_json_object, read_record


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "not JSON"),
        (b"{", "line 1, column 2 is not JSON"),
        (b"\x00", "not JSON"),
        (b'{"a": "\xff"}', "byte 7 is not UTF-8"),
        (b"[" * 100_000, "levels deep"),
        (b"[" * 65 + b"]" * 65, "levels deep"),
        (b'{"a":' * 65 + b"1" + b"}" * 65, "levels deep"),
        (b"[" + b"[]," * 1_000_000 + b"[]]", "more than 1,000,000 objects and lists"),
        (b"1" * 5000, "more than 300 digits"),
        (b"-" + b"1" * 5000, "more than 300 digits"),
        (b'["\\ud800"]', "cannot be encoded"),
        (b'{"\\uDFFF": 1}', "cannot be encoded"),
        (b" " * 101, "at most 100 are read"),
    ],
)
def test_what_is_not_a_record_is_one_error(content, why):
    with pytest.raises(RecordError, match=rf"a/run\.json is damaged: .*{why}.*restore the file"):
        parse_json(content, "a/run.json", most_bytes=100 if content.isspace() else 2**23)


def test_json_is_read():
    text = b'\xef\xbb\xbf{"a": [1, -2.5, NaN, "\\udce9 \\u00e4", null, true], "b": ' + b"[" * 63 + b"]" * 63 + b"}"
    assert parse_json(text, "x")["a"][3:] == ["\udce9 ä", None, True]


def test_a_name_in_an_error_is_escaped():
    with pytest.raises(RecordError, match=r"a\\x1b\.json is damaged"):
        parse_json(b"", "a\x1b.json")


@pytest.mark.parametrize("content", [b"[]", b"3", b"null", b'"text"'])
def test_an_object_is_required(content):
    with pytest.raises(RecordError, match="in place of an object"):
        parse_json_object(content, "x")


@dataclass
class Part:
    size: int


@dataclass
class Whole:
    name: str
    share: float = 0.5
    on: bool = False
    parts: dict[str, Part] = field(default_factory=dict)
    names: list[str] | None = None
    other: Any = None


def test_a_record_is_built():
    value = {"name": "n", "share": 1, "parts": {"a": {"size": 3}}, "names": ["x"], "other": [{}], "newer": 1}
    assert read_record(Whole, value, "x") == Whole("n", 1.0, False, {"a": Part(3)}, ["x"], [{}])


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ([], "x is damaged: it holds a list in place of an object"),
        ({}, "x is damaged: it has no 'name'"),
        ({"name": 3}, "x: name is damaged: it must be text, not 3"),
        ({"name": "n", "share": True}, "x: share is damaged: it must be a number, not true"),
        ({"name": "n", "on": 1}, "x: on is damaged: it must be true or false, not 1"),
        ({"name": "n", "parts": {"a": {"size": 1.5}}}, r"x: parts\.a: size is damaged: it must be an integer, not 1.5"),
        ({"name": "n", "parts": {"a": 1}}, r"x: parts\.a is damaged: it must be an object, not 1"),
        ({"name": "n", "names": ["a", None]}, r"x: names\[1\] is damaged: it must be text, not null"),
        ({"name": "n", "names": {}}, "x: names is damaged: it must be a list or null, not an object"),
    ],
)
def test_a_field_of_another_type_is_named(value, why):
    with pytest.raises(RecordError, match=why):
        read_record(Whole, value, "x")


def test_unknown_keys_are_refused_where_they_must_not_be():
    with pytest.raises(RecordError, match="unknown key 'nmae'"):
        read_record(Whole, {"name": "n", "nmae": 1}, "x", unknown="refuse")
