"""Mirrors each image in every other epoch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ray_classy.dataset.transforms import batched
from ray_classy.dataset.transforms.classy_transform import ClassyTransform


class _Alternating(batched.RandomHorizontalFlip):
    """Flips the rows whose number of the first epoch is below 1/2 in even epochs, and the others in odd ones."""

    def drawn(self, seed: int, epoch: int, rows: np.ndarray, purpose: int) -> np.ndarray:
        return (super().drawn(seed, 0, rows, purpose) + 0.5 * (epoch % 2)) % 1.0


class AlternatingFlip(ClassyTransform):
    """Mirrors an image, left to right, in every other epoch: first at random, then the other way round each time.

    So a network sees both sides of each image in any two epochs in a row (Jordan 2024, arXiv:2404.00498, section 3.6),
    where `RandomHorizontalFlip` shows half of the images twice from one side. Outside an epoch, as in `dataset[i]`, it
    flips at random.
    """

    draws = "torch"
    batchable = _Alternating
    p = 0.5

    def __call__(self, image: Any) -> Any:
        from torchvision.transforms.v2 import functional

        return functional.horizontal_flip(image) if float(torch.rand(())) < self.p else image
