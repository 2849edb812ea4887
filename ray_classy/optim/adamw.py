"""AdamW."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, ClassVar

import torch

from ray_classy.optim.argument_checks import check_betas, check_bool, check_number
from ray_classy.optim.classy_optimizer import ClassyOptimizer, register_optimizer
from ray_classy.optim.param_groups import Group
from ray_classy.registry import Keys

CONFIG_LR = 0.01
"""The learning rate if a config has none. (As in Classy Vision, it differs from the constructor's default.)"""


@register_optimizer("adamw")
class AdamW(ClassyOptimizer):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019, arXiv:1711.05101), as in `torch.optim.AdamW`.

    Args:
        lr: the learning rate, at least 0; 0.01 if absent from a config.
        betas: the decay rates of the two moments, each in [0, 1).
        eps: added to the denominator, at least 0.
        weight_decay: each update first scales the weights by `1 - lr * weight_decay`; at least 0.
        amsgrad: divide by the largest second moment so far (Reddi et al. 2018, arXiv:1904.09237).

    Raises:
        ComponentError: an argument is out of its range.
    """

    implementations: ClassVar[tuple[str, ...]] = ("foreach", "fused")

    def __init__(
        self,
        lr: float = 0.001,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        amsgrad: bool = False,
    ) -> None:
        super().__init__()
        self._lr = check_number("lr", lr)
        self._betas = check_betas(betas)
        self._eps = check_number("eps", eps, example="1e-8")
        self._weight_decay = check_number("weight_decay", weight_decay, example="0.01")
        self._amsgrad = check_bool("amsgrad", amsgrad)

    @classmethod
    def config_keys(cls) -> Keys:
        """Returns the constructor's keys, with 0.01 instead of 0.001 as the default of `lr`, as in Classy Vision."""
        keys = super().config_keys()
        return {**keys, "lr": keys["lr"]._replace(default=CONFIG_LR)}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> ClassyOptimizer:
        """Builds the optimizer from its config; `lr` is 0.01 if absent."""
        return super().from_config({"lr": CONFIG_LR, **config})

    def buffers(self, options: Mapping[str, Any]) -> Collection[str]:
        """Returns the names of the buffers of a parameter."""
        return ["step", "exp_avg", "exp_avg_sq", *(["max_exp_avg_sq"] if options.get("amsgrad") else [])]

    def prepare(self, param_groups: list[Group]) -> None:
        """Creates the torch optimizer for these groups."""
        self.optimizer = torch.optim.AdamW(
            param_groups,
            lr=self._lr,
            betas=self._betas,
            eps=self._eps,
            weight_decay=self._weight_decay,
            amsgrad=self._amsgrad,
            **self.implementation(param_groups),
        )
