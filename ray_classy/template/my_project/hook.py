"""A hook: code that is called at five points of a run."""

import logging

import torch

from ray_classy.distributed import is_primary
from ray_classy.hooks import ClassyHook, register_hook

_log = logging.getLogger(__name__)


@register_hook("weight_norm")
class WeightNormHook(ClassyHook):
    """Logs the L2 norm of all weights after each train phase; checkpoints keep the norms, as all of `self.state`."""

    on_start = on_phase_start = on_step = on_end = ClassyHook._noop

    def __init__(self) -> None:
        super().__init__()
        self.state.norms = []

    def on_phase_end(self, task) -> None:
        if task.train:
            weights = torch.cat([parameter.detach().flatten() for parameter in task.base_model.parameters()])
            self.state.norms.append(weights.norm().item())
            if is_primary():
                _log.info("norm of the weights: %.3f", self.state.norms[-1])
