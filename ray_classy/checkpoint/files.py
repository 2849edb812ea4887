"""Checkpoint files.

A checkpoint is one file, `checkpoint.torch`, that `torch.load(..., weights_only=True)` opens:

    classy_state_dict   the task's `get_classy_state()`
    input_args          what the user gave for keeping, or None
    ray_classy          {"format", "version", "rng": [per rank], "classes": {phase type: [names]}, "world_size",
                        "train_phases"}

Files written by Classy Vision have the first two and are read as well.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Mapping
from typing import Any

import torch

from ray_classy.checkpoint.content import check_content
from ray_classy.checkpoint.manifest import MANIFEST_FILE, difference, read_manifest, remove_manifest, write_manifest
from ray_classy.checkpoint.plain import Foreign, check_plain, in_full, outline
from ray_classy.checkpoint.safetensors_file import is_safetensors, read_safetensors
from ray_classy.checkpoint.safetensors_parts import INDEX_SUFFIX, read_parts
from ray_classy.checkpoint.state_dicts import has_tensors
from ray_classy.checkpoint.torch_file import is_torch_file, read_torch_file
from ray_classy.errors import (
    CheckpointError,
    CheckpointNotFoundError,
    DamagedCheckpointError,
    RecordError,
    ResourceError,
    StorageError,
    UnsafeFileError,
    UnsupportedFileError,
)
from ray_classy.local_files import mapped
from ray_classy.printable import printable
from ray_classy.records import what_is_wrong
from ray_classy.remote_files import is_file
from ray_classy.storage import Storage, retry_once
from ray_classy.torch_compat import checksums_written
from ray_classy.urls import expanded, is_url, located, parent, reason, shown, split_query

CHECKPOINT_FILE = "checkpoint.torch"
LAST, BEST = "last", "best"
"""Links to two of a run's checkpoints."""
_CHECKPOINT_NAME = re.compile(r"epoch_[0-9]{4,18}-step_[0-9]{6,18}")
_MOST_NAMED = 5
WEIGHTS_FILES = ("model.safetensors", f"model{INDEX_SUFFIX}", "pytorch_model.bin")
"""Files of weights in a folder, as timm and the Hugging Face hub name them."""
_SUFFIXES = (".torch", ".pt", ".pth", ".bin", ".safetensors", INDEX_SUFFIX)


def save_checkpoint(
    folder: str,
    content: dict[str, Any],
    file: str = CHECKPOINT_FILE,
    storage: Any = None,
    facts: Mapping[str, Any] | None = None,
) -> str:
    """Writes a checkpoint so that no reader ever sees half of it, and returns its path.

    Args:
        folder: the folder, made if it is not there; with `storage`, a folder in it.
        content: tensors and plain values.
        file: the file's name.
        storage: the `Storage` to write to; None writes to `folder` itself.
        facts: content of the manifest; None writes no manifest.

    Raises:
        CheckpointError: the content is not of tensors and plain values, so that it could not be loaded safely.
        StorageError: it cannot be written; a checkpoint that was there before is still there.
    """
    target, name = (Storage(folder), file) if storage is None else (storage, f"{folder}/{file}")
    try:
        check_plain(content)
        try:
            data = _written(content)
        except CheckpointError:
            data = _written(in_full(content))
    except CheckpointError as error:
        raise CheckpointError(
            f"the task's state cannot be kept in a checkpoint: {error}. "
            f"Keep only tensors, numbers, strings, lists and dicts in the state of models, hooks and datasets"
        ) from None
    inside = name.rpartition("/")[0]
    try:
        if facts is not None:
            remove_manifest(target, inside)
        target.write(name, data)
        if facts is not None:
            write_manifest(target, inside, facts, {file: data})
    except OSError:
        if inside:
            target.remove_if_empty(inside)
        raise
    return target.join(name)


def _written(content: dict[str, Any]) -> bytes:
    """Returns the file of a content, which can be read."""
    buffer = io.BytesIO()
    with checksums_written():
        torch.save(content, buffer)
    data = buffer.getvalue()
    read_torch_file(data, storages=False)
    return data


def followed(path: str) -> str:
    """The path of a checkpoint; for the `last` or `best` of a run, of the one that is meant."""
    folder, name = _split(path)
    if name not in (LAST, BEST):
        return path
    storage = Storage(folder)
    try:
        target = storage.pointed(name)
    except OSError:  # somebody named something else so
        return path
    return path if target is None else os.path.join(folder, target) if storage.local else storage.join(target)


def run_of_checkpoint(path: str, filesystem: Any = None) -> tuple[str | None, str | None]:
    """The folder of the run that a checkpoint is in, and the checkpoint's name.

    Args:
        path: of the checkpoint's folder, of its file, or of an alias or link to the folder.
        filesystem: in which it lies; None finds it from the path.

    Returns:
        None for both, if the path does not lead to a checkpoint in a run's folder.
    """
    local = filesystem is None and not is_url(path)
    for candidate in [path, os.path.realpath(path)] if local else [path]:
        folder, name = _split(candidate)
        if name == CHECKPOINT_FILE:
            folder, name = _split(folder)
        run = Storage(folder, filesystem)
        names = checkpoints_in(run) if name in (LAST, BEST) or is_checkpoint_name(name) else []
        found = name if name in names else run.pointed(name) if names else None
        if found is None and name == LAST and names:  # a run that was copied with its links followed
            found = names[-1]
        if found in names:
            return run.path, found
    return None, None


