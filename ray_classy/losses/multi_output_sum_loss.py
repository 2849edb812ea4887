"""One loss for a model with several outputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from ray_classy.errors import ComponentError
from ray_classy.losses.classy_loss import ClassyLoss, build_loss, check_loss_config, register_loss
from ray_classy.losses.loss_weight import outputs_of
from ray_classy.losses.loss_weight import weight_of as weight_of_loss
from ray_classy.registry import Key, Keys


@register_loss("multi_output_sum_loss")
class MultiOutputSumLoss(ClassyLoss):
    """The sum of one loss over all outputs of a model, each against the same target.

    Args:
        loss: the loss of one output; in a config, its config.

    Raises:
        ComponentError: it is not a module.
    """

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        if not callable(loss):
            raise ComponentError(f"loss must be a loss module, not {loss!r}")
        self._loss = loss

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> MultiOutputSumLoss:
        """Builds the loss, and the loss of one output, from a config.

        Raises:
            ConfigError: `loss` is missing or is not a mapping.
        """
        check_loss_config(config, "loss")
        return cls(build_loss(config["loss"]))

    @classmethod
    def config_keys(cls) -> Keys:
        """Returns the one key, `loss`: the config of a loss."""
        return {"loss": Key(ClassyLoss)}

    @property
    def loss_of_one_output(self) -> nn.Module:
        """The loss of one output, which says which rows count and how."""
        return self._loss

    @property
    def reduction(self) -> str:
        """How the loss of one output is reduced over the batch."""
        return getattr(self._loss, "reduction", "mean")

    def forward(self, output: Any, target: Any) -> torch.Tensor:
        """Computes the sum of the losses.

        Args:
            output: one tensor, a list of outputs, or a mapping whose values are outputs, as of a model with several
                heads.
            target: the target of each.

        Raises:
            ComponentError: there is no output.
        """
        outputs = outputs_of(output)
        if not outputs:
            raise ComponentError("the model has no outputs to compute the loss of")
        return sum(self._loss(one, target) for one in outputs)

    def weight_of(self, output: Any, target: Any) -> torch.Tensor | None:
        """Returns what the mean of the loss of one output divides by; see `ClassyLoss`."""
        return weight_of_loss(self._loss, next(iter(outputs_of(output)), None), target)
