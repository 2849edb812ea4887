"""What a run that resumes says: where a part is in its config, and whether its length changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ray_classy.config import dotted, mark_of
from ray_classy.tasks.phases import position

if TYPE_CHECKING:
    from ray_classy.tasks.classy_task import ClassyTask


def locate(task: ClassyTask, *path: str | int) -> str:
    """Returns the file, line and key of a part in the task's config, to begin a message with.

    Empty if the task was not built from a file.
    """
    config: Any = task.built_from
    if getattr(config, "file", None) is None:
        return ""
    inner, known = config, 0
    for step in path:
        try:
            inner = inner[step]
        except (KeyError, IndexError, TypeError):
            break
        known += 1
    path = path[:known]
    return f"{mark_of(config, path)}: {dotted(path)}: " if path else ""


def length_note(phases: list[dict[str, bool]], content: Mapping[str, Any]) -> str | None:
    """Returns a sentence if the run is finished or its length changed; else None.

    Args:
        phases: of the run as it is now.
        content: of the checkpoint to resume from.
    """
    state, now = content["classy_state_dict"], sum(phase["train"] for phase in phases)
    inside = state.get("in_phase") is not None
    done = state.get("train_phase_idx", -1) + 1 - inside
    if position(phases, done - 1, state.get("train", True) and not inside) + 1 >= len(phases):
        asked = "" if done == now else f", and the config asks for {now}"
        return f"the run is finished: {done} train phases are done{asked}. To train more, raise num_epochs"
    before = (content.get("ray_classy") or {}).get("train_phases")
    if before in (None, now):
        return None
    return (
        f"the run has {now} train phases now, and had {before}: {done / now:.0%} is done, and the schedules continue "
        f"from there over the new length"
    )
