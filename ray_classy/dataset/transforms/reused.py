"""Memory for batches on the CPU, taken again when nobody holds it any more.

The system gives and takes back large pieces of memory page by page: for a batch of 64 pictures of floats that takes
several times as long as the arithmetic on them.
"""

from __future__ import annotations

import math
import threading
import weakref
from collections.abc import Sequence

import numpy as np
import torch

_LEAST_BYTES = 1 << 20
_MOST_PIECES = 4
_lock = threading.Lock()


class _Piece:
    """A piece of memory, and what tells whether somebody holds it."""

    def __init__(self, size: int) -> None:
        self.memory = np.empty(size, dtype=np.uint8)
        self.holder: weakref.ref[np.ndarray] | None = None

    def lend(self) -> torch.Tensor:
        """The bytes as a tensor, whose storage holds the holder, as every view of the tensor holds the storage."""
        holder = self.memory[:]
        self.holder = weakref.ref(holder)
        return torch.from_numpy(holder)


_pieces: list[_Piece] = []


def empty(shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
    """A tensor on the CPU whose values are not set, like `torch.empty`; its memory may have been another's.

    Args:
        shape: its shape.
        dtype: its type.
    """
    size = math.prod(shape) * dtype.itemsize
    if size < _LEAST_BYTES:
        return torch.empty(shape, dtype=dtype)
    with _lock:
        for piece in _pieces:
            if piece.memory.nbytes == size and (piece.holder is None or piece.holder() is None):
                break
        else:
            piece = _Piece(size)
            _pieces.append(piece)
            del _pieces[:-_MOST_PIECES]  # who holds one of those keeps it
        return piece.lend().view(dtype).view(*shape)
