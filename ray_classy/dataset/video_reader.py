"""Opens videos with the decoder that this machine has: torchcodec, or else PyAV."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Sequence
from typing import Any, Protocol, Self

import torch

from ray_classy.errors import ComponentError

BACKENDS = ("torchcodec", "pyav")
"""The decoders, the preferred one first."""


class VideoReader(Protocol):
    """An open video. Frames are numbered from 0 in the order of their presentation; `close` it after use.

    Attributes:
        num_frames: frames of the video, counted in the file.
        begin: presentation time of the first frame in seconds.
        end: time at which the last frame ends in seconds.
    """

    num_frames: int
    begin: float
    end: float

    def frames_at(self, numbers: Sequence[int]) -> torch.Tensor:
        """Decodes the frames of these numbers: RGB, upright, uint8, shape (frames, 3, H, W)."""

    def frames_played_at(self, seconds: Sequence[float]) -> torch.Tensor:
        """Decodes the frames that are shown at these presentation times, as `frames_at` does."""

    def close(self) -> None:
        """Closes the file."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...


@functools.cache
def video_reader(backend: str | None = None) -> Any:
    """Returns the class that reads videos; it takes the path of a local file, or the bytes of a video.

    Args:
        backend: one of `BACKENDS`; None returns the first one that can be imported.

    Raises:
        ComponentError: no decoder is installed, or not this one.
    """
    reasons = []
    for name in BACKENDS if backend is None else (backend,):
        try:
            return importlib.import_module(f"ray_classy.dataset.{name}_reader").reader_class()
        except (ImportError, OSError, RuntimeError) as error:  # what torchcodec raises without FFmpeg
            reasons.append(f"{name}: {(str(error).strip() or type(error).__name__).splitlines()[0]}")
    raise ComponentError(
        f"videos cannot be decoded, since no decoder can be imported ({'; '.join(reasons)}): install PyAV, which "
        f"brings FFmpeg along, with pip install 'ray_classy[video]'"
    )
