"""Binary cross-entropy of each class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F

from ray_classy.losses.class_values import ClassValuesLoss, Reduction, check_number
from ray_classy.losses.classy_loss import register_loss, weights_tensor


@register_loss("binary_cross_entropy")
class BinaryCrossEntropyLoss(ClassValuesLoss):
    """Binary cross-entropy of each class: of rows with several classes, of mixed rows, and of class indices.

    With p = sigmoid(output) it is -(pos_weight y log p + (1 - y) log(1 - p)). For one class per row it is the loss of
    "ResNet strikes back" (Wightman et al. 2021, arXiv:2110.00476).

    Args:
        smoothing: s in [0, 1]: class indices become 1 - s + s/C and s/C. Values per class stay as they are: of mixed
            rows, mixup smooths them (`label_smoothing`).
        pos_weight: the weight of the positive rows of each class; in a config also "balanced", which counts them in the
            train dataset: negatives / positives.
        reduction: see `ClassValuesLoss`.
        sum_classes: see `ClassValuesLoss`.
        ignore_index: see `ClassValuesLoss`.

    Raises:
        ComponentError: an argument has an invalid value.
    """

    pos_weight: torch.Tensor | None

    def __init__(
        self,
        smoothing: float = 0.0,
        pos_weight: Sequence[float] | Literal["balanced"] | None = None,
        reduction: Reduction = "mean",
        sum_classes: bool = False,
        ignore_index: int = -100,
    ) -> None:
        super().__init__(reduction, sum_classes, ignore_index)
        self.smoothing = check_number("smoothing", smoothing, most=1.0)
        tensor = None if pos_weight is None else weights_tensor("pos_weight", pos_weight)
        self.register_buffer("pos_weight", tensor, persistent=False)

    def losses(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Returns the loss of each class, shape (N, C)."""
        return F.binary_cross_entropy_with_logits(output, target, reduction="none", pos_weight=self.pos_weight)
