"""Prepares a classification task for training in this process: builds what derives from its parts and options."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import torch

from ray_classy.checkpoint.content import generators_of
from ray_classy.distributed import get_world_size, is_primary
from ray_classy.errors import ComponentError, TaskError
from ray_classy.seeding import use_deterministic_algorithms
from ray_classy.tasks import classes, device_checks, sharding
from ray_classy.tasks.device_options import DeviceSetup
from ray_classy.tasks.option import assume
from ray_classy.tasks.precision import log_remark
from ray_classy.tasks.schedule_length import set_schedule_length
from ray_classy.tasks.starting_weights import load_starting_weights, take_checkpoint
from ray_classy.tasks.update_step import UpdateStep

if TYPE_CHECKING:
    from ray_classy.tasks.classification_task import ClassificationTask
    from ray_classy.tasks.planned_task import PlannedTask

_log = logging.getLogger(__name__)


def prepare(task: ClassificationTask) -> None:
    """Implements `ClassificationTask.prepare`."""
    task._before_prepare()
    check_parts(task)
    device_checks.check(task, get_world_size())
    if task.deterministic:
        use_deterministic_algorithms()
    task.phases = task.planned_phases()
    task.train = not task.test_only
    task.device = choose_device(task.use_gpu)
    assume(task, "use_gpu", task.device.type == "cuda")
    log_remark(task.precision, task.device)
    task.base_model, task.base_loss = task.base_model.to(task.device), task.base_loss.to(task.device)
    task.device_setup = DeviceSetup()
    task.device_setup.set_up(task)
    model = task.distributed_options.convert_batch_norm(task.base_model, task.device, get_world_size())
    task.base_model = model.to(task.device)
    if not task.test_only:
        task.prepare_optimizer(task.optimizer, task.base_model, task.base_loss)
        sharding.set_up(task)
        task.optimizer_period = accumulation_period(task)
        set_schedule_length(task)
        scaler = task.precision.scaler(task.device) if task.precision is not None else None
        task.update_step = UpdateStep(task.optimizer_period, task.clip_grad_norm, scaler)
    task._load_weights()
    task.device_setup.compile(task)
    task.init_distributed_data_parallel_model()


def load_weights(task: ClassificationTask) -> None:
    """Loads the checkpoint to start from, if one is set, and else the weights that the config of the model names."""
    content = take_checkpoint(task)
    task.loaded_checkpoint = content is not None
    classes.match_classes(task, content)
    if content is not None:
        task.set_classy_state(content["classy_state_dict"])
        task.generators = generators_of(content)
    elif task.base_model.starting_weights is not None:
        load_starting_weights(task)
        log_weights(task)


def log_weights(task: PlannedTask) -> None:
    """Logs which pretrained weights were loaded."""
    for line in task.weights_note() if is_primary() else ():
        _log.info("%s", line)


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
