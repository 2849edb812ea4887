"""A hook that profiles the model."""

from __future__ import annotations

import logging
from typing import Any

from ray_classy.distributed import is_primary
from ray_classy.generic.profiler import profile, summarize_profiler_info
from ray_classy.hooks.classy_hook import ClassyHook, register_hook

_log = logging.getLogger(__name__)


@register_hook("profiler")
class ProfilerHook(ClassyHook):
    """Profiles one forward pass of the model with `torch.profiler` when the run starts, and logs a table.

    The pass is made on the primary rank in evaluation mode with zeros, a batch as large as in a train phase, and
    changes nothing. A model that does not say the shape of its input (`input_shape`) is left out with a warning.
    """

    on_phase_start = on_step = on_phase_end = on_end = ClassyHook._noop

    def on_start(self, task: Any) -> None:
        """Profiles the model."""
        if not is_primary():
            return
        model, shape = task.base_model, getattr(task.base_model, "input_shape", None)
        if shape is None:
            _log.warning("the model is not profiled: %s has no input_shape", type(model).__name__)
            return
        rows = task.get_batchsize_per_replica()
        key = getattr(model, "input_key", None)
        try:
            table = summarize_profiler_info(profile(model, rows, shape, input_key=key))
            _log.info("one forward pass of the model:\n%s", table)  # after a line break: its columns line up
        except Exception as error:  # whatever the model's own code raises
            _log.warning("the model is not profiled: %s: %s", type(error).__name__, error)