def _split(path: str) -> tuple[str, str]:
    """The folder that something is in, and its name."""
    if is_url(path):
        start, query = split_query(path)
        return parent(start.rstrip("/") + query), _base(path)
    folder, name = os.path.split(path.rstrip("/"))
    return folder or ".", name


def _in_folder(path: str, weights: bool) -> tuple[Storage, str]:
    """The file that is meant by a folder: its checkpoint, the newest one of a run, or a file of weights."""
    storage = Storage(path)
    if storage.exists(CHECKPOINT_FILE):
        return storage, CHECKPOINT_FILE
    if names := checkpoints_in(storage):
        return storage, f"{names[-1]}/{CHECKPOINT_FILE}"
    found = [name for name in WEIGHTS_FILES if weights and storage.exists(name)]
    return storage, found[0] if found else CHECKPOINT_FILE


def _is_folder(path: str) -> bool:
    if not is_url(path):
        return os.path.isdir(path)
    return not _base(path).endswith(_SUFFIXES) and not is_file(*located(path))


def checkpoints_in(run: Storage) -> list[str]:
    """The names of the complete checkpoints in a run's folder, oldest first."""
    names = [name for name in run.names() if is_checkpoint_name(name)]
    return sorted((name for name in names if run.exists(f"{name}/{CHECKPOINT_FILE}")), key=position_of)


def is_checkpoint_name(name: str) -> bool:
    """Whether a name is that of a checkpoint's folder in a run's folder."""
    return bool(_CHECKPOINT_NAME.fullmatch(name))


def position_of(name: str) -> tuple[int, ...]:
    """Returns the epochs and steps in a checkpoint's name, for sorting."""
    return tuple(int(number) for number in re.findall(r"\d+", name))


def _base(url: str) -> str:
    return os.path.basename(split_query(url)[0].rstrip("/"))


def _folder_and_file(name: str) -> tuple[str, str]:
    folder, _, file = name.rpartition("/")
    return folder, file


def load_checkpoint(path: str, storage: Any = None) -> dict[str, Any]:
    """Reads a checkpoint onto the CPU.

    Args:
        path: a checkpoint file, a folder with a `checkpoint.torch`, or a run's folder for its newest checkpoint; local
            or a URL.
        storage: the `Storage` that `path` is relative to; None takes the path as it is.

    Raises:
        CheckpointNotFoundError: there is none.
        DamagedCheckpointError: the file's content is not what was written, or is not a checkpoint.
        CheckpointError: it is a checkpoint, but cannot be loaded in this environment.
        StorageError: the file cannot be read, also not in a second try.
    """
    where, content = _read(path, storage)
    if not _is_checkpoint(content):
        raise DamagedCheckpointError(
            f"{where!r} is not a checkpoint of a task: it has no `classy_state_dict`, {outline(content)}"
        )
    return check_content(content, where)


def load_content(path: str) -> Any:
    """Reads any file of tensors and plain values onto the CPU.

    Args:
        path: as for `load_checkpoint`.

    Raises:
        CheckpointError: as `load_checkpoint`.
    """
    return _read(path, None)[1]


def read_weights_file(path: str) -> tuple[str, Any]:
    """Reads a file of weights onto the CPU; `ray_classy.models.weights` finds the weights in it.

    A local file is not copied: its tensors are parts of it, and are not to be changed.

    Args:
        path: as for `load_checkpoint`; or a file that `torch.save` made, with objects of any class beside the tensors,
            for which placeholders stand; or a `.safetensors` file, or the index of several; or a folder with one of
            `WEIGHTS_FILES`.

    Returns:
        The path of the file, and its content.

    Raises:
        CheckpointNotFoundError: there is none.
        UnsafeFileError: it names functions that run commands or code.
        UnsupportedFileError: it is a TorchScript program, or a pickled model.
        CheckpointError: it is damaged, or holds no weights.
        StorageError: it cannot be read, also not in a second try.
    """
    foreign: set[str] = set()
    where, content = _read(path, None, foreign)
    if _is_checkpoint(content) and "base_model" in content["classy_state_dict"]:
        return where, check_content(content, where)
    if not has_tensors(content):
        parts = [content, *content.values()] if isinstance(content, dict) else [content]
        classes = [printable(part.name) for part in parts if type(part) is Foreign]
        if classes:
            raise UnsupportedFileError(
                f"{where!r} holds something else than tensors: a pickled {classes[0]}. Where its code is installed, "
                f"write the weights alone with torch.save(model.state_dict(), 'weights.pth')"
            )
        raise CheckpointError(
            f"{where!r} holds neither a checkpoint of a task (`classy_state_dict`) nor a state dict of tensors"
        )
    return where, content


