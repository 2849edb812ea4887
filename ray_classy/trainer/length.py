"""What a run that goes on is told of its length."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ray_classy.tasks import ClassificationTask
from ray_classy.tasks.phases import position


def length_told(task: Any, content: Mapping[str, Any]) -> str | None:
    """That the run is finished, or that its length is another than before; None if neither is so.

    Args:
        task: not prepared yet.
        content: of the checkpoint that it goes on from.
    """
    if not isinstance(task, ClassificationTask) or task.test_only:
        return None
    state, phases = content["classy_state_dict"], task._build_phases()
    now = sum(phase["train"] for phase in phases)
    inside = state.get("in_phase") is not None
    done = state.get("train_phase_idx", -1) + 1 - inside
    if position(phases, done - 1, state.get("train", True) and not inside) + 1 >= len(phases):
        asked = "" if done == now else f", and only {now} are asked for"
        return f"the run is finished: {done} train phases are done{asked}. To train more, raise num_epochs"
    before = (content.get("ray_classy") or {}).get("train_phases")
    if before in (None, now):
        return None
    return (
        f"the run is of {now} train phases now, and was of {before}: {done / now:.0%} is done, and the schedules go on "
        f"from there as those of the new length"
    )
