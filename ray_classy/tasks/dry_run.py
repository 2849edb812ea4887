"""Finds mistakes in a classification task in seconds, before anything is started: a dry run of one batch per phase."""

from __future__ import annotations

import contextlib
import copy
import logging
import os
import traceback
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import default_collate

from ray_classy.dataset import ClassyDataset, ClassyVideoDataset
from ray_classy.dataset.classy_dataset import class_indices
from ray_classy.dataset.plan import PhasePlan
from ray_classy.dataset.row_dataset import row_name
from ray_classy.dataset.transforms.mixup import MixupTransform
from ray_classy.errors import CheckpointError, ComponentError, DataError, RayClassyError, TaskError
from ray_classy.generic.util import map_tensors
from ray_classy.losses.loss_weight import ignored_index
from ray_classy.memory import reason_of
from ray_classy.seeding import derive_seed, host_rng_kept, seed_host
from ray_classy.tasks import device_checks, strategies
from ray_classy.tasks.classes import match_classes, named_targets
from ray_classy.tasks.replicas import BatchNormSyncMode
from ray_classy.tasks.resume import locate
from ray_classy.tasks.task_state import accumulation_period, check_parts, set_model_state
from ray_classy.tasks.try_step import try_step
from ray_classy.user_code import is_installed

if TYPE_CHECKING:
    from ray_classy.tasks.classification_task import ClassificationTask
    from ray_classy.tasks.planned_task import PlannedTask

_log = logging.getLogger(__name__)

STEP_METHODS = (
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
    """What the dry run showed of one dataset.

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


def preflight(task: ClassificationTask, world_size: int, on_gpu: bool | None, default_steps: bool) -> dict[str, DryRun]:
    """Implements `ClassyTask.preflight` for all but the weights that a run starts from.

    Args:
        task: stays as it is.
        world_size: number of ranks of the run.
        on_gpu: whether the workers have GPUs; None if each finds out for itself.
        default_steps: whether the task has our `STEP_METHODS`; otherwise no row is tried.

    Returns:
        What was seen, by phase type; a dataset with an `iterator` of its own is left out.
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
                f"{locate(task, 'dataset', phase_type)}{type(dataset).__name__} makes its batches itself, so that no "
                f"rows of it can be sampled: leave sampling out"
            )
    seen = {
        phase_type: _check_dataset(task, phase_type, task.datasets[phase_type], world_size, on_gpu, default_steps)
        for phase_type in sorted(used, reverse=True)
        if _has_rows(task.datasets[phase_type])
    }
    _check_optimizer(task, world_size)
    if world_size > 1 and not task.test_only:
        strategies.check(task)
    for index, hook in enumerate(task.hooks):
        try:
            hook.check(task)
        except ComponentError as error:
            raise type(error)(f"{locate(task, 'hooks', index)}{error}") from None
    return seen


def _check_devices(task: ClassificationTask, world_size: int, on_gpu: bool | None) -> None:
    if on_gpu is False or (on_gpu is None and not torch.cuda.is_available()):
        device = torch.device("cpu")
        if task.use_gpu:
            raise TaskError("use_gpu is true, but there is no GPU for this run: set use_gpu to false or null")
        if task.distributed_options.batch_norm_sync_mode is not BatchNormSyncMode.DISABLED:
            task.distributed_options.convert_batch_norm(torch.nn.Identity(), device, world_size)


