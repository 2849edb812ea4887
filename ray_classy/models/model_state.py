"""How a saved model state differs from the model that it is loaded into."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from ray_classy.errors import CheckpointError, MissingStateError

_SHOWN = 5

logger = logging.getLogger(__name__)


class StateMismatchError(CheckpointError, KeyError):
    """A state does not fit the model that it is loaded into.

    Attributes:
        differences: what differs.
    """

    differences: StateMismatch


class StateVersionError(CheckpointError, ValueError):
    """The layout of a state has a version that cannot be loaded."""


@dataclass(frozen=True)
class StateMismatch:
    """The entries of a state that do not fit a model; truthy if there are any.

    Entries of heads are named by `head_entry`.

    Attributes:
        missing: names that only the model has.
        unexpected: names that only the state has.
        reshaped: names that both have, with their shapes ("(64, 3, 7, 7) in the state, (64, 3, 3, 3) in the model"), or
            their dtypes where one is of floating-point numbers and the other is not.
    """

    missing: list[str]
    unexpected: list[str]
    reshaped: dict[str, str]

    def __bool__(self) -> bool:
        return bool(self.missing or self.unexpected or self.reshaped)

    def fits_nothing_of(self, own: Iterable[str]) -> bool:
        """Whether none of a model's weights is in the state; the batch counters of batch norm count for nothing."""
        wanted = {name for name in own if not name.endswith("num_batches_tracked")}
        return bool(wanted) and wanted <= {*self.missing, *self.reshaped}

    def __str__(self) -> str:
        parts = (
            ("missing from the state", self.missing),
            ("unknown to the model", self.unexpected),
            ("of another shape", [f"{name}: {what}" for name, what in self.reshaped.items()]),
        )
        return "; ".join(f"{len(names)} {label} ({_first(names)})" for label, names in parts if names)


def mismatch_error(message: str, differences: StateMismatch) -> StateMismatchError:
    """Returns the error for a state that does not fit."""
    error = StateMismatchError(message)
    error.differences = differences
    return error


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
        theirs, ours = _outline(given[name]), _outline(own[name])
        if theirs == ours and _kind(given[name]) != _kind(own[name]):
            theirs, ours = (str(value.dtype).removeprefix("torch.") for value in (given[name], own[name]))
        if theirs != ours:
            reshaped[name] = f"{theirs} in the state, {ours} in the model"
    return StateMismatch(
        missing=[name for name in own if name not in given],
        unexpected=[name for name in given if name not in own],
        reshaped=reshaped,
    )


def checked(model: str, own: Mapping[str, Any], given: Mapping[str, Any], strict: bool) -> StateMismatch:
    """Compares two flat states, and refuses what cannot be loaded.

    Args:
        model: what the state is loaded into, for messages.
        own: the state of the model.
        given: the state to load.
        strict: refuse any difference; otherwise differences are logged.

    Raises:
        StateMismatchError: nothing fits, or `strict` is set and the states differ.
    """
    mismatch = compare(own, given)
    if mismatch.fits_nothing_of(own):
        raise mismatch_error(f"nothing in the state fits {model}: {mismatch}", mismatch)
    if mismatch and strict:
        hint = "Build the model with the config it was trained with, or load what fits with strict=False"
        raise mismatch_error(f"the state does not fit {model}: {mismatch}. {hint}", mismatch)
    if mismatch:
        logger.warning("the state does not fit %s: %s; the rest is loaded", model, mismatch)
    return mismatch


def _outline(value: Any) -> Any:
    return tuple(value.shape) if isinstance(value, torch.Tensor) else None


def _kind(value: Any) -> Any:
    """Returns the kind of numbers in a tensor; numbers of one kind may be converted."""
    if not isinstance(value, torch.Tensor):
        return None
    return value.is_floating_point(), value.is_complex(), value.dtype == torch.bool


def model_part(state: Any) -> Mapping[str, Any]:
    """Returns the entry `model` of a model's state: the states of its trunk and heads.

    Args:
        state: as a model's `get_classy_state` returns it.

    Raises:
        CheckpointError: it has another form.
    """
    model = state.get("model") if isinstance(state, Mapping) else None
    if not isinstance(model, Mapping) or not {"trunk", "heads"} <= model.keys():
        found = f"the keys {[*state][:8]}" if isinstance(state, Mapping) else f"a {type(state).__name__}"
        raise MissingStateError(
            f"no state of a model: expected {{'model': {{'trunk': ..., 'heads': ...}}}}, found {found}"
        )
    heads = model["heads"]
    attached = list(heads.values()) if isinstance(heads, Mapping) else [None]
    states = [state for entry in attached for state in (entry.values() if isinstance(entry, Mapping) else [None])]
    for what in (model["trunk"], *states):
        if not isinstance(what, Mapping) or not all(isinstance(name, str) for name in what):
            raise CheckpointError(
                "no state of a model: expected tensors by name in its trunk, and by block, head and name in its heads"
            )
    return model
