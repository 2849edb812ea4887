"""The form of an optimizer's state in a checkpoint."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from ray_classy.errors import DamagedCheckpointError, RecordError
from ray_classy.records import read_record


@dataclass(frozen=True)
class _Group:
    params: list[int]


@dataclass(frozen=True)
class _Optim:
    state: dict[Any, dict[str, Any]]
    param_groups: list[_Group]


@dataclass(frozen=True)
class _Saved:
    optim: _Optim
    name: str | None = None
    without_state: list[int] | None = None


def check_saved_state(state: Mapping[str, Any]) -> None:
    """Refuses what no torch optimizer can have returned, or lacks the state of a parameter.

    Args:
        state: `name`; `optim`, the optimizer's `state_dict`; and `without_state`, the numbers of the parameters that
            have no state, such as frozen ones. States of older releases have no such list.

    Raises:
        DamagedCheckpointError: an entry is missing or has another type.
    """
    try:
        saved = read_record(_Saved, state, "the state of the optimizer")
    except RecordError as error:
        raise _damaged(str(error).partition(" is damaged: ")[2].partition("; restore")[0] or str(error)) from None
    numbers = [number for group in saved.optim.param_groups for number in group.params]
    if len(set(numbers)) < len(numbers):
        raise _damaged("two of its parameters have one number")
    strange = [number for number in saved.optim.state if type(number) is not int or number not in set(numbers)]
    if strange:
        raise _damaged(f"it has a state of parameter {strange[0]!r}, which is in none of its groups")
    if saved.without_state is not None:
        lost = set(numbers) - set(saved.without_state) - saved.optim.state.keys()
        if lost:
            raise _damaged(f"the state of parameter {min(lost)} is missing")


def check_buffers(saved: Mapping[str, Any], wanted: list[Collection[str]]) -> None:
    """Refuses a state that lacks the buffers of a parameter.

    Args:
        saved: the optimizer's `state_dict`.
        wanted: the buffers that each parameter of each group has, by the group's saved options.

    Raises:
        DamagedCheckpointError: one is missing, or is not a tensor of numbers.
    """
    for group, names in zip(saved["param_groups"], wanted, strict=True):
        for number in group["params"]:
            entry = saved["state"].get(number)
            for name in names if entry is not None else ():
                value = entry.get(name)
                if isinstance(value, torch.Tensor) and (value.is_floating_point() or value.is_complex()):
                    continue
                if name != "step" or not isinstance(value, int | float | torch.Tensor):
                    raise _damaged(f"parameter {number} has no {name}")


def _damaged(what: str) -> DamagedCheckpointError:
    return DamagedCheckpointError(f"the state of the optimizer is damaged: {what}")
