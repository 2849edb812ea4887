"""The asymmetric loss for rows with several classes."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from ray_classy.losses.class_values import ClassValuesLoss, Reduction, check_number, power
from ray_classy.losses.classy_loss import register_loss


@register_loss("asymmetric")
class AsymmetricLoss(ClassValuesLoss):
    """The asymmetric loss of Ridnik et al. 2021 (arXiv:2009.14119), for rows that have few of many classes.

    With p = sigmoid(output) and q = max(p - clip, 0), it is -(y (1 - p)^gamma_pos log p + (1 - y) q^gamma_neg
    log(1 - q)) for each class: negatives that are predicted well count little, and those below `clip` not at all.

    Args:
        gamma_neg: focusing parameter of the negatives, at least 0.
        gamma_pos: that of the positives, at least 0.
        clip: probability that is taken off the negatives, in [0, 1).
        reduction: see `ClassValuesLoss`.
        sum_classes: see `ClassValuesLoss`; the paper sums over the classes.
        ignore_index: see `ClassValuesLoss`.

    Raises:
        ComponentError: an argument has an invalid value.
    """

    def __init__(
        self,
        gamma_neg: float = 4.0,
        gamma_pos: float = 1.0,
        clip: float = 0.05,
        reduction: Reduction = "mean",
        sum_classes: bool = True,
        ignore_index: int = -100,
    ) -> None:
        super().__init__(reduction, sum_classes, ignore_index)
        self.gamma_neg = check_number("gamma_neg", gamma_neg)
        self.gamma_pos = check_number("gamma_pos", gamma_pos)
        self.clip = check_number("clip", clip, most=0.99)

    def losses(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Returns the loss of each class, shape (N, C)."""
        p = output.sigmoid()
        positive = target * power(1 - p, self.gamma_pos) * F.logsigmoid(output)
        if not self.clip:
            return -(positive + (1 - target) * power(p, self.gamma_neg) * F.logsigmoid(-output))
        q = (p - self.clip).clamp(min=0)
        return -(positive + (1 - target) * power(q, self.gamma_neg) * torch.log1p(-q))
