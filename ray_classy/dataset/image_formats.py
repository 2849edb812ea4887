"""The image formats that are read: files are found by extension and decoded by content, whatever their name is."""

from __future__ import annotations

import functools
import importlib
import re
from typing import Any, NamedTuple

from ray_classy.errors import DataError
from ray_classy.urls import read_start


class _Format(NamedTuple):
    """A format.

    Attributes:
        extensions: of its files, in lower case with the dot.
        signature: matches the first bytes of its files.
        plugin: Pillow's module and class that read it.
        feature: what Pillow must be built with, see `PIL.features`; None if it always reads the format.
    """

    extensions: tuple[str, ...]
    signature: re.Pattern[bytes]
    plugin: tuple[str, str]
    feature: str | None = None


_FORMATS = {
    "JPEG": _Format(
        (".jpg", ".jpeg", ".jpe", ".jfif"),
        re.compile(rb"\xff\xd8\xff"),
        ("JpegImagePlugin", "JpegImageFile"),
        "jpg",
    ),
    "PNG": _Format((".png", ".apng"), re.compile(rb"\x89PNG\r\n\x1a\n"), ("PngImagePlugin", "PngImageFile"), "zlib"),
    "WebP": _Format(
        (".webp",),
        re.compile(rb"RIFF....WEBP", re.DOTALL),
        ("WebPImagePlugin", "WebPImageFile"),
        "webp",
    ),
    "GIF": _Format((".gif",), re.compile(rb"GIF8[79]a"), ("GifImagePlugin", "GifImageFile")),
    "BMP": _Format((".bmp",), re.compile(rb"BM"), ("BmpImagePlugin", "BmpImageFile")),
    "TIFF": _Format(
        (".tif", ".tiff"),
        re.compile(rb"II[*+]\0|MM\0[*+]"),
        ("TiffImagePlugin", "TiffImageFile"),
    ),
    "PNM": _Format(
        (".ppm", ".pgm", ".pbm", ".pnm"),
        re.compile(rb"P[1-6]\s"),
        ("PpmImagePlugin", "PpmImageFile"),
    ),
    "AVIF": _Format(
        (".avif", ".avifs"),
        re.compile(rb"....ftyp(avif|avis|mif1|msf1)", re.DOTALL),
        ("AvifImagePlugin", "AvifImageFile"),
        "avif",
    ),
    "JPEG 2000": _Format(
        (".jp2", ".j2k", ".jpc", ".jpf", ".jpx", ".j2c"),
        re.compile(rb"\xff\x4f\xff\x51|\0\0\0\x0cjP  \r\n\x87\n"),
        ("Jpeg2KImagePlugin", "Jpeg2KImageFile"),
        "jpg_2000",
    ),
}
"""All formats that are decoded. Every other decoder of Pillow stays closed: some run programs (EPS), some allocate
whatever a header asks for (FITS), and hardly any data set needs them."""

_HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"}

IMAGE_EXTENSIONS = tuple(extension for known in _FORMATS.values() for extension in known.extensions)
"""The extensions of image files, in lower case with the dot."""

SIGNATURE_BYTES = 16
"""First bytes of a file by which its format is recognised."""


def is_image_name(name: str) -> bool:
    """Whether a file name, path or URL without query has the extension of a format that is decoded."""
    return name.lower().endswith(IMAGE_EXTENSIONS)


def image_format(start: bytes) -> str | None:
    """Recognises a format by its first bytes.

    Args:
        start: the first `SIGNATURE_BYTES` of a file, or more.

    Returns:
        The format's name; None for all that are not decoded.
    """
    return next((name for name, known in _FORMATS.items() if known.signature.match(start)), None)


def is_heic(data: bytes) -> bool:
    """Whether a file is a HEIC image by the brands in its first box; AVIF images share the general brand `mif1`."""
    if data[4:8] != b"ftyp":
        return False
    size = min(int.from_bytes(data[:4], "big"), 1024)
    brands = {data[at : at + 4] for at in (8, *range(16, size, 4))}
    return bool(brands & _HEIC_BRANDS) and not brands & {b"avif", b"avis"}


@functools.cache
def image_reader(name: str) -> Any:
    """Returns the class of Pillow that reads a format.

    Raises:
        DataError: the installed Pillow does not read it.
    """
    from PIL import features

    (module, cls), feature = _FORMATS[name].plugin, _FORMATS[name].feature
    try:
        if feature is None or features.check(feature):
            return getattr(importlib.import_module(f"PIL.{module}"), cls)
    except (ImportError, ValueError):  # ValueError: a Pillow that does not know the feature
        pass
    raise DataError(f"the installed Pillow does not read {name}: install another (pip install -U pillow)")


def formats_read() -> str:
    """Returns the names of all formats, for messages."""
    return ", ".join(_FORMATS)


def is_image_file(path: str) -> bool:
    """Whether a file that is not named as an image is one, by a signature of more than two bytes."""
    try:
        return image_format(read_start(path, SIGNATURE_BYTES)) not in (None, "BMP", "PNM")
    except OSError:
        return False
