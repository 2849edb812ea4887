"""A hook that logs the size of the model."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from ray_classy.distributed import is_primary
from ray_classy.generic.profiler import compute_activations, compute_flops, count_params
from ray_classy.hooks.classy_hook import ClassyHook, register_hook

if TYPE_CHECKING:
    from ray_classy.tasks import ClassyTask

_log = logging.getLogger(__name__)


@register_hook("model_complexity")
class ModelComplexityHook(ClassyHook):
    """Logs the number of the model's parameters, and the multiply-adds and activations of one input, at the start.

    A model that cannot be counted is a line in the log, and no error.
    """

    on_phase_start = on_step = on_phase_end = on_end = ClassyHook._noop

    def __init__(self) -> None:
        super().__init__()
        self.num_flops: int | None = None
        self.num_activations: int | None = None
        self.num_parameters: int | None = None

    def on_start(self, task: ClassyTask) -> None:
        """Counts, and logs the counts on the primary rank."""
        if not is_primary():
            return
        model = task.base_model
        try:
            self.num_parameters = count_params(model)
            _log.info("the model has %.1f million parameters", self.num_parameters / 1e6)
            shape, key = getattr(model, "input_shape", None), getattr(model, "input_key", None)
            if shape is None:
                return
            self.num_flops = compute_flops(model, shape, key)
            self.num_activations = compute_activations(model, shape, key)
            _log.info("an input takes %.1f million multiply-adds", self.num_flops / 1e6)
            _log.info("an input has %.1f million activations", self.num_activations / 1e6)
        except Exception as error:  # whatever the model's own code raises
            _log.warning("the model cannot be counted: %s", error)

    def get_summary(self) -> dict[str, float]:
        """Returns the counts in millions, 0 where one is not known: multiply-adds, activations and parameters."""
        return {
            "FLOPS(M)": (self.num_flops or 0) / 1e6,
            "num_activations(M)": (self.num_activations or 0) / 1e6,
            "num_parameters(M)": (self.num_parameters or 0) / 1e6,
        }
