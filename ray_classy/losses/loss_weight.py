"""What the mean of a loss divides by, so that means of batches can be put together to the mean of all of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

IGNORED = -100
"""The default `ignore_index` of torch's losses."""

_OF_CLASSES: list[Any] = [nn.CrossEntropyLoss.forward, nn.NLLLoss.forward]
if hasattr(nn, "LinearCrossEntropyLoss"):  # since torch 2.14
    _OF_CLASSES.append(nn.LinearCrossEntropyLoss.forward)


def outputs_of(output: Any) -> list[Any]:
    """Returns the outputs of a model: the values of a mapping, the items of a list, or the one output."""
    if isinstance(output, Mapping):
        return list(output.values())
    return list(output) if isinstance(output, Iterable) and not isinstance(output, torch.Tensor) else [output]


def _of_one_output(loss: Any) -> Any:
    """Returns the loss that says which rows count: of a sum over several outputs, the loss of one."""
    return getattr(loss, "loss_of_one_output", loss)


def weight_of(loss: Any, output: Any, target: Any) -> torch.Tensor | None:
    """Returns what the mean of a loss over a batch divides by; None if that is the number of rows.

    A loss may say it in a method `weight_of(output, target)`. Torch's cross-entropy and NLL loss divide by the sum of
    the weights of the rows' classes, without the rows to ignore, and by their number with class probabilities as the
    target. In all its other losses rows count alike.

    Args:
        loss: any loss module; where its `reduction` is not "mean", the answer is None.
        output: the model's output.
        target: the target of the batch.

    Returns:
        A scalar on the device of the target; it is 0 for a batch whose rows are all ignored.
    """
    if getattr(loss, "reduction", "mean") != "mean":
        return None
    if hasattr(loss, "weight_of"):
        return loss.weight_of(output, target)
    if type(loss).forward not in _OF_CLASSES or not isinstance(target, torch.Tensor):
        return None
    if target.is_floating_point():  # not None: all ranks and steps of an update must count in one way
        return torch.full((), target[:, 0].numel() if target.ndim > 1 else 1, device=target.device)
    target = target.long()  # uint8 would select as a mask does
    index = ignored_index(loss)
    assert index is not None
    if loss.weight is None and target.device.type == "cpu":
        return torch.tensor(int(np.count_nonzero(target.numpy() != index)))  # sooner than two operations of torch
    counted = torch.ne(target, index)
    if loss.weight is None:
        return counted.sum()
    return (loss.weight[target.masked_fill(~counted, 0)] * counted).sum()


def divides_by_rows(loss: nn.Module, labels: np.ndarray) -> bool:
    """Whether the mean of a loss over any rows is known to divide by their number, so that no step need ask.

    Args:
        loss: the loss.
        labels: the class indices of all rows; mixup may mix them.
    """
    loss = _of_one_output(loss)
    ours = getattr(getattr(type(loss), "weight_of", None), "__module__", "").startswith("ray_classy.losses.")
    if not ours and type(loss).forward not in _OF_CLASSES:
        return False
    return getattr(loss, "weight", None) is None and not (labels == ignored_index(loss)).any()


def ignored_index(loss: nn.Module | None) -> int | None:
    """Returns the class index whose rows a loss ignores; None if there is none."""
    loss = _of_one_output(loss)
    index = getattr(loss, "ignore_index", None)
    if index is None and loss is not None and type(loss).forward in _OF_CLASSES:
        return IGNORED  # LinearCrossEntropyLoss has None for it
    return index if isinstance(index, int) else None


def zero_without_weight(value: torch.Tensor, weight: torch.Tensor, output: Any, loss: nn.Module) -> torch.Tensor:
    """Returns the loss of a batch, and 0, with gradient 0, where its weight is 0 and its mean may be NaN.

    Args:
        value: the loss.
        weight: what `weight_of` returned for it.
        output: the model's output.
        loss: the loss module.
    """
    if weight.device.type == "cpu" and weight.dtype is torch.int64 and weight.numpy() > 0:
        return value  # a number of rows, which the host knows without waiting
    # Torch's losses have finite gradients where all rows are ignored, but not where all have a class weight of 0.
    loss = _of_one_output(loss)
    known_finite = type(loss).forward in _OF_CLASSES and loss.weight is None
    for one in [] if known_finite else outputs_of(output):
        if isinstance(one, torch.Tensor) and one.requires_grad:
            one.register_hook(lambda gradient: gradient.masked_fill(weight == 0, 0))
    return value.masked_fill(weight == 0, 0)


def ignores_rows(loss: nn.Module | None) -> bool:
    """Whether a loss, or one of several targets, may ignore the rows of a class index; see `unlabelled`."""
    index = ignored_index(loss)
    return hasattr(loss, "losses_of") or (index is not None and index >= 0)


def unlabelled(loss: Any, target: Any) -> Any:
    """Returns class indices with -1 in the place of the index that a loss ignores; any other target as it is."""
    if isinstance(target, Mapping):
        losses = loss.losses if hasattr(loss, "losses_of") else {}
        return {name: unlabelled(losses[name], one) if name in losses else one for name, one in target.items()}
    index = ignored_index(loss)
    if index is None or index < 0 or not isinstance(target, torch.Tensor) or target.is_floating_point():
        return target
    if target.dtype is torch.bool:
        return target
    target = target if target.dtype.is_signed else target.long()
    return target.masked_fill(target == index, -1)
