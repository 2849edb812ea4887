"""Converts decoded pixels of any kind to images of 8-bit channels."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from ray_classy.dataset.image_limits import check_size
from ray_classy.dataset.image_options import ImageOptions
from ray_classy.errors import DataError

_MOST_NUMBERS_PER_PIXEL = 4


def converted(image: Image.Image, mode: str, options: ImageOptions) -> Image.Image:
    """Converts an image to a mode of 8-bit channels, on the background where it is transparent.

    Raises:
        DataError: the pixels are floating point, and no range of values is set.
    """
    if image.mode == mode and "transparency" not in image.info:
        return image
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        image = _of_eight_bits(image, options)
    if options.background is not None and (image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info):
        below = Image.new("RGBA", image.size, (*options.colour(), 255))
        image = Image.alpha_composite(below, image.convert("RGBA")).convert("RGB")
    elif image.mode == "LAB":  # PIL takes it to RGB only
        image = image.convert("RGB")
    elif image.mode in ("P", "PA") and "transparency" in image.info:
        image = image.convert("RGBA")  # PIL warns when it goes to RGB at once
    return image if image.mode == mode else image.convert(mode)


def _of_eight_bits(image: Image.Image, options: ImageOptions) -> Image.Image:
    values = np.asarray(image)
    if options.value_range is not None:
        return Image.fromarray(_scaled(values, options))
    if image.mode == "F":
        raise DataError("floating-point pixels have no agreed range: set value_range, or store 8 or 16 bits")
    return Image.fromarray((values.clip(0, 65535) >> 8).astype(np.uint8))


def _scaled(values: np.ndarray, options: ImageOptions) -> np.ndarray:
    """Scales values from the range to 0 ... 255; those outside become black or white, NaN black."""
    numbers: Any = values.astype(np.float32 if values.dtype.itemsize <= 2 else np.float64)
    if options.value_range == "image":
        finite = numbers[np.isfinite(numbers)]
        black, white = (finite.min(), finite.max()) if finite.size else (0.0, 1.0)
    else:
        assert options.value_range is not None
        black, white = options.value_range
    numbers = (numbers - black) * (255 / (white - black) if white > black else 0)
    return np.nan_to_num(numbers, nan=0, posinf=255, neginf=0).clip(0, 255).round().astype(np.uint8)


def array_image(data: Any, options: ImageOptions) -> Image.Image:
    """Makes an image of pixels in an array, or in nested lists.

    Raises:
        DataError: there are none, or their shape, type or values are not those of an image.
    """
    if data is None:
        raise DataError("there is no image (null)")
    try:
        array = np.asarray(data)
    except ValueError as error:
        raise DataError("the rows of the array differ in length") from error
    if array.dtype == object and array.ndim == 1 and len(array):  # an array of arrays, as some readers give it
        return array_image([np.asarray(row).tolist() for row in array], options)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, _MOST_NUMBERS_PER_PIXEL))) or not array.size:
        raise DataError(
            f"an array of shape {array.shape} is not an image: expected (H, W), (H, W, 1), (H, W, 3) or (H, W, 4)"
        )
    check_size(array.shape[1], array.shape[0], options.max_pixels)
    if array.dtype != np.uint8 and options.value_range is not None and array.dtype.kind in "iuf" and array.ndim == 2:
        array = _scaled(array, options)
    elif array.dtype != np.uint8:
        if array.dtype.kind not in "iu" or array.min() < 0 or array.max() > 255:
            raise DataError(f"expected integers in [0, 255], not {array.dtype} values outside of them")
        array = array.astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(array))
