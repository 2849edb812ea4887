"""Small pictures for a page, of images, tensors and clips, with a limit on their number and bytes."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import torch
from PIL import Image

MOST_PICTURES, MOST_BYTES = 500, 6 << 20
"""Of a page: with the plotting library it stays well below 15 MB."""
_SIDE, _LEAST_SIDE, _QUALITY = 128, 64, 82
_MOST_PIXELS = 64 << 20


class Album:
    """The pictures of a page.

    Args:
        most: how many it takes.
        most_bytes: how long their texts may be together.

    Attributes:
        sources: data URIs, in the order in which they were added.
    """

    def __init__(self, most: int = MOST_PICTURES, most_bytes: int = MOST_BYTES) -> None:
        self.sources: list[str] = []
        self._left, self._bytes_left = most, most_bytes

    def add(self, value: Any) -> int | None:
        """Adds a picture and returns its number; None if there is no room, or it is not an image.

        Args:
            value: a PIL image, an array (H, W) or (H, W, C), a tensor (C, H, W), or a clip (C, T, H, W) or
                (T, H, W, C), of which the middle frame is taken.
        """
        if self._left <= 0:
            return None
        image = image_of(value)
        if image is None:
            return None
        source = data_uri(image)
        if len(source) > self._bytes_left:
            self._left = 0
            return None
        self._left -= 1
        self._bytes_left -= len(source)
        self.sources.append(source)
        return len(self.sources) - 1


def data_uri(image: Image.Image) -> str:
    """A JPEG of at most 128 pixels a side; a tiny image is enlarged without smoothing, so that pixels stay visible."""
    image = image.convert("RGB")
    longest = max(image.size)
    if longest > _SIDE:
        image.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    elif longest < _LEAST_SIDE:
        factor = -(-_LEAST_SIDE // longest)
        image = image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=_QUALITY, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def image_of(value: Any) -> Image.Image | None:
    """What a value shows; None if it is not an image. Floating-point numbers outside [0, 1] are stretched to it."""
    if isinstance(value, dict):
        value = value.get("video", value.get("image"))
    if isinstance(value, Image.Image):
        return value if value.width * value.height <= _MOST_PIXELS else None
    if isinstance(value, torch.Tensor):
        value = value.detach().float().cpu().numpy() if value.is_floating_point() else value.detach().cpu().numpy()
        if value.ndim == 4:
            value = value[:, value.shape[1] // 2] if value.shape[0] in (1, 3) else value[len(value) // 2]
        if value.ndim == 3 and value.shape[0] in (1, 3):
            value = value.transpose(1, 2, 0)
    if not isinstance(value, np.ndarray) or value.ndim not in (2, 3) or not value.size or value.size > _MOST_PIXELS:
        return None
    if value.ndim == 3 and value.shape[2] not in (1, 3):
        return None
    pixels = _bytes(value)
    return Image.fromarray(pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels)


def _bytes(values: np.ndarray) -> np.ndarray:
    if values.dtype == np.uint8:
        return values
    values = np.nan_to_num(values.astype(np.float32))
    low, high = float(values.min()), float(values.max())
    if low < 0 or high > 1:
        values = (values - low) / max(high - low, 1e-6)
    return (values * 255).round().astype(np.uint8)
