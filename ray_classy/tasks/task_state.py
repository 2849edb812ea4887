"""Prepares the parts of a classification task, and reads and restores its state."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ray_classy.checkpoint import load_checkpoint
from ray_classy.dataset import ClassyDataset
from ray_classy.distributed import is_distributed_training_run, is_primary
from ray_classy.errors import CheckpointError, ComponentError, MissingStateError, TaskError
from ray_classy.generic.checkpoint_util import read_and_broadcast
from ray_classy.losses import get_loss_state, set_loss_state
from ray_classy.models.model_state import StateMismatchError
from ray_classy.optim import ClassyOptimizer
from ray_classy.optim.param_scheduler.warmup import TrainingLength
from ray_classy.optim.sharded_state import full, gathering_for_primary
from ray_classy.optim.trained_parameters import trained_parameters
from ray_classy.tasks import state_schema
from ray_classy.tasks.loss_log import LossLog
from ray_classy.tasks.optimizer_state import restore_buffers
from ray_classy.tasks.phases import build_phases, position
from ray_classy.tasks.strategies import strategy_of, unshard

if TYPE_CHECKING:
    from ray_classy.hooks import ClassyHook
    from ray_classy.tasks.classification_task import ClassificationTask
    from ray_classy.tasks.planned_task import PlannedTask

_log = logging.getLogger(__name__)


def check_parts(task: ClassificationTask) -> None:
    """Refuses a task that lacks a part.

    Raises:
        TaskError: the message names the part and its setter.
    """
    if task.base_model is None:
        raise TaskError("the task has no model; call set_model")
    if task.base_loss is None:
        raise TaskError("the task has no loss; call set_loss")
    if task.optimizer is None and not task.test_only:
        raise TaskError("the task has no optimizer; call set_optimizer, or set_test_only to evaluate")


def phases_of(task: PlannedTask) -> list[dict[str, bool]]:
    """Returns the phases that the task's parts and options ask for."""
    return build_phases(
        task.num_epochs,
        task.train_phases_per_epoch or 1,
        task.test_phase_period,
        "train" in task.datasets,
        "test" in task.datasets,
        task.test_only,
    )


def choose_device(use_gpu: bool | None) -> torch.device:
    """Returns the device of this process.

    Raises:
        TaskError: a GPU is asked for and this process has none.
    """
    available = torch.cuda.is_available()
    if use_gpu and not available:
        raise TaskError("use_gpu is true, but this process sees no GPU: set use_gpu to false, or give the worker one")
    if use_gpu is False or not available:
        return torch.device("cpu")
    return torch.device("cuda", torch.cuda.current_device())


def accumulation_period(task: ClassificationTask, world_size: int | None = None) -> int:
    """Returns the number of train steps per optimizer update.

    Args:
        task: asks for a simulated batch size; a period that the trainer wants takes its place.
        world_size: number of ranks of a planned run; None for the ranks of this process's group.

    Raises:
        ComponentError: the simulated batch size is not a multiple of the global one.
    """
    if task.wanted_period is not None and world_size is None:
        return task.wanted_period
    simulated = task.simulated_global_batchsize
    if simulated is None:
        return 1
    actual = task.get_batchsize_per_replica() * world_size if world_size else task.get_global_batchsize()
    if simulated < actual or simulated % actual:
        raise ComponentError(
            f"simulated_global_batchsize {simulated} is not a multiple of the global batch size {actual} "
            f"({task.get_batchsize_per_replica()} x {actual // task.get_batchsize_per_replica()} ranks)"
        )
    return simulated // actual


def set_param_groups(
    optimizer: ClassyOptimizer,
    model: nn.Module,
    loss: nn.Module | None,
    schedulers: Mapping[str, Any],
    bn_weight_decay: bool,
) -> None:
    """Gives the optimizer its groups: by default all other parameters, then those of batch-norm layers."""
    trained = trained_parameters(model, loss)
    optimizer.set_param_groups(optimizer.make_groups(trained, schedulers, bn_weight_decay))


def tell_length(task: ClassificationTask) -> None:
    """Tells the length of the training to the schedules that need it.

    Raises:
        TaskError: the length of the train dataset is not known.
    """
    waiting = [one for one in task.optimizer_schedulers.values() if getattr(one, "needs_length", False)]
    if waiting:
        length = training_length(task)
        for scheduler in waiting:
            scheduler.set_length(length)


def training_length(task: ClassificationTask) -> TrainingLength:
    """Returns the number of steps of each train phase, on as many ranks as there are, and of updates.

    Raises:
        TaskError: the length of the train dataset is not known.
    """
    dataset, parts = task.datasets.get("train"), task.train_phases_per_epoch or 1
    if not isinstance(dataset, ClassyDataset) or not hasattr(dataset.dataset, "__len__"):
        raise TaskError("a warmup needs a train dataset whose number of rows is known: use a composite schedule")
    steps = [dataset.plan("train", part).num_steps for part in range(parts)]
    phases = task.get_total_training_phases()
    return TrainingLength(tuple(steps[phase % parts] for phase in range(phases)), task.optimizer_period, parts)


def take_checkpoint(task: PlannedTask) -> dict[str, Any] | None:
    """Returns the content of the checkpoint to start from, on every rank; the task keeps only what a user set.

    Raises:
        CheckpointError: it cannot be read; every rank raises it.
    """
    kept = None if task.checkpoint_dict is None else task._kept_checkpoint_dict
    content, task.checkpoint_dict = read_checkpoint(task.checkpoint_dict, task.checkpoint_path), kept
    if content is None or content is not kept:
        return content
    state = content.get("classy_state_dict") if isinstance(content, Mapping) else None
    if not isinstance(state, Mapping):
        raise MissingStateError("the content of the checkpoint has no `classy_state_dict`, the state of a task")
    # The optimizer and the hooks change in place what they load; a model copies it.
    copied = {name: value if name == "base_model" else copy.deepcopy(value) for name, value in state.items()}
    return {**content, "classy_state_dict": copied}


def read_checkpoint(content: dict[str, Any] | None, path: str | None) -> dict[str, Any] | None:
    """Returns the checkpoint to start from, on every rank: `content`, or what the primary rank reads at `path`.

    Raises:
        CheckpointError: it cannot be read; every rank raises it.
    """
    return content if content is not None or path is None else read_and_broadcast(path, load_checkpoint)


def get_state(task: ClassificationTask) -> dict[str, Any]:
    """Returns the state of all parts; its tensors are shared with the live objects."""
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
    return full(state) if task._sharded is not None else state


def gather_state(task: ClassificationTask) -> dict[str, Any] | None:
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
            tell_length(task)
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
