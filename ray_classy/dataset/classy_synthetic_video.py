"""Synthetic clips of noise, for tests and benchmarks of a setup."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ray_classy.dataset.classy_dataset import register_dataset
from ray_classy.dataset.classy_video_dataset import ClassyVideoDataset
from ray_classy.dataset.core.random_video_datasets import RandomVideoDataset
from ray_classy.registry import Key, Keys


@register_dataset("synthetic_video")
class SyntheticVideoDataset(ClassyVideoDataset):
    """Clips of noise, whose targets do not depend on the pixels; see `RandomVideoDataset` and `ClassyVideoDataset`.

    Built from a config, the dataset applies `video_default_augment` in the split "train" and `video_default_no_augment`
    in others, and `dummy_audio_transform`; `transforms` replaces them by modality.

    Args:
        num_classes: targets are drawn evenly from [0, num_classes).
        split: "train", or another name.
        batchsize_per_replica: see `ClassyDataset`.
        shuffle: see `ClassyDataset`.
        transform: see `ClassyDataset`.
        num_samples: number of clips.
        frames_per_clip: see `RandomVideoDataset`.
        video_width: in pixels.
        video_height: in pixels.
        audio_samples: see `RandomVideoDataset`.
        clips_per_video: see `RandomVideoDataset`.

    Raises:
        ComponentError: an argument has an invalid value.
    """

    REQUIRED = ("split", "num_classes", "num_samples", "video_width", "video_height")

    def __init__(
        self,
        num_classes: int,
        split: str,
        batchsize_per_replica: int,
        shuffle: bool,
        transform: Callable[[Any], Any] | None,
        num_samples: int,
        frames_per_clip: int,
        video_width: int,
        video_height: int,
        audio_samples: int,
        clips_per_video: int,
    ) -> None:
        self._clips = RandomVideoDataset(
            num_classes, split, num_samples, frames_per_clip, video_width, video_height, audio_samples, clips_per_video
        )
        super().__init__(self._clips, split, batchsize_per_replica, shuffle, transform, num_samples, clips_per_video)
        self.num_classes = num_classes

    @classmethod
    def config_keys(cls) -> Keys:
        """Returns the keys of clips, and `num_classes`."""
        sizes = {"num_samples": Key(int), "video_width": Key(int), "video_height": Key(int)}
        return {**super().config_keys(), **sizes, "num_classes": Key(int)}

    @classmethod
    def own_arguments(cls, config: Mapping[str, Any], common: dict[str, Any]) -> dict[str, Any]:
        unused = ("video_min_dimension", "step_between_clips", "frame_rate")
        arguments = {key: value for key, value in common.items() if key not in unused}
        return {**arguments, "split": config["split"], "num_classes": config["num_classes"]}

    def labels(self) -> np.ndarray | None:
        return np.array([self._clips.target(index) for index in range(len(self._clips))], dtype=np.int64)
