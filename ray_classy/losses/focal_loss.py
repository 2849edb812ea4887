"""The focal loss, which gives less weight to what is predicted well already."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F

from ray_classy.errors import ComponentError
from ray_classy.losses.class_values import ClassValuesLoss, Reduction, check_number, power
from ray_classy.losses.classy_loss import register_loss, weights_tensor


@register_loss("focal")
class FocalLoss(ClassValuesLoss):
    """The focal loss of Lin et al. 2017 (arXiv:1708.02002): cross-entropy times (1 - p_t)^gamma.

    With `activation: sigmoid`, each class is a question of its own, p_t is the probability of the right answer, and the
    loss is the mean over rows and classes. With `softmax`, p_t is that of the row's class, and the loss is the mean
    over rows; targets with several values sum the classes' losses by them.

    Args:
        gamma: at least 0; 0 is cross-entropy.
        alpha: with `sigmoid` a number in [0, 1]: positives weigh alpha, negatives 1 - alpha (the paper has 0.25); with
            `softmax` a weight per class, in a config also "balanced" (see `CrossEntropyLoss`). None weighs all alike.
        activation: "sigmoid" or "softmax".
        reduction: see `ClassValuesLoss`.
        sum_classes: see `ClassValuesLoss`; only with `sigmoid`.
        ignore_index: see `ClassValuesLoss`.

    Raises:
        ComponentError: an argument has an invalid value.
    """

    weight: torch.Tensor | None

    def __init__(
        self,
        gamma: float = 2.0,
        alpha: float | Sequence[float] | Literal["balanced"] | None = None,
        activation: Literal["sigmoid", "softmax"] = "sigmoid",
        reduction: Reduction = "mean",
        sum_classes: bool = False,
        ignore_index: int = -100,
    ) -> None:
        if activation not in ("sigmoid", "softmax"):
            raise ComponentError(f"activation must be 'sigmoid' or 'softmax', not {activation!r}")
        softmax = activation == "softmax"
        if softmax and sum_classes:
            raise ComponentError("with softmax a row has one loss: leave sum_classes out")
        super().__init__(reduction, sum_classes or softmax, ignore_index)
        self.gamma = check_number("gamma", gamma)
        self.activation = activation
        self.alpha = None if softmax or alpha is None else check_number("alpha", alpha, most=1.0)
        weight = weights_tensor("alpha", alpha) if softmax and alpha is not None else None
        self.register_buffer("weight", weight, persistent=False)

    def losses(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Returns the loss of each class, shape (N, C)."""
        if self.activation == "softmax":
            log_p = F.log_softmax(output, dim=1)
            losses = -target * power(1 - log_p.exp(), self.gamma) * log_p
            return losses if self.weight is None else losses * self.weight
        entropy = F.binary_cross_entropy_with_logits(output, target, reduction="none")
        p = output.sigmoid()
        missed = p + target - 2 * p * target  # 1 - p_t, also for targets between 0 and 1
        losses = power(missed, self.gamma) * entropy
        return losses if self.alpha is None else losses * (self.alpha * target + (1 - self.alpha) * (1 - target))
