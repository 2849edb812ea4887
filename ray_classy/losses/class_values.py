"""The base class of losses of one value per class and row, which treat each class as a yes-or-no question."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Literal

import torch

from ray_classy.errors import ComponentError
from ray_classy.losses.classy_loss import ClassyLoss
from ray_classy.losses.soft_target_cross_entropy_loss import check_reduction

Reduction = Literal["mean", "sum", "none"]


def check_number(name: str, value: Any, least: float = 0.0, most: float = float("inf")) -> float:
    """Returns a number in [least, most].

    Raises:
        ComponentError: it is not such a number.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        limit = f"of at least {least:g}" if most == float("inf") else f"from {least:g} to {most:g}"
        raise ComponentError(f"{name} must be a number {limit}, not {value!r}")
    return float(value)


def power(value: torch.Tensor, exponent: float) -> torch.Tensor:
    """Returns value^exponent for values of at least 0, with a finite gradient where they are 0."""
    if exponent == 0:
        return torch.ones_like(value)
    return value.clamp(min=0 if exponent >= 1 else 1e-8).pow(exponent)


def values_per_class(
    output: torch.Tensor, target: torch.Tensor, ignore_index: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Converts a target to one value per class, without waiting for the device.

    Args:
        output: scores of shape (N, C).
        target: class indices of shape (N,), or (N, 1) unless C is 1, or values in [0, 1] of shape (N, C).
        ignore_index: an index, or a value, that is ignored.

    Returns:
        The values, floating point, 0 where they are ignored, and whether they count, both of shape (N, C).

    Raises:
        ComponentError: the shapes do not match.
    """
    if output.ndim != 2 or target.shape not in ((len(output),), (len(output), 1), output.shape):
        raise ComponentError(
            f"the loss takes output of shape (N, C) and target of shape (N,), (N, 1) or (N, C), not output "
            f"{tuple(output.shape)} with target {tuple(target.shape)}"
        )
    dtype = torch.promote_types(output.dtype, torch.float32)
    if target.shape == output.shape:
        known = target != ignore_index
        return target.to(dtype).masked_fill(~known, 0), known
    if output.shape[1] == 1:  # one output that says yes or no
        known = (target != ignore_index).reshape(-1, 1)
        return target.reshape(-1, 1).to(dtype).masked_fill(~known, 0), known
    known = (target != ignore_index).reshape(-1, 1)
    index = target.reshape(-1, 1).long().masked_fill(~known, 0)
    values = torch.zeros(output.shape, dtype=dtype, device=output.device).scatter_(1, index, known.to(dtype))
    return values, known.expand(output.shape)


class ClassValuesLoss(ClassyLoss):
    """A loss that is a sum over the classes of each row; a subclass defines `losses`.

    Args:
        reduction: "mean" over rows and classes, "sum", or "none" (one loss per row and class).
        sum_classes: sum over the classes of a row, and average over rows only; the loss is C times as large.
        ignore_index: class indices, and entries of an (N, C) target, that are ignored.

    Attributes:
        smoothing: s in [0, 1]: class indices become 1 - s + s/C for their class and s/C for others.
        activation: makes probabilities of the model's outputs, each class by itself.

    Raises:
        ComponentError: an argument has an invalid value.
    """

    smoothing = 0.0
    activation: str = "sigmoid"

    def __init__(self, reduction: Reduction = "mean", sum_classes: bool = False, ignore_index: int = -100) -> None:
        super().__init__()
        if type(sum_classes) is not bool:
            raise ComponentError(f"sum_classes must be true or false, not {sum_classes!r}")
        if type(ignore_index) is not int:
            raise ComponentError(f"ignore_index must be an integer, not {ignore_index!r}")
        self.reduction = check_reduction(reduction)
        self.sum_classes = sum_classes
        self.ignore_index = ignore_index

    @abstractmethod
    def losses(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Returns the loss of each class, shape (N, C).

        Args:
            output: scores (logits) of shape (N, C), at least in single precision.
            target: values in [0, 1] of shape (N, C).
        """

    def forward(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Computes the loss: a scalar, or shape (N, C) for reduction "none".

        Args:
            output: scores (logits) of shape (N, C).
            target: class indices of shape (N,) or (N, 1), or values in [0, 1] of shape (N, C).

        Raises:
            ComponentError: the shapes do not match.
        """
        values, known = values_per_class(output, target, self.ignore_index)
        if self.smoothing and target.shape != output.shape:
            values = values * (1 - self.smoothing) + self.smoothing / max(output.shape[1], 2)
        losses = self.losses(output.to(values.dtype), values).masked_fill(~known, 0)
        if self.reduction != "mean":
            return losses if self.reduction == "none" else losses.sum()
        mean = losses.sum() / known.sum().clamp(min=1)
        return mean * output.shape[1] if self.sum_classes else mean

    def weight_of(self, output: Any, target: Any) -> torch.Tensor | None:
        """Returns the number of rows that count in the mean; a row of which half is ignored counts half."""
        if not isinstance(target, torch.Tensor):
            return None
        return (target != self.ignore_index).reshape(len(target), -1).double().mean(1).sum()
