"""Transforms of clips under torchvision's former names; all but the first are for float clips (C, T, H, W)."""

from __future__ import annotations

from typing import Any

import torch

from ray_classy.dataset.transforms.classy_transform import ClassyTransform
from ray_classy.errors import ComponentError, DataError

_MODES = ("bilinear", "bicubic", "nearest")


def check_clip(clip: Any, name: str) -> tuple[int, int]:
    """Returns height and width of a clip (C, T, H, W).

    Raises:
        DataError: it is not a tensor of four dimensions.
    """
    if not isinstance(clip, torch.Tensor) or clip.ndim != 4:
        given = f"of shape {tuple(clip.shape)}" if isinstance(clip, torch.Tensor) else type(clip).__name__
        raise DataError(f"{name} needs a clip, a tensor of four dimensions, not {given}")
    return clip.shape[-2], clip.shape[-1]


def pair(size: Any, name: str) -> tuple[int, int]:
    """Returns a size as (height, width).

    Raises:
        ComponentError: it is neither one nor two integers of at least 1.
    """
    sizes = tuple(size) if isinstance(size, list | tuple) else (size, size)
    if len(sizes) != 2 or any(type(one) is not int or one < 1 for one in sizes):
        raise ComponentError(f"{name} must be one or two integers of at least 1, not {size!r}")
    return sizes


def resized(clip: torch.Tensor, size: tuple[int, int], mode: str) -> torch.Tensor:
    """Resizes the frames of a float clip to (height, width), without antialiasing."""
    if mode not in _MODES:
        raise ComponentError(f"interpolation_mode must be one of {', '.join(_MODES)}, not {mode!r}")
    corners = None if mode == "nearest" else False
    return torch.nn.functional.interpolate(clip, size=size, mode=mode, align_corners=corners)


class ToTensorVideo(ClassyTransform):
    """Converts a uint8 clip (T, H, W, C) to floats in [0, 1] of shape (C, T, H, W)."""

    deterministic = True

    def __call__(self, clip: torch.Tensor) -> torch.Tensor:
        check_clip(clip, "ToTensorVideo")
        if clip.dtype != torch.uint8:
            raise DataError(f"ToTensorVideo needs uint8, not {clip.dtype}")
        return clip.permute(3, 0, 1, 2).to(torch.float32, memory_format=torch.contiguous_format).div_(255)

    def __repr__(self) -> str:
        return "ToTensorVideo"


class NormalizeVideo(ClassyTransform):
    """Subtracts the mean of each channel and divides by its standard deviation.

    Args:
        mean: one number per channel.
        std: one number above 0 per channel.
        inplace: whether the clip itself is changed.
    """

    deterministic = True

    def __init__(self, mean: list[float], std: list[float], inplace: bool = False) -> None:
        if len(mean) != len(std) or not all(std):
            raise ComponentError(f"mean and std must have one number per channel, std none of 0: {mean!r}, {std!r}")
        self.mean = mean
        self.std = std
        self.inplace = inplace

    def __call__(self, clip: torch.Tensor) -> torch.Tensor:
        check_clip(clip, "NormalizeVideo")
        mean = torch.tensor(self.mean, dtype=clip.dtype, device=clip.device)[:, None, None, None]
        std = torch.tensor(self.std, dtype=clip.dtype, device=clip.device)[:, None, None, None]
        changed = clip if self.inplace else clip.clone()
        return changed.sub_(mean).div_(std)

    def __repr__(self) -> str:
        return f"NormalizeVideo(mean={self.mean}, std={self.std}, inplace={self.inplace})"


class RandomCropVideo(ClassyTransform):
    """Crops a random part of a clip, the same in all frames.

    Args:
        size: height and width in pixels, or one number for both.
    """

    draws = "torch"

    def __init__(self, size: int | list[int]) -> None:
        self.size = pair(size, "size")

    def __call__(self, clip: torch.Tensor) -> torch.Tensor:
        top, left = (int(torch.randint(0, room + 1, (1,))) for room in _room(clip, self.size, "RandomCropVideo"))
        return clip[..., top : top + self.size[0], left : left + self.size[1]]

    def __repr__(self) -> str:
        return f"RandomCropVideo(size={self.size})"


