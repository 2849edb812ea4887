"""How a saved model state differs from the model that it is loaded into."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

_SHOWN = 5


@dataclass(frozen=True)
class StateMismatch:
    """The entries of a state that do not fit a model; truthy if there are any.

    Entries of heads are named by `head_entry`.

    Attributes:
        missing: names that only the model has.
        unexpected: names that only the state has.
        reshaped: names that both have, with their shapes ("(64, 3, 7, 7) in the state, (64, 3, 3, 3) in the model").
    """

    missing: list[str]
    unexpected: list[str]
    reshaped: dict[str, str]

    def __bool__(self) -> bool:
        return bool(self.missing or self.unexpected or self.reshaped)

    def __str__(self) -> str:
        parts = (
            ("missing from the state", self.missing),
            ("unknown to the model", self.unexpected),
            ("of another shape", [f"{name}: {what}" for name, what in self.reshaped.items()]),
        )
        return "; ".join(f"{len(names)} {label} ({_first(names)})" for label, names in parts if names)


def _first(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")


def head_entry(block: str, unique_id: str, key: str) -> str:
    """The name of a head's entry, which no entry of a trunk has."""
    return f"heads[{block}][{unique_id}].{key}"


def flatten(trunk: Mapping[str, Any], heads: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> dict[str, Any]:
    """All entries of a model state in one dict: the trunk's by their keys, the heads' by `head_entry`."""
    flat = dict(trunk)
    for block, attached in heads.items():
        for unique_id, state in attached.items():
            flat.update({head_entry(block, unique_id, key): value for key, value in state.items()})
    return flat


def compare(own: Mapping[str, Any], given: Mapping[str, Any]) -> StateMismatch:
    """Compares the flat state `given` with the flat state `own` of a model."""
    reshaped = {}
    for name in own:
        if name not in given:
            continue
        theirs, ours = (tuple(v.shape) if isinstance(v, torch.Tensor) else None for v in (given[name], own[name]))
        if theirs != ours:
            reshaped[name] = f"{theirs} in the state, {ours} in the model"
    return StateMismatch(
        missing=[name for name in own if name not in given],
        unexpected=[name for name in given if name not in own],
        reshaped=reshaped,
    )
