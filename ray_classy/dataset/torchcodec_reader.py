"""Reads videos with torchcodec, which uses the FFmpeg that is installed on the machine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import torch


def reader_class() -> type[TorchcodecReader]:
    """Returns the reader.

    Raises:
        ImportError: torchcodec or FFmpeg is missing; some releases of torchcodec raise RuntimeError or OSError.
    """
    import torchcodec
    import torchcodec.decoders

    if getattr(torchcodec, "ffmpeg_major_version", None) is None:
        raise ImportError("torchcodec finds no FFmpeg")
    return TorchcodecReader


class TorchcodecReader:
    """An open video; see `VideoReader`.

    Args:
        source: the path of a local file, or the bytes of a video.
    """

    def __init__(self, source: str | bytes) -> None:
        from torchcodec.decoders import VideoDecoder

        self._decoder: Any = VideoDecoder(source, num_ffmpeg_threads=1, seek_mode="exact")
        metadata = self._decoder.metadata
        self.num_frames: int = metadata.num_frames or 0
        self.begin: float = metadata.begin_stream_seconds
        self.end: float = metadata.end_stream_seconds

    def frames_at(self, numbers: Sequence[int]) -> torch.Tensor:
        return self._decoder.get_frames_at(list(numbers)).data

    def frames_played_at(self, seconds: Sequence[float]) -> torch.Tensor:
        return self._decoder.get_frames_played_at(list(seconds)).data

    def close(self) -> None:
        self._decoder = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
