"""Top-k precision."""

from __future__ import annotations

import torch

from ray_classy.meters.classy_meter import register_meter
from ray_classy.meters.top_k_meter import TopKMeter


@register_meter("precision_at_k")
class PrecisionAtKMeter(TopKMeter):
    """The fraction of the k highest scores that are target classes, as `top_{k}`.

    For targets with one value per class, these values are summed: 1 for each positive class of a multi-hot target, a
    fraction for soft targets. Negative values are no labels: a sample without another does not count.

    Args:
        topk: the values of k, each at least 1 and less than the number of classes.
        target_is_one_hot: see `TopKMeter`.

    Raises:
        ComponentError: `topk` is not a list of such integers.
    """

    @property
    def name(self) -> str:
        """The meter's name in logs and reports."""
        return "precision_at_k"

    def _scale(self, k: int) -> float:
        return k

    def _count(self, mass: torch.Tensor, labels: torch.Tensor) -> list[torch.Tensor]:
        hits = [mass[:, :k].sum(dtype=torch.float64) for k in self._topk]
        return [*hits, (labels >= 0).any(1).sum()]
