"""LAMB."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch

from ray_classy.errors import ComponentError
from ray_classy.optim.argument_checks import check_betas, check_bool, check_number
from ray_classy.optim.classy_optimizer import ClassyOptimizer, register_optimizer
from ray_classy.optim.param_groups import Group


class LambOptimizer(torch.optim.Optimizer):
    """A torch optimizer: LAMB (You et al. 2020, arXiv:1904.00962, algorithm 2).

    With the moments m and v of Adam, u = m / (sqrt(v) + eps) + weight_decay * w is the update of a parameter w. Its
    step has the length lr * norm(w), or lr * norm(u) where a norm is 0.

    Args:
        params: parameters, or groups of them.
        lr: the learning rate.
        betas: the decay rates of the two moments.
        eps: added to the denominator.
        weight_decay: the weight decay, a part of the update.
        max_grad_norm: largest L2 norm of the gradients of all its parameters together; None for no limit.
        bias_correction: divide the moments by 1 - beta^step, as Adam does.
        always_adapt: scale the step by the norms also for parameters without weight decay.
        trust_clip: take no step that is longer than lr * norm(u).
    """

    def __init__(
        self,
        params: Any,
        lr: float = 0.001,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.01,
        max_grad_norm: float | None = 1.0,
        bias_correction: bool = True,
        always_adapt: bool = False,
        trust_clip: bool = False,
    ) -> None:
        options = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "max_grad_norm": max_grad_norm}
        flags = {"bias_correction": bias_correction, "always_adapt": always_adapt, "trust_clip": trust_clip}
        super().__init__(params, {**options, **flags})
        # Another hook before the step may take gradients away: those of parameters that other ranks update.
        self.register_step_pre_hook(lambda optimizer, *_: optimizer.measure_gradients())

    _excess: torch.Tensor | None = None
    """By what the gradients of the next update are divided, at least 1."""

    @torch.no_grad()
    def measure_gradients(self) -> None:
        """Measures the norm of all gradients for the next update, unless that is done."""
        limit = self.param_groups[0]["max_grad_norm"]
        gradients = [p.grad for group in self.param_groups for p in group["params"] if p.grad is not None]
        if limit is not None and gradients and self._excess is None:
            self._excess = (torch.nn.utils.get_total_norm(gradients) / limit).clamp(min=1)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Updates the parameters that have a gradient; returns what `closure` returns."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
            self._excess = None
        self.measure_gradients()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, parameter.grad, group)
        self._excess = None
        return loss

    def _update(self, parameter: torch.Tensor, gradient: torch.Tensor, group: dict[str, Any]) -> None:
        if self._excess is not None:
            gradient = gradient / self._excess.to(gradient.device, gradient.dtype)
        state, (beta1, beta2) = self.state[parameter], group["betas"]
        if not state:
            state["step"] = 0
            state["exp_avg"] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
            state["exp_avg_sq"] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
        state["step"] += 1
        state["exp_avg"].lerp_(gradient, 1 - beta1)
        state["exp_avg_sq"].mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        corrects = group["bias_correction"]
        first, second = (1 - beta ** state["step"] if corrects else 1.0 for beta in (beta1, beta2))
        denominator = state["exp_avg_sq"].sqrt().div_(second**0.5).add_(group["eps"])
        update = (state["exp_avg"] / first).div_(denominator)
        if group["weight_decay"]:
            update.add_(parameter, alpha=group["weight_decay"])
        if group["weight_decay"] or group["always_adapt"]:
            weights, length = torch.linalg.vector_norm(parameter), torch.linalg.vector_norm(update)
            trust = torch.where((weights > 0) & (length > 0), weights / length, torch.ones_like(weights))
            update.mul_(trust.clamp(max=1) if group["trust_clip"] else trust)
        parameter.sub_(update, alpha=group["lr"])


@register_optimizer("lamb")
class Lamb(ClassyOptimizer):
    """LAMB (You et al. 2020, arXiv:1904.00962): Adam whose step is as long, in each layer, as its weights.

    It is made for large batches. The arguments mean what they mean in timm's `Lamb`.

    Args:
        lr: the learning rate, at least 0.
        betas: the decay rates of the two moments, each in [0, 1).
        eps: added to the denominator, at least 0.
        weight_decay: the weight decay, at least 0; it is a part of the update whose length is adapted.
        max_grad_norm: largest L2 norm of all gradients together, above 0; None for no limit.
        bias_correction: divide the moments by 1 - beta^step, as Adam does.
        always_adapt: adapt the length of the step also for parameters without weight decay.
        trust_clip: never make the step of a layer longer than that of Adam.

    Raises:
        ComponentError: an argument is out of its range.
    """

    needs_whole_parameters = True

    def __init__(
        self,
        lr: float = 0.001,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.01,
        max_grad_norm: float | None = 1.0,
        bias_correction: bool = True,
        always_adapt: bool = False,
        trust_clip: bool = False,
    ) -> None:
        super().__init__()
        self._lr = check_number("lr", lr)
        self._betas = check_betas(betas)
        self._eps = check_number("eps", eps, example="1e-6")
        self._weight_decay = check_number("weight_decay", weight_decay, example="0.02")
        self._max_grad_norm = max_grad_norm if max_grad_norm is None else check_number("max_grad_norm", max_grad_norm)
        if self._max_grad_norm == 0:
            raise ComponentError("max_grad_norm must be above 0, or null for no limit, not 0")
        self._bias_correction = check_bool("bias_correction", bias_correction)
        self._always_adapt = check_bool("always_adapt", always_adapt)
        self._trust_clip = check_bool("trust_clip", trust_clip)

    def buffers(self, options: Mapping[str, Any]) -> Collection[str]:
        """Returns the names of the buffers of a parameter."""
        return ["step", "exp_avg", "exp_avg_sq"]

    def prepare(self, param_groups: list[Group]) -> None:
        """Creates the torch optimizer for these groups."""
        self.optimizer = LambOptimizer(
            param_groups,
            lr=self._lr,
            betas=self._betas,
            eps=self._eps,
            weight_decay=self._weight_decay,
            max_grad_norm=self._max_grad_norm,
            bias_correction=self._bias_correction,
            always_adapt=self._always_adapt,
            trust_clip=self._trust_clip,
        )
