"""Converts targets, class indices or one value per class, to one value per class."""

from __future__ import annotations

from typing import NamedTuple

import torch

from ray_classy.errors import ShapeError


class TargetDistribution(NamedTuple):
    """One value per class and sample.

    Attributes:
        mass: shape (N, C), floating point; ignored entries are 0.
        counted: shape (N,), bool: the samples with at least one entry that is not ignored.
    """

    mass: torch.Tensor
    counted: torch.Tensor

    def normalized(self) -> TargetDistribution:
        """Scales the mass of every sample to sum 1 (samples without any mass keep 0)."""
        return self._replace(mass=normalized(self.mass))


def normalized(mass: torch.Tensor) -> torch.Tensor:
    """Scales the rows of a floating-point tensor of shape (N, C) to sum 1; rows of zeros stay as they are."""
    # The machine epsilon is added, as in Classy Vision, so that losses are equal to the last digits.
    return mass / (mass.sum(1, keepdim=True) + torch.finfo(mass.dtype).eps)


def target_distribution(output: torch.Tensor, target: torch.Tensor, ignore_index: int) -> TargetDistribution:
    """Converts targets to the shape of the output, without waiting for the device.

    Args:
        output: scores of shape (N, C).
        target: class indices of shape (N,) or (N, 1), or values per class of shape (N, C).
        ignore_index: an index, or a value per class, that is ignored.

    Raises:
        ShapeError: the shapes do not match.
    """
    indices = target.ndim == 1 or (target.ndim == 2 and target.shape[1] == 1)
    if output.ndim != 2 or len(output) != len(target) or not (indices or target.shape == output.shape):
        raise ShapeError(
            f"the loss takes output of shape (N, C) and target of shape (N,), (N, 1) or (N, C), "
            f"not output {tuple(output.shape)} with target {tuple(target.shape)}"
        )
    known = target.reshape(-1, 1) != ignore_index if indices else target != ignore_index
    dtype = torch.promote_types(output.dtype, torch.float32)
    if not indices:
        return TargetDistribution(target.to(dtype).masked_fill(~known, 0), known.any(1))
    index = target.reshape(-1, 1).long().masked_fill(~known, 0)
    mass = torch.zeros(output.shape, dtype=dtype, device=output.device).scatter_(1, index, known.to(dtype))
    return TargetDistribution(mass, known.squeeze(1))


def counted_samples(target: torch.Tensor, ignore_index: int) -> torch.Tensor:
    """Returns which samples have an entry that is not ignored, as bool of shape (N,)."""
    return (target != ignore_index).reshape(len(target), -1).any(1)
