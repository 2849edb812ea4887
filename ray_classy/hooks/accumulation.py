"""Where hooks that follow updates of the weights are, when gradients are accumulated."""

from __future__ import annotations

from typing import Any


def inside_accumulation(task: Any) -> bool:
    """Returns whether the step did not update the weights; a task that does not accumulate has no period."""
    period = getattr(task, "optimizer_period", None)
    if not isinstance(period, int) or task.steps_in_phase % period == 0:
        return False
    return task.steps_in_phase != task.num_batches_per_phase
