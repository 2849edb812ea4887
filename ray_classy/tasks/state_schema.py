"""The types and ranges of a classification task's state, checked before any of it is used."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ray_classy.checkpoint.plain import check_plain
from ray_classy.errors import CheckpointError, DamagedCheckpointError, MissingStateError, RecordError
from ray_classy.generic.copies import copied
from ray_classy.optim.saved_state import buffers_of, check_buffers, check_saved_state
from ray_classy.records import read_record, what_is_wrong
from ray_classy.tasks.probes import Chosen
from ray_classy.tasks.user_calls import is_ours

if TYPE_CHECKING:
    from ray_classy.tasks.planned_task import PlannedTask

_MOST = 2**62


@dataclass(frozen=True)
class _Order:
    """What the order of a phase's rows depends on."""

    num_rows: int


@dataclass(frozen=True)
class _Phase:
    """An unfinished train phase; see `phase_state`."""

    rows: int
    order: _Order
    losses: list[float]
    loss_rows: list[float]
    meters: list[dict[str, Any]]
    bad_rows: int


@dataclass(frozen=True)
class _Scaler:
    """The loss scaler of float16; empty if it is disabled."""

    scale: float = 1.0
    growth_factor: float = 2.0
    backoff_factor: float = 0.5
    growth_interval: int = 1
    _growth_tracker: int = 0


@dataclass(frozen=True)
class _State:
    """What `get_classy_state` returns; Classy Vision's states have no `num_train_steps`."""

    base_model: dict[str, Any]
    train: bool
    train_phase_idx: int
    num_updates: int
    losses: list[float]
    meters: list[dict[str, Any]]
    hooks: dict[str, Any]
    loss: dict[str, Any]
    optimizer: dict[str, Any]
    phase_idx: int | None = None
    num_train_steps: int = 0
    in_phase: _Phase | None = None
    amp: dict[str, Any] | None = field(default=None)
    chosen: Chosen | None = None


@dataclass(frozen=True)
class _Weights:
    """What a test-only task uses."""

    base_model: dict[str, Any]
    hooks: dict[str, Any] = field(default_factory=dict)


def check_state(task: PlannedTask, state: Any) -> None:
    """Refuses a state that no classification task can have returned.

    Args:
        task: the task that is to load it; a test-only one uses only the weights.
        state: the state.

    Raises:
        DamagedCheckpointError: an entry is missing, or has another type or an impossible value.
        CheckpointError: it is not a state of a classification task.
    """
    where = "the state of the task"
    if not isinstance(state, Mapping):
        raise CheckpointError(f"{where} must be a dict, not a {type(state).__name__}")
    if "base_model" not in state:
        raise MissingStateError(f"the checkpoint holds no model state, only {', '.join(map(str, list(state)[:8]))}")
    try:
        check_plain(state)
        for hook in task.hooks:
            kept = state.get("hooks")
            if is_ours(hook) and isinstance(kept, Mapping) and not isinstance(kept.get(hook.name(), {}), Mapping):
                raise CheckpointError(f"hooks.{hook.name()} must be a dict, not {kept[hook.name()]!r:.40}")
        if task.test_only:
            read_record(_Weights, state, where)
            return
        _check_numbers(read_record(_State, state, where))
        if state["optimizer"] and _has_our_state(task.optimizer):
            check_saved_state(state["optimizer"])
    except DamagedCheckpointError:
        raise
    except (RecordError, CheckpointError) as error:
        raise DamagedCheckpointError(f"{where} is damaged: {what_is_wrong(error, where)}") from None


def _check_numbers(state: _State) -> None:
    counts = {name: getattr(state, name) for name in ("num_updates", "num_train_steps")}
    indices = {name: getattr(state, name) + 1 for name in ("train_phase_idx",)}
    phase = state.in_phase
    if phase is not None:
        counts |= {"in_phase.rows": phase.rows, "in_phase.bad_rows": phase.bad_rows}
        indices["train_phase_idx"] -= 1  # it has begun
    if state.chosen is not None and state.chosen.rows is not None:
        counts["chosen.rows"] = state.chosen.rows - 1
    for name, value in {**counts, **indices}.items():
        if not 0 <= value < _MOST:
            raise CheckpointError(f"{name} is {value - (name in indices)}")
    if phase is None:
        return
    if phase.rows > phase.order.num_rows:
        raise CheckpointError(f"in_phase.rows is {phase.rows}, and the phase has {phase.order.num_rows}")
    if len(phase.losses) != len(phase.loss_rows):
        raise CheckpointError(f"in_phase has {len(phase.losses)} losses of {len(phase.loss_rows)} steps")
    for loss, rows in zip(phase.losses, phase.loss_rows, strict=True):
        if not (math.isfinite(rows) and rows >= 0 and (math.isfinite(loss) or not rows)):
            raise CheckpointError(f"in_phase has a loss of {loss} over {rows} rows")


def check_scaler(state: Mapping[str, Any]) -> None:
    """Refuses what is not the state of a loss scaler.

    Raises:
        CheckpointError: an entry has another type, or is not positive.
    """
    try:
        scaler = read_record(_Scaler, state, "the state of the loss scaler")
    except RecordError as error:
        raise CheckpointError(str(error)) from None
    for name in ("scale", "growth_factor", "backoff_factor", "growth_interval"):
        value = getattr(scaler, name)
        if not (math.isfinite(value) and value > 0):
            raise CheckpointError(f"the state of the loss scaler is damaged: {name} is {value}")


def check_parts(task: PlannedTask, state: Mapping[str, Any]) -> None:
    """Tries the parts of a state on copies of them, so that a damaged one is found before a run starts.

    Args:
        task: its parts stay as they are.
        state: that `check_state` has accepted.

    Raises:
        DamagedCheckpointError: a part is damaged.
    """
    inside = state.get("in_phase") or {}
    for saved in [*state["meters"], *inside.get("meters", [])]:
        for meter in task.meters:
            if saved.get("name") == meter.name:
                tried = copied(meter)
                if tried is not None:
                    _try(tried, saved)
    for hook in task.hooks:
        if hook.name() in state["hooks"] and is_ours(hook):
            shallow = copy.copy(hook)  # others may not be copied
            shallow.state = copy.copy(hook.state)
            _try(shallow, state["hooks"][hook.name()])
    optimizer = state["optimizer"]
    ours = task.optimizer is not None and _has_our_state(task.optimizer)
    if optimizer and ours and optimizer.get("name") == task.optimizer.type_name:
        groups = optimizer["optim"]["param_groups"]
        check_buffers(optimizer["optim"], [buffers_of(task.optimizer, group) for group in groups])


def _has_our_state(optimizer: Any) -> bool:
    """Whether an optimizer's state is that of the base class; a user's may be any."""
    methods = ("get_classy_state", "set_classy_state")
    return all(is_ours(getattr(type(optimizer), name)) for name in methods)


def _try(part: Any, state: Mapping[str, Any]) -> None:
    try:
        part.set_classy_state(state)
    except (DamagedCheckpointError, MissingStateError):
        raise
    except CheckpointError:
        pass  # of a part with other options, which is refused when it is loaded
    except Exception as error:
        raise DamagedCheckpointError(
            f"the state of {type(part).__name__} cannot be loaded: {type(error).__name__}: {error}"
        ) from error
