"""The weights that a task starts from: those of a checkpoint, or pretrained ones that the config of its model names.

Before a run starts they are tried on a copy of the model.
"""

from __future__ import annotations

import contextlib
import copy
import warnings
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ray_classy.checkpoint import load_checkpoint
from ray_classy.config.places import locate
from ray_classy.errors import CheckpointError, MissingStateError, StorageError
from ray_classy.generic.checkpoint_util import read_and_broadcast
from ray_classy.tasks.classes import match_classes
from ray_classy.tasks.task_state import set_model_state

if TYPE_CHECKING:
    from ray_classy.tasks.planned_task import PlannedTask


def take_checkpoint(task: PlannedTask) -> dict[str, Any] | None:
    """Returns the content of the checkpoint to start from, on every rank; the task keeps only what a user set.

    Raises:
        CheckpointError: it cannot be read; every rank raises it.
    """
    kept = None if task.checkpoint_dict is None else task._kept_checkpoint_dict
    content, path = task.checkpoint_dict, task.checkpoint_path
    if content is None and path is not None:
        content = read_and_broadcast(path, load_checkpoint)
    task.checkpoint_dict = kept
    if content is None or content is not kept:
        return content
    state = content.get("classy_state_dict") if isinstance(content, Mapping) else None
    if not isinstance(state, Mapping):
        raise MissingStateError("the content of the checkpoint has no `classy_state_dict`, the state of a task")
    # The optimizer and the hooks change in place what they load; a model copies it.
    copied = {name: value if name == "base_model" else copy.deepcopy(value) for name, value in state.items()}
    return {**content, "classy_state_dict": copied}


def load_starting_weights(task: PlannedTask) -> None:
    """Loads the weights into the model, once; the model of a draft is only compared with those on this machine.

    Every rank must call it; the primary rank reads them, and downloads them before if need be.

    Raises:
        CheckpointError: they cannot be read, or do not fit.
        StorageError: their file cannot be read.
    """
    model = task.base_model
    source = model.starting_weights
    if source is None or model.starting_weights_loaded:
        return
    try:
        if not task.is_draft:
            weights = read_and_broadcast(source.path, lambda path: source.read())
            task.weights_report = model.load_starting_weights(weights)
        elif source.found() is not None:
            weights = source.read()
            with trying_weights(task) as copied:
                task.weights_report = copied.load_starting_weights(weights)
    except (CheckpointError, StorageError) as error:
        raise type(error)(f"{locate(task.built_from, 'model')}{error}") from None


def check_checkpoint(task: PlannedTask, content: Mapping[str, Any], where: str | None) -> None:
    """Implements `ClassyTask.check_checkpoint`: tries the weights on a copy of the model."""
    state = content["classy_state_dict"]
    if "base_model" not in state:
        raise CheckpointError(f"the checkpoint {where!r} holds no model")
    match_classes(task, content, where)
    with trying_weights(task) as model:
        set_model_state(model, state["base_model"], task.checkpoint_load_strict)


@contextlib.contextmanager
def trying_weights(task: PlannedTask) -> Iterator[Any]:
    """Yields a copy of the task's model, to load weights into."""
    with warnings.catch_warnings():
        # A model on the meta device has shapes to compare with and no weights to overwrite; torch warns about that.
        warnings.filterwarnings("ignore", "for .*: copying from a non-meta parameter", UserWarning)
        yield copy.deepcopy(task.base_model)
