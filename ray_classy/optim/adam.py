"""Adam."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, ClassVar

import torch

from ray_classy.optim.argument_checks import check_betas, check_bool, check_number
from ray_classy.optim.classy_optimizer import ClassyOptimizer, register_optimizer
from ray_classy.optim.param_groups import Group


@register_optimizer("adam")
class Adam(ClassyOptimizer):
    """Adam (Kingma & Ba 2015, arXiv:1412.6980), as in `torch.optim.Adam`.

    Args:
        lr: the learning rate, at least 0.
        betas: the decay rates of the two moments, each in [0, 1).
        eps: added to the denominator, at least 0.
        weight_decay: the L2 penalty, at least 0.
        amsgrad: divide by the largest second moment so far (Reddi et al. 2018, arXiv:1904.09237).

    Raises:
        ComponentError: an argument is out of its range.
    """

    implementations: ClassVar[tuple[str, ...]] = ("foreach", "fused")

    def __init__(
        self,
        lr: float = 0.1,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
    ) -> None:
        super().__init__()
        self._lr = check_number("lr", lr)
        self._betas = check_betas(betas)
        self._eps = check_number("eps", eps, example="1e-8")
        self._weight_decay = check_number("weight_decay", weight_decay, example="0.0001")
        self._amsgrad = check_bool("amsgrad", amsgrad)

    def buffers(self, options: Mapping[str, Any]) -> Collection[str]:
        """Returns the names of the buffers of a parameter."""
        return ["step", "exp_avg", "exp_avg_sq", *(["max_exp_avg_sq"] if options.get("amsgrad") else [])]

    def prepare(self, param_groups: list[Group]) -> None:
        """Creates the torch optimizer for these groups."""
        self.optimizer = torch.optim.Adam(
            param_groups,
            lr=self._lr,
            betas=self._betas,
            eps=self._eps,
            weight_decay=self._weight_decay,
            amsgrad=self._amsgrad,
            **self.implementation(param_groups),
        )
