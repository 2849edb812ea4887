"""Decodes the bytes or the array of an image to a PIL image in a given mode."""

from __future__ import annotations

import contextlib
import functools
import io
import os
import struct
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps

from ray_classy.dataset.image_formats import SIGNATURE_BYTES, formats_read, image_format, image_reader
from ray_classy.errors import ComponentError, DataError
from ray_classy.urls import read_bytes, shown

IMAGE_MODES = ("RGB", "L")
_ORIENTATION = 0x0112
_RGB = 3  # torchvision.io.ImageReadMode.RGB


def check_image_mode(mode: str) -> None:
    """Checks that a mode is one of `IMAGE_MODES`.

    Raises:
        ComponentError: it is not.
    """
    if mode not in IMAGE_MODES:
        raise ComponentError(f"image_mode must be one of {', '.join(IMAGE_MODES)}, not {mode!r}")


def decode_image(
    data: Any, mode: str = "RGB", source: str | None = None, since: float | None = None, as_tensor: bool = False
) -> Any:
    """Decodes one image, upright, in the given mode.

    The EXIF orientation is applied. Of several frames, the first is used. Transparency is dropped and the colours below
    it show, as in Classy Vision and torchvision. CMYK and palettes become RGB; 16-bit values keep their upper 8 bits.

    Args:
        data: an encoded image as bytes, the path or URL of one, or its pixels as an array (or nested lists) of
            integers in [0, 255] with shape (H, W), (H, W, 1), (H, W, 3) or (H, W, 4).
        mode: a PIL mode of 8-bit channels: "RGB" or "L" (grey).
        source: name of the image in errors: a path or a row.
        since: a time in seconds since 1970; a file that was changed after it is an error.
        as_tensor: return the image as `ToImage` does, a uint8 tensor of shape (channels, H, W). Most JPEGs are decoded
            to it without a PIL image, with the same pixels.

    Raises:
        DataError: it is missing, changed, empty, damaged, too large or not an image; the message names it.
    """
    if isinstance(data, (bytes, bytearray, memoryview)):
        image = _decode(bytes(data), mode, source or "the image", as_tensor)
    elif isinstance(data, (str, os.PathLike)):
        path = os.fspath(data)
        image = _decode(read_bytes(path, since), mode, source or shown(path), as_tensor)
    else:
        image = _from_array(data, mode, source or "the image")
    if not as_tensor:
        return image
    from torchvision.transforms.v2.functional import to_image

    return to_image(image)


def _decode(data: bytes, mode: str, source: str, as_tensor: bool) -> Any:
    if not data:
        raise DataError(f"{source}: empty (0 bytes)")
    try:
        with _opened(data) as image:
            _check_size(image.width, image.height)
            if as_tensor and mode == "RGB" and (pixels := _jpeg_tensor(image, data)) is not None:
                return pixels
            image.load()
            return _converted(_upright(image), mode)
    except DataError as error:
        raise DataError(f"{source}: {error}") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:  # raised by a frame or another part
        raise DataError(f"{source}: too large: {error} Scale it down or remove it") from error
    except Exception as error:  # damaged files make decoders raise almost anything
        raise DataError(f"{source}: damaged or truncated image ({type(error).__name__}: {error})") from error


def _jpeg_tensor(image: Any, data: bytes) -> torch.Tensor | None:
    """Decodes a JPEG that torchvision decodes to the same pixels as PIL; None for other or damaged images."""
    if image.format != "JPEG" or image.mode != "RGB":
        return None
    try:
        turned = _ORIENTATION in image.getexif()
    except Exception:  # invalid EXIF data, which `_upright` ignores
        return None
    decode = _jpeg_decoder() if not turned else None
    try:
        return decode(torch.frombuffer(bytearray(data), dtype=torch.uint8), _RGB) if decode is not None else None
    except RuntimeError:  # PIL will say what is wrong
        return None


@functools.cache
def _jpeg_decoder() -> Any:
    """Returns torchvision's decoder as an operator, since its Python function is deprecated; None if there is none."""
    import torchvision.io  # noqa: F401 (loads the operators)

    return getattr(torch.ops.image, "decode_jpeg", None)


def _opened(data: bytes) -> Any:
    """Opens an image and reads its header with the one decoder that its first bytes ask for."""
    name = image_format(data[:SIGNATURE_BYTES])
    begin = f"{len(data)} bytes that begin with {data[:12]!r}"
    if name is None:
        raise DataError(f"not an image in a known format ({begin}); the formats are {formats_read()}")
    reader = image_reader(name)
    try:
        return reader(io.BytesIO(data), "")
    except (SyntaxError, IndexError, TypeError, struct.error) as error:
        raise DataError(f"not an image in a known format ({begin}; as {name}: {error})") from error


def _check_size(width: int, height: int) -> None:
    """Checks that an image has at most twice PIL's limit of pixels, above which PIL raises an error too."""
    if Image.MAX_IMAGE_PIXELS is not None and width * height > 2 * Image.MAX_IMAGE_PIXELS:
        raise DataError(
            f"too large: {width} x {height} pixels, and at most {2 * Image.MAX_IMAGE_PIXELS:,} are decoded; scale it "
            f"down or remove it (or raise PIL.Image.MAX_IMAGE_PIXELS in the process that decodes)"
        )


def _upright(image: Image.Image) -> Image.Image:
    with contextlib.suppress(Exception):  # invalid EXIF data say nothing about the orientation
        ImageOps.exif_transpose(image, in_place=True)
    return image


def _converted(image: Image.Image, mode: str) -> Image.Image:
    if image.mode == mode:
        return image
    if image.mode == "I" or image.mode.startswith("I;16"):
        values = np.asarray(image).clip(0, 65535) >> 8
        image = Image.fromarray(values.astype(np.uint8))
    elif image.mode == "F":
        raise DataError("floating-point pixels have no agreed range: store the image with 8 or 16 bits")
    elif image.mode == "LAB":  # PIL takes it to RGB only
        image = image.convert("RGB")
    elif image.mode in ("P", "PA") and "transparency" in image.info:
        image = image.convert("RGBA")  # PIL warns when it goes to RGB at once
    return image.convert(mode)


def _from_array(data: Any, mode: str, source: str) -> Image.Image:
    if data is None:
        raise DataError(f"{source}: there is no image (null)")
    try:
        array = np.asarray(data)
    except ValueError as error:
        raise DataError(f"{source}: the rows of the array differ in length") from error
    if array.dtype == object and array.ndim == 1 and len(array):  # an array of arrays, as some readers give it
        return _from_array([np.asarray(row).tolist() for row in array], mode, source)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))) or array.size == 0:
        raise DataError(
            f"{source}: an array of shape {array.shape} is not an image: expected (H, W), (H, W, 1), (H, W, 3) or "
            f"(H, W, 4)"
        )
    if array.dtype != np.uint8:
        if array.dtype.kind not in "iu" or array.min() < 0 or array.max() > 255:
            raise DataError(f"{source}: expected integers in [0, 255], not {array.dtype} values outside of them")
        array = array.astype(np.uint8)
    return _converted(Image.fromarray(np.ascontiguousarray(array)), mode)
