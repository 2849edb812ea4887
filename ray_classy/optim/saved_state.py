"""The form of an optimizer's state in a checkpoint."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from ray_classy.errors import DamagedCheckpointError, RecordError
from ray_classy.records import read_record

if TYPE_CHECKING:
    from ray_classy.optim.classy_optimizer import ClassyOptimizer


@dataclass(frozen=True)
class _Group:
    params: list[int]


@dataclass(frozen=True)
class _Optim:
    state: dict[Any, Any]  # by number of a parameter; torch allows other keys for what all share
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
    of_parameters = {number: entry for number, entry in saved.optim.state.items() if type(number) is int}
    strange = sorted(of_parameters.keys() - set(numbers))
    if strange:
        raise _damaged(f"it has a state of parameter {strange[0]!r}, which is in none of its groups")
    broken = [number for number, entry in of_parameters.items() if not isinstance(entry, Mapping)]
    if broken:
        raise _damaged(f"the state of parameter {broken[0]} is no dict")
    if saved.without_state is not None:
        lost = set(numbers) - set(saved.without_state) - saved.optim.state.keys()
        if lost:
            raise _damaged(f"the state of parameter {min(lost)} is missing")


def buffers_of(optimizer: ClassyOptimizer, options: Mapping[str, Any]) -> Collection[str]:
    """Returns what `optimizer.buffers` declares, if it does so of the torch optimizer that `prepare` creates.

    A subclass that creates another one has other buffers, which are not known unless it declares them.
    """
    declares, creates = (
        next(cls for cls in type(optimizer).__mro__ if name in vars(cls)) for name in ("buffers", "prepare")
    )
    return optimizer.buffers(options) if issubclass(declares, creates) else ()


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
