"""Tries a step of a task on a few rows: what a train or a test step runs, except for the update."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ray_classy.config.places import locate
from ray_classy.errors import ComponentError, RayClassyError, TaskError
from ray_classy.generic.copies import copied
from ray_classy.generic.util import recursive_copy_to_device
from ray_classy.losses import MultiTargetLoss
from ray_classy.memory import reason_of
from ray_classy.tasks.compilation import uncompiled
from ray_classy.tasks.image_size import resized, size_of_phase
from ray_classy.tasks.precision import autocast
from ray_classy.tasks.user_calls import is_ours

if TYPE_CHECKING:
    from ray_classy.tasks.classification_task import ClassificationTask

_SHAPE_WARNING = "Using a target size .* that is different to the input size"
_NEEDS_ONE_VALUE_PER_OUTPUT = tuple(
    getattr(nn, name)
    for name in (
        "L1Loss",
        "MSELoss",
        "SmoothL1Loss",
        "HuberLoss",
        "KLDivLoss",
        "PoissonNLLLoss",
        "BCELoss",
        "BCEWithLogitsLoss",
        "HingeEmbeddingLoss",
        "SoftMarginLoss",
        "MultiLabelMarginLoss",
        "MultiLabelSoftMarginLoss",
    )
)
"""Losses of torch that compare outputs with targets of their shape; some broadcast another shape in silence."""
_ONE_WEIGHT_PER_CLASS = (nn.CrossEntropyLoss, nn.NLLLoss, nn.MultiMarginLoss)


def try_step(
    task: ClassificationTask,
    phase_type: str,
    sample: dict[str, Any],
    device: torch.device,
    check_output: Callable[[Any], None] = lambda output: None,
) -> tuple[Any, list[str]]:
    """Runs model, loss, meters and, for rows of the train dataset, the backward pass; the task stays as it is.

    A loss or a meter that cannot be copied is not tried, nor is the backward pass without the loss.

    Args:
        task: its model is where it is, on the host or on the meta device.
        phase_type: "train" or "test".
        sample: a batch.
        device: where the run computes; elsewhere mixed precision is not tried.
        check_output: called with the model's output, before the loss is.

    Returns:
        The output of the model, and the names of the trained parameters that got no gradient.

    Raises:
        TaskError: a part cannot take the rows.
    """
    inputs, target = sample["input"], sample["target"]
    shape = tuple(inputs.shape) if isinstance(inputs, torch.Tensor) else type(inputs).__name__
    train = phase_type == "train"
    if train and task.mixup_transform is not None:
        sample = mixed(task, sample)
    if train and task.image_size is not None:
        sample = {**sample, "input": resized(sample["input"], size_of_phase(task, 0))}
    step = "model"
    parameter = next(task.base_model.parameters(), None)
    here = torch.device("cpu") if parameter is None else parameter.device  # where an earlier training left it
    if parameter is not None:
        sample = recursive_copy_to_device(sample, False, here)
    precision = task.precision if here.type == device.type else None
    base_loss, meters = copied(task.base_loss), [copied(meter) for meter in task.meters]
    loss = None
    try:
        with (
            as_it_was(task, here, base_loss, [meter for meter in meters if meter is not None]),
            torch.set_grad_enabled(train),
        ):
            task._freeze()
            task.train = train
            task._set_model_train_mode()
            with autocast(precision, here):
                output = _output(task, sample, train)
                check_output(output)
                step = "loss"
                if base_loss is not None:
                    loss = _tried_loss(task, output, sample)
            step = "meters"
            _try_meters(task, output, sample)
            if not train or loss is None:
                return _detached(output), []
            step = "loss"
            loss.backward()
            return _detached(output), _without_gradient(task)
    except RayClassyError:
        raise
    except Exception as error:
        raise TaskError(
            f"{locate(task.built_from, step)}"
            f"the {step} cannot take rows of the {phase_type} dataset (input {shape}, target "
            f"{_shown_target(target)}): {reason_of(error)}"
        ) from error


def _output(task: ClassificationTask, sample: dict[str, Any], train: bool) -> Any:
    try:
        return task.compute_model(sample) if train else task.test_time_augmentation.output(task.compute_model, sample)
    except ComponentError as error:
        raise ComponentError(f"{locate(task.built_from, 'model', 'heads')}{error}") from None


def mixed(task: ClassificationTask, sample: dict[str, Any]) -> dict[str, Any]:
    """Returns a batch of the train dataset as the task's mixup makes it.

    Raises:
        TaskError: the mixup cannot take it.
    """
    assert task.mixup_transform is not None
    try:
        return dict(task.mixup_transform(dict(sample)))  # the copy is changed
    except RayClassyError:
        raise
    except Exception as error:
        what = (str(error).splitlines() or [""])[0]
        raise TaskError(
            f"{locate(task.built_from, 'mixup')}the mixup cannot take rows of the train dataset: "
            f"{': '.join(filter(None, (type(error).__name__, what)))}"
        ) from error


def _tried_loss(task: ClassificationTask, output: Any, sample: dict[str, Any]) -> torch.Tensor:
    ours = is_ours(type(task).compute_loss)  # a user's may make one number of anything
    if ours and isinstance(sample["target"], Mapping) and not isinstance(task.base_loss, MultiTargetLoss):
        raise ValueError(
            f"the rows have several targets ({', '.join(map(str, sample['target']))}), which need loss multi_target, "
            f"with the loss of each under `losses`"
        )
    if ours and isinstance(output, torch.Tensor):
        _check_fit(task.base_loss, output, sample["target"])
    with warnings.catch_warnings():
        warnings.filterwarnings("error", _SHAPE_WARNING, UserWarning)
        loss = task.compute_loss(output, sample)
    # A batch of two rows may hide that there is one value per row.
    if loss.numel() != 1 or (ours and getattr(task.base_loss, "reduction", "mean") == "none"):
        raise ValueError(f"it has shape {tuple(loss.shape)}; a task needs one number (reduction: mean)")
    weight = task.loss_weight(output, sample)
    if weight is not None and not (isinstance(weight, torch.Tensor) and weight.ndim == 0):
        raise ValueError(f"its weight_of(output, target) must return a scalar tensor, not {weight!r}")
    return loss


def _check_fit(loss: Any, output: torch.Tensor, target: Any) -> None:
    """Refuses outputs and targets that a loss of torch would take for something else."""
    if type(loss) in _NEEDS_ONE_VALUE_PER_OUTPUT:
        if getattr(target, "shape", None) != output.shape:
            raise ValueError(
                f"{type(loss).__name__} compares outputs of shape {tuple(output.shape)} with targets of the "
                f"same shape. For class indices use CrossEntropyLoss; other targets need one value per output"
            )
        if isinstance(loss, nn.BCELoss) and output.is_meta:
            raise ValueError("BCELoss takes outputs in [0, 1], which cannot be seen without the model's weights")
    weights: Any = getattr(loss, "weight", None)
    per_class = type(loss) in _ONE_WEIGHT_PER_CLASS and weights is not None and output.ndim > 1
    if per_class and len(weights) != output.shape[1]:
        raise ValueError(
            f"its weight has {len(weights)} values, one per class, and the model has {output.shape[1]} outputs"
        )


def _try_meters(task: ClassificationTask, output: Any, sample: dict[str, Any]) -> None:
    for meter in task.meters:
        try:
            if isinstance(output, torch.Tensor) and isinstance(sample["target"], torch.Tensor):
                meter.validate(output.shape, sample["target"].shape)
        except ComponentError as error:
            raise ComponentError(f"{locate(task.built_from, 'meters', meter.name)}{error}") from None
    task.update_meters(output, sample)


def _without_gradient(task: ClassificationTask) -> list[str]:
    modules = (("", task.base_model), ("loss.", task.base_loss))
    return [
        prefix + name
        for prefix, module in modules
        for name, parameter in module.named_parameters()
        if parameter.requires_grad and parameter.grad is None
    ]


@contextlib.contextmanager
def as_it_was(
    task: ClassificationTask, device: torch.device, base_loss: nn.Module | None, copies: list[Any]
) -> Iterator[None]:
    """Restores what a step changes: modes, buffers, gradients, meters, and the wrappers of an earlier training.

    Args:
        task: the task.
        device: where the copy of the loss is tried.
        base_loss: a copy of its loss.
        copies: of its meters.
    """
    model, loss, meters, was_train = task.base_model, task.base_loss, task.meters, task.train
    wrapped = task.distributed_model, task.distributed_loss
    modes = [(module, module.training) for module in model.modules()]
    trained = [(parameter, parameter.requires_grad, parameter.grad) for parameter in model.parameters()]
    buffers = [
        (module, name, buffer, buffer.clone())
        for module in model.modules()
        for name, buffer in module._buffers.items()
        if buffer is not None
    ]
    try:
        for parameter in model.parameters():
            parameter.grad = None
        task.distributed_model = task.distributed_loss = None
        if base_loss is not None:
            task.base_loss = base_loss.to(device)
        task.meters = copies
        with contextlib.nullcontext() if task.compilation is None else uncompiled():
            yield
    finally:
        task.base_loss, task.meters, task.train = loss, meters, was_train
        task.distributed_model, task.distributed_loss = wrapped
        for module, training in modes:
            module.training = training
        for parameter, requires, gradient in trained:
            parameter.requires_grad = requires
            parameter.grad = gradient
        with torch.no_grad():
            for module, name, buffer, value in buffers:
                module._buffers[name] = buffer.copy_(value)


def _detached(output: Any) -> Any:
    return output.detach() if isinstance(output, torch.Tensor) else output


def _shown_target(target: Any) -> str:
    if not isinstance(target, torch.Tensor):
        return type(target).__name__
    kind = f"{tuple(target.shape)} of {str(target.dtype).removeprefix('torch.')}"
    return f"{target.tolist()}, {kind}" if target.numel() < 8 else kind
