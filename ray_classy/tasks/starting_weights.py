"""Loads the pretrained weights that the config of a task's model names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ray_classy.errors import CheckpointError, StorageError
from ray_classy.generic.checkpoint_util import read_and_broadcast
from ray_classy.tasks import dry_run
from ray_classy.tasks.resume import locate

if TYPE_CHECKING:
    from ray_classy.tasks.planned_task import PlannedTask


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
            with dry_run.trying_weights(task) as copied:
                task.weights_report = copied.load_starting_weights(weights)
    except (CheckpointError, StorageError) as error:
        raise type(error)(f"{locate(task, 'model')}{error}") from None
