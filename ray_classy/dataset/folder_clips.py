"""The clips of a folder with one folder of videos per class, whose lengths are known from a metadata file."""

from __future__ import annotations

import glob
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ray_classy.dataset.clips import ClipSampling, decode_clip
from ray_classy.dataset.row_dataset import RowDataset
from ray_classy.dataset.rows import ItemRows
from ray_classy.dataset.video_metadata import Metadata, load_metadata, read_metadata, save_metadata
from ray_classy.errors import ComponentError, DataError, DataNotFoundError
from ray_classy.seeding import derive_seed

_LOOKED_AT = 32  # videos of a metadata file, to see whether it belongs to the folder
_CLIP_PLACES = 1
"""Separates the seeds of places from those of a row's transform, which are derived from (seed, epoch, row)."""


@dataclass(frozen=True)
class FirstClip(ClipSampling):
    """Spreads clips as `ClipSampling` does, but places a single one at the beginning."""

    def start(self, length: int, number: int, draw: int | None) -> int:
        return 0 if draw is None and number == 0 else super().start(length, number, draw)


@dataclass(frozen=True)
class FrameSize:
    """Height and width that frames are resized to when they are decoded.

    Attributes:
        width: in pixels; 0 follows from the height, or keeps the video's.
        height: in pixels; 0 follows from the width, or keeps the video's.
        min_dimension: the shorter side, if neither width nor height is given; 0 keeps the video's.

    Raises:
        ComponentError: one is not an integer of at least 0, or `min_dimension` is given with another.
    """

    width: int = 0
    height: int = 0
    min_dimension: int = 0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if type(value) is not int or not 0 <= value <= 1 << 14:
                raise ComponentError(f"video_{name} must be an integer of at least 0, not {value!r}")
        if self.min_dimension and (self.width or self.height):
            raise ComponentError("video_min_dimension cannot be given with video_width or video_height")

    def of(self, height: int, width: int) -> tuple[int, int]:
        """Returns the height and width that frames of this height and width get."""
        if self.min_dimension:
            share = self.min_dimension / min(height, width)
        elif self.width and self.height:
            return self.height, self.width
        else:
            share = self.height / height if self.height else self.width / width if self.width else 1
        return max(1, round(height * share)), max(1, round(width * share))


@dataclass
class ModalityDecoder:
    """Decodes rows to samples `{"input": {"video": uint8 (T, H, W, 3), "audio": (0, 1)}, "target": class}`.

    Attributes:
        sampling: which frames belong to the clips.
        size: of the frames.
        since: a time in seconds since 1970; a video that was changed after it is an error.
        random: (seed, epoch) for clips at random places; None for evenly spread ones.
    """

    sampling: ClipSampling
    size: FrameSize
    since: float
    random: tuple[int, int] | None = None

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        index = int(row["row"])
        draw = None if self.random is None else derive_seed(*self.random, int(row.get("_number", index)), _CLIP_PLACES)
        clip = decode_clip(row["path"], self.sampling, index % self.sampling.clips_per_video, draw, self.since)
        size = self.size.of(*clip.shape[-2:])
        if size != tuple(clip.shape[-2:]):
            from torchvision.transforms.v2.functional import resize

            clip = resize(clip, list(size), antialias=True)
        video = clip.permute(0, 2, 3, 1).contiguous()
        return {"input": {"video": video, "audio": torch.zeros(0, 1)}, "target": int(row["label"])}


class FolderClips(RowDataset):
    """The clips of the videos that a split selects, `clips_per_video` rows for each.

    The metadata of all videos is read from a file, or computed and written to it: the presentation times, which need
    the packets of each video. Videos that cannot be read, or are shorter than a clip, are left out.

    Args:
        video_dir: a folder with one folder of videos per class.
        extensions: of the videos, without the dot.
        selects: whether a video belongs to the split, by the name of its class and its own.
        metadata_filepath: see `video_metadata`.
        sampling: which frames belong to the clips.
        size: of the frames.

    Attributes:
        classes: the names of the class folders, sorted.
        labels: the class of each row, shape (rows,).
        remarks: how many videos were left out.

    Raises:
        DataError: there are no class folders or no videos in the split, or the metadata is damaged.
        FileNotFoundError: the folder is missing.
    """

    def __init__(
        self,
        video_dir: str,
        extensions: Sequence[str],
        selects: Callable[[str, str], bool],
        metadata_filepath: str,
        sampling: ClipSampling,
        size: FrameSize,
    ) -> None:
        since = time.time()
        if not os.path.isdir(video_dir):
            raise DataNotFoundError(f"video_dir {video_dir!r} is not a folder (looked in {os.getcwd()})")
        self.classes = sorted(entry.name for entry in os.scandir(video_dir) if entry.is_dir())
        if not self.classes:
            raise DataError(f"video_dir {video_dir!r} has no folders: expected one folder of videos per class")
        metadata = _metadata(video_dir, self.classes, extensions, metadata_filepath)
        numbers = {name: number for number, name in enumerate(self.classes)}
        paths: list[str] = []
        labels: list[int] = []
        short = 0
        for path, times, rate in zip(
            metadata["video_paths"], metadata["video_pts"], metadata["video_fps"], strict=True
        ):
            name, file = path.split("/")[-2:]
            if name not in numbers or not selects(name, file):
                continue
            frames = len(times)
            if sampling.frame_rate is not None and rate:
                frames = int(frames * sampling.frame_rate / rate)
            if frames < sampling.frames_per_clip:
                short += 1
                continue
            paths.append(path)
            labels.append(numbers[name])
        if not paths:
            raise DataError(
                f"video_dir {video_dir!r} has no video of this split with {sampling.frames_per_clip} frames "
                f"({short} are shorter or cannot be read)"
            )
        left = f"{short} videos have fewer than {sampling.frames_per_clip} frames, or cannot be read: left out"
        self.remarks = (left,) if short else ()
        clips = sampling.clips_per_video
        self.labels = np.repeat(np.array(labels, dtype=np.int64), clips)
        rows = ItemRows(path=[path for path in paths for _ in range(clips)], label=self.labels)
        super().__init__(rows, ModalityDecoder(sampling, size, since), cacheable=False)


def _metadata(video_dir: str, classes: list[str], extensions: Sequence[str], filepath: str) -> Metadata:
    """Reads the metadata of the videos of a folder, or computes and writes it."""
    if os.path.exists(filepath):
        metadata = load_metadata(filepath, video_dir, update_file_path=True)
        lengths = {len(metadata[key]) for key in ("video_paths", "video_pts", "video_fps")}
        if len(lengths) != 1 or not all("/" in path for path in metadata["video_paths"]):
            raise DataError(f"{filepath!r} does not have one entry per video; remove it, and it is computed again")
        looked_at = metadata["video_paths"][:: max(1, len(metadata["video_paths"]) // _LOOKED_AT)]
        if looked_at and not any(os.path.exists(path) for path in looked_at):
            raise DataError(
                f"{filepath!r} is of other videos than those in {video_dir!r}, such as {looked_at[0]!r}: give each "
                "folder a metadata_file of its own, or remove the file, and it is computed again"
            )
        return metadata
    endings = tuple(f".{one.lstrip('.').lower()}" for one in extensions)
    paths = [
        path
        for name in classes
        for path in sorted(glob.glob(os.path.join(glob.escape(os.path.join(video_dir, name)), "*")))
        if path.lower().endswith(endings)
    ]
    if not paths:
        raise DataError(f"video_dir {video_dir!r} has no files that end in {', '.join(endings)}")
    metadata = read_metadata(paths)
    save_metadata(metadata, filepath)
    return metadata
