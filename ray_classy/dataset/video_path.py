"""Clips of video files in a folder, one folder per class, or in a manifest."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from ray_classy.dataset.class_folders import FileKind, read_class_folders
from ray_classy.dataset.classy_dataset import register_dataset
from ray_classy.dataset.clips import ClipDecoder, ClipSampling
from ray_classy.dataset.image_dataset import ImageDataset
from ray_classy.dataset.manifest import ManifestDataset
from ray_classy.dataset.plan import PhasePlan
from ray_classy.dataset.row_dataset import RowDataset
from ray_classy.dataset.row_keys import keys_below
from ray_classy.dataset.rows import ItemRows
from ray_classy.dataset.transforms.clip_to_tensor import ClipToTensor
from ray_classy.dataset.video_reader import video_reader
from ray_classy.errors import ComponentError
from ray_classy.urls import expanded, shown

VIDEO_EXTENSIONS = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".flv", ".3gp", ".ogv")


@register_dataset("video_path")
class VideoPathDataset(ImageDataset):
    """Clips of video files: samples `{"input": clip, "target": class}`, a clip being uint8 (T, 3, H, W).

    Every video has `clips_per_video` rows, one after the other. In train phases a row's clip begins at a random place
    of its video, drawn from (seed, epoch, row). In test phases, and when the dataset is indexed, the clips are spread
    evenly from the beginning to the end of the video, and a single one is in the middle. A clip that is longer than its
    video repeats the last frame. Videos are decoded by torchcodec, or by PyAV where torchcodec cannot be imported
    (`pip install 'ray_classy[video]'`). Built from a config without `transforms`, the dataset applies `clip_to_tensor`.

    Args (after the common ones, see `ImageDataset`):
        frames_per_clip: frames of a clip, T.
        video_folder: path or URL of a folder with one folder of videos per class, read as by `image_path`; exactly one
            of this and `manifest`.
        manifest: a file of paths and labels, or a list of them, read as by `manifest`.
        path_column: see `ManifestDataset`.
        label_column: see `ManifestDataset`.
        root: see `ManifestDataset`.
        path_suffix: see `ManifestDataset`.
        delimiter: see `ManifestDataset`.
        classes: names and order of the classes, or a file of them, where they are not those of the folder or manifest.
        clips_per_video: clips taken from each video.
        step_between_clips: distance in frames of the places where a clip may begin.
        frame_rate: frames per second that videos are resampled to before clips are taken, by dropping or repeating
            frames; None keeps their own frames.
        max_bad_rows: clips per phase that are skipped if they cannot be decoded; one more is an error.

    Raises:
        ComponentError: neither torchcodec nor PyAV can be imported, or an argument is impossible.
        DataError: what `image_path` or `manifest` finds wrong with the folder or the file.
    """

    def open_rows(
        self,
        *,
        frames_per_clip: int,
        video_folder: str | None = None,
        manifest: str | list[str] | None = None,
        path_column: str | int = "path",
        label_column: str | int | None = "label",
        root: str | None = None,
        path_suffix: str = "",
        delimiter: str | None = None,
        classes: list[str] | None = None,
        clips_per_video: int = 1,
        step_between_clips: int = 1,
        frame_rate: float | None = None,
        max_bad_rows: int = 0,
    ) -> RowDataset:
        video_reader()
        if (video_folder is None) == (manifest is None):
            given = "both are" if video_folder is not None else "neither is"
            raise ComponentError(f"video_path takes either video_folder or manifest; {given} given")
        sampling = ClipSampling(frames_per_clip, clips_per_video, step_between_clips, frame_rate)
        began = time.time()
        if manifest is not None:
            listed = ManifestDataset(
                1,
                False,
                manifest=manifest,
                classes=classes,
                path_column=path_column,
                label_column=label_column,
                root=root,
                path_suffix=path_suffix,
                delimiter=delimiter,
            )
            rows: Any = listed.dataset.rows  # type: ignore[union-attr]
            paths, labels, self.classes = rows.columns["path"], listed.labels(), listed.classes
            keys, read = listed.row_keys, listed.read_column
            self._read_column = lambda name: _repeated(read(name), clips_per_video)
        else:
            assert video_folder is not None
            if root is not None:
                raise ComponentError("video_path takes root with manifest only: it is where relative paths start")
            folder = expanded(video_folder)
            kind = FileKind("video_folder", "videos", VIDEO_EXTENSIONS)
            paths, labels, self.classes, self.remarks = read_class_folders(folder, classes, kind)
            keys = functools.partial(keys_below, folder, paths)
            self.without_targets = (
                f"video_folder {shown(folder)!r} has no class folders: expected one folder of videos per class"
            )
        self._keys_of_rows = lambda: np.repeat(keys(), clips_per_video)
        columns: dict[str, Any] = {"path": _repeated(paths, clips_per_video)}
        if labels is not None:
            columns["label"] = self._labels = np.repeat(labels, clips_per_video)
        return RowDataset(ItemRows(**columns), ClipDecoder(sampling, began), max_bad_rows, cacheable=False)

    def default_transform(self) -> Callable[[Any], Any]:
        return ClipToTensor()

    def plan(
        self, phase_type: str = "test", phase_id: int = 0, seed: int = 0, start: int = 0, shuffle_seed: int = 0
    ) -> PhasePlan:
        """Plans the rows of a phase (see `ClassyDataset.plan`), and sets where their clips begin from now on."""
        plan = super().plan(phase_type, phase_id, seed, start, shuffle_seed)
        base: Any = self.dataset
        base.drop_fetched()
        base.decode.random = (plan.seed, plan.epoch) if plan.train else None
        return plan


def _repeated(column: Any, times: int) -> Any:
    """Returns an Arrow array in which each value is repeated, from strings in a list or from an array."""
    import pyarrow as pa

    values = pa.array(column, pa.large_string()) if isinstance(column, list) else column
    if times == 1:
        return values
    values = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    numbers = pa.array(np.repeat(np.arange(len(values), dtype=np.int32), times))
    return pa.DictionaryArray.from_arrays(numbers, values)
