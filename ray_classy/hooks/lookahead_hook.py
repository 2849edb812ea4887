"""Lookahead: weights that are pulled back to slower ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.nn.modules.batchnorm import _BatchNorm

from ray_classy.errors import ComponentError, DamagedCheckpointError
from ray_classy.hooks.accumulation import inside_accumulation
from ray_classy.hooks.classy_hook import ClassyHook, register_hook


@register_hook("lookahead")
class LookaheadHook(ClassyHook):
    """Moves slow weights towards the model's every few steps, and gives them to the model (Zhang et al. 2019).

    After every `period` updates the slow weights s become d * s + (1 - d) * w, and the weights w become s
    (arXiv:1907.08610, with alpha = 1 - d). With `power` above 0, d grows with the progress of training as
    `decay` * where**power (airbench: Jordan 2024, arXiv:2404.00498, with 0.95**5 and power 3). The weights end as the
    slow ones. The statistics of batch norm are moved likewise.

    Args:
        decay: share of the slow weights that is kept, in [0, 1).
        period: updates between two moves, at least 1.
        power: exponent of the growth, at least 0; 0 for a constant share.

    Raises:
        ComponentError: an argument is impossible.
    """

    changes_weights = True
    on_phase_start = on_end = ClassyHook._noop

    def __init__(self, decay: float = 0.5, period: int = 5, power: float = 0.0) -> None:
        super().__init__()
        if not isinstance(decay, int | float) or not 0 <= decay < 1:
            raise ComponentError(f"decay must be a number in [0, 1), not {decay!r}")
        if type(period) is not int or period < 1:
            raise ComponentError(f"period must be an integer of at least 1, not {period!r}")
        if not isinstance(power, int | float) or not power >= 0:
            raise ComponentError(f"power must be a number of at least 0, not {power!r}")
        self.decay, self.period, self.power = float(decay), period, float(power)
        self.state.slow = {}
        self.state.updates = 0

    def set_classy_state(self, state: Mapping[str, Any]) -> None:
        """Restores what `get_classy_state` returned."""
        slow, updates = state.get("slow", {}), state.get("updates", 0)
        named = isinstance(slow, Mapping) and all(isinstance(value, torch.Tensor) for value in slow.values())
        if not named or type(updates) is not int:
            raise DamagedCheckpointError(
                f"the checkpoint's state of hook {self.name()!r} is damaged: slow does not hold tensors by name, or "
                f"updates is not an integer"
            )
        super().set_classy_state(state)

    def on_start(self, task: Any) -> None:
        """Starts with the weights, or with the slow weights of the run that is resumed."""
        weights = _weights(task.base_model)
        kept = self.state.slow if task.num_updates else {}
        fits = kept.keys() == weights.keys() and all(kept[name].shape == weights[name].shape for name in weights)
        if not fits:
            self.state.updates = 0
        source = kept if fits else weights
        self.state.slow = {name: source[name].detach().to(weights[name].device, copy=True) for name in weights}

    def on_step(self, task: Any) -> None:
        """Moves the slow weights, where it is their turn."""
        if not task.train or inside_accumulation(task):
            return
        self.state.updates += 1
        if self.state.updates % self.period == 0:
            self._move(task, self.decay * task.where**self.power if self.power else self.decay)

    def on_phase_end(self, task: Any) -> None:
        """Gives the model the slow weights at the end of the training."""
        if task.train and task.where >= 1:
            self._move(task, 1.0)

    def _move(self, task: Any, decay: float) -> None:
        weights = _weights(task.base_model)
        with torch.no_grad():
            now, slow = list(weights.values()), [self.state.slow[name] for name in weights]
            torch._foreach_lerp_(slow, now, 1 - decay)
            torch._foreach_copy_(now, slow)


def _weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Returns the parameters and the statistics of batch norm by name."""
    statistics = {
        f"{prefix}.{name}".lstrip("."): buffer
        for prefix, layer in model.named_modules()
        if isinstance(layer, _BatchNorm)
        for name, buffer in layer.named_buffers(recurse=False)
        if buffer.is_floating_point()
    }
    return {**dict(model.named_parameters()), **statistics}
