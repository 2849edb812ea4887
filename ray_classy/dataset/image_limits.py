"""Refuses images that are too large, or built to take much more memory or time than their pixels need."""

from __future__ import annotations

import re
import struct
from typing import Any

from ray_classy.errors import DataError, ImageTooLargeError

_BYTES_PER_PIXEL = {"JPEG2000": 24, "WEBP": 18, "AVIF": 16}
_USUAL_BYTES_PER_PIXEL = 8
"""Memory that Pillow's decoders take at their peak, for each pixel of an image in colour. The growth of resident memory
was measured (Pillow 13, x86-64): 20 of JPEG 2000, and four more with transparency; 16 to 18 of WebP; 11 of AVIF with 8
bits; 8 of JPEG, PNG, TIFF, GIF, BMP and PNM, four of the image and four of the image in another mode."""
_PIXELS_OF_ANY_FORMAT = 1 << 25
"""An image up to this size is limited by `max_pixels` alone: pictures of 24 and 33 megapixels exist in all formats."""
_MOST_SCANS = 500
"""Scans of a progressive JPEG; encoders write about ten. Each costs a pass over the image, whatever it holds."""
_MOST_TILES = 4096
"""Tiles of a JPEG 2000 image: its decoder takes some 10 kB for each, before it reads one. An image of 89 megapixels in
tiles of 256 x 256 has 1,365."""
_CODESTREAM = re.compile(rb"\xff\x4f\xff\x51")  # SOC, SIZ


def decoding_bytes(image: Any) -> int:
    """Returns the memory that the decoder of an image takes at its peak."""
    return image.width * image.height * _BYTES_PER_PIXEL.get(image.format, _USUAL_BYTES_PER_PIXEL)


def most_pixels(kind: str | None, max_pixels: int) -> int:
    """Returns the pixels of the largest image of a format: fewer where its decoder takes more memory for each.

    Args:
        kind: the format as Pillow names it.
        max_pixels: of the largest image whose decoder takes the usual memory.
    """
    weighed = max_pixels * _USUAL_BYTES_PER_PIXEL // _BYTES_PER_PIXEL.get(kind or "", _USUAL_BYTES_PER_PIXEL)
    return max(weighed, min(max_pixels, _PIXELS_OF_ANY_FORMAT))


def check_size(width: int, height: int, max_pixels: int) -> None:
    """Checks that an image has pixels, and not too many.

    Raises:
        DataError: it has none.
        ImageTooLargeError: it has more than `max_pixels`.
    """
    if width < 1 or height < 1:
        raise DataError(f"no pixels ({width} x {height})")
    if width * height > max_pixels:
        raise ImageTooLargeError(
            f"too large: {width} x {height} pixels, and at most {max_pixels:,} are decoded; scale it down, remove it "
            f"or raise max_pixels"
        )


def check_image(image: Any, data: bytes, max_pixels: int) -> None:
    """Checks an image whose header was read and whose pixels were not.

    Args:
        image: Pillow's image.
        data: the file.
        max_pixels: the limit.

    Raises:
        DataError: its size, its tiles or its scans are over a limit.
    """
    check_size(image.width, image.height, most_pixels(image.format, max_pixels))
    if image.format == "TIFF":  # tiles are unpacked whole, also where the image is smaller
        check_size(image.tag_v2.get(322, 1), image.tag_v2.get(323, 1), max_pixels)
    elif image.format == "JPEG" and image.info.get("progressive") and (scans := data.count(b"\xff\xda")) > _MOST_SCANS:
        raise DataError(f"{scans:,} scans; at most {_MOST_SCANS} are decoded: encode the image again")


def check_codestream(data: bytes, max_pixels: int) -> None:
    """Checks sizes and tiles of all JPEG 2000 code streams in a file: the size beside them may be another.

    Raises:
        DataError: one is over a limit.
    """
    for found in _CODESTREAM.finditer(data):
        try:
            x, y, x0, y0, tile_x, tile_y, tile_x0, tile_y0 = struct.unpack_from(">8I", data, found.end() + 4)
        except struct.error:
            return
        check_size(x - x0, y - y0, most_pixels("JPEG2000", max_pixels))
        if not tile_x or not tile_y:
            raise DataError("tiles without pixels")
        tiles = -(-(x - tile_x0) // tile_x) * -(-(y - tile_y0) // tile_y)
        if tiles > _MOST_TILES:
            raise DataError(f"{tiles:,} tiles; at most {_MOST_TILES:,} are decoded: encode the image again")
