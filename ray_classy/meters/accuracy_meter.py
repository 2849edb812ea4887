"""Top-k accuracy."""

from __future__ import annotations

import torch

from ray_classy.meters.classy_meter import register_meter
from ray_classy.meters.top_k_meter import TopKMeter


@register_meter("accuracy")
class AccuracyMeter(TopKMeter):
    """The fraction of samples with a target class among the k highest scores, as `top_{k}`.

    For targets with one value per class, a sample counts as the largest target value among those k classes: 1 if any
    positive class of a multi-hot target is among them, a fraction for soft targets. Negative values are no labels: a
    sample without another does not count. The task gives the rows that the loss ignores the target -1.

    Args:
        topk: the values of k, each at least 1 and less than the number of classes.
        target_is_one_hot: see `TopKMeter`.

    Raises:
        ComponentError: `topk` is not a list of such integers.
    """

    @property
    def name(self) -> str:
        """The meter's name in logs and reports."""
        return "accuracy"

    def _count(self, mass: torch.Tensor, labels: torch.Tensor) -> list[torch.Tensor]:
        hits = [mass[:, :k].amax(1).sum(dtype=torch.float64) for k in self._topk]
        return [*hits, (labels >= 0).any(1).sum()]
