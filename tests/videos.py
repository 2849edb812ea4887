"""Small videos for tests, made when they are needed."""

import av
import numpy as np

LEVELS = 6
"""Grey levels from one frame of `save_video` to the next."""


CODECS = {".mp4": "libx264", ".mkv": "libx264", ".avi": "mpeg4", ".webm": "libvpx-vp9"}


def save_video(path, frames=30, rate=30, size=(32, 48), first=0, times=None, codec=None, gop=12, pixels="yuv420p"):
    """A video whose frame i is grey of level `LEVELS * (first + i)`; `times` are its presentation times in 1 / rate."""
    levels = [LEVELS * number for number in range(first, first + frames)]
    assert levels[-1] < 256
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec or CODECS[path.suffix], rate=rate)
        stream.height, stream.width, stream.pix_fmt, stream.gop_size = *size, pixels, gop
        stream.bit_rate, stream.codec_context.thread_count = 4_000_000, 1
        for number, level in enumerate(levels):
            frame = av.VideoFrame.from_ndarray(np.full((*size, 3), level, np.uint8), format="rgb24")
            frame.pts = number if times is None else times[number]
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return str(path)


def numbers(clip):
    """The numbers of the frames of a clip of such videos; one for each frame in any shape (..., T, C, H, W)."""
    levels = clip.float().mean((-3, -2, -1)) / LEVELS
    assert (levels - levels.round()).abs().max() < 0.4
    return levels.round().int().tolist()
