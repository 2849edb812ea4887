"""Reads `.safetensors` files: a header of JSON with names, types, shapes and places, then the numbers.

The format: https://huggingface.co/docs/safetensors, section "Format".
"""

from __future__ import annotations

import json
import math
import mmap
from typing import Any

import torch

from ray_classy.checkpoint.buffers import tensor_of
from ray_classy.errors import CheckpointError
from ray_classy.printable import printable

_MOST_HEADER_BYTES = 100_000_000
"""The limit of the format."""
_METADATA = "__metadata__"
_DTYPES = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "I16": torch.int16,
    "U16": torch.uint16,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I32": torch.int32,
    "U32": torch.uint32,
    "F32": torch.float32,
    "C64": torch.complex64,
    "F64": torch.float64,
    "I64": torch.int64,
    "U64": torch.uint64,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
}


def is_safetensors(data: bytes | bytearray | mmap.mmap) -> bool:
    """Whether bytes begin as such a file does."""
    return (
        data[8:9] == b"{"
        and data[:4] != b"PK\x03\x04"
        and 2 <= int.from_bytes(data[:8], "little") <= _MOST_HEADER_BYTES
    )


def read_safetensors(data: bytes | bytearray | mmap.mmap) -> dict[str, torch.Tensor]:
    """Returns the tensors in a file by name; they are parts of `data`, and are not to be changed.

    Args:
        data: the file.

    Raises:
        CheckpointError: it is damaged, or has numbers of an unknown type.
    """
    header, size = _header(data)
    numbers = memoryview(data)[8 + size :]
    entries = {name: entry for name, entry in header.items() if name != _METADATA}
    places = {name: _place(name, entry, len(numbers)) for name, entry in entries.items()}
    end = 0
    for name, (start, stop) in sorted(places.items(), key=lambda item: item[1]):
        if start != end:
            raise CheckpointError(f"the numbers of its tensor {printable(name)} overlap with others, or leave a gap")
        end = stop
    if end != len(numbers):
        raise CheckpointError(f"it has {len(numbers)} bytes of numbers, and its header names {end}")
    return {name: _tensor(entry, numbers[slice(*places[name])]) for name, entry in entries.items()}


def read_metadata(data: bytes | bytearray | mmap.mmap) -> dict[str, str]:
    """Returns the metadata in a file: text by name; empty if it has none.

    Raises:
        CheckpointError: the file is damaged.
    """
    metadata = _header(data)[0].get(_METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
        raise CheckpointError("its metadata is not text by name")
    return metadata


def _header(data: bytes | bytearray | mmap.mmap) -> tuple[dict[str, Any], int]:
    """Returns the header of a file, and its size in bytes."""
    size = int.from_bytes(data[:8], "little")
    if len(data) < 8 or not 2 <= size <= min(_MOST_HEADER_BYTES, len(data) - 8):
        raise CheckpointError("it is not a safetensors file, or is cut off")
    try:
        header = json.loads(bytes(data[8 : 8 + size]))
    except (ValueError, RecursionError):
        raise CheckpointError("its header is not JSON") from None
    if not isinstance(header, dict):
        raise CheckpointError("its header is not a JSON object")
    return header, size


def _place(name: str, entry: Any, most: int) -> tuple[int, int]:
    """Returns where the numbers of a tensor start and end."""
    wrong = CheckpointError(f"its header says what cannot be of the tensor {printable(name)}: {printable(entry)[:200]}")
    if not isinstance(entry, dict):
        raise wrong
    kind, shape, offsets = (entry.get(key) for key in ("dtype", "shape", "data_offsets"))
    if not isinstance(shape, list) or not isinstance(offsets, list) or len(offsets) != 2 or len(shape) > 64:
        raise wrong
    if not all(type(number) is int and 0 <= number < 2**63 for number in (*shape, *offsets)):
        raise wrong
    if not isinstance(kind, str) or kind not in _DTYPES:
        raise CheckpointError(f"its tensor {printable(name)} has numbers of the unknown type {printable(kind)[:40]}")
    start, stop = offsets
    if stop > most or stop - start != math.prod(shape) * _DTYPES[kind].itemsize:
        raise wrong
    return start, stop


def _tensor(entry: dict[str, Any], numbers: memoryview) -> torch.Tensor:
    dtype = _DTYPES[entry["dtype"]]
    if not numbers:
        return torch.empty(entry["shape"], dtype=dtype)
    try:
        return tensor_of(numbers, dtype).reshape(entry["shape"])
    except (RuntimeError, ValueError):  # numbers that are not aligned
        return tensor_of(bytearray(numbers), dtype).reshape(entry["shape"])
