"""Checkpoint files.

A checkpoint is one file, `checkpoint.torch`, that `torch.load(..., weights_only=True)` opens:

    classy_state_dict   the task's `get_classy_state()`
    input_args          what the user gave for keeping, or None
    ray_classy          {"format", "version", "rng": [per rank], "classes": {phase type: [names]}, "world_size"}

Files written by Classy Vision have the first two and are read as well.
"""

from __future__ import annotations

import io
import os
import pickle
from typing import Any

import torch

from ray_classy.errors import CheckpointError, CheckpointNotFoundError
from ray_classy.storage import Storage, is_url

CHECKPOINT_FILE = "checkpoint.torch"
FORMAT = 1


def save_checkpoint(folder: str, content: dict[str, Any], file: str = CHECKPOINT_FILE, storage: Any = None) -> str:
    """Writes a checkpoint so that no reader ever sees half of it, and returns its path.

    Args:
        folder: the folder, made if it is not there; with `storage`, a folder in it.
        content: tensors and plain values.
        file: the file's name.
        storage: the `Storage` to write to; None writes to `folder` itself.

    Raises:
        CheckpointError: the content is not of tensors and plain values, so that it could not be loaded safely.
    """
    target, name = (Storage(folder), file) if storage is None else (storage, f"{folder}/{file}")
    buffer = io.BytesIO()
    torch.save(content, buffer)
    _check_loadable(buffer)
    target.write(name, buffer.getvalue())
    return target.join(name)


def _check_loadable(buffer: io.BytesIO) -> None:
    buffer.seek(0)
    try:
        torch.load(buffer, map_location="meta", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"the task's state holds an object that cannot be loaded safely: {str(error).splitlines()[0]} "
            f"Keep only tensors, numbers, strings, lists and dicts in the state of models, hooks and datasets."
        ) from None


def load_checkpoint(path: str, storage: Any = None) -> dict[str, Any]:
    """Reads a checkpoint onto the CPU.

    Args:
        path: a checkpoint file, or a folder with a `checkpoint.torch`; local or a URL.
        storage: the `Storage` that `path` is relative to; None takes the path as it is.

    Raises:
        CheckpointNotFoundError: there is none.
        CheckpointError: the file is damaged, or is no checkpoint.
    """
    if storage is None:
        folder, _, name = path.rpartition("/") if is_url(path) else (os.path.dirname(path) or ".", "", path)
        storage, name = Storage(folder), os.path.basename(path.rstrip("/")) if not is_url(path) else name
        if not is_url(path) and os.path.isdir(path):
            storage, name = Storage(path), CHECKPOINT_FILE
        elif is_url(path) and not name.endswith(".torch"):
            storage, name = Storage(path), CHECKPOINT_FILE
    else:
        name = path
    where = storage.join(name)
    if not storage.exists(name):
        raise CheckpointNotFoundError(f"there is no checkpoint at {where!r}")
    try:
        content = torch.load(io.BytesIO(storage.read(name)), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, OSError, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(
            f"the checkpoint {where!r} is damaged or no checkpoint: {reason}. Use an earlier one, or write it anew."
        ) from None
    if not isinstance(content, dict) or "classy_state_dict" not in content:
        raise CheckpointError(
            f"{where!r} is no checkpoint of a task: it has no `classy_state_dict`"
            + (f", only {', '.join(map(str, list(content)[:5]))}" if isinstance(content, dict) else "")
        )
    return content
