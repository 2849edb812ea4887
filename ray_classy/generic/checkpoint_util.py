"""The predecessor's helpers round checkpoints, for code that calls them by name."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import torch

from ray_classy.checkpoint import CHECKPOINT_FILE, files
from ray_classy.distributed import broadcast_object, is_primary
from ray_classy.errors import CheckpointNotFoundError, ComponentError, RayClassyError
from ray_classy.models.weights import load_state

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

_CPU = torch.device("cpu")
_log = logging.getLogger(__name__)


def save_checkpoint(checkpoint_folder: str, state: dict[str, Any], checkpoint_file: str = CHECKPOINT_FILE) -> str:
    """Writes a file of tensors and plain values, and returns its path.

    Raises:
        CheckpointError: the state holds something else.
        StorageError: it cannot be written.
    """
    return files.save_checkpoint(checkpoint_folder, state, checkpoint_file)


def load_checkpoint(checkpoint_path: str, device: torch.device | str = _CPU) -> Any:
    """Reads a file of tensors and plain values, be it a task's checkpoint or not.

    Args:
        checkpoint_path: the file, or a folder with a `checkpoint.torch`; local or a URL.
        device: its tensors are moved there.

    Returns:
        The content; None, with a warning, if there is no such file.

    Raises:
        CheckpointError: it is damaged or holds something else.
    """
    return _moved(_content(checkpoint_path), device)


def _content(path: str) -> Any:
    try:
        return files.load_content(path)
    except CheckpointNotFoundError as error:
        _log.warning("%s", error)
        return None


def _moved(content: Any, device: torch.device | str) -> Any:
    from ray_classy.generic.util import map_tensors  # util has these functions among its own

    return content if torch.device(device) == _CPU else map_tensors(content, lambda tensor: tensor.to(device))


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


def load_and_broadcast_checkpoint(checkpoint_path: str, device: torch.device | str = _CPU) -> Any:
    """What the primary rank reads at a path with `load_checkpoint`, on every rank.

    Raises:
        CheckpointError: it is damaged; every rank raises it.
    """
    return _moved(read_and_broadcast(checkpoint_path, _content), device)


def read_and_broadcast(path: str, load: Callable[[str], Any]) -> Any:
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


def update_classy_model(model: Any, model_state_dict: dict[str, Any], reset_heads: bool, strict: bool = True) -> bool:
    """Loads a model's state; with `reset_heads` all but its heads.

    Args:
        model: a `ClassyModel`.
        model_state_dict: as `model.get_classy_state` returns it.
        reset_heads: leave the heads as they are.
        strict: refuse a state that is not exactly the model's.

    Returns:
        Whether the state was loaded; what is wrong with it is logged.
    """
    try:
        load_state(model, model_state_dict, reset_heads, strict)
    except Exception:
        _log.exception("could not load the state of the model")
        return False
    return True


def update_classy_state(task: Any, state_dict: dict[str, Any]) -> bool:
    """Loads a task's state.

    Returns:
        Whether the state was loaded; what is wrong with it is logged.
    """
    try:
        task.set_classy_state(state_dict)
    except Exception:
        _log.exception("could not load the state of the task")
        return False
    return True


def master_params(optimizer: Any) -> Iterator[torch.Tensor]:
    """All parameters of an optimizer, group by group."""
    for group in optimizer.param_groups:
        yield from group["params"]
