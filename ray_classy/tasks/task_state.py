"""Reads and restores the state of a classification task."""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ray_classy.distributed import is_distributed_training_run, is_primary
from ray_classy.errors import CheckpointError
from ray_classy.losses import get_loss_state, set_loss_state
from ray_classy.models.model_state import StateMismatchError
from ray_classy.optim.sharded_state import full, gathering_for_primary
from ray_classy.tasks import state_schema
from ray_classy.tasks.loss_log import LossLog
from ray_classy.tasks.optimizer_state import restore_buffers
from ray_classy.tasks.phases import position
from ray_classy.tasks.schedule_length import set_schedule_length
from ray_classy.tasks.sharding import strategy_of, unshard

if TYPE_CHECKING:
    from ray_classy.hooks import ClassyHook
    from ray_classy.tasks.classification_task import ClassificationTask
    from ray_classy.tasks.planned_task import PlannedTask

_log = logging.getLogger(__name__)


def get_state(task: ClassificationTask, deep_copy: bool = False) -> dict[str, Any]:
    """Implements `ClassificationTask.get_classy_state`."""
    loss, optimizer = task.base_loss, task.optimizer
    state: dict[str, Any] = {
        "train": task.train,
        "base_model": task.base_model.get_classy_state(),
        "meters": [meter.get_classy_state() for meter in task.meters],
        "optimizer": optimizer.get_classy_state() if optimizer is not None and optimizer.optimizer is not None else {},
        "phase_idx": task.phase_idx,
        "train_phase_idx": task.train_phase_idx,
        "num_updates": task.num_updates,
        "num_train_steps": task.num_train_steps,
        "losses": list(task.losses),
        "hooks": {hook.name(): hook.get_classy_state() for hook in task.hooks},
        "loss": get_loss_state(loss) if loss is not None else {},
    }
    train_dataset = task.datasets.get("train")
    if train_dataset is not None and _has_state(train_dataset):
        state["train_dataset_iterator"] = train_dataset.get_classy_state()  # type: ignore[attr-defined]
    if task.update_step.scaler is not None:
        state["amp"] = task.update_step.scaler.state_dict()
    chosen = task.device_setup.state()
    if chosen is not None:
        state["chosen"] = chosen
    state = full(state) if task._sharded is not None else state
    return copy.deepcopy(state) if deep_copy else state


def gather_state(task: PlannedTask) -> dict[str, Any] | None:
    """Returns the task's state on the primary rank, None on the others; every rank must call it."""
    if not is_distributed_training_run() or strategy_of(task) == "ddp":
        return task.get_classy_state() if is_primary() else None
    with gathering_for_primary():
        state = task.get_classy_state()
    return state if is_primary() else None


def set_state(task: ClassificationTask, state: dict[str, Any]) -> None:
    """Restores what `get_state` returned, here or in Classy Vision."""
    state_schema.check_state(task, state)
    unshard(task)
    set_model_state(task.base_model, state["base_model"], task.checkpoint_load_strict)
    if task.test_only:
        _set_hook_states([hook for hook in task.hooks if hook.changes_weights], state.get("hooks") or {})
        return
    task.phases = task.phases or task.planned_phases()
    task.train = state["train"]
    task._in_phase = state.get("in_phase")
    inside = task._in_phase is not None  # the phase is started again, with the rows that are left
    task.train_phase_idx = state["train_phase_idx"] - inside
    task.phase_idx = position(task.phases, task.train_phase_idx, state["train"] and not inside)
    task.num_updates = state["num_updates"]
    task.num_train_steps = state.get("num_train_steps", 0)
    task.losses = LossLog(state["losses"])
    task.data_iterator = None
    if task.base_loss is not None:
        set_loss_state(task.base_loss, state["loss"])
    if inside:
        _check_meters(task, state["meters"])
    set_meter_states(task, state["meters"])
    _set_hook_states(task.hooks, state["hooks"])
    for name in state["hooks"].keys() - {hook.name() for hook in task.hooks}:
        if state["hooks"][name] not in ({}, None):
            _log.warning("the checkpoint has the state of hook %r, which this run does not have: it is ignored", name)
    if task.optimizer is not None and state["optimizer"]:
        if task.optimizer.optimizer is None:
            task.prepare_optimizer(task.optimizer, task.base_model, task.base_loss)
            set_schedule_length(task)
        restore_buffers(task, state)
        task.optimizer.set_where(task.where)
    if state.get("amp") and task.update_step.scaler is not None:
        state_schema.check_scaler(state["amp"])
        task.update_step.scaler.load_state_dict(state["amp"])
    train_dataset = task.datasets.get("train")
    if "train_dataset_iterator" in state and train_dataset is not None and _has_state(train_dataset):
        train_dataset.set_classy_state(state["train_dataset_iterator"])  # type: ignore[attr-defined]


