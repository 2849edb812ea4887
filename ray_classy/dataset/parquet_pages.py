"""Reads the headers of the pages in a Parquet file: what each will take unpacked is known before any is decoded.

Pages lie one behind the other in a column chunk, each after a header in Thrift's compact protocol. Arrow allocates what
a header asks for, and unpacks a page of up to 2 GiB at once, whatever the file's footer says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

ReadAt = Callable[[int, int], bytes]
"""Reads a number of bytes of a file, or those that are left, from a position."""

DATA, DICTIONARY, DATA_V2 = 0, 2, 3
DELTA_BYTE_ARRAY = 7
"""An encoding of texts, each by what it shares with the one before."""

_TYPE, _UNPACKED, _PACKED = 1, 2, 3
_BODIES = {DATA: 5, DICTIONARY: 7, DATA_V2: 8}
_VALUES = 1
_ENCODINGS = {DATA: 2, DICTIONARY: 2, DATA_V2: 4}
_HEADER_BYTES = 1 << 10
_MOST_HEADER_BYTES = 16 << 20
"""Arrow's own limit: a header may have the least and the greatest value of its page."""
_MOST_NESTED = 16
_MOST_SMALL_PAGES = 100_000
_SMALL_BYTES = 64
"""Pages of so few bytes, header included, do not exist in great numbers in any real file."""


class BadPage(ValueError):
    """The header of a page is damaged."""


class Page(NamedTuple):
    """What a page's header says.

    Attributes:
        kind: `DATA`, `DICTIONARY`, `DATA_V2`, or another number for what holds no values.
        packed: its bytes in the file.
        unpacked: its bytes in memory.
        values: their number, nulls included.
        encoding: a number of Parquet's.
    """

    kind: int
    packed: int
    unpacked: int
    values: int
    encoding: int


def pages(read_at: ReadAt, start: int, size: int, values: int) -> Iterator[Page]:
    """Yields the pages of a column chunk that Arrow reads: up to its last value.

    Args:
        read_at: reads the file.
        start: position of the chunk.
        size: of the chunk in bytes.
        values: in the chunk.

    Raises:
        BadPage: a header cannot be read, or a page goes beyond the chunk.
    """
    at, end, count = start, start + size, 0
    while at < end and values > 0:
        header, length = _header(read_at, at, end)
        page = _page(header)
        at += length + page.packed
        count += 1
        if at > end:
            raise BadPage(f"a page of {page.packed:,} bytes goes beyond its column chunk")
        if count > _MOST_SMALL_PAGES and (at - start) // count < _SMALL_BYTES:
            raise BadPage(f"more than {_MOST_SMALL_PAGES:,} pages of less than {_SMALL_BYTES} bytes")
        if page.kind in (DATA, DATA_V2):
            values -= page.values
        yield page


def _page(header: dict[int, Any]) -> Page:
    kind, packed, unpacked = (header.get(key) for key in (_TYPE, _PACKED, _UNPACKED))
    if not (type(kind) is type(packed) is type(unpacked) is int) or packed < 0 or unpacked < 0:
        raise BadPage("the header of a page lacks its size")
    body = header.get(_BODIES.get(kind, 0), {})
    if not isinstance(body, dict) or (kind in _BODIES and not body):
        raise BadPage("the header of a page lacks the number of its values")
    values, encoding = body.get(_VALUES, 0), body.get(_ENCODINGS.get(kind, 0), 0)
    if type(values) is not int or values < 0 or type(encoding) is not int:
        raise BadPage("the header of a page lacks the number of its values")
    return Page(kind, packed, unpacked, values, encoding)


def _header(read_at: ReadAt, at: int, end: int) -> tuple[dict[int, Any], int]:
    """Reads a header and its length."""
    size = _HEADER_BYTES
    while True:
        data = read_at(at, min(size, end - at))
        try:
            return _struct(data, 0, 0)
        except IndexError:  # there is more
            if len(data) < size or size >= _MOST_HEADER_BYTES:
                raise BadPage("the header of a page ends early") from None
            size *= 16


# -- Thrift's compact protocol: a struct is a list of fields, each with a type and its distance from the one before ----

_TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = 1, 2, 3, 7, 8, 9, 10, 11, 12
_INTEGERS = (4, 5, 6)


def _struct(data: bytes, at: int, depth: int) -> tuple[dict[int, Any], int]:
    """Returns the integers and structs of a struct by field number, and where it ends."""
    if depth > _MOST_NESTED:
        raise BadPage("the header of a page is nested too deeply")
    found: dict[int, Any] = {}
    field = 0
    while True:
        first = data[at]
        at += 1
        if first == 0:
            return found, at
        if first >> 4:
            field += first >> 4
        else:
            field, at = _integer(data, at)
        kind = first & 15
        if kind in _INTEGERS:
            found[field], at = _integer(data, at)
        elif kind == _STRUCT:
            found[field], at = _struct(data, at, depth + 1)
        elif kind not in (_TRUE, _FALSE):  # of which the value is in the type
            at = _skipped(data, at, kind, depth)


def _skipped(data: bytes, at: int, kind: int, depth: int) -> int:
    """Returns where a value ends."""
    if kind in (_TRUE, _FALSE, _BYTE):  # in a list, true and false take a byte
        end = at + 1
    elif kind in _INTEGERS:
        return _integer(data, at)[1]
    elif kind == _DOUBLE:
        end = at + 8
    elif kind == _BINARY:
        size, at = _varint(data, at)
        end = at + size
    elif kind == _STRUCT:
        return _struct(data, at, depth + 1)[1]
    elif kind in (_LIST, _SET, _MAP) and depth < _MOST_NESTED:
        return _items_skipped(data, at, kind, depth + 1)
    else:
        raise BadPage(f"the header of a page has a value of type {kind}")
    if end > len(data):
        raise IndexError
    return end


def _items_skipped(data: bytes, at: int, kind: int, depth: int) -> int:
    kinds: tuple[int, ...]
    if kind == _MAP:
        size, at = _varint(data, at)
        kinds = (data[at] >> 4, data[at] & 15) if size else ()
        at += bool(size)
    else:
        size, kinds, at = data[at] >> 4, (data[at] & 15,), at + 1
        if size == 15:
            size, at = _varint(data, at)
    if size > len(data):  # each takes a byte or more
        raise IndexError
    for _ in range(size):
        for each in kinds:
            at = _skipped(data, at, each, depth)
    return at


def _integer(data: bytes, at: int) -> tuple[int, int]:
    """Reads a signed integer (zigzag)."""
    number, at = _varint(data, at)
    return (number >> 1) ^ -(number & 1), at


def _varint(data: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = data[at]
        at += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number, at
        shift += 7
        if shift > 63:
            raise BadPage("the header of a page has a number of more than 64 bits")
