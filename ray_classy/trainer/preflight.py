"""What can be found wrong with a task in seconds, before anything is started for it."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import default_collate

from ray_classy.checkpoint import load_checkpoint
from ray_classy.config import dotted, mark_of
from ray_classy.dataset import ClassyDataset
from ray_classy.dataset.classy_dataset import class_indices, class_names
from ray_classy.errors import CheckpointError, ComponentError, DataError, RayClassyError, TaskError
from ray_classy.generic.util import recursive_copy_to_device
from ray_classy.seeding import derive_seed, host_rng_kept, seed_host
from ray_classy.tasks import ClassificationTask, ClassyTask, FineTuningTask, strategies
from ray_classy.tasks.replicas import BatchNormSyncMode
from ray_classy.tasks.task_state import accumulation_period, check_parts, take_pretrained

_OWN_WAYS = (
    "prepare",
    "build_dataloader_from_dataset",
    "build_dataloaders_for_current_phase",
    "create_data_iterators",
    "train_step",
    "eval_step",
)
"""Methods that decide what reaches `compute_model`, and when: a task that overrides one is not tried on a row."""


@dataclass(frozen=True)
class Trial:
    """What the first row of a dataset showed.

    Attributes:
        rows: in the dataset.
        input_shape: of one sample's input; None if that is no tensor, or no row was tried.
        outputs: the model's outputs per sample; None if they are no vector, or no row was tried.
        classes: the dataset's; None if it does not know them.
    """

    rows: int
    input_shape: tuple[int, ...] | None
    outputs: int | None
    classes: int | None


def preflight(task: ClassyTask, world_size: int = 1, on_gpu: bool | None = None) -> dict[str, Trial]:
    """Tries the parts of a task on one row each, and reads the checkpoint it is to start from.

    Args:
        task: not changed, but for the checkpoint's content, which it holds afterwards.
        world_size: ranks of the run.
        on_gpu: whether the workers have GPUs; None if that is for each to find out.

    Returns:
        What was seen, by the types of the run's phases; nothing of a task that is no `ClassificationTask`, or of a
        dataset that is iterated in a way of its own.

    Raises:
        TaskError, DataError, CheckpointError: what would have stopped the run.
    """
    if not isinstance(task, ClassyTask):
        raise TaskError(f"a trainer trains a ClassyTask, not {type(task).__name__}; build one with build_task")
    if not isinstance(task, ClassificationTask):
        return {}
    check_parts(task)
    phases = task._build_phases()
    _check_devices(task, on_gpu)
    used = {"train" if phase["train"] else "test" for phase in phases}
    trials = {
        phase_type: _check_dataset(task, phase_type, task.datasets[phase_type], world_size)
        for phase_type in sorted(used, reverse=True)
        if _has_rows(task.datasets[phase_type])
    }
    _check_classes(task)
    _check_optimizer(task, world_size)
    if world_size > 1 and not task.test_only:
        strategies.check(task)
    if isinstance(task, FineTuningTask):
        task.check_frozen()
    _check_checkpoint(task)
    return trials


def _check_devices(task: ClassificationTask, on_gpu: bool | None) -> None:
    if on_gpu is False or (on_gpu is None and not torch.cuda.is_available()):
        device = torch.device("cpu")
        if task.use_gpu:
            raise TaskError("use_gpu is true, but there is no GPU for this run: set use_gpu to false or null")
        if task.precision is not None:
            task.precision.scaler(device)
        if task.distributed_options.batch_norm_sync_mode is not BatchNormSyncMode.DISABLED:
            task.distributed_options.convert_batch_norm(torch.nn.Identity(), device)


def _has_rows(dataset: Any) -> bool:
    """Whether a dataset is read by row, as `ClassyDataset` does it."""
    if not isinstance(dataset, ClassyDataset) or type(dataset).iterator is not ClassyDataset.iterator:
        return False
    return hasattr(getattr(dataset, "dataset", None), "__len__")


def _check_dataset(task: ClassificationTask, phase_type: str, dataset: ClassyDataset, world_size: int) -> Trial:
    rows = len(dataset)
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
    if any(getattr(type(task), name) is not getattr(ClassificationTask, name) for name in _OWN_WAYS):
        return Trial(rows, None, None, dataset.num_classes)
    sample = _first_sample(phase_type, dataset, task.seed)
    with host_rng_kept(), torch.no_grad():
        seed_host(derive_seed(task.seed))
        if phase_type == "train" and task.mixup_transform is not None:
            sample = task.mixup_transform(sample)
        outputs = _try_model(task, phase_type, sample)
    _check_labels(task, phase_type, dataset, outputs)
    inputs = sample["input"]
    return Trial(
        rows,
        tuple(inputs.shape[1:]) if isinstance(inputs, torch.Tensor) else None,
        outputs.shape[1] if isinstance(outputs, torch.Tensor) and outputs.ndim == 2 else None,
        dataset.num_classes,
    )


def _first_sample(phase_type: str, dataset: ClassyDataset, seed: int) -> dict[str, Any]:
    with host_rng_kept():
        seed_host(derive_seed(seed, 0, 0))
        sample: Any = None
        for index in range(min(len(dataset), 1 + getattr(dataset.dataset, "max_bad_rows", 0))):
            try:
                sample = dataset[index]
                break
            except DataError:
                if index == getattr(dataset.dataset, "max_bad_rows", 0):
                    raise
    if not isinstance(sample, dict) or not {"input", "target"} <= set(sample):
        raise TaskError(
            f"a sample of the {phase_type} dataset must be a dict with `input` and `target`, not "
            f"{sorted(map(str, sample)) if isinstance(sample, dict) else type(sample).__name__}: "
            f"change its transforms (tuple_to_map makes such a dict of a tuple)"
        )
    try:
        return default_collate([sample])
    except TypeError as error:
        raise TaskError(
            f"samples of the {phase_type} dataset cannot be put together into a batch: {str(error).splitlines()[0]}. "
            f"The transforms must end in a tensor (add ToTensor, or ToImage and ToDtype)"
        ) from None


def _try_model(task: ClassificationTask, phase_type: str, sample: dict[str, Any]) -> Any:
    """The model's output for a batch of one row; the loss and the meters are tried on it."""
    model, training, target = task.base_model, task.base_model.training, sample["target"]
    shape = tuple(sample["input"].shape) if isinstance(sample["input"], torch.Tensor) else type(sample["input"])
    step, was_train = "model", task.train
    task.train = False
    parameter = next(model.parameters(), None)
    if parameter is not None:  # on the meta device, or where an earlier training left it
        sample = recursive_copy_to_device(sample, False, parameter.device)
    try:
        model.eval()
        output = task.compute_model(sample)
        step = "loss"
        loss = task.compute_loss(output, sample)
        if loss.numel() != 1 or getattr(task.base_loss, "reduction", "mean") == "none":  # one row hides it
            raise ValueError(f"it has shape {tuple(loss.shape)}; a task needs one number (reduction: mean)")
        step = "meters"
        for meter in task.meters:
            try:
                meter.validate(output.shape, sample["target"].shape)
            except ComponentError as error:
                raise ComponentError(f"{_place(task, 'meters', meter.name)}{error}") from None
    except RayClassyError:
        raise
    except Exception as error:
        raise TaskError(
            f"{_place(task, step)}the {step} cannot take a row of the {phase_type} dataset (input {shape}, target "
            f"{_shown_target(target)}): {type(error).__name__}: {error}"
        ) from error
    finally:
        model.train(training)
        task.train = was_train
    return output


