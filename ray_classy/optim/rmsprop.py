"""RMSProp."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, ClassVar

import torch

from ray_classy.optim.argument_checks import check_bool, check_number
from ray_classy.optim.classy_optimizer import ClassyOptimizer, register_optimizer
from ray_classy.optim.param_groups import Group


@register_optimizer("rmsprop")
class RMSProp(ClassyOptimizer):
    """RMSProp (Tieleman & Hinton 2012), as in `torch.optim.RMSprop`: divides by the root of the mean square gradient.

    Args:
        lr: the learning rate, at least 0.
        momentum: the decay rate of the accumulated updates, in [0, 1).
        weight_decay: the L2 penalty, at least 0.
        alpha: the decay rate of the mean square, in [0, 1).
        eps: added to the root, at least 0.
        centered: subtract the square of the mean gradient from the mean square (Graves 2013, arXiv:1308.0850).

    Raises:
        ComponentError: an argument is out of its range.
    """

    implementations: ClassVar[tuple[str, ...]] = ("foreach",)

    def __init__(
        self,
        lr: float = 0.1,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        alpha: float = 0.99,
        eps: float = 1e-8,
        centered: bool = False,
    ) -> None:
        super().__init__()
        self._lr = check_number("lr", lr)
        self._momentum = check_number("momentum", momentum, below=1, example="0.9")
        self._weight_decay = check_number("weight_decay", weight_decay, example="0.0001")
        self._alpha = check_number("alpha", alpha, below=1, example="0.99")
        self._eps = check_number("eps", eps, example="1e-8")
        self._centered = check_bool("centered", centered)

    def buffers(self, options: Mapping[str, Any]) -> Collection[str]:
        """Returns the names of the buffers of a parameter."""
        optional = {"momentum_buffer": options.get("momentum"), "grad_avg": options.get("centered")}
        return ["step", "square_avg", *(name for name, used in optional.items() if used)]

    def options(self) -> dict[str, Any]:
        """Returns the arguments of the torch optimizer."""
        return {
            "lr": self._lr,
            "momentum": self._momentum,
            "weight_decay": self._weight_decay,
            "alpha": self._alpha,
            "eps": self._eps,
            "centered": self._centered,
        }

    def prepare(self, param_groups: list[Group]) -> None:
        """Creates the torch optimizer for these groups."""
        self.optimizer = torch.optim.RMSprop(param_groups, **self.options(), **self.implementation(param_groups))
