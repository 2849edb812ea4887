"""Lists the files in a tar archive, with every size checked before it is believed.

Also archives that were joined (`cat a.tar b.tar`) are read to the end of the file. A damaged header, or a file that was
cut within a member, is an error: `tarfile` would take it for the end. A file that ends after a member, without the mark
of its end, is read, and so is one that something else follows, as by GNU tar; a remark says so.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from ray_classy.errors import DataError
from ray_classy.printable import printable

_BLOCK = 512
_PIECE_BYTES = 1 << 20  # what lies between archives is read in pieces of this size
_MAGIC, _MAGIC_AT = b"ustar", 257
_EXTENDED_BYTES = 1 << 20
"""Size of the largest extended header (pax, or GNU's long names): they hold names and times, some hundred bytes."""
_RECORD = re.compile(rb"(\d{1,9}) ")
_KINDS = {
    b"1": "a link",
    b"2": "a symbolic link",
    b"3": "a device",
    b"4": "a device",
    b"6": "a pipe",
    b"S": "a sparse file",
    b"M": "a part of a file",
}
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\x00": "xz", b"\x28\xb5\x2f\xfd": "zstd"}


class Member(NamedTuple):
    """A file in an archive.

    Attributes:
        name: as the archive has it; bytes that are not UTF-8 are escaped.
        offset: of its content.
        size: of its content, in bytes.
    """

    name: str
    offset: int
    size: int


def tar_members(archive: str, file: BinaryIO, remarks: list[str]) -> Iterator[Member]:
    """Yields the files in an archive, in their order; folders are passed over.

    Args:
        archive: its name in errors.
        file: the archive; the caller may move its position between members.
        remarks: to which it adds that the archive has no end mark, or is followed by something else.

    Raises:
        DataError: it is compressed, damaged, cut within a member, or has a member that is not a plain file.
    """
    end = file.seek(0, os.SEEK_END)
    at, named, ended, found = 0, _Named(), False, False
    while at < end:
        file.seek(at)
        block = file.read(_BLOCK)
        if not block.strip(b"\0"):
            at, ended = _after_zeros(file, at, len(block)), True
            continue
        if ended and found and not _is_header(block) and not _holds_header(file, at):
            remarks.append(f"{archive}: {end - at:,} bytes after the end of the archive are passed over")
            return
        header = _Header.read(archive, block, at, ended)
        content, at = at + _BLOCK, at + _BLOCK + -(-header.size // _BLOCK) * _BLOCK
        ended, found = False, True
        if header.kind in (b"x", b"X", b"g", b"L", b"K"):
            extended = _extended(archive, file, header, content, end)
            if header.kind == b"L":
                named = named._replace(name=_text(extended.split(b"\0")[0]))
            elif header.kind in (b"x", b"X"):
                named = _pax(archive, extended, content, named)
            continue
        size = header.size if named.size is None else named.size
        member = Member(header.name if named.name is None else named.name, content, size)
        at = content + -(-size // _BLOCK) * _BLOCK
        kind = "a sparse file" if named.is_sparse else _KINDS.get(header.kind)
        named = _Named()
        if header.kind == b"5" or (header.kind == b"\0" and member.name.endswith("/")):
            at = content  # a folder has no content, whatever its size says
            continue
        if header.kind == b"V":  # the archive's label
            continue
        if kind is not None or header.kind not in (b"0", b"\0", b"7"):
            raise DataError(
                f"{archive}: {printable(member.name)!r} is not a plain file but {kind or 'of an unknown kind'}; write "
                f"it with its content"
            )
        if content + size > end:
            raise DataError(
                f"{archive} cannot be read as a tar file: {printable(member.name)!r} of {size:,} bytes ends at byte "
                f"{content + size:,}, and the file has {end:,}; write or copy it again"
            )
        yield member
    if not end or at > end or (named != _Named() and not ended):
        what = "it is empty" if not end else f"it was cut at byte {end:,}, within a member"
        raise DataError(f"{archive} cannot be read as a tar file: {what}; write or copy it again")
    if not ended:
        remarks.append(f"{archive} has no end mark: if it was cut, at byte {end:,}, the samples after it are missing")


class _Named(NamedTuple):
    """What extended headers say about the member that follows them."""

    name: str | None = None
    size: int | None = None
    is_sparse: bool = False


class _Header(NamedTuple):
    kind: bytes
    name: str
    size: int

    @classmethod
    def read(cls, archive: str, block: bytes, at: int, ended: bool) -> _Header:
        if not _is_header(block):
            raise _not_a_header(archive, block, at, ended)
        name = _text(block[:100].split(b"\0")[0])
        prefix = block[345:500].split(b"\0")[0] if block[257:263] == b"ustar\0" else b""
        size = _number(block[124:136])
        if size is None or size < 0:
            raise DataError(f"{archive} is damaged at byte {at}: {printable(name)!r} has no valid size; copy it again")
        kind = block[156:157]
        return cls(kind, f"{_text(prefix)}/{name}" if prefix else name, 0 if kind in (b"1", b"2") else size)


def _after_zeros(file: BinaryIO, at: int, length: int) -> int:
    """Returns where the zeros that begin at a block end, at the beginning of a block."""
    at += length
    while piece := file.read(_PIECE_BYTES):
        rest = len(piece.lstrip(b"\0"))
        if rest:
            return at + (len(piece) - rest) // _BLOCK * _BLOCK
        at += len(piece)
    return at


def _holds_header(file: BinaryIO, at: int) -> bool:
    """Whether a header follows anywhere after a position: something before it was damaged then."""
    file.seek(at)
    before = b""
    while piece := file.read(_PIECE_BYTES):
        window = before + piece
        found = window.find(_MAGIC, _MAGIC_AT)
        while found >= 0:
            if _is_header(window[found - _MAGIC_AT : found - _MAGIC_AT + _BLOCK]):
                return True
            found = window.find(_MAGIC, found + 1)
        before = window[-_BLOCK:]
    return False


def _is_header(block: bytes) -> bool:
    """Whether a header is whole and has the sum of its bytes; some writers sum signed bytes."""
    if len(block) < _BLOCK:
        return False
    given = _number(block[148:156])
    blank = block[:148] + b" " * 8 + block[156:]
    unsigned = sum(blank)
    return given == unsigned or given == unsigned - 256 * sum(byte > 127 for byte in blank)


def _number(field: bytes) -> int | None:
    """Reads a number: octal digits, or base 256 if the first bit is set."""
    if field[0] in (0x80, 0xFF):
        return int.from_bytes(field[1:], "big", signed=False) - (256 ** (len(field) - 1) if field[0] == 0xFF else 0)
    digits = field.split(b"\0")[0].strip()
    try:
        return int(digits or b"0", 8)
    except ValueError:
        return None


def _not_a_header(archive: str, block: bytes, at: int, ended: bool) -> DataError:
    if at == 0:
        for magic, kind in _COMPRESSED.items():
            if block.startswith(magic):
                return DataError(
                    f"{archive} is compressed ({kind}), and nothing can be read from the middle of it: unpack it into "
                    f"a plain .tar (images are compressed already)"
                )
        return DataError(
            f"{archive} cannot be read as a tar file: it begins with {block[:12]!r}; write or copy it again"
        )
    where = "after the end of the archive" if ended else "in place of a header"
    return DataError(f"{archive} is damaged at byte {at}: {block[:12]!r} {where}; write or copy it again")


def _extended(archive: str, file: BinaryIO, header: _Header, at: int, end: int) -> bytes:
    if header.size > _EXTENDED_BYTES or at + header.size > end:
        raise DataError(
            f"{archive} is damaged at byte {at}: an extended header of {header.size:,} bytes; write or copy it again"
        )
    file.seek(at)
    return file.read(header.size)


def _pax(archive: str, content: bytes, at: int, named: _Named) -> _Named:
    """Reads the records of a pax header: "LENGTH key=value" and a new line each."""
    begin = 0
    while begin < len(content) and (found := _RECORD.match(content, begin)):
        length = int(found[1])
        record = content[found.end() : begin + length]
        key, equals, value = record[:-1].partition(b"=")
        if begin + length > len(content) or length <= found.end() - begin or not equals or record[-1:] != b"\n":
            break
        begin += length
        if key == b"path":
            named = named._replace(name=_text(value))
        elif key == b"size" and value.isdigit() and len(value) < 19:
            named = named._replace(size=int(value))
        elif key == b"size":
            begin = 0  # damaged
            break
        elif key.startswith(b"GNU.sparse."):
            named = named._replace(is_sparse=True)
    if begin < len(content) and content[begin:].strip(b"\0"):
        raise DataError(f"{archive} is damaged at byte {at}: an extended header that cannot be read; copy it again")
    return named


def _text(name: bytes) -> str:
    return name.decode(errors="backslashreplace")
