"""How images are decoded: the keys that all datasets of encoded images have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from ray_classy.errors import ComponentError

MAX_PIXELS = 89_478_485
"""Pixels of the largest image that is decoded by default: Pillow's own limit, above which it warns of decompression
bombs (a quarter of a gigabyte as 24-bit colours)."""


@dataclass(frozen=True)
class ImageOptions:
    """How images are decoded.

    Args:
        max_pixels: a larger image counts as damaged; its pixels are never unpacked. Of JPEG 2000, WebP and AVIF, whose
            decoders take two to three times the memory of others, the limit is as much lower, down to 33 megapixels.
        background: colour below transparent pixels: a name, "#rrggbb" or [red, green, blue]. None drops transparency,
            so that the colours below it show, as in Classy Vision and torchvision.
        value_range: for grey pixels of 16 or 32 bits or floating point: the values [black, white], or "image" for the
            least and the greatest value of each image. None takes the upper 8 of 16 bits, and refuses floating point.

    Raises:
        ComponentError: a value is invalid.
    """

    max_pixels: int = MAX_PIXELS
    background: str | list[int] | None = None
    value_range: Literal["image"] | list[float] | None = None

    def __post_init__(self) -> None:
        if type(self.max_pixels) is not int or self.max_pixels < 1:
            raise ComponentError(f"max_pixels must be an integer of at least 1, not {self.max_pixels!r}")
        if self.background is not None:
            self.colour()
        given = self.value_range
        if given is not None and given != "image" and not _is_range(given):
            raise ComponentError(
                f"value_range must be [black, white] with black below white, 'image' or null, not {given!r}"
            )

    def colour(self) -> tuple[int, int, int]:
        """Returns the red, green and blue of `background`, which must not be None."""
        from PIL import ImageColor

        given: Any = self.background
        if isinstance(given, str):
            try:
                return ImageColor.getrgb(given)[:3]
            except ValueError:
                pass
        elif isinstance(given, list | tuple) and len(given) == 3 and all(map(_is_channel, given)):
            return tuple(given)
        raise ComponentError(
            f"background must be a colour's name, '#rrggbb', [red, green, blue] in 0 to 255, or null, not {given!r}"
        )


DEFAULT_OPTIONS = ImageOptions()


def _is_channel(value: Any) -> bool:
    return type(value) is int and 0 <= value <= 255


def _is_range(given: Any) -> bool:
    if not isinstance(given, list | tuple) or len(given) != 2:
        return False
    return all(type(value) in (int, float) for value in given) and given[0] < given[1]
