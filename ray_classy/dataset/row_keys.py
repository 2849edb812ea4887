"""64-bit keys of rows, hashed from their ids: the same on every machine and in every version."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np

from ray_classy.errors import DataError
from ray_classy.seeding import mix64
from ray_classy.urls import is_url, split_query

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_ROWS_AT_ONCE = 1 << 20


def text_keys(ids: Any, what: str = "id") -> np.ndarray:
    """Hashes ids to keys, shape (rows,), uint64; equal ids have equal keys.

    An id is its UTF-8 bytes in Unicode's composed form (NFC), so that files keep theirs on a disk that writes accents
    otherwise. The key begins as their number, and takes in eight bytes after the other with SplitMix64's finaliser
    (Steele, Lea & Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014).

    Args:
        ids: an Arrow array of strings, or of integers, which count as their digits.
        what: names an id in errors.

    Raises:
        DataError: an id is missing, or is neither a string nor an integer.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    values = pa.chunked_array([ids]) if isinstance(ids, pa.Array) else ids
    if pa.types.is_dictionary(values.type):
        values = pc.cast(values, values.type.value_type)
    kind = values.type
    if not (pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        raise DataError(f"each {what} must be a string or an integer, not {kind}")
    if values.null_count:
        raise DataError(f"row {pc.index(pc.is_null(values), True).as_py()} has no {what}: fill it in or remove the row")
    keys = np.empty(len(values), np.uint64)
    for begin in range(0, len(values), _ROWS_AT_ONCE):
        part = pc.cast(values.slice(begin, _ROWS_AT_ONCE), pa.large_string())
        if not pc.all(pc.string_is_ascii(part)).as_py():
            part = pa.chunked_array([_composed(part)])
        for chunk in part.chunks:
            keys[begin : begin + len(chunk)] = _hashed(chunk)
            begin += len(chunk)
    return keys


def _composed(texts: Any) -> Any:
    """The texts of a chunked array in Unicode's composed form, which Arrow 17 confuses with the decomposed one."""
    import pyarrow as pa

    return pa.array([unicodedata.normalize("NFC", text) for text in texts.to_pylist()], pa.large_string())


def _hashed(texts: Any) -> np.ndarray:
    """Hashes an Arrow array of large strings."""
    _, offsets, content = texts.buffers()
    ends = np.frombuffer(offsets, np.int64)[texts.offset : texts.offset + len(texts) + 1]
    padded = np.zeros(int(ends[-1] - ends[0]) + 8, np.uint8)
    if len(padded) > 8:
        padded[:-8] = np.frombuffer(content, np.uint8)[ends[0] : ends[-1]]
    words = np.ndarray((len(padded) - 7,), "<u8", padded.data, strides=(1,))  # the eight bytes from each byte on
    starts, lengths = ends[:-1] - ends[0], np.diff(ends)
    keys = mix64(lengths.astype(np.uint64) + _GOLDEN)
    rows = np.flatnonzero(lengths)
    at = 0
    while len(rows):
        left = lengths[rows] - at
        unused = (8 * (8 - np.minimum(left, 8))).astype(np.uint64)
        taken = (words[starts[rows] + at] << unused) >> unused
        keys[rows] = mix64((keys[rows] ^ taken) + _GOLDEN)
        at += 8
        rows = rows[left > 8]
    return keys


def keys_of_paths(paths: Sequence[str]) -> np.ndarray:
    """Returns keys of rows whose ids are these paths."""
    import pyarrow as pa

    return text_keys(pa.array(paths, pa.large_string()))


def keys_below(folder: str, paths: Sequence[str]) -> np.ndarray:
    """Returns keys of files, whose ids are their paths within a folder, so that it can be moved.

    Args:
        folder: path or URL.
        paths: of files in it or in folders below it, as it is joined with their names.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    start, query = split_query(folder)
    begin = len(start.rstrip("/")) + 1 if is_url(folder) else len(os.path.join(folder, ""))
    whole = pa.array(paths, pa.large_string())
    return text_keys(pc.utf8_slice_codeunits(whole, begin, -len(query) or None))


def numbered_keys(names: Sequence[str], sizes: Sequence[int]) -> np.ndarray:
    """Returns keys of rows that have no ids: of the name of their file, and of their number in it.

    Args:
        names: of the files.
        sizes: rows in each.
    """
    import pyarrow as pa

    files = np.repeat(text_keys(pa.array(names, pa.large_string())), sizes)
    ends = np.cumsum(sizes)
    numbers = np.arange(len(files)) - np.repeat(ends - sizes, sizes)
    return mix64(files ^ mix64(numbers.astype(np.uint64) + _GOLDEN))


def member_keys(names: Sequence[str], sizes: Sequence[int], members: Any) -> np.ndarray:
    """Returns keys of rows that have names in their files, as the members of a tar file.

    Args:
        names: of the files.
        sizes: rows in each.
        members: an Arrow array of the names in them.
    """
    import pyarrow as pa

    files = np.repeat(text_keys(pa.array(names, pa.large_string())), sizes)
    return mix64(files ^ mix64(text_keys(members) + _GOLDEN))
