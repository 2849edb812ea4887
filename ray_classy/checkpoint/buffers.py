"""The bytes of a file in memory: read like a file, and used by tensors in place."""

from __future__ import annotations

import io
import mmap
import warnings
from typing import Any

import torch


class BufferFile(io.RawIOBase):
    """A file over bytes, without a copy of them.

    Args:
        data: the bytes.
    """

    def __init__(self, data: bytes | mmap.mmap) -> None:
        super().__init__()
        self._view, self._at = memoryview(data), 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: len(self._view)}[whence]
        if start + offset < 0:
            raise ValueError("a position before the start")
        self._at = start + offset
        return self._at

    def readinto(self, target: Any) -> int:
        part = self._view[self._at : self._at + len(target)]
        target[: len(part)] = part
        self._at += len(part)
        return len(part)


def tensor_of(content: bytearray | memoryview, dtype: torch.dtype = torch.uint8) -> torch.Tensor:
    """Returns a tensor of one dimension over bytes, which it keeps and does not copy.

    Args:
        content: some bytes; if they are read-only, the tensor is not to be changed.
        dtype: of the numbers.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given buffer is not writable", UserWarning)
        return torch.frombuffer(content, dtype=dtype)
