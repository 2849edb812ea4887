"""Reads videos with PyAV, whose wheels bring FFmpeg along."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from typing import Any, Self

import numpy as np
import torch

FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,mpegvideo,asf,flv,ogg,h264,hevc,m4v,ivf,dv,mxf,gif"
"""FFmpeg's names of the containers that are read. Playlists, which name other files and hosts, are none of them."""
_DEEP = re.compile(r"(yuva?42[02]p|p0)\d+(le|be)")
"""Formats of more than 8 bits with fewer samples of colour. FFmpeg's direct conversion to RGB differs from torchcodec's
by 2.5 levels in the mean, that by way of 8 bits by less than 1."""
_MOST_PIXELS = 1 << 26
"""Pixels of a frame; 8K has 2^25."""
_MOST_CLIP_BYTES = 4 << 30
_MOST_FRAMES = 1 << 24
"""Frames of a video; six days at 30 a second."""


def reader_class() -> type[PyAVReader]:
    """Returns the reader.

    Raises:
        ImportError: PyAV is missing.
    """
    import av  # noqa: F401

    return PyAVReader


class PyAVReader:
    """An open video; see `VideoReader`.

    The packets of the file are read once to learn the presentation times and the key frames. A frame is decoded from
    the last key frame before it, in one thread, and only the frames that are asked for are kept.

    Args:
        source: the path of a local file, or the bytes of a video.

    Attributes:
        times: presentation times of the frames, in units of the stream's time base, shape (num_frames,), int64.

    Raises:
        ValueError: it has no video stream or no frames, is cut off, or its frames are too large.
        av.FFmpegError: it is not a video, or damaged.
    """

    def __init__(self, source: str | bytes) -> None:
        import av

        opened = io.BytesIO(source) if isinstance(source, bytes) else source
        self._container: Any = av.open(opened, "r", options={"format_whitelist": FORMATS}, metadata_errors="ignore")
        try:
            self._stream = self._container.streams.best("video")
            if self._stream is None:
                raise ValueError("it has no video stream")
            codec = self._stream.codec_context
            codec.thread_count = 1
            codec.options = {"max_pixels": str(_MOST_PIXELS)}
            if codec.width * codec.height > _MOST_PIXELS:
                raise ValueError(f"frames of {codec.width:,} x {codec.height:,} pixels; the most are {_MOST_PIXELS:,}")
            self._read_times()
        except BaseException:
            self.close()
            raise

    def _read_times(self) -> None:
        """Reads the presentation times of the frames, in units of the stream's time base, and where key frames are."""
        times: dict[int, bool] = {}
        packets, ends, last = 0, 0.0, 0
        for packet in self._container.demux():
            if packet.dts is None and packet.pts is None:
                continue  # the end of a stream
            time = packet.dts if packet.pts is None else packet.pts
            ends = max(ends, float((time + packet.duration) * packet.time_base))
            if packet.stream_index != self._stream.index:
                continue
            packets += 1
            if packets > _MOST_FRAMES:
                raise ValueError(f"more than {_MOST_FRAMES:,} frames")
            if not packet.is_discard:
                times[time] = packet.is_keyframe
                last = max(last, time + packet.duration)
        if not times:
            raise ValueError("it has no frames")
        self._check_length(packets, ends)
        base = float(self._stream.time_base)
        self.times = np.array(sorted(times), dtype=np.int64)
        keys = np.array([times[time] for time in self.times.tolist()])
        self._key = np.maximum.accumulate(np.where(keys, np.arange(len(keys)), 0))
        self._frames: Iterator[Any] = iter(())
        self._frame: Any = None
        self.num_frames = len(self.times)
        self.begin = float(self.times[0]) * base
        rate = self._stream.average_rate
        shown = 0.0 if last > self.times[-1] or not rate else float(1 / rate)
        self.end = max(last, int(self.times[-1])) * base + shown

    def _check_length(self, packets: int, ends: float) -> None:
        """Refuses a file whose header promises many more frames or seconds than there are."""
        promised = self._stream.frames
        if packets < 0.9 * promised:
            raise ValueError(f"cut off: it has {packets:,} of {promised:,} frames")
        seconds = (self._container.duration or 0) / 1e6
        if ends < 0.9 * seconds - 0.1:
            raise ValueError(f"cut off: it has {ends:.1f} of {seconds:.1f} seconds")

    def frames_at(self, numbers: Sequence[int]) -> torch.Tensor:
        """Decodes the frames of these numbers (see `VideoReader`).

        Raises:
            ValueError: a frame is missing, or the clip is too large.
            av.FFmpegError: the file is damaged there.
        """
        clip: torch.Tensor | None = None
        places: dict[int, list[int]] = {}
        for place, number in enumerate(numbers):
            places.setdefault(number, []).append(place)
        for number in sorted(places):
            pixels = self._pixels(self._frame_at(number), clip)
            if clip is None:
                size = len(numbers) * pixels.numel()
                if size > _MOST_CLIP_BYTES:
                    raise ValueError(f"a clip of {size:,} bytes; the most are {_MOST_CLIP_BYTES:,}")
                clip = torch.empty((len(numbers), 3, *pixels.shape[:2]), dtype=torch.uint8)
            clip[places[number]] = pixels.permute(2, 0, 1)
        assert clip is not None
        return clip

    def frames_played_at(self, seconds: Sequence[float]) -> torch.Tensor:
        times = self.times * float(self._stream.time_base)
        return self.frames_at((np.searchsorted(times, seconds, side="right") - 1).clip(0).tolist())

    def _frame_at(self, number: int) -> Any:
        """Returns the decoded frame of this number: the last one whose time is not after that of the number."""
        wanted = int(self.times[number])
        key = int(self._key[number])
        if self._frame is None or not int(self.times[key]) <= self._frame.pts <= wanted:
            self._seek(key, wanted)
        while self._frame.pts < wanted:
            following = next(self._frames, None)
            if following is None:
                raise ValueError(f"frame {number} of {self.num_frames} cannot be decoded")
            if following.pts is None:
                continue
            if following.pts > wanted:  # a packet without a picture: the frame before it is still shown
                self._frames = _chained(following, self._frames)
                break
            self._frame = following
        return self._frame

    def _seek(self, key: int, wanted: int) -> None:
        """Decodes the first frame from a key frame on, or from an earlier one where a container seeks too far."""
        while True:
            start = int(self.times[key]) if key else min(0, int(self.times[0]))
            self._container.seek(start, backward=True, stream=self._stream)
            self._frames = (frame for frame in self._container.decode(self._stream) if frame.pts is not None)
            self._frame = next(self._frames, None)
            if self._frame is not None and self._frame.pts <= wanted:
                return
            if not key:
                raise ValueError("its first frames cannot be decoded")
            key = int(self._key[key - 1])

    def _pixels(self, frame: Any, clip: torch.Tensor | None) -> torch.Tensor:
        """Converts a frame to RGB, upright, shape (H, W, 3), in the size of the clip's frames before."""
        turns = round(frame.rotation / 90) % 4
        size: tuple[int, int] = (frame.height, frame.width)
        if clip is not None:
            size = (clip.shape[-1], clip.shape[-2]) if turns % 2 else (clip.shape[-2], clip.shape[-1])
        options: dict[str, Any] = {"height": size[0], "width": size[1], "threads": 1}
        if _DEEP.fullmatch(frame.format.name):
            from av.video.reformatter import Interpolation

            frame = frame.reformat(format="yuv422p" if "422" in frame.format.name else "yuv420p", threads=1)
            options["interpolation"] = Interpolation.FAST_BILINEAR | Interpolation.ACCURATE_RND
        pixels = frame.to_ndarray(format="rgb24", src_color_range=frame.color_range or None, **options)
        return torch.from_numpy(np.ascontiguousarray(np.rot90(pixels, turns)))

    def close(self) -> None:
        """Closes the file."""
        self._frames, self._frame = iter(()), None
        self._container.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _chained(first: Any, rest: Iterator[Any]) -> Iterator[Any]:
    yield first
    yield from rest
