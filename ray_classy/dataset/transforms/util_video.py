"""Transforms of the clips and sounds of `synthetic_video`, `kinetics400`, `hmdb51` and `ucf101`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from ray_classy.dataset.transforms.classy_transform import (
    ClassyTransform,
    Compose,
    build_transforms,
    register_transform,
)
from ray_classy.dataset.transforms.imagenet import ImagenetConstants
from ray_classy.dataset.transforms.sample import TupleToMapTransform
from ray_classy.dataset.transforms.video import (
    NormalizeVideo,
    RandomCropVideo,
    RandomHorizontalFlipVideo,
    ToTensorVideo,
    check_clip,
    pair,
    resized,
)
from ray_classy.errors import ComponentError


class VideoConstants:
    """Channel means and standard deviations (RGB in [0, 1]) and the usual sizes of clips in pixels."""

    MEAN = ImagenetConstants.MEAN
    STD = ImagenetConstants.STD
    SIZE_RANGE = (128, 160)
    CROP_SIZE = 112


def _get_rescaled_size(scale: int, h: int, w: int) -> tuple[int, int]:
    """Returns height and width with the shorter side `scale`, in the same ratio, rounded down."""
    return (scale, int(w / h * scale)) if h < w else (int(h / w * scale), scale)


@register_transform("video_clip_random_resize_crop")
class VideoClipRandomResizeCrop(ClassyTransform):
    """Resizes a clip (C, T, H, W) to a random shorter side and crops a random part of it.

    Args:
        crop_size: height and width of the crop in pixels, or one number for both.
        size_range: the smallest and the largest shorter side; one of them is drawn, evenly.
        interpolation_mode: "bilinear", "bicubic" or "nearest".

    Raises:
        ComponentError: an argument has an invalid value.
        DataError: (when called) it is not such a clip, or the crop is larger than the resized clip.
    """

    draws = "torch"

    def __init__(self, crop_size: int | list[int], size_range: list[int], interpolation_mode: str = "bilinear") -> None:
        self.crop_size = pair(crop_size, "crop_size")
        if not isinstance(size_range, list | tuple) or len(size_range) != 2 or not 1 <= size_range[0] <= size_range[1]:
            raise ComponentError(f"size_range must be a smallest and a largest number of pixels, not {size_range!r}")
        self.size_range = size_range
        self.interpolation_mode = interpolation_mode
        self._crop = RandomCropVideo(list(self.crop_size))

    def __call__(self, clip: torch.Tensor) -> torch.Tensor:
        least, most = self.size_range
        height, width = check_clip(clip, "video_clip_random_resize_crop")
        size = _get_rescaled_size(int(torch.randint(least, most + 1, (1,))), height, width)
        return self._crop(resized(clip, size, self.interpolation_mode))


@register_transform("video_clip_resize")
class VideoClipResize(ClassyTransform):
    """Resizes a clip (C, T, H, W) to a shorter side of `size` pixels.

    Args:
        size: in pixels.
        interpolation_mode: "bilinear", "bicubic" or "nearest".

    Raises:
        ComponentError: `size` is not an integer of at least 1.
        DataError: (when called) it is not such a clip.
    """

    deterministic = True

    def __init__(self, size: int, interpolation_mode: str = "bilinear") -> None:
        self.size = pair(size, "size")[0]
        self.interpolation_mode = interpolation_mode

    def __call__(self, clip: torch.Tensor) -> torch.Tensor:
        height, width = check_clip(clip, "video_clip_resize")
        return resized(clip, _get_rescaled_size(self.size, height, width), self.interpolation_mode)


@register_transform("video_default_augment")
class VideoDefaultAugmentTransform(ClassyTransform):
    """Makes a normalised float clip (3, T, crop_size, crop_size) of a uint8 one (T, H, W, 3), at random.

    Args:
        crop_size: see `VideoClipRandomResizeCrop`.
        size_range: see `VideoClipRandomResizeCrop`.
        mean: subtracted from each channel in [0, 1].
        std: divides each channel afterwards.
    """

    deterministic = True

    def __init__(
        self,
        crop_size: int | list[int] = VideoConstants.CROP_SIZE,
        size_range: list[int] = VideoConstants.SIZE_RANGE,  # type: ignore[assignment]
        mean: list[float] = VideoConstants.MEAN,
        std: list[float] = VideoConstants.STD,
    ) -> None:
        crop = VideoClipRandomResizeCrop(crop_size, size_range)
        self._transform = Compose([ToTensorVideo(), crop, RandomHorizontalFlipVideo(), NormalizeVideo(mean, std)])

    def __call__(self, video: torch.Tensor) -> torch.Tensor:
        return self._transform(video)

    def parts(self) -> Sequence[Any]:
        return [self._transform]


@register_transform("video_default_no_augment")
class VideoDefaultNoAugmentTransform(ClassyTransform):
    """Makes a normalised float clip (3, T, H, W) of a uint8 one (T, H, W, 3), with a shorter side of `size` pixels.

    Args:
        size: in pixels.
        mean: subtracted from each channel in [0, 1].
        std: divides each channel afterwards.
    """

    deterministic = True

    def __init__(
        self,
        size: int = VideoConstants.SIZE_RANGE[0],
        mean: list[float] = VideoConstants.MEAN,
        std: list[float] = VideoConstants.STD,
    ) -> None:
        self._transform = Compose([ToTensorVideo(), VideoClipResize(size), NormalizeVideo(mean, std)])

    def __call__(self, video: torch.Tensor) -> torch.Tensor:
        return self._transform(video)

    def parts(self) -> Sequence[Any]:
        return [self._transform]


@register_transform("dummy_audio_transform")
class DummyAudioTransform(ClassyTransform):
    """Replaces the sound of a clip by an empty tensor of shape (0, 1)."""

    deterministic = True

    def __call__(self, _audio: Any) -> torch.Tensor:
        return torch.zeros(0, 1)


class ModalityTransform(ClassyTransform):
    """Applies one transform to each modality of a sample.

    A sample is `{key: {"video": ..., "audio": ...}, "target": ...}`. Of another, such as a tuple (video, audio,
    target), `key_map_transform` names the items, and the modalities among them are moved to `key`.

    Args:
        transforms: by modality; others are left as they are.
        key: the entry with the modalities; None if they are entries of the sample itself.
        key_map_transform: names the items of a sample; None if they are named already.
    """

    draws = "torch"

    def __init__(
        self,
        transforms: Mapping[str, Callable[[Any], Any]],
        key: str | None,
        key_map_transform: Callable[[Any], Any] | None,
    ) -> None:
        self.transforms = dict(transforms)
        self.key = key
        self.key_map_transform = key_map_transform

    def __call__(self, sample: Any) -> Any:
        named = isinstance(sample, Mapping) and (self.key is None or self.key in sample)
        if self.key_map_transform is not None and not named:
            sample = self.key_map_transform(sample)
        if self.key is not None and self.key not in sample:
            inner = {name: sample[name] for name in self.transforms if name in sample}
            sample = {self.key: inner, **{name: value for name, value in sample.items() if name not in inner}}
        inner = sample if self.key is None else sample[self.key]
        for name, transform in self.transforms.items():
            if name in inner:
                inner[name] = transform(inner[name])
        return sample

    def parts(self) -> Sequence[Any]:
        return list(self.transforms.values())


_VIDEO_AUDIO_TARGET = TupleToMapTransform(["video", "audio", "target"])


def build_video_field_transform_default(
    config: Mapping[str, Sequence[Mapping[str, Any]]] | None,
    split: str = "train",
    key: str | None = "input",
    key_map_transform: Callable[[Any], Any] | None = _VIDEO_AUDIO_TARGET,
) -> ModalityTransform:
    """Builds a transform of samples with a video and its sound.

    Args:
        config: lists of transform configs by modality, "video" and "audio"; one that is missing keeps its default:
            `video_default_augment` in the split "train", else `video_default_no_augment`, and `dummy_audio_transform`.
        split: "train", or the name of another split.
        key: see `ModalityTransform`.
        key_map_transform: see `ModalityTransform`.

    Raises:
        ComponentError: `config` is not a mapping.
    """
    if config is not None and not isinstance(config, Mapping):
        raise ComponentError(
            f"transforms of videos are given by modality (video: [...], audio: [...]), not as {type(config).__name__}"
        )
    video = VideoDefaultAugmentTransform() if split == "train" else VideoDefaultNoAugmentTransform()
    transforms: dict[str, Callable[[Any], Any]] = {"video": video, "audio": DummyAudioTransform()}
    transforms.update({name: build_transforms(configs) for name, configs in (config or {}).items()})
    return ModalityTransform(transforms, key, key_map_transform)
