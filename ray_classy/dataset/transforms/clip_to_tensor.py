"""Converts clips to the layout of 3D convolutions."""

from __future__ import annotations

from typing import Any

import torch

from ray_classy.dataset.transforms.classy_transform import ClassyTransform, register_transform
from ray_classy.errors import DataError


@register_transform("clip_to_tensor")
class ClipToTensor(ClassyTransform):
    """Converts a clip (T, C, H, W) to the float tensor (C, T, H, W) that 3D convolutions take.

    Integers become floats in [0, 1]; floats (after `ToDtype` and `Normalize`, say) keep their values.

    Raises:
        DataError: (when called) the clip is not a tensor of four dimensions, or has integers other than uint8.
    """

    deterministic = True

    def __call__(self, image: Any) -> torch.Tensor:
        if not isinstance(image, torch.Tensor) or image.ndim != 4:
            given = f"of shape {tuple(image.shape)}" if isinstance(image, torch.Tensor) else type(image).__name__
            raise DataError(f"clip_to_tensor needs a tensor (T, C, H, W), not {given}")
        if image.dtype != torch.uint8 and not image.is_floating_point():
            raise DataError(f"clip_to_tensor needs uint8 or floats, not {image.dtype}")
        clip = image.as_subclass(torch.Tensor).transpose(0, 1)
        if clip.dtype == torch.uint8:
            return clip.to(torch.float32, memory_format=torch.contiguous_format).div_(255)
        return clip.contiguous()
