"""Whether a checkpoint belongs to the run that resumes from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ray_classy.config import dotted, mark_of
from ray_classy.dataset.classy_dataset import class_names
from ray_classy.errors import DataError
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


def check_classes(task: ClassyTask, content: Mapping[str, Any], where: str | None) -> None:
    """Refuses datasets whose classes are not those that a checkpoint was written with.

    Args:
        task: has the datasets.
        content: of the checkpoint.
        where: path of the checkpoint, for the message.

    Raises:
        DataError: the classes, or their order, differ, so that the model's outputs would change their meaning.
    """
    known = (content.get("ray_classy") or {}).get("classes") or {}
    for phase_type, dataset in task.datasets.items():
        before, now = known.get(phase_type) or known.get("train") or known.get("test"), class_names(dataset)
        if before is None or now is None or now == list(before):
            continue
        sides = (("then", [n for n in before if n not in set(now)]), ("now", [n for n in now if n not in set(before)]))
        what = "; ".join(f"only {when}: {names[:5]}" for when, names in sides if names) or "the order differs"
        raise DataError(
            f"{locate(task, 'dataset', phase_type)}the {phase_type} dataset does not have the classes that the "
            f"checkpoint{f' {where}' if where else ''} was trained on: {what}. Use the data of that run, or give the "
            f"dataset those {len(before)} classes in their order (`classes: [{', '.join(before[:3])}, ...]`; the "
            f"checkpoint lists them under ['ray_classy']['classes'])"
        )


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
