"""Top-k recall."""

from __future__ import annotations

import torch

from ray_classy.meters.classy_meter import register_meter
from ray_classy.meters.top_k_meter import TopKMeter


@register_meter("recall_at_k")
class RecallAtKMeter(TopKMeter):
    """The fraction of the target classes of all samples that are among the k highest scores, as `top_{k}`.

    For targets with one value per class, these values are summed: 1 for each positive class of a multi-hot target, a
    fraction for soft targets. Negative values are no labels.

    Args:
        topk: the values of k, each at least 1 and less than the number of classes.
        target_is_one_hot: see `TopKMeter`.
        num_classes: has no effect, since the output says it; Classy Vision's configs may have it.

    Raises:
        ComponentError: `topk` is not a list of such integers.
    """

    DENOMINATOR = "correct_targets"

    def __init__(self, topk: list[int], target_is_one_hot: bool = True, num_classes: int | None = None) -> None:
        super().__init__(topk, target_is_one_hot)

    @property
    def name(self) -> str:
        """The meter's name in logs and reports."""
        return "recall_at_k"

    def _count(self, mass: torch.Tensor, labels: torch.Tensor) -> list[torch.Tensor]:
        positive = labels >= 0 if mass.dtype is torch.bool else labels.masked_fill(labels < 0, 0)
        hits = [mass[:, :k].sum(dtype=torch.float64) for k in self._topk]
        return [*hits, positive.sum(dtype=torch.float64)]