def _has_state(dataset: Any) -> bool:
    return hasattr(dataset, "get_classy_state") and hasattr(dataset, "set_classy_state")


def set_meter_states(task: PlannedTask, states: list[dict[str, Any]]) -> None:
    """Restores the meters by name; a meter that the checkpoint does not have starts at zero."""
    by_name = {state.get("name"): state for state in states}
    for meter in task.meters:
        if meter.name in by_name:
            meter.set_classy_state(by_name[meter.name])
        else:
            _log.warning("the checkpoint has no state of meter %r; it starts at zero", meter.name)


def _check_meters(task: ClassificationTask, states: list[dict[str, Any]]) -> None:
    """Refuses a new meter, which would measure the rest of an unfinished phase only."""
    known = [str(state.get("name")) for state in states]
    new = [meter.name for meter in task.meters if meter.name not in known]
    if new:
        raise CheckpointError(
            f"the checkpoint is from inside an epoch, with the counts of {', '.join(known) or 'no meter'} so far, and "
            f"not of {', '.join(new)}: resume with those meters, and add others after the end of the epoch"
        )


def _set_hook_states(hooks: Sequence[ClassyHook], states: dict[str, Any]) -> None:
    for hook in hooks:
        if hook.name() in states:
            hook.set_classy_state(states[hook.name()])
        else:
            _log.warning("the checkpoint has no state of hook %r; it starts from scratch", hook.name())


def with_key(error: Exception, key: str) -> str:
    """Returns the message of a model that does not accept a state, with the key of the config that is meant."""
    return f"{error} ({key}: false)" if str(error).endswith("strict=False") else str(error)


def set_model_state(model: Any, state: Any, strict: bool) -> None:
    """Loads the weights in a checkpoint of a task.

    Raises:
        CheckpointError: they do not fit.
    """
    try:
        model.set_classy_state(state, strict=strict)
    except StateMismatchError as error:
        raise CheckpointError(with_key(error, "checkpoint_load_strict")) from None


def evaluation_state(task: PlannedTask) -> dict[str, Any]:
    """Implements `ClassyTask.evaluation_state`."""
    meters = [meter.get_classy_state() for meter in task.meters]
    losses = LossLog(task.losses) if not isinstance(task.losses, LossLog) else task.losses
    return {"phase_idx": task.phase_idx, "losses": list(losses), "loss_rows": losses.rows, "meters": meters}


def set_evaluation_state(task: PlannedTask, state: dict[str, Any]) -> None:
    """Implements `ClassyTask.set_evaluation_state`."""
    task.phases, task.train = task.planned_phases(), False
    task.phase_idx, task.losses = state["phase_idx"], LossLog(state["losses"], state["loss_rows"])
    set_meter_states(task, state["meters"])


def checkpoint_structure(task: PlannedTask) -> Any:
    """Implements `ClassyTask.checkpoint_structure`."""
    shapes = {name: tuple(value.shape) for name, value in task.base_model.state_dict().items()}
    meters = [(meter.name, meter.get_classy_state().keys()) for meter in task.meters]
    optimizer = (type(task.optimizer), task.optimizer.type_name, task.optimizer.flags())
    return type(task), shapes, optimizer, meters, len(task.planned_phases())
