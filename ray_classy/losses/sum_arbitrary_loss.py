"""A weighted sum of losses."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from ray_classy.errors import ComponentError, ConfigError
from ray_classy.losses.classy_loss import ClassyLoss, build_loss, register_loss
from ray_classy.registry import Key, Keys


@register_loss("sum_arbitrary")
class SumArbitraryLoss(ClassyLoss):
    """The weighted sum of several losses of one output.

    The losses are submodules: what they learn is trained and is part of the state.

    Args:
        losses: at least one; in a config, their configs.
        weights: a number for each loss, 1 if None.

    Attributes:
        losses: the losses, a `ModuleList`.
        weights: their weights, a float tensor on the device of the loss; they are options and no part of the state.

    Raises:
        ComponentError: there is no loss, or `weights` has another length or holds something else than finite numbers.
    """

    weights: torch.Tensor

    def __init__(self, losses: Sequence[nn.Module], weights: torch.Tensor | Sequence[float] | None = None) -> None:
        super().__init__()
        if not isinstance(losses, Sequence | nn.ModuleList) or not len(losses):
            raise ComponentError(f"losses must be a list of at least one loss, not {losses!r}")
        if not all(isinstance(loss, nn.Module) for loss in losses):
            raise ComponentError(f"losses must be loss modules, not {losses!r}")
        self.losses = nn.ModuleList(losses)
        given = [1.0] * len(losses) if weights is None else weights
        self.register_buffer("weights", _weights(given, len(losses)), persistent=False)
        sums = all(getattr(loss, "reduction", "mean") == "sum" for loss in losses)
        self.reduction = "sum" if sums else "mean"

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> SumArbitraryLoss:
        """Builds the loss, and those that it sums, from a config.

        Raises:
            ConfigError: `losses` is missing or is not a list of configs.
        """
        configs = config.get("losses")
        if not isinstance(configs, list | tuple) or not configs:
            raise ConfigError(f"losses of sum_arbitrary must be a list of the configs of losses, not {configs!r}")
        return cls([build_loss(one) for one in configs], config.get("weights"))

    @classmethod
    def config_keys(cls) -> Keys:
        """Returns `losses`, a list of configs of losses, and `weights`."""
        return {"losses": Key(list[ClassyLoss]), "weights": Key(list[float] | None, None)}

    def forward(self, prediction: Any, target: Any) -> torch.Tensor:
        """Computes the weighted sum of the losses, each of the same prediction against the same target."""
        weighted = (weight * loss(prediction, target) for weight, loss in zip(self.weights, self.losses, strict=True))
        return sum(weighted)


def _weights(weights: Any, number: int) -> torch.Tensor:
    values = weights.tolist() if isinstance(weights, torch.Tensor) else weights
    numbers = isinstance(values, list | tuple) and all(
        isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) for value in values
    )
    if not numbers or len(values) != number:
        raise ComponentError(f"weights must be a list of {number} finite numbers, one per loss, not {values!r}")
    return torch.tensor(values, dtype=torch.float32)
