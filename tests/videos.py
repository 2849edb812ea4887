"""Small videos for tests, made when they are needed."""

import pytest
import torch

from ray_classy.dataset.clips import video_decoder_class
from ray_classy.errors import ComponentError


def _missing():
    try:
        video_decoder_class()
    except ComponentError:
        return True
    return False


needs_video = pytest.mark.skipif(_missing(), reason="torchcodec or FFmpeg is missing: pip install 'ray_classy[video]'")
"""For tests that decode videos."""

LEVELS = 6
"""Grey levels from one frame of `save_video` to the next."""


def save_video(path, frames=30, rate=30, size=(32, 48), first=0):
    """A video whose frame i is grey of level `LEVELS * (first + i)`."""
    from torchcodec.encoders import VideoEncoder

    path.parent.mkdir(parents=True, exist_ok=True)
    levels = torch.arange(first, first + frames) * LEVELS
    assert levels.max() < 256
    pixels = levels.to(torch.uint8)[:, None, None, None].expand(frames, 3, *size).contiguous()
    codec = {".webm": None, ".mkv": "mpeg4", ".mp4": "mpeg4", ".avi": "mpeg4"}[path.suffix]
    VideoEncoder(frames=pixels, frame_rate=rate).to_file(path, codec=codec)
    return str(path)


def numbers(clip):
    """The numbers of the frames of a clip of such videos; one for each frame in any shape (..., T, C, H, W)."""
    levels = clip.float().mean((-3, -2, -1)) / LEVELS
    assert (levels - levels.round()).abs().max() < 0.4
    return levels.round().int().tolist()
