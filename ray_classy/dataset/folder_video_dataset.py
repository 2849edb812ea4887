"""The base class of `hmdb51`, `ucf101` and `kinetics400`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from ray_classy.dataset.classy_video_dataset import ClassyVideoDataset
from ray_classy.dataset.folder_clips import FirstClip, FolderClips, FrameSize
from ray_classy.dataset.plan import PhasePlan
from ray_classy.errors import ComponentError, DataError
from ray_classy.registry import Key, Keys


class FolderVideoDataset(ClassyVideoDataset):
    """Clips of a folder of videos, at random places in the split "train", and evenly spread in others.

    Videos shorter than a clip are left out, as `remarks` says.
    """

    FORMER_KEYS = (*ClassyVideoDataset.FORMER_KEYS, "num_classes")
    REQUIRED: ClassVar[tuple[str, ...]] = ("split", "metadata_file", "video_dir")

    def open_clips(
        self,
        video_dir: str,
        extensions: Sequence[str],
        selects: Callable[[str, str], bool],
        metadata_filepath: str,
        *,
        frames_per_clip: int,
        size: FrameSize,
        audio_samples: int,
        step_between_clips: int,
        frame_rate: float | None,
        clips_per_video: int,
    ) -> FolderClips:
        """Finds the clips of the split (see `FolderClips`)."""
        if audio_samples:
            raise ComponentError(f"audio_samples is {audio_samples!r}, but sound is not decoded: set it to 0")
        sampling = FirstClip(frames_per_clip, clips_per_video, step_between_clips, frame_rate)
        clips = FolderClips(video_dir, extensions, selects, metadata_filepath, sampling, size)
        self.classes = clips.classes
        self.remarks = clips.remarks
        return clips

    @classmethod
    def config_keys(cls) -> Keys:
        """Returns the keys of clips, `metadata_file` and `video_dir`."""
        metadata_file = Key(str, doc="a file of the videos' metadata, which is written if it does not exist.")
        return {**super().config_keys(), "metadata_file": metadata_file, "video_dir": Key(str)}

    @classmethod
    def own_arguments(cls, config: Mapping[str, Any], common: dict[str, Any]) -> dict[str, Any]:
        arguments = {"metadata_filepath": config["metadata_file"], "video_dir": config["video_dir"]}
        return {**super().own_arguments(config, common), **arguments}

    def labels(self) -> np.ndarray | None:
        return self.dataset.labels  # type: ignore[union-attr]

    def plan(
        self, phase_type: str = "test", phase_id: int = 0, seed: int = 0, start: int = 0, shuffle_seed: int = 0
    ) -> PhasePlan:
        """Plans the rows of a phase (see `ClassyDataset.plan`), and sets where their clips begin from now on."""
        plan = super().plan(phase_type, phase_id, seed, start, shuffle_seed)
        base: Any = self.dataset
        base.drop_fetched()
        base.decode.random = (plan.seed, plan.epoch) if self.split == "train" else None
        return plan


class SplitVideoDataset(FolderVideoDataset):
    """Clips of the videos that files of a split list.

    Args:
        split: "train", or "test" or another name for the videos to test on.
        batchsize_per_replica: see `ClassyDataset`.
        shuffle: see `ClassyDataset`.
        transform: see `ClassyDataset`.
        num_samples: the most clips; None uses all.
        frames_per_clip: frames of a clip.
        video_width: see `FrameSize`.
        video_height: see `FrameSize`.
        video_min_dimension: see `FrameSize`.
        audio_samples: 0: sound is not decoded.
        step_between_clips: distance in frames of the places where a clip may begin.
        frame_rate: frames per second that videos are resampled to; None keeps their own frames.
        clips_per_video: clips of each video.
        video_dir: a folder with one folder of videos per class.
        splits_dir: the folder of the files of the splits.
        fold: which of the three splits, 1, 2 or 3.
        metadata_filepath: a file of the videos' metadata, which is written if it does not exist.

    Raises:
        ComponentError: an argument has an invalid value.
        DataError: a file of the split lists no video, or what `FolderClips` finds wrong.
        FileNotFoundError: a folder or a file is missing.
    """

    REQUIRED = ("split", "metadata_file", "video_dir", "splits_dir")

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
        step_between_clips: int,
        frame_rate: float | None,
        clips_per_video: int,
        video_dir: str,
        splits_dir: str,
        fold: int,
        metadata_filepath: str,
    ) -> None:
        if type(fold) is not int or not 1 <= fold <= 3:
            raise ComponentError(f"fold must be 1, 2 or 3, not {fold!r}")
        listed = self.listed(splits_dir, fold, split == "train")
        if not listed:
            raise DataError(f"splits_dir {splits_dir!r} lists no video for split {split!r} of fold {fold}")
        clips = self.open_clips(
            video_dir,
            ("avi",),
            lambda name, file: f"{name}/{file}" in listed,
            metadata_filepath,
            frames_per_clip=frames_per_clip,
            size=FrameSize(video_width, video_height, video_min_dimension),
            audio_samples=audio_samples,
            step_between_clips=step_between_clips,
            frame_rate=frame_rate,
            clips_per_video=clips_per_video,
        )
        super().__init__(clips, split, batchsize_per_replica, shuffle, transform, num_samples, clips_per_video)

    def listed(self, splits_dir: str, fold: int, train: bool) -> frozenset[str]:
        """Returns the videos of a split, as class/file."""
        raise NotImplementedError

    @classmethod
    def config_keys(cls) -> Keys:
        """Returns the keys of clips, `splits_dir` and `fold`."""
        return {**super().config_keys(), "splits_dir": Key(str), "fold": Key(int, 1)}

    @classmethod
    def own_arguments(cls, config: Mapping[str, Any], common: dict[str, Any]) -> dict[str, Any]:
        arguments = {"splits_dir": config["splits_dir"], "fold": config.get("fold", 1)}
        return {**super().own_arguments(config, common), **arguments}
