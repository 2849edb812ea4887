"""A pool of memory for batches on the CPU.

The system hands out and takes back large pieces of memory page by page. For a batch of 64 float images (3, 224, 224)
that takes about twice as much CPU time as converting and normalising them, so memory is used again once no tensor
refers to it. Batches on a GPU do not use the pool.
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
    """A piece of memory, and a weak reference by which to see whether it is in use."""

    def __init__(self, size: int) -> None:
        self.memory = np.empty(size, dtype=np.uint8)
        self.holder: weakref.ref[np.ndarray] | None = None

    def lend(self) -> torch.Tensor:
        """Returns the bytes as a tensor; its storage, and so every view of it, refers to the holder."""
        holder = self.memory[:]
        self.holder = weakref.ref(holder)
        return torch.from_numpy(holder)


_pieces: list[_Piece] = []


def empty(shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
    """Returns an uninitialised CPU tensor, like `torch.empty`, in memory that may have been used before.

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
            del _pieces[:-_MOST_PIECES]  # a tensor in use keeps its memory alive
        return piece.lend().view(dtype).view(*shape)
