"""Normalizes parameter groups, and compares those of a checkpoint with an optimizer's own."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from numbers import Real
from typing import Any

import torch

from ray_classy.errors import ArgumentTypeError, CheckpointError, ComponentError
from ray_classy.optim.param_scheduler import ParamScheduler
from ray_classy.registry import nearest

Group = dict[str, Any]


def as_groups(param_groups: Any) -> list[Group]:
    """Returns parameters, one group or several groups as a list of new groups, each with a list of parameters.

    Raises:
        ComponentError: there are none, or they have another form.
    """
    given: list[Any]
    if isinstance(param_groups, Mapping):
        given = [param_groups]
    elif isinstance(param_groups, Iterable) and not isinstance(param_groups, torch.Tensor):
        given = list(param_groups)
    else:
        raise ComponentError(f"the optimizer takes parameters or groups of them, not {type(param_groups).__name__}")
    if not given:
        raise ComponentError("the optimizer got an empty list of parameters: nothing to optimize")
    if all(isinstance(parameter, torch.Tensor) for parameter in given):
        return [{"params": given}]
    for group in given:
        if not isinstance(group, Mapping) or "params" not in group:
            raise ComponentError(f"a parameter group must be a mapping with `params`, not {type(group).__name__}")
    return [{**group, "params": list(group["params"])} for group in given]


def split_schedulers(groups: list[Group]) -> tuple[list[Group], list[dict[str, ParamScheduler]]]:
    """Splits groups into groups of plain values and, for each group, its schedulers by option."""
    schedulers = [{key: value for key, value in group.items() if isinstance(value, ParamScheduler)} for group in groups]
    plain = [{key: value for key, value in group.items() if not isinstance(value, ParamScheduler)} for group in groups]
    return plain, schedulers


def check_numbers(groups: list[Group], optimizer: Any) -> None:
    """Refuses values that are not numbers for options that are numbers; torch would fail at the first step.

    Args:
        groups: with plain values.
        optimizer: a torch optimizer, which has a default for each option.

    Raises:
        ArgumentTypeError: a value is not a number.
    """
    defaults = {**getattr(optimizer, "defaults", {}), "lr": 0.0, "lr_scale": 1.0}
    for group in groups:
        for name, value in group.items():
            if type(defaults.get(name)) in (int, float) and not _is_number(value):
                raise ArgumentTypeError(f"{name} of a parameter group must be a number, such as 0.1, not {value!r}")


def _is_number(value: Any) -> bool:
    return isinstance(value, Real | torch.Tensor) and not isinstance(value, bool)


def check_scheduled(schedulers: list[dict[str, ParamScheduler]], optimizer: Any) -> None:
    """Refuses schedulers of options that the torch optimizer does not have: it would carry them without effect.

    Raises:
        ComponentError: a schedule is for such an option.
    """
    for index, names in enumerate(schedulers):
        of_group = optimizer.of_group(index) if hasattr(optimizer, "of_group") else optimizer
        for name in names:
            check_option(name, of_group, f"param_schedulers.{name}")


def check_option(name: str, optimizer: Any, where: str) -> None:
    """Refuses the name of an option that a torch optimizer does not have.

    Raises:
        ComponentError: it does not have it; the message begins with `where`.
    """
    options = list(getattr(optimizer, "defaults", {}))
    if options and name not in options:
        near = nearest(name, options)
        hint = f"did you mean {near}?" if near else f"it has {', '.join(sorted(options))}"
        raise ComponentError(f"{where}: {type(optimizer).__name__} has no option {name!r}: {hint}")


def check_same_structure(saved: list[Group], own: list[Group]) -> None:
    """Refuses a checkpoint whose groups differ from the optimizer's own in number or size.

    Raises:
        CheckpointError: they differ.
    """
    theirs, ours = ([len(group["params"]) for group in groups] for groups in (saved, own))
    if theirs != ours:
        raise CheckpointError(
            f"the checkpoint's optimizer has parameter groups of {theirs} parameters, this one of {ours}: "
            f"the model, its frozen parameters or bn_weight_decay differ"
        )


def check_same_shapes(saved: Mapping[str, Any], names: list[Collection[str]], own: list[Group]) -> None:
    """Refuses a checkpoint whose momentum or moments have other shapes than the parameters they belong to.

    Args:
        saved: the optimizer's `state_dict`.
        names: the buffers of the parameters of each group; others may have any shape.
        own: the optimizer's groups, whose parameters are in the same order.

    Raises:
        CheckpointError: a shape differs.
    """
    wanted = [
        (number, parameter, name)
        for group, saved_group, buffers in zip(own, saved["param_groups"], names, strict=True)
        for number, parameter in zip(saved_group["params"], group["params"], strict=True)
        for name in buffers
    ]
    for number, parameter, name in wanted:
        buffer = saved["state"].get(number, {}).get(name)
        if isinstance(buffer, torch.Tensor) and buffer.ndim and buffer.shape != parameter.shape:
            raise CheckpointError(
                f"the checkpoint's optimizer has a {name} of shape {tuple(buffer.shape)} for parameter {number}, "
                f"which has shape {tuple(parameter.shape)} here: to train another model, start a fine_tuning "
                f"task from the checkpoint (pretrained_checkpoint)"
            )
