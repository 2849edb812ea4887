"""Cross-entropy against smoothed labels."""

from __future__ import annotations

from typing import Any, Literal

import torch

from ray_classy.errors import ComponentError
from ray_classy.losses.classy_loss import ClassyLoss, register_loss
from ray_classy.losses.soft_target_cross_entropy_loss import check_reduction, distribution_cross_entropy
from ray_classy.losses.target_distribution import counted_samples, normalized, target_distribution
from ray_classy.registry import Key, Keys, signature_keys


@register_loss("label_smoothing_cross_entropy")
class LabelSmoothingCrossEntropyLoss(ClassyLoss):
    """Cross-entropy against labels mixed with the uniform distribution.

    With y the target scaled to sum 1, C classes and s the smoothing parameter, the smoothed target is
    (y + s/C) / (1 + s). This is label smoothing as in Szegedy et al. 2016 (arXiv:1512.00567, section 7) with
    epsilon = s / (1 + s).

    Args:
        ignore_index: a target index, or an entry of an (N, C) target, that is ignored; a sample whose entries are all
            ignored does not count in the mean.
        reduction: "mean" over the counted samples, "sum", or "none" (one loss per sample).
        smoothing_param: s, at least 0; required.

    Raises:
        ComponentError: `smoothing_param` is not a number of at least 0, or `reduction` is unknown.
    """

    def __init__(
        self,
        ignore_index: int = -100,
        reduction: Literal["mean", "sum", "none"] = "mean",
        smoothing_param: float | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(smoothing_param, (int, float)) or isinstance(smoothing_param, bool) or smoothing_param < 0:
            raise ComponentError(f"smoothing_param must be a number of at least 0, not {smoothing_param!r}")
        self._smoothing_param = smoothing_param
        self.ignore_index = ignore_index
        self.reduction = check_reduction(reduction)

    @classmethod
    def config_keys(cls) -> Keys:
        """Returns the constructor's arguments, of which `smoothing_param` is required."""
        return {**signature_keys(cls), "smoothing_param": Key(float)}

    def forward(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Computes the loss: a scalar, or shape (N,) for reduction "none".

        Args:
            output: scores (logits) of shape (N, C).
            target: class indices of shape (N,) or (N, 1), or one-hot, multi-hot or soft values of shape (N, C).

        Raises:
            ComponentError: the shapes do not match.
        """
        distribution = target_distribution(output, target, self.ignore_index)
        smoothed = distribution._replace(mass=self.smooth_targets(distribution.mass, output.shape[1]))
        return distribution_cross_entropy(output, smoothed, self.reduction)

    def compute_valid_targets(self, target: torch.Tensor, classes: int) -> torch.Tensor:
        """Converts a target to one value per class, 0 where it is ignored.

        Args:
            target: see `forward`.
            classes: the number of classes, C.

        Returns:
            Floating point, shape (N, C).
        """
        output = torch.empty(len(target), classes, device=target.device)
        return target_distribution(output, target, self.ignore_index).mass

    def smooth_targets(self, valid_targets: torch.Tensor, classes: int) -> torch.Tensor:
        """Scales what `compute_valid_targets` returned to sum 1, and smooths it.

        Args:
            valid_targets: shape (N, C).
            classes: the number of classes, C.

        Returns:
            Shape (N, C); every row sums to 1.
        """
        return normalized(normalized(valid_targets) + self._smoothing_param / classes)

    def weight_of(self, output: Any, target: Any) -> torch.Tensor | None:
        """Returns the number of samples that count in the mean; None if the target is of a loss of the task's own."""
        return counted_samples(target, self.ignore_index).sum() if isinstance(target, torch.Tensor) else None
