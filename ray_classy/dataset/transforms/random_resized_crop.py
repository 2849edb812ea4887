"""Random resized crops that draw all their numbers at once."""

from __future__ import annotations

import math
from typing import Any

import torch
from torchvision.transforms import v2
from torchvision.transforms.v2.functional import get_size

_ATTEMPTS = 10


class RandomResizedCrop(v2.RandomResizedCrop):
    """Crops a random part of an image and resizes it, like torchvision's transform but faster.

    The share of the image's area is uniform in `scale`, the ratio of width to height log-uniform in `ratio` (Szegedy et
    al., "Going deeper with convolutions", 2015), the place uniform. Of ten attempts, the first that lies within the
    image is used; if none does, the largest central crop with a ratio in `ratio`. The distribution is torchvision's,
    the numbers drawn for a seed are not: torchvision draws each number separately, which takes half as long as
    resizing.
    """

    draws = "torch"

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draws the crop for these images: `top`, `left`, `height` and `width` in pixels."""
        rows, columns = get_size(flat_inputs[0])
        logs = [math.log(one) for one in self.ratio]
        drawn = torch.rand(4 * _ATTEMPTS, dtype=torch.float64).tolist()
        for a, b, c, d in zip(*(drawn[part::4] for part in range(4)), strict=True):
            area = rows * columns * (self.scale[0] + a * (self.scale[1] - self.scale[0]))
            ratio = math.exp(logs[0] + b * (logs[1] - logs[0]))
            width, height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < width <= columns and 0 < height <= rows:
                top, left = int(c * (rows - height + 1)), int(d * (columns - width + 1))
                return {"top": top, "left": left, "height": height, "width": width}
        width = min(columns, round(rows * max(self.ratio)))
        height = min(rows, round(columns / min(self.ratio)))
        return {"top": (rows - height) // 2, "left": (columns - width) // 2, "height": height, "width": width}