def device_of(task: ClassificationTask, on_gpu: bool | None) -> torch.device:
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
    task: ClassificationTask,
    phase_type: str,
    dataset: ClassyDataset,
    world_size: int,
    on_gpu: bool | None,
    default_steps: bool,
) -> DryRun:
    try:
        if dataset.sampling is not None and phase_type == "test":
            raise ComponentError("sampling is for train phases, and this is the test dataset: leave it out")
        rows = dataset.rows_of_epoch(phase_type)
    except (DataError, ComponentError) as error:
        raise type(error)(f"{locate(task, 'dataset', phase_type)}{error}") from None
    if rows == 0:
        raise DataError(f"the {phase_type} dataset has no rows")
    batch = dataset.get_batchsize_per_replica() * world_size
    parts = dataset.phases_per_epoch if phase_type == "train" else 1
    if rows < parts:
        raise DataError(f"phases_per_epoch is {parts}, but the train dataset has {rows} rows; lower it")
    if phase_type == "train" and dataset.drop_last and rows // parts < batch:
        raise DataError(
            f"the {rows // parts} rows of a train phase do not fill one global batch of {batch} "
            f"({batch // world_size} x {world_size} workers) and drop_last is set: lower batchsize_per_replica, or set "
            f"drop_last to false"
        )
    if not default_steps:
        return DryRun(rows, None, None, dataset.num_classes)
    sample, device = small_batch(task, phase_type, dataset), device_of(task, on_gpu)
    with host_rng_kept():
        seed_host(derive_seed(task.seed))
        check_output = partial(_check_labels, task, phase_type, dataset)
        outputs, without_gradient = try_step(task, phase_type, sample, device, check_output)
        if phase_type == "train":
            _try_one_row(task, dataset, sample, world_size, device)
    _check_gradients(task, without_gradient, world_size)
    inputs = sample["input"]
    return DryRun(
        rows,
        tuple(inputs.shape[1:]) if isinstance(inputs, torch.Tensor) else None,
        outputs.shape[1] if isinstance(outputs, torch.Tensor) and outputs.ndim == 2 else None,
        dataset.num_classes,
    )


_ROWS_READ = 8
"""Rows that are read to find two of different sizes."""


def small_batch(task: ClassificationTask, phase_type: str, dataset: ClassyDataset) -> dict[str, Any]:
    """Returns a batch of two rows, of different sizes if there are such; of one row if batches have no more."""
    with host_rng_kept():
        seed_host(derive_seed(task.seed, 0, 0))
        rows = _two_rows(task, phase_type, dataset)
    try:
        return default_collate([row for _, row in rows])
    except (TypeError, RuntimeError, StopIteration, KeyError) as error:
        keys = [sorted(map(str, row)) for _, row in rows]
        if isinstance(error, KeyError) and keys[0] != keys[-1]:
            raise TaskError(
                f"samples of the {phase_type} dataset cannot be put together into a batch: row {rows[0][0]} has the "
                f"keys {keys[0]}, and row {rows[-1][0]} has {keys[-1]}. The transforms must give all samples the same "
                f"keys"
            ) from None
        sizes = [tuple(row["input"].shape) for _, row in rows if isinstance(row["input"], torch.Tensor)]
        if len(set(sizes)) > 1:
            raise TaskError(
                f"samples of the {phase_type} dataset cannot be put together into a batch: "
                f"{row_name(dataset, rows[0][0])} has size {sizes[0]}, and {row_name(dataset, rows[1][0])} has "
                f"{sizes[1]}. The transforms must make all samples the same size "
                f"(add Resize and CenterCrop, say), or set batchsize_per_replica to 1"
            ) from None
        raise TaskError(
            f"samples of the {phase_type} dataset cannot be put together into a batch: {reason_of(error)}. "
            f"The transforms must end in a tensor (add ToTensor, or ToImage and ToDtype)"
        ) from None


def _two_rows(task: ClassificationTask, phase_type: str, dataset: ClassyDataset) -> list[tuple[int, dict[str, Any]]]:
    """Returns the number and the sample of the first row, and of the first of another size or else the second."""
    bad, most_bad = 0, getattr(dataset.dataset, "max_bad_rows", 0)
    last: DataError | None = None
    rows: list[tuple[int, dict[str, Any]]] = []
    for index in range(len(dataset)):
        try:
            sample: Any = dataset[index]
        except DataError as error:
            bad, last = bad + 1, error
            if bad > most_bad:
                raise
            continue
        except RayClassyError:
            raise
        except Exception as error:
            raise TaskError(
                f"{locate(task, 'dataset', phase_type)}row {index} of the {phase_type} dataset cannot be read: "
                f"{reason_of(error).rstrip('.')}{_place_of(error)}. Correct the dataset or its transforms"
            ) from error
        if isinstance(sample, dict) and "input" in sample and "target" not in sample and dataset.without_targets:
            raise DataError(f"samples of the {phase_type} dataset have no targets: {dataset.without_targets}")
        if not isinstance(sample, dict) or not {"input", "target"} <= set(sample):
            raise TaskError(
                f"a sample of the {phase_type} dataset must be a dict with `input` and `target`, not "
                f"{sorted(map(str, sample)) if isinstance(sample, dict) else type(sample).__name__}: "
                f"change its transforms (tuple_to_map makes such a dict of a tuple)"
            )
        rows.append((index, sample))
        if dataset.get_batchsize_per_replica() == 1 or len(rows) == _ROWS_READ:
            break
        if getattr(sample["input"], "shape", None) != getattr(rows[0][1]["input"], "shape", None):
            return [rows[0], rows[-1]]
    if not rows:
        raise DataError(f"none of the {bad} rows of the {phase_type} dataset can be decoded: {last}") from last
    return rows[:2]