def _shown_target(target: Any) -> str:
    return str(target.tolist() if isinstance(target, torch.Tensor) and target.numel() < 8 else type(target).__name__)


def _place(task: ClassificationTask, *path: str | int) -> str:
    """Where in the task's config something stands, as the beginning of a message; empty if there is no config."""
    config = getattr(task, "_config", None)
    if config is None or getattr(config, "file", None) is None:
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


def _check_labels(task: ClassificationTask, phase_type: str, dataset: ClassyDataset, outputs: Any) -> None:
    """Class indices must be below the number of outputs."""
    if not isinstance(outputs, torch.Tensor) or outputs.ndim != 2:
        return
    classes = outputs.shape[1]
    known = dataset.num_classes
    if known is not None and known > classes:
        place = _place(task, "model", "heads", 0, "num_classes")
        raise DataError(
            f"{place}the {phase_type} dataset has {known} classes, but the model has {classes} outputs: "
            f"set the head's num_classes (or the model's last layer) to {known}"
        )
    labels = class_indices(dataset)
    if labels is None:
        return
    bad = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(bad):
        raise DataError(
            f"{_place(task, 'dataset', phase_type)}row {bad[0]} of the {phase_type} dataset has label "
            f"{labels[bad[0]]}, but the model has {classes} "
            f"outputs, so labels must be in [0, {classes}): correct the labels, or the head's num_classes "
            f"({len(bad)} of {len(labels)} rows are out of range)"
        )


