"""The predecessor's helpers round checkpoints, for code that calls them by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch

from ray_classy.checkpoint import CHECKPOINT_FILE, load_checkpoint, save_checkpoint
from ray_classy.distributed import broadcast_object, is_primary
from ray_classy.errors import ComponentError, RayClassyError
from ray_classy.models.model_state import StateMismatchError, mismatch_error, model_part

__all__ = [
    "CHECKPOINT_FILE",
    "get_checkpoint_dict",
    "load_and_broadcast_checkpoint",
    "load_checkpoint",
    "master_params",
    "save_checkpoint",
    "update_classy_model",
    "update_classy_state",
]


def get_checkpoint_dict(task: Any, input_args: dict[str, Any] | None, deep_copy: bool = False) -> dict[str, Any]:
    """The content of a checkpoint of a task.

    Args:
        task: its state is taken.
        input_args: plain values to keep beside it, or None.
        deep_copy: copy the tensors instead of sharing them with the task.

    Raises:
        ComponentError: `input_args` is no dict.
    """
    if input_args is not None and not isinstance(input_args, dict):
        raise ComponentError(f"input_args must be a dict or None, not {input_args!r}")
    return {"input_args": input_args, "classy_state_dict": task.get_classy_state(deep_copy=deep_copy)}


def load_and_broadcast_checkpoint(path: str, load: Callable[[str], dict[str, Any]] = load_checkpoint) -> dict[str, Any]:
    """What the primary rank reads at `path`, on every rank.

    Args:
        path: of the checkpoint.
        load: reads it.

    Raises:
        CheckpointError: it cannot be read; every rank raises it.
    """
    answer: Any = None
    if is_primary():
        try:
            answer = load(path)
        except RayClassyError as error:
            answer = error
    answer = broadcast_object(answer)
    if isinstance(answer, RayClassyError):
        raise answer
    return answer


def update_classy_model(model: Any, state: dict[str, Any], reset_heads: bool, strict: bool = True) -> bool:
    """Gives a model the weights in a task's state; with `reset_heads` all but those of its heads. Returns True.

    Raises:
        CheckpointError: they do not fit.
    """
    load_model_state(model, state["base_model"], reset_heads, strict)
    return True


def load_model_state(model: Any, state: Any, reset_heads: bool, strict: bool = True) -> Any:
    """Loads a model's state; with `reset_heads` all but its heads.

    Returns:
        What differs: what `model.set_classy_state` returns.

    Raises:
        CheckpointError: the state does not fit, or nothing in it does.
    """
    if reset_heads:
        own = model.get_classy_state()
        state = {**state, "model": {"trunk": model_part(state)["trunk"], "heads": own["model"]["heads"]}}
    try:
        differences = model.set_classy_state(state, strict=strict)
    except StateMismatchError as error:
        _check_fits(model, error.differences, reset_heads)
        raise
    _check_fits(model, differences, reset_heads)
    return differences


def _check_fits(model: Any, differences: Any, reset_heads: bool) -> None:
    """Refuses a state of which only the model's own heads fit."""
    if reset_heads and differences and differences.fits_nothing_of(model.get_classy_state()["model"]["trunk"]):
        text = f"nothing in the state fits the trunk of this {type(model).__name__}: {differences}"
        raise mismatch_error(text, differences) from None


def update_classy_state(task: Any, state: dict[str, Any]) -> bool:
    """Gives a task a state. Returns True.

    Raises:
        CheckpointError: it does not fit.
    """
    task.set_classy_state(state)
    return True


def master_params(optimizer: Any) -> Iterator[torch.Tensor]:
    """All parameters of an optimizer, group by group."""
    for group in optimizer.param_groups:
        yield from group["params"]
