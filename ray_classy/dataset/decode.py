"""Decodes the bytes or the array of an image to a PIL image in a given mode."""

from __future__ import annotations

import contextlib
import functools
import io
import os
import struct
from typing import Any

import torch
from PIL import Image

from ray_classy.dataset.byte_budget import ByteBudget
from ray_classy.dataset.image_formats import SIGNATURE_BYTES, formats_read, image_format, image_reader, is_heic
from ray_classy.dataset.image_limits import check_codestream, check_image, decoding_bytes
from ray_classy.dataset.image_options import DEFAULT_OPTIONS, ImageOptions
from ray_classy.dataset.image_tags import check_tags, orientation
from ray_classy.dataset.pixels import array_image, converted
from ray_classy.errors import ComponentError, DataError, ImageTooLargeError
from ray_classy.urls import read_bytes, shown

IMAGE_MODES = ("RGB", "L")
MAX_FILE_BYTES = 1 << 30
"""Size of the largest image file that is read: that of an image with `MAX_PIXELS` of 64 bits, uncompressed, and some
more. Without a limit, one wrong path could fill the memory."""
DECODING_BYTES = 1 << 30
"""Memory for the images of more than `_ORDINARY_BYTES` that the threads of a process decode at one time: of the largest
images, one is decoded after the other."""
_ORDINARY_BYTES = 256 << 20
"""Memory of an image that no thread waits for: JPEGs of up to 33 megapixels, as most cameras and phones take them."""
_RGB = 3  # torchvision.io.ImageReadMode.RGB
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_decoding = ByteBudget(DECODING_BYTES)


def check_image_mode(mode: str) -> None:
    """Checks that a mode is one of `IMAGE_MODES`.

    Raises:
        ComponentError: it is not.
    """
    if mode not in IMAGE_MODES:
        raise ComponentError(f"image_mode must be one of {', '.join(IMAGE_MODES)}, not {mode!r}")


def decode_image(
    data: Any,
    mode: str = "RGB",
    source: str | None = None,
    since: float | None = None,
    as_tensor: bool = False,
    options: ImageOptions = DEFAULT_OPTIONS,
) -> Any:
    """Decodes one image, upright, in the given mode.

    The EXIF orientation is applied. Of several frames, the first is used. CMYK and palettes become RGB. Transparency is
    dropped and the colours below it show, as in Classy Vision and torchvision, and 16-bit values keep their upper 8
    bits, unless the options say otherwise.

    Args:
        data: an encoded image as bytes, the path or URL of one, or its pixels as an array (or nested lists) of
            integers in [0, 255] with shape (H, W), (H, W, 1), (H, W, 3) or (H, W, 4).
        mode: a PIL mode of 8-bit channels: "RGB" or "L" (grey).
        source: name of the image in errors: a path or a row.
        since: a time in seconds since 1970; a file that was changed after it is an error.
        as_tensor: return the image as `ToImage` does, a uint8 tensor of shape (channels, H, W). Most JPEGs are decoded
            to it without a PIL image, with the same pixels.
        options: the largest image, the background and the range of values.

    Raises:
        DataError: it is missing, changed, empty, damaged or not an image; the message names it.
        ImageTooLargeError: it has more pixels than `options.max_pixels`.
    """
    if isinstance(data, (bytes, bytearray, memoryview)):
        image = _decode(bytes(data), mode, source or "the image", as_tensor, options)
    elif isinstance(data, (str, os.PathLike)):
        path = os.fspath(data)
        image = _decode(read_bytes(path, since, MAX_FILE_BYTES), mode, source or shown(path), as_tensor, options)
    else:
        try:
            image = converted(array_image(data, options), mode, options)
        except DataError as error:
            raise DataError(f"{source or 'the image'}: {error}") from error
    if not as_tensor:
        return image
    from torchvision.transforms.v2.functional import to_image

    return to_image(image)


def _decode(data: bytes, mode: str, source: str, as_tensor: bool, options: ImageOptions) -> Any:
    if not data:
        raise DataError(f"{source}: empty (0 bytes)")
    try:
        _let_pillow_read(options.max_pixels)
        with _opened(data, options.max_pixels) as image:
            check_image(image, data, options.max_pixels)
            taken = decoding_bytes(image)
            with _decoding.hold(taken) if taken > _ORDINARY_BYTES else contextlib.nullcontext():
                return _loaded(image, data, mode, as_tensor, options)
    except ImageTooLargeError as error:
        raise ImageTooLargeError(f"{source}: {error}") from error
    except DataError as error:
        raise DataError(f"{source}: {error}") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:  # raised by a frame or another part
        raise ImageTooLargeError(f"{source}: too large: {error} Scale it down or remove it") from error
    except Exception as error:  # damaged files make decoders raise almost anything
        raise DataError(f"{source}: damaged or truncated image ({type(error).__name__}: {error})") from error


def _let_pillow_read(max_pixels: int) -> None:
    """Raises Pillow's own limit where the user's is higher, since some of its decoders ask for it."""
    if Image.MAX_IMAGE_PIXELS is not None and max_pixels > Image.MAX_IMAGE_PIXELS:
        Image.MAX_IMAGE_PIXELS = max_pixels


def _loaded(image: Any, data: bytes, mode: str, as_tensor: bool, options: ImageOptions) -> Any:
    if as_tensor and mode == "RGB" and (pixels := _jpeg_tensor(image, data)) is not None:
        return pixels
    image.load()
    # The decoder of TIFF files turns them.
    turn = _TURNS.get(orientation(image.info)) if image.format != "TIFF" else None
    return converted(image if turn is None else image.transpose(turn), mode, options)


def _jpeg_tensor(image: Any, data: bytes) -> torch.Tensor | None:
    """Decodes a JPEG that torchvision decodes to the same pixels as PIL; None for other or damaged images."""
    if image.format != "JPEG" or image.mode != "RGB" or orientation(image.info) in _TURNS:
        return None
    decode = _jpeg_decoder()
    try:
        return decode(torch.frombuffer(bytearray(data), dtype=torch.uint8), _RGB) if decode is not None else None
    except RuntimeError:  # PIL will say what is wrong
        return None


@functools.cache
def _jpeg_decoder() -> Any:
    """Returns torchvision's decoder as an operator, since its Python function is deprecated; None if there is none."""
    import torchvision.io  # noqa: F401 (loads the operators)

    return getattr(torch.ops.image, "decode_jpeg", None)


def _opened(data: bytes, max_pixels: int) -> Any:
    """Opens an image and reads its header with the one decoder that its first bytes ask for."""
    name = image_format(data[:SIGNATURE_BYTES])
    begin = f"{len(data)} bytes that begin with {data[:12]!r}"
    if is_heic(data):
        raise DataError(
            "a HEIC image, as iPhones take them, which is not decoded: convert it to JPEG (heif-convert IMG.heic "
            "IMG.jpg), or set the camera to 'Most Compatible'"
        )
    if name is None:
        raise DataError(f"not an image in a known format ({begin}); the formats are {formats_read()}")
    check_tags(data, name)
    if name == "JPEG 2000":
        check_codestream(data, max_pixels)
    reader = image_reader(name)
    try:
        return reader(io.BytesIO(data), "")
    except (SyntaxError, IndexError, TypeError, struct.error) as error:
        raise DataError(f"not an image in a known format ({begin}; as {name}: {error})") from error
