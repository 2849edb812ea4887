"""RMSProp as TensorFlow computes it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch

from ray_classy.optim.classy_optimizer import register_optimizer
from ray_classy.optim.param_groups import Group
from ray_classy.optim.rmsprop import RMSProp


class RMSpropTFOptimizer(torch.optim.Optimizer):
    """A torch optimizer like `torch.optim.RMSprop`, with `eps` inside the root: g / sqrt(mean square + eps).

    Args:
        params: parameters, or groups of them.
        lr: the learning rate.
        alpha: the decay rate of the mean square.
        eps: added to the mean square.
        weight_decay: the L2 penalty.
        momentum: the decay rate of the accumulated updates; 0 for none.
        centered: subtract the square of the mean gradient from the mean square.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 0.1,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
    ) -> None:
        options = {"lr": lr, "alpha": alpha, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, {**options, "momentum": momentum, "centered": centered})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Updates the parameters that have a gradient; returns what `closure` returns."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, parameter.grad, group)
        return loss

    def _update(self, parameter: torch.Tensor, gradient: torch.Tensor, group: dict[str, Any]) -> None:
        if group["weight_decay"]:
            gradient = gradient.add(parameter, alpha=group["weight_decay"])
        share = 1 - group["alpha"]
        mean_square = self._buffer(parameter, "square_avg")
        mean_square.lerp_(gradient.square(), share)
        variance = mean_square
        if group["centered"]:
            mean = self._buffer(parameter, "grad_avg")
            mean.lerp_(gradient, share)
            variance = mean_square.addcmul(mean, mean, value=-1)
        update = gradient / variance.add(group["eps"]).sqrt_()
        if group["momentum"]:
            update = self._buffer(parameter, "momentum_buffer").mul_(group["momentum"]).add_(update)
        parameter.sub_(update, alpha=group["lr"])

    def _buffer(self, parameter: torch.Tensor, name: str) -> torch.Tensor:
        state = self.state[parameter]
        if name not in state:
            state[name] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
        return state[name]


@register_optimizer("rmsprop_tf")
class RMSPropTF(RMSProp):
    """RMSProp with `eps` inside the root, as TensorFlow computes it; the arguments are those of `RMSProp`.

    Networks that were tuned with TensorFlow (EfficientNet with `eps` 0.001, say) train differently with `RMSProp`.
    """

    implementations = ()  # its update is its own

    def buffers(self, options: Mapping[str, Any]) -> Collection[str]:
        """Returns the names of the buffers of a parameter."""
        return [name for name in super().buffers(options) if name != "step"]

    def prepare(self, param_groups: list[Group]) -> None:
        """Creates the torch optimizer for these groups."""
        self.optimizer = RMSpropTFOptimizer(param_groups, **self.options())
