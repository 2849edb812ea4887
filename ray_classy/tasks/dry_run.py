"""Finds mistakes in a classification task in seconds, before anything is started: a dry run of one batch per phase."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ray_classy.config.places import locate
from ray_classy.dataset import ClassyDataset, ClassyVideoDataset
from ray_classy.dataset.known_classes import class_indices
from ray_classy.dataset.plan import PhasePlan
from ray_classy.dataset.transforms.mixup import MixupTransform
from ray_classy.errors import ComponentError, DataError, RayClassyError, TaskError
from ray_classy.generic.util import map_tensors
from ray_classy.losses.loss_weight import ignored_index
from ray_classy.memory import reason_of
from ray_classy.seeding import derive_seed, host_rng_kept, seed_host
from ray_classy.tasks import device_checks, sharding
from ray_classy.tasks.classes import named_targets
from ray_classy.tasks.preparation import accumulation_period, check_parts
from ray_classy.tasks.replicas import BatchNormSyncMode
from ray_classy.tasks.small_batch import small_batch
from ray_classy.tasks.try_step import try_step
from ray_classy.tasks.user_calls import is_ours

if TYPE_CHECKING:
    from ray_classy.tasks.classification_task import ClassificationTask
    from ray_classy.tasks.planned_task import PlannedTask

_log = logging.getLogger(__name__)

_STEP_METHODS = (
    "prepare",
    "build_dataloader_from_dataset",
    "build_dataloaders_for_current_phase",
    "create_data_iterators",
    "train_step",
    "eval_step",
)
"""Methods that decide what reaches `compute_model`, and when: a task that overrides one is not tried on rows."""


@dataclass(frozen=True)
class DryRun:
    """Results of the dry run of one dataset.

    Attributes:
        rows: number of rows of an epoch.
        input_shape: shape of one sample's input; None if it is not a tensor, or no row was tried.
        outputs: number of the model's outputs per sample; None if they are not a vector, or no row was tried.
        classes: number of classes; None if the dataset does not know it.
    """

    rows: int
    input_shape: tuple[int, ...] | None
    outputs: int | None
    classes: int | None


def dry_run(task: ClassificationTask, world_size: int, on_gpu: bool | None) -> dict[str, DryRun]:
    """Implements `ClassyTask.preflight` for all but the weights that a run starts from.

    Args:
        task: stays as it is.
        world_size: number of ranks of the run.
        on_gpu: whether the workers have GPUs; None if each finds out for itself.

    Returns:
        The results by phase type; a dataset with an `iterator` of its own is left out.
    """
    check_parts(task)
    device_checks.check(task, world_size)
    phases = task.planned_phases()
    _check_devices(task, world_size, on_gpu)
    used = {"train" if phase["train"] else "test" for phase in phases}
    for phase_type in sorted(used):
        dataset = task.datasets[phase_type]
        if getattr(dataset, "sampling", None) is not None and not _has_rows(dataset):
            raise ComponentError(
                f"{locate(task.built_from, 'dataset', phase_type)}"
                f"{type(dataset).__name__} makes its batches itself, so that no "
                f"rows of it can be sampled: leave sampling out"
            )
    seen = {
        phase_type: _check_dataset(task, phase_type, task.datasets[phase_type], world_size, on_gpu)
        for phase_type in sorted(used, reverse=True)
        if _has_rows(task.datasets[phase_type])
    }
    _check_optimizer(task, world_size)
    if world_size > 1 and not task.test_only:
        sharding.check(task)
    for index, hook in enumerate(task.hooks):
        try:
            hook.check(task)
        except ComponentError as error:
            raise type(error)(f"{locate(task.built_from, 'hooks', index)}{error}") from None
    return seen


def _check_devices(task: ClassificationTask, world_size: int, on_gpu: bool | None) -> None:
    if on_gpu is False or (on_gpu is None and not torch.cuda.is_available()):
        device = torch.device("cpu")
        if task.use_gpu:
            raise TaskError("use_gpu is true, but there is no GPU for this run: set use_gpu to false or null")
        if task.distributed_options.batch_norm_sync_mode is not BatchNormSyncMode.DISABLED:
            task.distributed_options.convert_batch_norm(torch.nn.Identity(), device, world_size)


def device_of(task: PlannedTask, on_gpu: bool | None) -> torch.device:
    """Returns the kind of device that the run computes on."""
    if on_gpu is None:
        on_gpu = task.use_gpu is not False and torch.cuda.is_available()
    return torch.device("cuda" if on_gpu else "cpu")


def _has_rows(dataset: Any) -> bool:
    """Returns whether a dataset is read by row, as `ClassyDataset` does."""
    by_row = (ClassyDataset.iterator, ClassyVideoDataset.iterator)
    if not isinstance(dataset, ClassyDataset) or type(dataset).iterator not in by_row:
        return False
    return hasattr(getattr(dataset, "dataset", None), "__len__")


def _check_dataset(
    task: ClassificationTask, phase_type: str, dataset: ClassyDataset, world_size: int, on_gpu: bool | None
) -> DryRun:
    try:
        if dataset.sampling is not None and phase_type == "test":
            raise ComponentError("sampling is for train phases, and this is the test dataset: leave it out")
        plans = _plans(dataset, phase_type, world_size)
        for plan in plans:
            plan.check()
    except (DataError, ComponentError) as error:
        raise type(error)(f"{locate(task.built_from, 'dataset', phase_type)}{error}") from None
    rows = plans[0].num_rows
    if device_checks.overrides(task, _STEP_METHODS):
        return DryRun(rows, None, None, dataset.num_classes)
    sample, device = small_batch(task, phase_type, dataset), device_of(task, on_gpu)
    with host_rng_kept():
        seed_host(derive_seed(task.seed))
        check_output = partial(_check_labels, task, phase_type, dataset)
        outputs, without_gradient = try_step(task, phase_type, sample, device, check_output)
        if phase_type == "train":
            _try_one_row(task, plans, sample, device)
    _check_gradients(task, without_gradient, world_size)
    inputs = sample["input"]
    return DryRun(
        rows,
        tuple(inputs.shape[1:]) if isinstance(inputs, torch.Tensor) else None,
        outputs.shape[1] if isinstance(outputs, torch.Tensor) and outputs.ndim == 2 else None,
        dataset.num_classes,
    )


def _plans(dataset: ClassyDataset, phase_type: str, world_size: int) -> list[PhasePlan]:
    """Returns the plans of the first and the last part of an epoch; all parts differ by one row at most."""
    train, rows = phase_type == "train", dataset.rows_of_epoch(phase_type)
    parts = dataset.phases_per_epoch if train else 1
    size = dataset.get_batchsize_per_replica()
    return [
        PhasePlan(rows, size, world_size, train=train, drop_last=dataset.drop_last, part=(part, parts))
        for part in (0, parts - 1)
    ]


def _try_one_row(
    task: ClassificationTask, plans: Sequence[PhasePlan], sample: dict[str, Any], device: torch.device
) -> None:
    """Tries a batch of one row, if a train phase has one: batch norm cannot train on it."""
    size = plans[0].batch_size
    if size == 1 or all(plan.fewest_rows != 1 for plan in plans):
        return
    one_row = map_tensors(sample, lambda value: value[:1] if value.ndim else value)
    try:
        try_step(task, "train", one_row, device)
    except RayClassyError as error:
        raise TaskError(
            f"{locate(task.built_from, 'dataset', 'train')}"
            f"the last batch of a train phase has one row, and the model cannot be "
            f"trained on it: {error}. Set drop_last to true, or another batchsize_per_replica than {size}"
        ) from error


def _check_gradients(task: ClassificationTask, without_gradient: list[str], world_size: int) -> None:
    """Refuses parameters without gradients where DistributedDataParallel would wait for them; else warns."""
    if not without_gradient:
        return
    names = ", ".join(without_gradient[:5]) + (", ..." if len(without_gradient) > 5 else "")
    number = len(without_gradient)
    what = f"{number} parameter{'s' if number > 1 else ''} got no gradient in a train step and will not be trained"
    options = task.distributed_options
    if world_size == 1 or options.find_unused_parameters or sharding.strategy_of(task) == "fsdp":
        _log.warning("%s: %s", what, names)
        return
    raise TaskError(
        f"{locate(task.built_from, 'model')}"
        f"{what}: {names}. On {world_size} workers DistributedDataParallel would fail in the "
        f"second step. Remove these layers (they may lie behind the head), freeze them (requires_grad, or the key "
        f"`freeze` of a fine_tuning task), or set distributed.find_unused_parameters to true"
    )


def _check_labels(task: ClassificationTask, phase_type: str, dataset: ClassyDataset, outputs: Any) -> None:
    """Class indices must be below the number of outputs."""
    if isinstance(outputs, Mapping):
        _check_targets(task, phase_type, dataset, outputs)
        return
    if not isinstance(outputs, torch.Tensor) or outputs.ndim != 2:
        return
    classes = outputs.shape[1]
    known = dataset.num_classes
    if known is not None and known > classes:
        place = locate(task.built_from, "model", "heads", 0, "num_classes")
        raise DataError(
            f"{place}the {phase_type} dataset has {known} classes, but the model has {classes} outputs: "
            f"set the head's num_classes (or the model's last layer) to {known}"
        )
    labels = class_indices(dataset)
    if labels is None:
        return
    ignored = ignored_index(task.base_loss)
    mixup = task.mixup_transform if phase_type == "train" else None
    if isinstance(mixup, MixupTransform) and mixup.ignore_index != ignored and (labels == ignored).any():
        raise ComponentError(
            f"{locate(task.built_from, 'mixup')}"
            f"the loss ignores rows with label {ignored}, and the mixup those with label "
            f"{mixup.ignore_index}: set mixup.ignore_index to {ignored}"
        )
    bad = np.flatnonzero(((labels < 0) | (labels >= classes)) & (labels != ignored))
    if len(bad):
        raise DataError(
            f"{locate(task.built_from, 'dataset', phase_type)}row {bad[0]} of the {phase_type} dataset has label "
            f"{labels[bad[0]]}, but the model has {classes} "
            f"outputs, so labels must be in [0, {classes}): correct the labels, or the head's num_classes "
            f"({len(bad)} of {len(labels)} rows are out of range); a loss with `ignore_index` ignores the rows of one "
            f"label"
        )


def _check_targets(
    task: ClassificationTask, phase_type: str, dataset: ClassyDataset, outputs: Mapping[str, Any]
) -> None:
    """Each of several targets must have no more classes than the head of its name has outputs."""
    for name, column in named_targets(dataset).items():
        output = outputs.get(name)
        if not isinstance(output, torch.Tensor) or output.ndim != 2 or output.shape[1] >= column.num_classes:
            continue
        heads = [head.unique_id for heads in task.base_model.get_heads().values() for head in heads]
        place = locate(task.built_from, "model", "heads", heads.index(name), "num_classes") if name in heads else ""
        raise DataError(
            f"{place}target {name!r} of the {phase_type} dataset has {column.num_classes} classes, but head {name!r} "
            f"has {output.shape[1]} outputs: set num_classes of the head to {column.num_classes}, or leave it out"
        )


def _check_optimizer(task: ClassificationTask, world_size: int) -> None:
    """Tries a copy of the optimizer, with its schedules, on the model's parameters.

    Users' schedules are left out, because they may count how often they are evaluated.
    """
    if not task.test_only:
        schedules = task.optimizer_schedulers
        try:
            task.optimizer_schedulers = {name: one for name, one in schedules.items() if _has_our_parts(one)}
            optimizer = copy.deepcopy(task.optimizer)
            task.prepare_optimizer(optimizer, task.base_model, task.base_loss)
            if world_size > 1:
                sharding.check_optimizer(task, optimizer)
        except ComponentError as error:
            raise type(error)(f"{locate(task.built_from, 'optimizer')}{error}") from None
        except RayClassyError:
            raise
        except Exception as error:
            raise TaskError(
                f"{locate(task.built_from, 'optimizer')}"
                f"the optimizer cannot take the model's parameters: {reason_of(error)}"
            ) from error
        finally:
            task.optimizer_schedulers = schedules
        accumulation_period(task, world_size)


def _has_our_parts(schedule: Any) -> bool:
    """Whether a schedule, and each part of a composite, is one of this package."""
    return is_ours(schedule) and all(_has_our_parts(part) for part in getattr(schedule, "_schedulers", ()))