def _place_of(error: Exception) -> str:
    """Names the last line of the user's own code through which an error came; empty if there is none."""
    package = os.path.dirname(os.path.dirname(__file__))
    frames = traceback.extract_tb(error.__traceback__)
    own = [one for one in frames if not is_installed(one.filename) and not one.filename.startswith(package)]
    return f" (in {own[-1].filename}:{own[-1].lineno})" if own else ""


def _try_one_row(
    task: ClassificationTask, dataset: ClassyDataset, sample: dict[str, Any], world_size: int, device: torch.device
) -> None:
    """Tries a batch of one row, if a train phase has one: batch norm cannot train on it."""
    size, parts = dataset.get_batchsize_per_replica(), dataset.phases_per_epoch
    plans = [
        PhasePlan(
            dataset.rows_of_epoch("train"),
            size,
            world_size,
            train=True,
            drop_last=dataset.drop_last,
            part=(part, parts),
        )
        for part in (0, parts - 1)  # the parts of an epoch differ by one row at most
    ]
    if size == 1 or all(plan.fewest_rows != 1 for plan in plans):
        return
    one_row = map_tensors(sample, lambda value: value[:1] if value.ndim else value)
    try:
        try_step(task, "train", one_row, device)
    except RayClassyError as error:
        raise TaskError(
            f"{locate(task, 'dataset', 'train')}the last batch of a train phase has one row, and the model cannot be "
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
    if world_size == 1 or options.find_unused_parameters or strategies.strategy_of(task) == "fsdp":
        _log.warning("%s: %s", what, names)
        return
    raise TaskError(
        f"{locate(task, 'model')}{what}: {names}. On {world_size} workers DistributedDataParallel would fail in the "
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
        place = locate(task, "model", "heads", 0, "num_classes")
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
            f"{locate(task, 'mixup')}the loss ignores rows with label {ignored}, and the mixup those with label "
            f"{mixup.ignore_index}: set mixup.ignore_index to {ignored}"
        )
    bad = np.flatnonzero(((labels < 0) | (labels >= classes)) & (labels != ignored))
    if len(bad):
        raise DataError(
            f"{locate(task, 'dataset', phase_type)}row {bad[0]} of the {phase_type} dataset has label "
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
        place = locate(task, "model", "heads", heads.index(name), "num_classes") if name in heads else ""
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
            task.optimizer_schedulers = {name: one for name, one in schedules.items() if _is_ours(one)}
            task.prepare_optimizer(copy.deepcopy(task.optimizer), task.base_model, task.base_loss)
        except ComponentError as error:
            raise type(error)(f"{locate(task, 'optimizer')}{error}") from None
        except RayClassyError:
            raise
        except Exception as error:
            raise TaskError(
                f"{locate(task, 'optimizer')}the optimizer cannot take the model's parameters: {reason_of(error)}"
            ) from error
        finally:
            task.optimizer_schedulers = schedules
        accumulation_period(task, world_size)


def _is_ours(schedule: Any) -> bool:
    """Whether a schedule, and each part of a composite, is one of this package."""
    ours = type(schedule).__module__.startswith("ray_classy.")
    return ours and all(_is_ours(part) for part in getattr(schedule, "_schedulers", ()))


def check_checkpoint(task: PlannedTask, content: Mapping[str, Any], where: str | None) -> None:
    """Implements `ClassyTask.check_checkpoint`: tries the weights on a copy of the model."""
    state = content["classy_state_dict"]
    if "base_model" not in state:
        raise CheckpointError(f"the checkpoint {where!r} holds no model")
    match_classes(task, content, where)
    with trying_weights(task) as model:
        set_model_state(model, state["base_model"], task.checkpoint_load_strict)


@contextlib.contextmanager
def trying_weights(task: PlannedTask) -> Iterator[Any]:
    """Yields a copy of the task's model, to load weights into."""
    with warnings.catch_warnings():
        # A model on the meta device has shapes to compare with and no weights to overwrite; torch warns about that.
        warnings.filterwarnings("ignore", "for .*: copying from a non-meta parameter", UserWarning)
        yield copy.deepcopy(task.base_model)
