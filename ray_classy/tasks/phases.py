"""The phases of a run, and its progress through them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ray_classy.errors import TaskError
from ray_classy.tasks.arguments import MOST_PHASES


def build_phases(
    num_epochs: int | float,
    phases_per_epoch: int = 1,
    test_phase_period: int = 1,
    has_train: bool = True,
    has_test: bool = True,
    test_only: bool = False,
) -> list[dict[str, bool]]:
    """Returns the phases of a run in order, each `{"train": bool}`.

    There are `ceil(phases_per_epoch * num_epochs)` train phases. With a test dataset a test phase follows every
    `test_phase_period`-th of them, and the last phase is always a test phase. A test-only run has `num_epochs` test
    phases and no other.

    Raises:
        TaskError: there is no dataset for the phases, there are too many, or a test-only run has a fractional number of
            epochs.
    """
    if test_only:
        if not has_test:
            raise TaskError("test_only is set, but there is no test dataset; give dataset.test")
        if int(num_epochs) != num_epochs:
            raise TaskError(f"a test-only run evaluates whole epochs: num_epochs must be an integer, not {num_epochs}")
        return [{"train": False} for _ in range(int(num_epochs))]
    if not has_train:
        raise TaskError("there is no train dataset; give dataset.train, or set test_only to evaluate")
    phases: list[dict[str, bool]] = []
    total = math.ceil(round(phases_per_epoch * num_epochs, 6))  # 100 * 1.1 is a little more than 110
    if total > MOST_PHASES:
        raise TaskError(
            f"num_epochs {num_epochs} x phases_per_epoch {phases_per_epoch} are {total:,} train phases; a run has at "
            f"most {MOST_PHASES:,}"
        )
    for index in range(total):
        phases.append({"train": True})
        if has_test and ((index + 1) % test_phase_period == 0 or index + 1 == total):
            phases.append({"train": False})
    return phases


def position(phases: list[dict[str, bool]], train_phase_idx: int, train: bool) -> int:
    """Returns the index of the last finished phase of a run whose phases may have changed since; -1 if none is.

    Args:
        phases: the phases of the run as it is now.
        train_phase_idx: index of the last finished train phase, from 0; -1 if none is.
        train: whether no test phase followed it.
    """
    trained = [index for index, phase in enumerate(phases) if phase["train"]]
    if train_phase_idx < 0 or not trained:
        return -1
    if train_phase_idx >= len(trained):
        return len(phases) - 1
    index = trained[train_phase_idx]
    tested = not train and index + 1 < len(phases) and not phases[index + 1]["train"]
    return index + tested


def ends_round(phases: Sequence[Mapping[str, bool]], phase_idx: int) -> bool:
    """Returns whether a phase ends a round: a train phase and the test phase after it, if there is one."""
    following = phase_idx + 1
    return following >= len(phases) or phases[following]["train"] or not phases[phase_idx]["train"]


def inside_round(phases: list[dict[str, bool]], train_phase_idx: int, train: bool) -> bool:
    """Returns whether a run that ended between two phases has yet to make the test phase of its round.

    The arguments are those of `position`.
    """
    last = position(phases, train_phase_idx, train)
    return last >= 0 and not ends_round(phases, last)


def where_of(finished: int, total: int, steps_done: float = 0, steps: int = 1) -> float:
    """Returns the finished fraction of a run, in [0, 1].

    Args:
        finished: number of finished phases.
        total: number of phases of the same type in the run.
        steps_done: number of steps made in the current phase.
        steps: number of steps of the current phase, at least 1.
    """
    return (finished + steps_done / steps) / total if total else 0.0


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
