"""The base class of Classy Vision's datasets of clips, and the file that keeps what is known of their videos."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar

import torch.utils.data

from ray_classy.dataset.classy_dataset import ClassyDataset
from ray_classy.dataset.transforms.classy_transform import ClassyTransform
from ray_classy.dataset.transforms.util_video import build_video_field_transform_default
from ray_classy.dataset.video_metadata import load_metadata, save_metadata
from ray_classy.distributed import get_rank, get_world_size
from ray_classy.errors import ComponentError, ConfigError
from ray_classy.registry import Key, Keys, reads_signature
from ray_classy.seeding import derive_seed

_PARSED = (
    "transforms",
    "batchsize_per_replica",
    "shuffle",
    "num_samples",
    "frames_per_clip",
    "video_width",
    "video_height",
    "video_min_dimension",
    "audio_samples",
    "step_between_clips",
    "frame_rate",
    "clips_per_video",
)
"""What `ClassyVideoDataset.parse_config` returns, as constructors name it."""


class MaxLengthClipSampler(torch.utils.data.Sampler[int]):
    """Yields the first clips of another sampler.

    Args:
        clip_sampler: yields numbers of clips, and has a length.
        num_samples: the most clips; None yields all.
    """

    def __init__(self, clip_sampler: Any, num_samples: int | None = None) -> None:
        if num_samples is not None and (type(num_samples) is not int or num_samples < 1):
            raise ComponentError(f"num_samples must be an integer of at least 1 or None, not {num_samples!r}")
        self.clip_sampler = clip_sampler
        self.num_samples = num_samples

    def __iter__(self) -> Iterator[int]:
        for _, clip in zip(range(len(self)), self.clip_sampler, strict=False):
            yield clip

    def __len__(self) -> int:
        length = len(self.clip_sampler)
        return length if self.num_samples is None else min(length, self.num_samples)


class ClassyVideoDataset(ClassyDataset):
    """Clips of videos: samples `{"input": {"video", "audio"}, "target"}`, with `clips_per_video` rows for each video.

    Outside the split "train", samples of several clips per video also have `video`, which names their video, so that
    `video_accuracy` counts each video once on any number of ranks.

    Args:
        dataset: a map-style dataset of clips, those of a video one after the other.
        split: "train", or the name of another split.
        batchsize_per_replica: see `ClassyDataset`.
        shuffle: see `ClassyDataset`.
        transform: see `ClassyDataset`.
        num_samples: use only the first `num_samples` clips.
        clips_per_video: clips of each video, at least 1.

    Raises:
        ComponentError: an argument has an invalid value.
    """

    REQUIRED: ClassVar[tuple[str, ...]] = ("split",)

    def __init__(
        self,
        dataset: Any,
        split: str,
        batchsize_per_replica: int,
        shuffle: bool,
        transform: Callable[[Any], Any] | None,
        num_samples: int | None,
        clips_per_video: int,
    ) -> None:
        super().__init__(dataset, batchsize_per_replica, shuffle, transform, num_samples)
        if type(clips_per_video) is not int or clips_per_video < 1:
            raise ComponentError(f"clips_per_video must be an integer of at least 1, not {clips_per_video!r}")
        if not isinstance(split, str):
            raise ComponentError(f"split must be a name such as train or test, not {split!r}")
        self.clips_per_video = clips_per_video
        self.split = split

    @classmethod
    def config_keys(cls) -> Keys:
        """Returns the common keys, with transforms by modality, and those of clips."""
        return {
            **ClassyDataset.config_keys(),
            "transforms": Key(dict[str, list[ClassyTransform]] | None, None, "transforms of `video` and of `audio`."),
            "split": Key(str),
            "frames_per_clip": Key(int),
            "video_width": Key(
                int, 0, "width of decoded frames, in pixels; 0 follows from the height, or keeps the video's."
            ),
            "video_height": Key(
                int, 0, "height of decoded frames, in pixels; 0 follows from the width, or keeps the video's."
            ),
            "video_min_dimension": Key(int, 0, "the shorter side of decoded frames, in pixels; 0 keeps their size."),
            "audio_samples": Key(int, 0),
            "step_between_clips": Key(int, 1, "distance in frames of the places where a clip may begin."),
            "frame_rate": Key(float | None, None, "frames per second that videos are resampled to; null keeps theirs."),
            "clips_per_video": Key(int, 1),
        }

    @classmethod
    def parse_config(cls, config: Mapping[str, Any]) -> tuple[Any, ...]:
        """Returns the values of the keys of clips.

        They are: transforms, batchsize_per_replica, use_shuffle, num_samples, frames_per_clip, video_width,
        video_height, video_min_dimension, audio_samples, step_between_clips, frame_rate, clips_per_video.

        Raises:
            ConfigError: frames_per_clip is missing.
        """
        if config.get("frames_per_clip") is None:
            raise ConfigError("frames_per_clip must be set: it is the number of frames of a clip")
        return (
            *super().parse_config(config),
            config["frames_per_clip"],
            config.get("video_width", 0),
            config.get("video_height", 0),
            config.get("video_min_dimension", 0),
            config.get("audio_samples", 0),
            config.get("step_between_clips", 1),
            config.get("frame_rate"),
            config.get("clips_per_video", 1),
        )

    @classmethod
    @reads_signature
    def from_config(cls, config: Mapping[str, Any]) -> ClassyVideoDataset:
        """Builds the dataset from a config whose keys are those of `config_keys`.

        Raises:
            ConfigError: a required key is missing.
        """
        missing = [key for key in cls.REQUIRED if config.get(key) is None]
        if missing:
            raise ConfigError(f"{config.get('name', cls.__name__)} requires {', '.join(cls.REQUIRED)}; add {missing}")
        values = cls.parse_config(copy.deepcopy(dict(config)))
        arguments = dict(zip(_PARSED, values, strict=True))
        transforms = arguments.pop("transforms")
        transform = build_video_field_transform_default(transforms, config["split"])
        return cls(transform=transform, **cls.own_arguments(config, arguments))

    @classmethod
    def own_arguments(cls, config: Mapping[str, Any], common: dict[str, Any]) -> dict[str, Any]:
        """Returns the constructor's arguments, by name, from the config and the parsed keys of clips."""
        return {**common, "split": config["split"]}

    def __getitem__(self, index: int) -> Any:
        sample = super().__getitem__(index)
        if self.split != "train" and self.clips_per_video > 1 and isinstance(sample, dict):
            sample.setdefault("video", str(index // self.clips_per_video))
        return sample

    def __len__(self) -> int:
        rows = len(self.dataset)  # type: ignore[arg-type]
        return rows if self.num_samples is None else min(rows, self.num_samples)

    @classmethod
    def load_metadata(
        cls, filepath: str, video_dir: str | None = None, update_file_path: bool = False
    ) -> dict[str, Any]:
        """Reads what `save_metadata` wrote (see `video_metadata.load_metadata`)."""
        return load_metadata(filepath, video_dir, update_file_path)

    @classmethod
    def save_metadata(cls, metadata: dict[str, Any], filepath: str) -> None:
        """Writes what is known of videos, as JSON if the name ends in .json, else as a file of `torch.save`."""
        save_metadata(metadata, filepath)

    @property
    def video_clips(self) -> Any:
        """The index of all clips, a `VideoClips` of torchvision, for a dataset that has one and samples from it.

        Raises:
            NotImplementedError: the dataset has no such index; its rows are the clips to read.
        """
        if not hasattr(self.dataset, "video_clips"):
            raise NotImplementedError(f"{type(self).__name__} has no index of clips")
        return self.dataset.video_clips

    def _get_sampler(self, epoch: int) -> torch.utils.data.Sampler[int]:
        """Returns a sampler of this rank's clips of an epoch; the clips of a video follow each other."""
        from torchvision.datasets.samplers import DistributedSampler

        sampler = DistributedSampler(
            self._sampled_clips(),
            num_replicas=get_world_size(),
            rank=get_rank(),
            shuffle=self.shuffle,
            group_size=self.clips_per_video,
        )
        sampler.set_epoch(epoch)
        return sampler

    def _sampled_clips(self) -> MaxLengthClipSampler:
        """Returns a sampler of random clips of the index in the split "train", else of evenly spread ones."""
        from torchvision.datasets.samplers import RandomClipSampler, UniformClipSampler

        cls = RandomClipSampler if self.split == "train" else UniformClipSampler
        return MaxLengthClipSampler(cls(self.video_clips, self.clips_per_video), self.num_samples)

    def iterator(self, **options: Any) -> torch.utils.data.DataLoader:
        """Returns a DataLoader over this rank's rows of a phase, sampled from the index of clips if there is one."""
        try:
            self.video_clips  # noqa: B018
        except NotImplementedError:
            return super().iterator(**options)
        if self.sampling is not None:
            raise ComponentError("clips are sampled from the index of the dataset: leave `sampling` out")
        numbers = [options.get(name, 0) for name in ("shuffle_seed", "current_phase_id")]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(options.get("seed", 0), sum(numbers), 0))
            clips = [int(clip) for clip in self._sampled_clips()]
        sampled = copy.copy(self)
        sampled.dataset = torch.utils.data.Subset(self.dataset, clips)  # type: ignore[arg-type]
        return ClassyDataset.iterator(sampled, **options)
