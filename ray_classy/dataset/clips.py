"""Chooses the frames of video clips, and decodes them."""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass
from typing import Any

import torch

from ray_classy.dataset.video_reader import VideoReader, video_reader
from ray_classy.errors import ComponentError, DataError
from ray_classy.seeding import derive_seed
from ray_classy.urls import check_age, is_url, read_bytes, shown

_CLIP_PLACES = 1
"""Separates the seeds of places from those of a row's transform, which are derived from (seed, epoch, row)."""

_SECONDS_LATE = 1e-3
"""Matroska rounds times to milliseconds, so a frame may begin up to half a millisecond late."""


@dataclass(frozen=True)
class ClipSampling:
    """Determines which frames of a video belong to its clips.

    Attributes:
        frames_per_clip: frames of a clip, at least 1.
        clips_per_video: clips taken of each video, at least 1.
        step_between_clips: distance in frames of the places where a clip may begin, at least 1.
        frame_rate: frames per second that a video is resampled to first; None keeps its own frames.

    Raises:
        ComponentError: one has an invalid value.
    """

    frames_per_clip: int
    clips_per_video: int = 1
    step_between_clips: int = 1
    frame_rate: float | None = None

    def __post_init__(self) -> None:
        for name in ("frames_per_clip", "clips_per_video", "step_between_clips"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise ComponentError(f"{name} must be an integer of at least 1, not {value!r}")
        rate = self.frame_rate
        if rate is not None and (type(rate) not in (int, float) or not 0 < rate < math.inf):
            raise ComponentError(f"frame_rate must be a number of frames per second above 0 or null, not {rate!r}")

    def start(self, length: int, number: int, draw: int | None) -> int:
        """Returns the frame at which a clip begins.

        Args:
            length: frames of the video.
            number: number of the clip in the video, in [0, clips_per_video).
            draw: a large random number, for a random place; None spreads the clips evenly, the first at the beginning
                and the last at the end, with a single one in the middle.
        """
        places = max(0, length - self.frames_per_clip) // self.step_between_clips + 1
        if draw is not None:
            place = draw % places
        elif self.clips_per_video == 1:
            place = (places - 1) // 2
        else:
            place = number * (places - 1) // (self.clips_per_video - 1)
        return place * self.step_between_clips


@dataclass
class ClipDecoder:
    """Decodes rows to samples `{"input": clip, "target": class}`; row r is clip r % clips_per_video of its video.

    Samples of several evenly spread clips of a video also have `video`, which names it for `video_accuracy`.

    Attributes:
        sampling: which frames belong to the clips.
        since: a time in seconds since 1970; a video that was changed after it is an error.
        random: (seed, epoch) for clips at random places; None for evenly spread ones.
    """

    sampling: ClipSampling
    since: float | None = None
    random: tuple[int, int] | None = None

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        random, index = self.random, int(row["row"])
        draw = None if random is None else derive_seed(*random, int(row.get("_number", index)), _CLIP_PLACES)
        clip = decode_clip(row["path"], self.sampling, index % self.sampling.clips_per_video, draw, self.since)
        sample: dict[str, Any] = {"input": clip}
        if "label" in row:
            sample["target"] = int(row["label"])
        if random is None and self.sampling.clips_per_video > 1:
            sample["video"] = str(index // self.sampling.clips_per_video)
        return sample


def decode_clip(
    path: str, sampling: ClipSampling, number: int = 0, draw: int | None = None, since: float | None = None
) -> torch.Tensor:
    """Decodes the frames of one clip of a video, and only those that they depend on.

    FFmpeg decodes in one thread. A clip that is longer than the video repeats the last frame.

    Args:
        path: the file, or its URL.
        sampling: which frames belong to the clips.
        number: see `ClipSampling.start`.
        draw: see `ClipSampling.start`.
        since: a time in seconds since 1970; a file that was changed after it is an error.

    Returns:
        RGB, uint8, shape (frames_per_clip, 3, H, W).

    Raises:
        DataError: it is missing, empty, damaged, changed or not a video; the message names it.
        ComponentError: neither torchcodec nor PyAV can be imported.
    """
    reader_class = video_reader()
    source = _source(path, since)
    try:
        with reader_class(source) as reader:
            return _frames(reader, sampling, number, draw)
    except Exception as error:  # damaged files make decoders raise almost anything
        raise DataError(f"{shown(path)}: damaged, or not a video ({_reason(error)})") from error


def _frames(reader: VideoReader, sampling: ClipSampling, number: int, draw: int | None) -> torch.Tensor:
    """Reads the frames of a clip from an open video."""
    rate = sampling.frame_rate
    if not reader.num_frames:
        raise ValueError("it has no frames")
    begin, end = reader.begin, reader.end
    length = reader.num_frames if rate is None else max(1, math.ceil((end - begin - _SECONDS_LATE) * rate))
    start = sampling.start(length, number, draw)
    numbers = [min(frame, length - 1) for frame in range(start, start + sampling.frames_per_clip)]
    if rate is None:
        return reader.frames_at(numbers)
    last = max(begin, end - _SECONDS_LATE)
    return reader.frames_played_at([min(begin + frame / rate + _SECONDS_LATE, last) for frame in numbers])


def _source(path: str, since: float | None) -> str | bytes:
    """Returns what the decoder opens: the path of a local file, or the content of a URL."""
    source: str | bytes
    if is_url(path):
        source = read_bytes(path, since)
        size = len(source)
    else:
        source = os.path.abspath(path)  # FFmpeg reads a:b.mp4 as a protocol, /a:b.mp4 as a file
        try:
            status = os.stat(path)
        except FileNotFoundError as error:
            raise DataError(f"there is no file {path!r}") from error
        except OSError as error:
            raise DataError(f"cannot read {path!r}: {error}") from error
        check_age(path, since, min(status.st_mtime, status.st_ctime))
        size = status.st_size
    if not size:
        raise DataError(f"{shown(path)}: empty (0 bytes)")
    return source


def _reason(error: Exception) -> str:
    """Returns the message of a decoder's error, without the place in its source code."""
    text = re.sub(r"^\S+, \S+\.(cpp|h):\d+,\s*", "", str(error)).strip()
    return text.splitlines()[0] if text else type(error).__name__
