"""One loss for each of several targets, each of the output of its own head."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from ray_classy.errors import ComponentError, ConfigError
from ray_classy.losses.classy_loss import ClassyLoss, build_loss, register_loss
from ray_classy.losses.loss_weight import weight_of, zero_without_weight
from ray_classy.registry import Key, Keys


@register_loss("multi_target")
class MultiTargetLoss(ClassyLoss):
    """The weighted sum of the losses of several targets, each against the output of the head of its name.

    A row without a label of a target (see `optional` of `TargetOptions`) adds 0 to that target's loss, which is the sum
    over the rows that have one, divided by the number of all rows of the batch. So each labelled row counts alike,
    however rows are divided into batches and over ranks.

    Args:
        losses: by target; in a config, their configs. Their `reduction` must be "mean".
        weights: numbers of at least 0 by target; 1 for those that are left out.

    Attributes:
        weights: a number for each target.

    Raises:
        ComponentError: there is no loss, or a weight is of no target or no finite number of at least 0.
    """

    def __init__(self, losses: Mapping[str, nn.Module], weights: Mapping[str, float] | None = None) -> None:
        super().__init__()
        if not isinstance(losses, Mapping) or not losses:
            raise ComponentError(f"losses must be a mapping from targets to at least one loss, not {losses!r}")
        self._names = list(losses)
        self._losses = nn.ModuleList(losses.values())  # a ModuleDict refuses names such as `type`
        given = dict(weights or {})
        for name, weight in given.items():
            if name not in self.losses:
                raise ComponentError(
                    f"weights: there is no loss of {name!r}; there are those of {_listed(self.losses)}"
                )
            number = isinstance(weight, int | float) and not isinstance(weight, bool)
            if not number or not 0 <= weight < math.inf:
                raise ComponentError(f"weights.{name} must be a finite number of at least 0, not {weight!r}")
        for name, loss in self.losses.items():
            if getattr(loss, "reduction", "mean") != "mean":
                raise ComponentError(f"losses.{name}: reduction must be mean, not {loss.reduction!r}")
        self.weights = {name: float(given.get(name, 1.0)) for name in self.losses}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> MultiTargetLoss:
        """Builds the loss, and that of each target, from a config.

        Raises:
            ConfigError: `losses` is missing or is not a mapping of configs.
        """
        configs = config.get("losses")
        if not isinstance(configs, Mapping) or not configs:
            raise ConfigError(f"losses of multi_target must be a mapping from targets to losses, not {configs!r}")
        return cls({name: build_loss(one) for name, one in configs.items()}, config.get("weights"))

    @classmethod
    def config_keys(cls) -> Keys:
        """Returns `losses`, configs of losses by target, and `weights`."""
        return {"losses": Key(dict[str, ClassyLoss]), "weights": Key(dict[str, float] | None, None)}

    @property
    def losses(self) -> dict[str, nn.Module]:
        """The losses by target."""
        return dict(zip(self._names, self._losses, strict=True))

    def forward(self, output: Any, target: Any) -> torch.Tensor:
        """Computes the weighted sum of the losses.

        Args:
            output: outputs by head, which have the names of the targets.
            target: targets by name.

        Raises:
            ComponentError: the names of losses, heads and targets differ.
        """
        self._check(output, target)
        return torch.stack(list(self.losses_of(output, target).values())).sum()

    def losses_of(self, output: Any, target: Any) -> dict[str, torch.Tensor]:
        """Returns the loss of each target, times its weight."""
        found = {}
        for name, loss in self.losses.items():
            value, weight = loss(output[name], target[name]), weight_of(loss, output[name], target[name])
            if weight is not None:
                value = zero_without_weight(value, weight, output[name], loss)
                value = value * (weight / len(target[name])).to(value.dtype)
            found[name] = value * self.weights[name]
        return found

    def _check(self, output: Any, target: Any) -> None:
        if not isinstance(target, Mapping):
            raise ComponentError(
                f"loss multi_target has losses for {_listed(self.losses)}, and the rows have one target: name several "
                f"in the dataset's `targets`"
            )
        if not isinstance(output, Mapping):
            raise ComponentError(
                f"loss multi_target has losses for {_listed(self.losses)}, and the model has one output: give it a "
                f"head for each, whose unique_id is the target"
            )
        for what, there, remedy in (
            ("heads", output, "give each head its target as unique_id"),
            ("targets", target, "name them in the dataset's `targets`"),
        ):
            lacking = [name for name in self.losses if name not in there]
            extra = [name for name in there if name not in self.losses]
            if lacking or (extra and what == "heads"):
                raise ComponentError(
                    f"loss multi_target has losses for {_listed(self.losses)}, and the {what} are {_listed(there)}: "
                    f"{remedy}, and add or leave out losses"
                )


def _listed(names: Any) -> str:
    return ", ".join(map(str, names))
