"""Averages the outputs for several views of an input in test phases."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from ray_classy.dataset.transforms.random_shift import check_shift, shifted
from ray_classy.errors import ComponentError, TaskError
from ray_classy.generic.util import map_tensors


@dataclass(frozen=True)
class AveragedViews:
    """The views of an image whose outputs are averaged in test phases; in a config, `test_time_augmentation`.

    Args:
        flip: for each view, also its mirror image, left to right.
        shift: besides the image, which then has half of the weight, the image shifted by so many pixels down and right,
            and up and left, mirrored at the edges (Jordan 2024, arXiv:2404.00498, section 3.5); 0 for none.

    Raises:
        ComponentError: an argument is impossible.
    """

    flip: bool = False
    shift: int = 0

    def __post_init__(self) -> None:
        if type(self.flip) is not bool:
            raise ComponentError(f"test_time_augmentation.flip must be true or false, not {self.flip!r}")
        if type(self.shift) is not int or self.shift < 0:
            raise ComponentError(f"test_time_augmentation.shift must be an integer of at least 0, not {self.shift!r}")

    def output(self, run: Callable[[dict[str, Any]], Any], sample: dict[str, Any]) -> Any:
        """Returns the average of the outputs for all views; without further views, the output as it is.

        Args:
            run: returns the output for a sample: a tensor, or tensors in dicts, lists or tuples.
            sample: a batch, whose `input` has shape (N, ..., H, W).

        Raises:
            TaskError: `input` is not a tensor of images.
            DataError: the images are not larger than the shift.
        """
        if self == AveragedViews():
            return run(sample)
        images = sample["input"]
        if not isinstance(images, torch.Tensor) or images.ndim < 4:
            shape = tuple(images.shape) if isinstance(images, torch.Tensor) else type(images).__name__
            raise TaskError(
                f"test_time_augmentation flips and shifts inputs of shape (N, ..., H, W), and this one is {shape}; "
                f"leave it out"
            )
        total: Any = None
        for weight, view in self._views(images):
            output = map_tensors(run({**sample, "input": view}), partial(_scaled, weight))
            total = output if total is None else _sum(total, output)
        return total

    def _views(self, images: torch.Tensor) -> Iterator[tuple[float, torch.Tensor]]:
        """Yields the views and their weights, whose sum is 1."""
        mirrored = 2 if self.flip else 1
        for weight, moved in ((0.5, 0), (0.25, self.shift), (0.25, -self.shift)) if self.shift else ((1.0, 0),):
            by = torch.full((1,), moved, device=images.device)
            if moved:
                check_shift(images, self.shift)
            view = shifted(images, by, by) if moved else images
            yield weight / mirrored, view
            if self.flip:
                yield weight / mirrored, view.flip(-1)


def _scaled(weight: float, tensor: torch.Tensor) -> torch.Tensor:
    return (tensor if tensor.dtype == torch.float64 else tensor.float()) * weight


def _sum(one: Any, other: Any) -> Any:
    """Adds the tensors of two outputs."""
    if isinstance(one, torch.Tensor):
        return one + other
    if isinstance(one, Mapping):
        return {key: _sum(one[key], other[key]) for key in one}
    if isinstance(one, list | tuple):
        return [_sum(*both) for both in zip(one, other, strict=True)]
    return one
