"""Seeded mutations of bytes, and of values as JSON and YAML have them."""

from __future__ import annotations

from random import Random
from typing import Any

TOKENS = (
    b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"\xe9", b"\xed\xa0\x80", b"\r\n", b"\x1b[31m", b"'", b'"', b"{", b"[",
    b"]" * 9, b"[" * 2000, b"{" * 2000, b"- " * 500, b": ", b"#", b"&a ", b"*a", b"<<: *a",
    b"!!python/object:os.system ", b"!!binary ", b"1e999", b"-1", b"9" * 5000, b".nan", b"null", b"~", b"../../..",
    b"/etc/passwd", b"\\u0000", b"\\ud800", b"%s%n", b",", b";", b"\x80\x04\x95", b"PK\x03\x04", b"PAR1",
    b"ustar\x0000", b"a=0\n", b"\t",
)  # fmt: skip


def nested(depth: int, leaf: Any = 0) -> Any:
    """A list in a list in a list."""
    value = leaf
    for _ in range(depth):
        value = [value]
    return value


VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 10**9, -(10**9), 2**63, -(2**63) - 1, 2**64, 10**40, 0.5, -0.5, 1e30, 1e308,
    float("inf"), float("-inf"), float("nan"), "", " ", "0", "1e999", "nan", "a", "a" * 5000, "../..", "/",
    "/etc/passwd", "/nowhere/x", "~", "~/x", "x\x00y", "x\ny", "\x1b[31mred", "\u202e", "läufe", "\udce9", "*.png",
    "data[v2]", "{0..99999999999}", "{a,b}", "s3://u:p@h/x?token=t", "http://127.0.0.1:9/x", "file:///etc/passwd",
    "%(x)s", "${HOME}", "!!x", "&a", [], [[]], [None], [0], [1, 2, 3], ["a", "b", "a"], {}, {"": 0}, {"name": None},
    {"name": "nothing"}, {"name": {}}, {"a": {"b": {}}}, list(range(2000)), nested(50), nested(2000),
)  # fmt: skip
_SHARED = {id(value) for value in VALUES}


def mutated_bytes(content: bytes, rng: Random) -> bytes:
    """Changes one to four places of a file: flips, cuts, copies, tokens that parsers dislike."""
    content = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        at = rng.randrange(len(content) + 1)
        length = rng.choice((1, 1, 2, 4, 16, 256))
        match rng.randrange(9):
            case 0:
                content[at : at + 1] = bytes([rng.randrange(256)])
            case 1:
                content[at : at + 1] = bytes([byte ^ 1 << rng.randrange(8) for byte in content[at : at + 1]])
            case 2:
                del content[at : at + length]
            case 3:
                content[at:at] = content[at : at + length]
            case 4:
                content[at:at] = rng.choice(TOKENS)
            case 5:
                content[at : at + length] = rng.choice(TOKENS)
            case 6:
                content[at : at + length] = rng.randbytes(length)
            case 7:
                content[at : at + 4] = rng.choice((b"\xff" * 4, b"\x00" * 4, b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f"))
            case 8:
                del content[at:]
    return bytes(content)


def mutated_value(value: Any, rng: Random) -> Any:
    """Replaces, removes, renames or adds a node of nested dicts and lists, one to three times; returns a copy."""
    value = _copied(value)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        containers = [node for node in _nodes(value) if node]
        if not containers:
            return rng.choice(VALUES)
        node = rng.choice(containers)
        key = rng.choice(list(node)) if isinstance(node, dict) else rng.randrange(len(node))
        match rng.randrange(8):
            case 0 | 1 | 2 | 3:
                node[key] = rng.choice(VALUES)
            case 4:
                del node[key]
            case 5 if isinstance(node, dict):
                node[_key(rng)] = node.pop(key)
            case 6 if isinstance(node, dict):
                node[_key(rng)] = rng.choice(VALUES)
            case 7:
                node[key] = _copied(rng.choice(containers))
            case _:
                node[key] = [node[key]]
    return value


def _key(rng: Random) -> str:
    return rng.choice(
        [value for value in VALUES if isinstance(value, str)] + ["name", "num_epochs", "imports", "ray", "search"]
    )


def _is_inner(value: Any) -> bool:
    """Whether it is a dict or list that may be changed, and none of VALUES."""
    return isinstance(value, dict | list) and id(value) not in _SHARED


def _copied(value: Any) -> Any:
    if not _is_inner(value):
        return value
    return (
        {key: _copied(child) for key, child in value.items()} if isinstance(value, dict) else list(map(_copied, value))
    )


def _nodes(value: Any) -> list[Any]:
    """All dicts and lists in a value."""
    found, waiting = [], [value]
    while waiting:
        node = waiting.pop()
        if _is_inner(node):
            found.append(node)
            waiting += node.values() if isinstance(node, dict) else node
    return found
