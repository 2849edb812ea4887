"""Clips of random noise that are the same in every epoch."""

from __future__ import annotations

from typing import Any

import torch
import torch.utils.data

from ray_classy.errors import ComponentError


class RandomVideoDataset(torch.utils.data.Dataset):
    """Clips of noise with random targets: samples `{"input": {"video", "audio"}, "target"}`.

    `video` is uint8 of shape (frames_per_clip, video_height, video_width, 3), `audio` float of shape (audio_samples, 1)
    in [0, 1). A clip is a function of (seed, index) alone. Outside the split "train", `clips_per_video` consecutive
    clips belong to one video and have its target.

    Args:
        num_classes: targets are drawn evenly from [0, num_classes).
        split: "train", or another name.
        num_samples: number of clips.
        frames_per_clip: frames of a clip.
        video_width: in pixels.
        video_height: in pixels.
        audio_samples: samples of sound per clip, at least 0.
        clips_per_video: clips of a video.
        seed: at least 0.

    Raises:
        ComponentError: an argument is not an integer in its range.
    """

    def __init__(
        self,
        num_classes: int,
        split: str,
        num_samples: int,
        frames_per_clip: int,
        video_width: int,
        video_height: int,
        audio_samples: int,
        clips_per_video: int,
        seed: int = 10,
    ) -> None:
        self.num_classes = num_classes
        self.split = split
        self.video_channels = 3
        self.num_samples = num_samples
        self.frames_per_clip = frames_per_clip
        self.video_width = video_width
        self.video_height = video_height
        self.audio_samples = audio_samples
        self.clips_per_video = clips_per_video
        self.seed = seed
        for name, value in vars(self).items():
            least = 0 if name in ("audio_samples", "seed") else 1
            if name != "split" and (type(value) is not int or not least <= value <= 1 << 31):
                raise ComponentError(f"{name} must be an integer of at least {least}, not {value!r}")

    def __len__(self) -> int:
        return self.num_samples

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not 0 <= index < self.num_samples:
            raise IndexError(f"clip {index} of {self.num_samples}")
        generator = torch.Generator().manual_seed(self.seed + index)
        shape = (self.frames_per_clip, self.video_height, self.video_width, self.video_channels)
        video = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
        audio = torch.rand((self.audio_samples, 1), generator=generator)
        return {"input": {"video": video, "audio": audio}, "target": self.target(index)}

    def target(self, index: int) -> int:
        """Returns the class of a clip."""
        video = index if self.split == "train" else index // self.clips_per_video
        generator = torch.Generator().manual_seed(self.seed + video)
        return int(torch.randint(0, self.num_classes, (1,), generator=generator))
