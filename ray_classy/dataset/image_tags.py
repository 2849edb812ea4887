"""Reads what is needed of the TIFF tags in image files (EXIF), and refuses tags that are built to exhaust memory."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from ray_classy.errors import DataError

_SPARE_BYTES = 16 << 20
"""Values of tags may take this much more than twice their file. In sound files values do not overlap, so that they take
less than the file; the rest is for damaged tags. Tags that all point to the same bytes would take thousands of times
the file, since Pillow copies each value."""
_MOST_STRIPS = 1 << 19
"""Strips or tiles of one image: Pillow takes some 300 bytes for each, the file 8. An image of 89 megapixels in tiles of
16 x 16 has 350,000."""

_MOST_TAGS = 1 << 16  # their numbers have 16 bits
_ORIENTATION = 0x0112
_STRIP_OFFSETS = (273, 279, 324, 325)
_SUB_DIRECTORIES = (34665, 34853, 40965)
_BYTES_OF_TYPE = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_HEADER = re.compile(rb"II[*+]\0|MM\0[*+]")
_EXIF = re.compile(rb"Exif\0\0(?=II[*+]\0|MM\0[*+])")
_XMP_ORIENTATION = re.compile(rb'tiff:Orientation(?:="|>)([0-9])')


class _Tag(NamedTuple):
    number: int
    kind: int
    length: int
    value: bytes  # or where it is

    @property
    def bytes(self) -> int:
        return self.length * _BYTES_OF_TYPE.get(self.kind, 0)


def check_tags(data: bytes, form: str) -> None:
    """Checks the tags that Pillow reads when it opens a file, before it does.

    Args:
        data: the file.
        form: its format, as `image_format` names it.

    Raises:
        DataError: the tags take many times the file's size.
    """
    if form == "TIFF":
        _check(data, 0)
    elif form == "JPEG":
        for found in _EXIF.finditer(data):
            _check(data, found.end())
    elif form == "AVIF":
        for found in _HEADER.finditer(data):
            _check(data, found.start())


def orientation(info: Mapping[str, Any]) -> int:
    """Returns the orientation (1 to 8) in the EXIF or XMP data of an opened image; 1 if there is none.

    Args:
        info: what Pillow read beside the pixels: `image.info`.
    """
    exif = info.get("exif") or _from_hexadecimal(info.get("Raw profile type exif"))
    if isinstance(exif, bytes):
        while exif.startswith(b"Exif\0\0"):
            exif = exif[6:]
        for tag in _directory(exif, 0):
            if tag.number == _ORIENTATION and tag.length == 1 and tag.kind in (1, 3, 4):
                return _number(tag, _order(exif, 0))
    xmp = info.get("XML:com.adobe.xmp") or info.get("xmp") or b""
    found = _XMP_ORIENTATION.search(xmp.encode(errors="replace") if isinstance(xmp, str) else xmp)
    return int(found[1]) if found else 1


def _from_hexadecimal(text: Any) -> bytes | None:
    """Converts the EXIF data that ImageMagick writes into PNG files as text."""
    try:
        return bytes.fromhex("".join(text.split("\n")[3:])) if isinstance(text, str) else None
    except ValueError:
        return None


def _check(data: bytes, start: int) -> None:
    total = 0
    first = list(_directory(data, start))
    order = _order(data, start)
    nested = [
        tag
        for entry in first
        if entry.number in _SUB_DIRECTORIES and entry.length == 1
        for tag in _directory(data, start, start + _number(entry, order))
    ]
    for tag in first + nested:
        total += min(tag.bytes, len(data)) if tag.bytes > len(tag.value) else 0
        if tag.number in _STRIP_OFFSETS and tag.length > _MOST_STRIPS:
            raise DataError(f"an image in {tag.length:,} strips or tiles; at most {_MOST_STRIPS:,} are read")
    if total > 2 * len(data) + _SPARE_BYTES:
        raise DataError(f"tags (EXIF) of {total:,} bytes in a file of {len(data):,}: they are damaged; remove them")


def _order(data: bytes, start: int) -> str:
    return "<" if data[start : start + 2] == b"II" else ">"


def _directory(data: bytes, start: int, at: int | None = None) -> Iterator[_Tag]:
    """Yields the tags of a directory, by default the first one, of the TIFF structure at `start`; stops at damage."""
    if _HEADER.match(data, start) is None:
        return
    order, big = _order(data, start), b"+" in data[start + 2 : start + 4]
    try:
        if at is None:
            at = start + struct.unpack_from(order + ("Q" if big else "I"), data, start + (8 if big else 4))[0]
        (count,) = struct.unpack_from(order + ("Q" if big else "H"), data, at)
    except struct.error:
        return
    if count > _MOST_TAGS:
        raise DataError(f"tags (EXIF): {count:,} in one directory; they are damaged: remove them")
    entry = struct.Struct(order + ("HHQ8s" if big else "HHI4s"))
    begin = at + (8 if big else 2)
    content = memoryview(data)[begin : begin + count * entry.size]
    for values in entry.iter_unpack(content[: len(content) // entry.size * entry.size]):
        yield _Tag(*values)


def _number(tag: _Tag, order: str) -> int:
    kind = {1: "B", 3: "H", 16: "Q", 18: "Q"}.get(tag.kind, "I")
    return int(struct.unpack_from(order + kind, tag.value.ljust(8, b"\0"))[0])