def _is_checkpoint(content: Any) -> bool:
    return isinstance(content, dict) and isinstance(content.get("classy_state_dict"), dict)


def _parts_beside(storage: Any, where: str, index: Any) -> dict[str, torch.Tensor]:
    """Returns the tensors of the files that an index of weights names."""
    try:
        return read_parts(index, lambda part: retry_once(lambda: _data(storage, part, True)))
    except CheckpointError as error:
        raise DamagedCheckpointError(f"the index of weights {where!r} cannot be used: {error}") from None


def _read(path: str, storage: Any, foreign: set[str] | None = None) -> tuple[str, Any]:
    """Where a file is, and what it holds; `foreign` as for `read_torch_file`."""
    in_run, weights = storage is not None, foreign is not None
    where = shown(path)
    try:
        storage, name = (storage, path) if in_run else retry_once(lambda: _located(path, weights))
        where = storage.join(name)
        if not retry_once(lambda: storage.exists(name)):
            raise FileNotFoundError
        data, listed, wrong = retry_once(lambda: _read_with_manifest(storage, name, weights))
        if weights and name.endswith(INDEX_SUFFIX):
            return where, _parts_beside(storage, where, data)
    except FileNotFoundError:  # it may have been removed a moment ago
        raise CheckpointNotFoundError(_missing(path, where, in_run, weights)) from None
    except RecordError as error:
        manifest = storage.join(f"{_folder_and_file(name)[0]}/{MANIFEST_FILE}".lstrip("/"))
        raise _damaged(where, f"its manifest cannot be read: {what_is_wrong(error, manifest)}", in_run) from None
    except OSError as error:
        raise StorageError(f"cannot read the checkpoint {where!r}: {error.strerror or reason(error)}") from error
    if wrong is not None:
        raise _damaged(where, wrong, in_run)
    try:
        if is_safetensors(data) or (name.endswith(".safetensors") and not is_torch_file(data)):
            return where, read_safetensors(data if weights else bytearray(data))
        return where, read_torch_file(data, foreign=foreign, shared=weights)
    except MemoryError as error:
        raise ResourceError(f"the checkpoint {where!r} does not fit into the memory of this process") from error
    except CheckpointError as error:
        if weights and isinstance(error, UnsafeFileError | UnsupportedFileError):
            raise type(error)(f"{where!r} is refused: {error}") from None
        if listed:  # the bytes are as they were written: an earlier checkpoint loads no better
            raise CheckpointError(f"the checkpoint {where!r} is intact, but cannot be loaded here ({error})") from None
        raise _damaged(where, str(error), in_run) from None


def _located(path: str, weights: bool) -> tuple[Storage, str]:
    """The folder of a file and its name, for a path as `load_checkpoint` or, for weights, `read_weights_file` takes."""
    path = followed(expanded(path))
    if _is_folder(path):
        return _in_folder(path, weights)
    return Storage(parent(path) if is_url(path) else os.path.dirname(path) or "."), _base(path)


def _read_with_manifest(storage: Storage, name: str, in_place: bool) -> tuple[Any, bool, str | None]:
    """Returns a file's content, whether it has a manifest, and in what it differs from that.

    It reads both again where they differ, as both may have been replaced in between. A local file that is read
    `in_place` is mapped into memory.
    """
    folder, file = _folder_and_file(name)
    for last in (False, True):
        data = _data(storage, name, in_place)
        # A manifest beside a file of another name may be that of another program.
        manifest = read_manifest(storage, folder) if file == CHECKPOINT_FILE else None
        wrong = None if manifest is None else difference(manifest, file, data)
        if last or wrong is None:
            break
    return data, manifest is not None, wrong


def _data(storage: Storage, name: str, in_place: bool) -> Any:
    """Returns the content of a file; a local one that is read `in_place` is mapped into memory."""
    return mapped(storage.join(name)) if storage.local and in_place else storage.read(name, most_bytes=None)


def _damaged(where: str, wrong: str, in_run: bool = False) -> DamagedCheckpointError:
    """The error for a file that is not what was written; what to do if it is one of a run's is said there."""
    remedy = "" if in_run else "; use an earlier one, or write it again"
    return DamagedCheckpointError(f"the checkpoint {where!r} is damaged or not a checkpoint ({wrong}){remedy}")


def _missing(given: str, where: str, in_run: bool, weights: bool) -> str:
    """The message for a path at which there is no checkpoint, with those that may be meant."""
    text = f"there is no {'file of weights, and no ' if weights else ''}checkpoint at {shown(where)!r}"
    if in_run:
        return text
    if weights and _folder_and_file(where)[1] == CHECKPOINT_FILE != _base(given):
        text = f"the folder {shown(given)!r} has no weights: expected {', '.join((CHECKPOINT_FILE, *WEIGHTS_FILES))}"
    folder, name = _split(expanded(given))
    run = Storage(folder)
    if name in (LAST, BEST) and (target := run.pointed(name)) is not None:
        text = f"{shown(given)!r} leads to {target!r}, which is gone"
    names = checkpoints_in(run)
    return text + (f"; its run has {', '.join(names[-_MOST_NAMED:])}" if names else "")