def _check_classes(task: ClassificationTask) -> None:
    names = {kind: class_names(dataset) for kind, dataset in task.datasets.items()}
    train, test = names.get("train"), names.get("test")
    if train and test and train != test:
        missing, extra = sorted(set(train) - set(test)), sorted(set(test) - set(train))
        raise DataError(
            f"{_place(task, 'dataset', 'test')}the train and the test dataset do not have the same classes, so their "
            f"labels mean different things: "
            f"only in train: {missing[:5]}, only in test: {extra[:5]}. "
            f"Give both the same list (dataset.test.classes), or correct the folders"
        )


def check_known_classes(task: Any, content: Mapping[str, Any], where: str | None) -> None:
    """Looks whether the task's datasets have the classes of those that a checkpoint was written with.

    Args:
        task: with its datasets.
        content: the checkpoint's.
        where: its path, if it is known, for an error.

    Raises:
        DataError: they have others, so that the outputs of the model would get another meaning.
    """
    known = (content.get("ray_classy") or {}).get("classes") or {}
    for phase_type, dataset in task.datasets.items():
        before, now = known.get(phase_type) or known.get("train") or known.get("test"), class_names(dataset)
        if before is None or now is None or now == list(before):
            continue
        kinds = (("then", [n for n in before if n not in set(now)]), ("now", [n for n in now if n not in set(before)]))
        what = "; ".join(f"only {when}: {names[:5]}" for when, names in kinds if names) or "in another order"
        raise DataError(
            f"{_place(task, 'dataset', phase_type)}the {phase_type} dataset has other classes than those that the "
            f"checkpoint{f' {where}' if where else ''} was trained on: {what}. So that labels mean the same, give it "
            f"the data of then, or those {len(before)} classes in their order (`classes: [{', '.join(before[:3])}, "
            f"...]`; the checkpoint has them under ['ray_classy']['classes'])"
        )


def _check_optimizer(task: ClassificationTask, world_size: int) -> None:
    """Tries a copy of the optimizer, with its schedules, on the model's parameters."""
    if not task.test_only:
        task.prepare_optimizer(copy.deepcopy(task.optimizer), task.base_model, task.base_loss)
        accumulation_period(task, world_size)


def _check_checkpoint(task: ClassificationTask) -> None:
    """Reads the checkpoints that are set, and tries the weights on a copy of the model."""
    with warnings.catch_warnings():
        # A model on the meta device has shapes to compare with and no weights to overwrite, which torch remarks on.
        warnings.filterwarnings("ignore", "for .*: copying from a non-meta parameter", UserWarning)
        _try_checkpoint(task)


def _try_checkpoint(task: ClassificationTask) -> None:
    if task.checkpoint_dict is None and task.checkpoint_path is not None:
        task.checkpoint_dict = load_checkpoint(task.checkpoint_path)
    if task.checkpoint_dict is not None:
        state = task.checkpoint_dict["classy_state_dict"]
        if "base_model" not in state:
            raise CheckpointError(f"the checkpoint {task.checkpoint_path!r} holds no model")
        check_known_classes(task, task.checkpoint_dict, task.checkpoint_path)
        copy.deepcopy(task.base_model).set_classy_state(state["base_model"], strict=task.checkpoint_load_strict)
        return
    if isinstance(task, FineTuningTask):
        content = task._read_pretrained()
        if not task.reset_heads:
            check_known_classes(task, content, task.pretrained_checkpoint_path)
        task._set_pretrained_checkpoint_dict(content)
        strict = task.pretrained_checkpoint_load_strict
        take_pretrained(copy.deepcopy(task.base_model), content, task.reset_heads, strict)
