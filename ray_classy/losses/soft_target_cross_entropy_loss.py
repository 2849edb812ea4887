"""Cross-entropy against a distribution over the classes."""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F

from ray_classy.errors import ComponentError, UnsupportedOptionError
from ray_classy.losses.classy_loss import ClassyLoss, register_loss
from ray_classy.losses.target_distribution import TargetDistribution, counted_samples, target_distribution

REDUCTIONS = ("mean", "sum", "none")


def check_reduction(reduction: str) -> str:
    """Returns `reduction` if it is known.

    Raises:
        UnsupportedOptionError: it is unknown.
    """
    if reduction not in REDUCTIONS:
        raise UnsupportedOptionError(f"reduction must be one of {', '.join(map(repr, REDUCTIONS))}, not {reduction!r}")
    return reduction


def distribution_cross_entropy(output: torch.Tensor, target: TargetDistribution, reduction: str) -> torch.Tensor:
    """Computes the cross-entropy -sum_c target_c log softmax(output)_c, reduced over the samples that count.

    Args:
        output: scores (logits) of shape (N, C).
        target: the target distribution.
        reduction: "mean" over the samples that count (0 if none does), "sum", or "none" for shape (N,).
    """
    log_probability = F.log_softmax(output.to(target.mass.dtype), dim=1)
    losses = -(target.mass * log_probability).sum(1).masked_fill(~target.counted, 0)
    if reduction == "none":
        return losses
    total = losses.sum()
    return total / target.counted.sum().clamp(min=1) if reduction == "mean" else total


@register_loss("soft_target_cross_entropy")
class SoftTargetCrossEntropyLoss(ClassyLoss):
    """Cross-entropy against soft targets, such as those of mixup or distillation.

    Args:
        ignore_index: entries of the target with this value are ignored; a sample whose entries are all ignored does
            not count in the mean.
        reduction: "mean" over the counted samples, "sum", or "none" (one loss per sample).
        normalize_targets: scale every sample's target to sum 1 first.

    Raises:
        ComponentError: `reduction` or `normalize_targets` has another value.
    """

    def __init__(
        self,
        ignore_index: int = -100,
        reduction: Literal["mean", "sum", "none"] = "mean",
        normalize_targets: bool = True,
    ) -> None:
        super().__init__()
        if not isinstance(normalize_targets, bool):
            raise ComponentError(f"normalize_targets must be true or false, not {normalize_targets!r}")
        self.ignore_index = ignore_index
        self.reduction = check_reduction(reduction)
        self._normalize_targets = normalize_targets

    def forward(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Computes the loss: a scalar, or shape (N,) for reduction "none".

        Args:
            output: scores (logits) of shape (N, C).
            target: class indices of shape (N,) or (N, 1), or mass per class of shape (N, C).

        Raises:
            ComponentError: the shapes do not match.
        """
        distribution = target_distribution(output, target, self.ignore_index)
        if self._normalize_targets:
            distribution = distribution.normalized()
        return distribution_cross_entropy(output, distribution, self.reduction)

    def weight_of(self, output: Any, target: Any) -> torch.Tensor | None:
        """Returns the number of samples that count in the mean; None if the target is of a loss of the task's own."""
        return counted_samples(target, self.ignore_index).sum() if isinstance(target, torch.Tensor) else None