class CenterCropVideo(ClassyTransform):
    """Crops the centre of a clip.

    Args:
        crop_size: height and width in pixels, or one number for both.
    """

    deterministic = True

    def __init__(self, crop_size: int | list[int]) -> None:
        self.crop_size = pair(crop_size, "crop_size")

    def __call__(self, clip: torch.Tensor) -> torch.Tensor:
        top, left = (round(room / 2) for room in _room(clip, self.crop_size, "CenterCropVideo"))
        return clip[..., top : top + self.crop_size[0], left : left + self.crop_size[1]]

    def __repr__(self) -> str:
        return f"CenterCropVideo(crop_size={self.crop_size})"


class RandomResizedCropVideo(ClassyTransform):
    """Crops a random part of a clip, as `RandomResizedCrop` does, and resizes it.

    Args:
        size: height and width in pixels, or one number for both.
        scale: smallest and largest share of a frame's area.
        ratio: smallest and largest ratio of width to height.
        interpolation_mode: "bilinear", "bicubic" or "nearest".
    """

    draws = "torch"

    def __init__(
        self,
        size: int | list[int],
        scale: list[float] = (0.08, 1.0),  # type: ignore[assignment]
        ratio: list[float] = (3 / 4, 4 / 3),  # type: ignore[assignment]
        interpolation_mode: str = "bilinear",
    ) -> None:
        from ray_classy.dataset.transforms.random_resized_crop import RandomResizedCrop

        self.size = pair(size, "size")
        self.scale = scale
        self.ratio = ratio
        self.interpolation_mode = interpolation_mode
        self._crop = RandomResizedCrop(list(self.size), scale=tuple(scale), ratio=tuple(ratio))

    def __call__(self, clip: torch.Tensor) -> torch.Tensor:
        check_clip(clip, "RandomResizedCropVideo")
        crop = self._crop.make_params([clip])
        top, left = crop["top"], crop["left"]
        part = clip[..., top : top + crop["height"], left : left + crop["width"]]
        return resized(part, self.size, self.interpolation_mode)

    def __repr__(self) -> str:
        return (
            f"RandomResizedCropVideo(size={self.size}, interpolation_mode={self.interpolation_mode}, "
            f"scale={self.scale}, ratio={self.ratio})"
        )


class RandomHorizontalFlipVideo(ClassyTransform):
    """Mirrors a clip from left to right, at random.

    Args:
        p: how often, in [0, 1].
    """

    draws = "torch"

    def __init__(self, p: float = 0.5) -> None:
        if not isinstance(p, int | float) or not 0 <= p <= 1:
            raise ComponentError(f"p must be a number in [0, 1], not {p!r}")
        self.p = p

    def __call__(self, clip: torch.Tensor) -> torch.Tensor:
        check_clip(clip, "RandomHorizontalFlipVideo")
        return clip.flip(-1) if float(torch.rand(1)) < self.p else clip

    def __repr__(self) -> str:
        return f"RandomHorizontalFlipVideo(p={self.p})"


def _room(clip: torch.Tensor, size: tuple[int, int], name: str) -> tuple[int, int]:
    """Returns by how many pixels a clip is higher and wider than a crop."""
    height, width = check_clip(clip, name)
    if height < size[0] or width < size[1]:
        raise DataError(
            f"{name}: a clip of {height} x {width} pixels is smaller than the crop of {size[0]} x {size[1]}"
        )
    return height - size[0], width - size[1]


CLASSES: dict[str, type[ClassyTransform]] = {
    cls.__name__: cls
    for cls in (
        CenterCropVideo,
        NormalizeVideo,
        RandomCropVideo,
        RandomHorizontalFlipVideo,
        RandomResizedCropVideo,
        ToTensorVideo,
    )
}
