"""The states of metrics of torchmetrics: read, replaced, and put together over processes."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from typing import Any

import torch

from ray_classy.distributed import all_reduce_max, all_reduce_min, all_reduce_sum, gather_objects

State = dict[str, torch.Tensor]


def reductions_of(metric: Any) -> dict[str, str | None]:
    """Returns how the states of processes are put together: "sum", "max", "min", "cat", or None for another way."""
    from torchmetrics.utilities import data

    known = {
        data.dim_zero_sum: "sum",
        data.dim_zero_max: "max",
        data.dim_zero_min: "min",
        data.dim_zero_cat: "cat",
    }
    return {name: known.get(reduction) for name, reduction in metric._reductions.items()}


def state_of(metric: Any) -> State:
    """Returns a metric's state; lists as one tensor each."""
    state = {}
    for name, value in metric.metric_state.items():
        if isinstance(value, list):
            value = torch.cat([torch.atleast_1d(one) for one in value]) if value else torch.empty(0)
        state[name] = value.clone()
    return state


def load_state(metric: Any, state: State) -> None:
    """Replaces a metric's state."""
    for name, value in state.items():
        is_list = isinstance(metric.metric_state[name], list)
        setattr(metric, name, ([value] if value.numel() else []) if is_list else value)
    metric._update_count = 1  # or it warns that nothing was counted


def combined(one: State | None, other: State, reductions: Mapping[str, Any]) -> State:
    """Puts two states of a metric together."""
    if one is None:
        return other
    ways: dict[Any, Any] = {"sum": torch.add, "max": torch.maximum, "min": torch.minimum}
    return {
        name: _joined([one[name], value]) if reductions[name] == "cat" else ways[reductions[name]](one[name], value)
        for name, value in other.items()
    }


def _joined(parts: list[torch.Tensor]) -> torch.Tensor:
    filled = [part for part in parts if part.numel()]
    return torch.cat(filled) if filled else parts[0]


def shared_state(state: State, reductions: Mapping[str, Any]) -> State:
    """Puts the states of all processes together."""
    shared = {}
    sums = {name: value for name, value in state.items() if reductions[name] == "sum"}
    if sums:  # float64 holds counts up to 2^53 exactly
        total = all_reduce_sum(torch.cat([value.double().reshape(-1) for value in sums.values()]))
        parts = total.split([value.numel() for value in sums.values()])
        for (name, value), part in zip(sums.items(), parts, strict=True):
            shared[name] = part.reshape(value.shape).to(value.dtype)
    lists = {name: value for name, value in state.items() if reductions[name] == "cat"}
    if lists:
        gathered = gather_objects(lists)
        shared |= {name: _joined([part[name] for part in gathered]) for name in lists}
    for name, value in state.items():
        if reductions[name] in ("max", "min"):
            shared[name] = (all_reduce_max if reductions[name] == "max" else all_reduce_min)(value.clone())
    return {name: shared[name] for name in state}


def computed(metric: Any, state: State | None, task: str | None = None, number: int = 1) -> Any:
    """Computes a metric of a state; without one, of a few rows, which show the form of the result."""
    scratch = copy.deepcopy(metric)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of classes without rows, for which the result is NaN
        if state is not None:
            load_state(scratch, state)
            return scratch.compute()
        scratch.reset()
        rows = torch.arange(max(number, 2))
        if task == "multiclass":
            scratch.update(torch.nn.functional.one_hot(rows % number, number).float(), rows % number)
        elif task == "multilabel":
            columns = (rows[:, None] / len(rows)).expand(-1, number)
            scratch.update(columns, (rows[:, None] % 2).expand(-1, number))
        else:
            scratch.update(rows / len(rows), rows % 2)
        return scratch.compute()
