"""Kinetics-400 (Kay et al., The Kinetics Human Action Video Dataset, 2017)."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from ray_classy.dataset.classy_dataset import register_dataset
from ray_classy.dataset.folder_clips import FrameSize
from ray_classy.dataset.folder_video_dataset import FolderVideoDataset
from ray_classy.errors import ComponentError
from ray_classy.registry import Key, Keys


@register_dataset("kinetics400")
class Kinetics400Dataset(FolderVideoDataset):
    """Clips of Kinetics-400, or of any folder with one folder of videos per class.

    Args:
        split: "train", or another name; the folder of this name in `video_dir` is read, if there is one.
        batchsize_per_replica: see `ClassyDataset`.
        shuffle: see `ClassyDataset`.
        transform: see `ClassyDataset`.
        num_samples: the most clips; None uses all.
        frames_per_clip: frames of a clip.
        video_width: see `FrameSize`.
        video_height: see `FrameSize`.
        video_min_dimension: see `FrameSize`.
        audio_samples: 0: sound is not decoded.
        audio_channels: 0: sound is not decoded.
        step_between_clips: distance in frames of the places where a clip may begin.
        frame_rate: frames per second that videos are resampled to; None keeps their own frames.
        clips_per_video: clips of each video.
        video_dir: a folder with one folder of videos per class.
        extensions: of the videos, without the dot.
        metadata_filepath: a file of the videos' metadata, which is written if it does not exist.

    Raises:
        ComponentError: an argument has an invalid value.
        DataError: what `FolderClips` finds wrong.
        FileNotFoundError: the folder is missing.
    """

    def __init__(
        self,
        split: str,
        batchsize_per_replica: int,
        shuffle: bool,
        transform: Callable[[Any], Any] | None,
        num_samples: int | None,
        frames_per_clip: int,
        video_width: int,
        video_height: int,
        video_min_dimension: int,
        audio_samples: int,
        audio_channels: int,
        step_between_clips: int,
        frame_rate: float | None,
        clips_per_video: int,
        video_dir: str,
        extensions: list[str],
        metadata_filepath: str,
    ) -> None:
        if audio_channels:
            raise ComponentError(f"audio_channels is {audio_channels!r}, but sound is not decoded: set it to 0")
        folder = os.path.join(video_dir, split)
        clips = self.open_clips(
            folder if os.path.isdir(folder) else video_dir,
            (extensions,) if isinstance(extensions, str) else extensions,
            lambda name, file: True,
            metadata_filepath,
            frames_per_clip=frames_per_clip,
            size=FrameSize(video_width, video_height, video_min_dimension),
            audio_samples=audio_samples,
            step_between_clips=step_between_clips,
            frame_rate=frame_rate,
            clips_per_video=clips_per_video,
        )
        super().__init__(clips, split, batchsize_per_replica, shuffle, transform, num_samples, clips_per_video)

    @classmethod
    def config_keys(cls) -> Keys:
        """Returns the keys of clips, `audio_channels` and `extensions`."""
        return {
            **super().config_keys(),
            "audio_channels": Key(int, 0),
            "extensions": Key(str | list[str], "mp4"),
        }

    @classmethod
    def own_arguments(cls, config: Mapping[str, Any], common: dict[str, Any]) -> dict[str, Any]:
        arguments = {"audio_channels": config.get("audio_channels", 0), "extensions": config.get("extensions", "mp4")}
        return {**super().own_arguments(config, common), **arguments}
