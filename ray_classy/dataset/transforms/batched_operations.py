"""The operations of RandAugment and TrivialAugment on whole batches of bytes, on any device.

Each takes images, uint8 of shape (N, C, H, W), and a magnitude per image, float64 of shape (N,) on the same device, and
returns new images. An image of a batch becomes what it becomes alone, to the last bit: what is summed over an image are
integers. Shears, translations and rotations take the nearest pixel and leave black what lies outside, as those of
torchvision do.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

Operation = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def _column(values: torch.Tensor) -> torch.Tensor:
    return values.view(-1, 1, 1, 1)


def _bytes(values: torch.Tensor) -> torch.Tensor:
    return values.clamp_(0, 255).to(torch.uint8)


def _blend(images: torch.Tensor, other: torch.Tensor, ratio: torch.Tensor) -> torch.Tensor:
    """Returns `ratio` of the images and the rest of another; beyond 1 it moves away from the other."""
    share = _column(ratio).to(torch.float32)
    return _bytes(images.float() * share + other * (1 - share))


def gray(images: torch.Tensor) -> torch.Tensor:
    """Returns the brightness of each pixel, whole numbers as floats of shape (N, 1, H, W) (ITU-R 601-2)."""
    if images.shape[1] != 3:
        return images[:, :1].float()
    red, green, blue = images.float().unbind(1)
    return (0.2989 * red + 0.587 * green + 0.114 * blue).floor().unsqueeze(1)


def _moved(images: torch.Tensor, matrix: tuple[torch.Tensor, ...]) -> torch.Tensor:
    """Takes each pixel from where a matrix maps it to, relative to the centre; black outside.

    Args:
        images: the images.
        matrix: a, b, c, d, e, f, each of shape (N,): x from a x + b y + c, y from d x + e y + f.
    """
    count, channels, height, width = images.shape
    y = torch.arange(height, device=images.device, dtype=torch.float64).view(1, -1, 1) - (height - 1) / 2
    x = torch.arange(width, device=images.device, dtype=torch.float64).view(1, 1, -1) - (width - 1) / 2
    a, b, c, d, e, f = (one.view(-1, 1, 1) for one in matrix)
    column = (a * x + b * y + c + (width - 1) / 2).round().long()
    row = (d * x + e * y + f + (height - 1) / 2).round().long()
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    place = (row.clamp(0, height - 1) * width + column.clamp(0, width - 1)).view(count, 1, -1)
    taken = images.flatten(2).gather(2, place.expand(-1, channels, -1)).view(images.shape)
    return taken * inside.unsqueeze(1)


def _matrix(images: torch.Tensor, **entries: torch.Tensor) -> tuple[torch.Tensor, ...]:
    zero = torch.zeros(len(images), dtype=torch.float64, device=images.device)
    plain = {"a": zero + 1, "b": zero, "c": zero, "d": zero, "e": zero + 1, "f": zero}
    return tuple({**plain, **entries}.values())


def identity(images: torch.Tensor, magnitude: torch.Tensor) -> torch.Tensor:
    """Returns the images."""
    return images


def shear_x(images: torch.Tensor, magnitude: torch.Tensor) -> torch.Tensor:
    """Moves lines sideways, by `magnitude` times their distance from the upper edge."""
    return _moved(images, _matrix(images, b=magnitude, c=magnitude * images.shape[-2] / 2))


def shear_y(images: torch.Tensor, magnitude: torch.Tensor) -> torch.Tensor:
    """Moves columns up or down, by `magnitude` times their distance from the left edge."""
    return _moved(images, _matrix(images, d=magnitude, f=magnitude * images.shape[-1] / 2))


def translate_x(images: torch.Tensor, magnitude: torch.Tensor) -> torch.Tensor:
    """Moves images to the right by so many pixels, cut to whole ones."""
    return _moved(images, _matrix(images, c=-magnitude.trunc()))


def translate_y(images: torch.Tensor, magnitude: torch.Tensor) -> torch.Tensor:
    """Moves images down by so many pixels, cut to whole ones."""
    return _moved(images, _matrix(images, f=-magnitude.trunc()))


def rotate(images: torch.Tensor, magnitude: torch.Tensor) -> torch.Tensor:
    """Rotates images counter-clockwise by so many degrees."""
    angle = magnitude * (math.pi / 180)
    return _moved(images, _matrix(images, a=angle.cos(), b=-angle.sin(), d=angle.sin(), e=angle.cos()))


def brightness(images: torch.Tensor, magnitude: torch.Tensor) -> torch.Tensor:
    """Multiplies images by 1 + magnitude."""
    return _blend(images, torch.zeros((), device=images.device), 1 + magnitude)


def color(images: torch.Tensor, magnitude: torch.Tensor) -> torch.Tensor:
    """Moves images away from their gray version, or towards it where the magnitude is negative."""
    return _blend(images, gray(images), 1 + magnitude)


def contrast(images: torch.Tensor, magnitude: torch.Tensor) -> torch.Tensor:
    """Moves images away from their mean brightness, or towards it."""
    total = gray(images).long().sum((1, 2, 3), keepdim=True)  # of whole numbers, in any order
    mean = total.double() / (images.shape[-2] * images.shape[-1])
    return _blend(images, mean.float(), 1 + magnitude)


def sharpness(images: torch.Tensor, magnitude: torch.Tensor) -> torch.Tensor:
    """Moves images away from a smooth version, or towards it; the outermost pixels stay."""
    if min(images.shape[-2:]) <= 2:
        return images
    whole = images.int()
    height, width = images.shape[-2:]
    parts = [whole[..., i : height - 2 + i, j : width - 2 + j] for i in range(3) for j in range(3)]
    total = sum(parts[1:], parts[0]) + 4 * parts[4]
    smooth = images.float()
    smooth[..., 1:-1, 1:-1] = (total.double() / 13).round().float()
    return _blend(images, smooth, 1 + magnitude)


def posterize(images: torch.Tensor, magnitude: torch.Tensor) -> torch.Tensor:
    """Keeps so many of the 8 bits of each value."""
    mask = 256 - 2 ** (8 - magnitude.round().long())
    return images & _column(mask).to(torch.uint8)


def solarize(images: torch.Tensor, magnitude: torch.Tensor) -> torch.Tensor:
    """Inverts values from a threshold on."""
    return torch.where(images.double() >= _column(magnitude), 255 - images, images)


def autocontrast(images: torch.Tensor, magnitude: torch.Tensor) -> torch.Tensor:
    """Stretches the values of each channel to 0 and 255."""
    low, high = images.amin((2, 3), keepdim=True).float(), images.amax((2, 3), keepdim=True).float()
    stretched = (images.float() - low) * (255 / (high - low))
    return torch.where(high > low, _bytes(stretched.nan_to_num_(0.0, 0.0, 0.0)), images)


def equalize(images: torch.Tensor, magnitude: torch.Tensor) -> torch.Tensor:
    """Gives each channel a histogram as flat as one can be, as PIL does."""
    flat = images.flatten(0, 1).flatten(1).long()
    counts = torch.zeros(len(flat), 256, dtype=torch.long, device=images.device)
    counts.scatter_add_(1, flat, torch.ones_like(flat))
    last = counts.gather(1, flat.amax(1, keepdim=True))
    step = (flat.shape[1] - last) // 255
    before = counts.cumsum(1) - counts
    table = ((before + step // 2) // step.clamp(min=1)).clamp(0, 255)
    even = torch.where(step > 0, table.gather(1, flat), flat)
    return even.to(torch.uint8).view(images.shape)
