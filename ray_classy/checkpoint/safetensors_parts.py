"""Reads weights in several `.safetensors` files, whose index says which of them holds which tensor.

The index is JSON, `{"metadata": {...}, "weight_map": {tensor: file}}`, as Hugging Face's libraries write it.
"""

from __future__ import annotations

import json
import mmap
import re
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch

from ray_classy.checkpoint.safetensors_file import read_safetensors
from ray_classy.errors import CheckpointError
from ray_classy.printable import printable

INDEX_SUFFIX = ".safetensors.index.json"
_MOST_INDEX_BYTES = 64 * 2**20
_MOST_PARTS = 500
"""A part that is mapped into memory holds a file descriptor, of which a process often has 1024."""
_PLAIN = re.compile(r"\w[\w.-]{0,250}\.safetensors")
_MOST_LETTERS = 100


def read_parts(
    index: bytes | mmap.mmap, read: Callable[[str], bytes | bytearray | mmap.mmap]
) -> dict[str, torch.Tensor]:
    """Returns the tensors of all parts by name.

    Args:
        index: the content of the index.
        read: returns the content of a file beside the index.

    Raises:
        CheckpointError: the index is damaged or names something else than files beside it, a part is missing or
            damaged, or its tensors are not those that the index names.
    """
    tensors: dict[str, torch.Tensor] = {}
    for file, names in _parts(index).items():
        try:
            found = read_safetensors(read(file))
        except FileNotFoundError:
            raise CheckpointError(f"its part {file} is missing: put all parts beside the index") from None
        except CheckpointError as error:
            raise CheckpointError(f"its part {file}: {error}") from None
        for name in sorted(names ^ found.keys()):
            where = "only in the index" if name in names else "not in the index"
            raise CheckpointError(f"its part {file} has other tensors than the index says: {_shown(name)} is {where}")
        tensors |= found
    return tensors


def _parts(index: bytes | mmap.mmap) -> dict[str, set[str]]:
    """Returns the names of the tensors in each part."""
    if len(index) > _MOST_INDEX_BYTES:
        raise CheckpointError(f"it has {len(index)} bytes; an index has at most {_MOST_INDEX_BYTES}")
    try:
        content: Any = json.loads(bytes(index))
    except (ValueError, RecursionError):
        raise CheckpointError("it is not JSON") from None
    places = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(places, dict) or not places:
        raise CheckpointError("it has no `weight_map` of names to files")
    parts: dict[str, set[str]] = defaultdict(set)
    for name, file in places.items():
        if not isinstance(file, str) or _PLAIN.fullmatch(file) is None:
            raise CheckpointError(
                f"its tensor {_shown(name)} is in {_shown(file)}; expected the name of a .safetensors file beside it"
            )
        parts[file].add(name)
    if len(parts) > _MOST_PARTS:
        raise CheckpointError(f"it names {len(parts)} parts; at most {_MOST_PARTS} are read")
    return parts


def _shown(value: Any) -> str:
    return printable(value)[:_MOST_LETTERS]
