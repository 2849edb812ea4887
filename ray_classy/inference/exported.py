"""Reads exported models back."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Mapping
from typing import Any, Self

import torch
from torch import nn

from ray_classy.checkpoint.files import CHECKPOINT_FILE
from ray_classy.checkpoint.safetensors_file import is_safetensors, read_metadata, read_safetensors
from ray_classy.errors import (
    CheckpointError,
    CheckpointNotFoundError,
    DamagedCheckpointError,
    RecordError,
    StorageError,
)
from ray_classy.inference.export_record import RECORD, ExportRecord, read_export_record
from ray_classy.inference.onnx_file import OnnxModel, check_onnx
from ray_classy.inference.places import place_of
from ray_classy.inference.program_file import check_program, is_program
from ray_classy.inference.timm_folder import CONFIG, WEIGHTS, record_of_folder, weights_of_model
from ray_classy.local_files import mapped
from ray_classy.models import build_model
from ray_classy.printable import printable
from ray_classy.records import what_is_wrong
from ray_classy.storage import Storage
from ray_classy.trainer.run_record import RUN_FILE
from ray_classy.urls import expanded, reason, shown, split_query

SUFFIXES = (".pt2", ".onnx", ".safetensors")
_MOST_NAMED = 3

Build = Callable[[], nn.Module]


def is_export(path: str) -> bool:
    """Whether a path is named as an exported model is, or is a folder in the layout of timm."""
    if split_query(expanded(path))[0].lower().endswith(SUFFIXES):
        return not os.path.isdir(expanded(path))
    folder = Storage(path)
    return folder.exists(CONFIG) and not folder.exists(RUN_FILE) and not folder.exists(CHECKPOINT_FILE)


def read_export(path: str) -> tuple[str, ExportRecord, Build]:
    """Reads an exported model, of which nothing is used before it is checked.

    Args:
        path: of a file, or of a folder in the layout of timm, also one that another program wrote; local or a URL.

    Returns:
        The path, absolute if it is local; the record; and a function that makes the model, in evaluation mode on the
        CPU.

    Raises:
        CheckpointNotFoundError: there is none.
        UnavailableError: a package that reads it is not installed; the message names the extra.
        UnsafeFileError: it could run code; the message names what.
        DamagedCheckpointError: it is damaged.
        CheckpointError: it was not written by `ray-classy export`, or is damaged.
    """
    file = split_query(expanded(path))[0].lower()
    folder = not file.endswith(SUFFIXES)
    storage, name = (Storage(path), "") if folder else place_of(path)
    where = storage.path if folder else storage.join(name)
    text: bytes | str | ExportRecord
    build: Callable[[ExportRecord], nn.Module]
    try:
        if folder:
            text, build = _folder(storage)
        else:
            text, build = _reader(file)(_content(storage, name))
        record = text if isinstance(text, ExportRecord) else read_export_record(text, RECORD)
    except RecordError as error:
        raise DamagedCheckpointError(f"{shown(where)!r}: its {RECORD}: {what_is_wrong(error, RECORD)}") from None
    except CheckpointNotFoundError:
        raise
    except CheckpointError as error:
        raise type(error)(f"{shown(where)!r} is refused: {error}") from None
    return where, record, lambda: _built(build, record, where)


def _reader(file: str) -> Callable[[Any], tuple[bytes | str, Callable[[ExportRecord], nn.Module]]]:
    """The function that reads files of such a name."""
    if file.endswith(".pt2"):
        return _program
    return _onnx if file.endswith(".onnx") else _weights


def _content(storage: Storage, name: str) -> Any:
    where = storage.join(name)
    try:
        if not storage.exists(name):
            raise CheckpointNotFoundError(f"there is no exported model at {shown(where)!r}")
        return mapped(where) if storage.local else storage.read(name, most_bytes=None)
    except OSError as error:
        if isinstance(error, CheckpointNotFoundError | StorageError):
            raise
        raise StorageError(f"cannot read {shown(where)!r}: {error.strerror or reason(error)}") from error


def _built(build: Callable[[ExportRecord], nn.Module], record: ExportRecord, where: str) -> nn.Module:
    try:
        return build(record).eval().requires_grad_(False)
    except CheckpointError as error:
        raise type(error)(f"{shown(where)!r}: {error}") from None


def _program(data: Any) -> tuple[bytes, Callable[[ExportRecord], nn.Module]]:
    if not is_program(data):
        raise DamagedCheckpointError("it is not a program that torch.export wrote")
    clean, text = check_program(data)
    return text, lambda record: Program(clean)


def _onnx(data: Any) -> tuple[str, Callable[[ExportRecord], nn.Module]]:
    content, text = check_onnx(data)
    return text, lambda record: OnnxModel(content)


def _folder(storage: Storage) -> tuple[bytes | ExportRecord, Callable[[ExportRecord], nn.Module]]:
    weights = weights_of_model(read_safetensors(_content(storage, WEIGHTS)))
    ours = storage.exists(RECORD)
    text = storage.read(RECORD) if ours else record_of_folder(storage.read(CONFIG), CONFIG)
    return text, lambda record: with_weights(record.model, weights)


def _weights(data: Any) -> tuple[str, Callable[[ExportRecord], nn.Module]]:
    if not is_safetensors(data):
        raise DamagedCheckpointError("it is not a safetensors file")
    text = read_metadata(data).get(RECORD)
    if text is None:
        raise CheckpointError(
            f"it has weights, and no {RECORD} in its metadata that says what they are for: give a run, a checkpoint or "
            f"an export; to train from such weights, name them in the model's `pretrained` or `weights`"
        )
    weights = read_safetensors(data)
    return text, lambda record: with_weights(record.model, weights)


def with_weights(config: Mapping[str, Any], weights: Mapping[str, torch.Tensor]) -> nn.Module:
    """Builds the model of a config, once the weights fit it.

    Raises:
        CheckpointError: they do not.
    """
    expected = {name: value.shape for name, value in build_model(config, "meta", weights=False).state_dict().items()}
    wrong = [
        *(f"{name} is missing" for name in expected if name not in weights),
        *(f"{printable(name)} is not in the model" for name in weights if name not in expected),
        *(
            f"{name} has the shape {tuple(weights[name].shape)} and not {tuple(shape)}"
            for name, shape in expected.items()
            if name in weights and weights[name].shape != shape
        ),
    ]
    if wrong:
        more = f", and {len(wrong) - _MOST_NAMED} more" if len(wrong) > _MOST_NAMED else ""
        raise CheckpointError(f"its weights do not fit its model: {', '.join(wrong[:_MOST_NAMED])}{more}")
    model = build_model(config, weights=False)
    model.load_state_dict(dict(weights))
    return model


class Program(nn.Module):
    """A program of torch.export as a module.

    Args:
        content: of an archive that `check_program` made.
    """

    def __init__(self, content: bytes) -> None:
        super().__init__()
        try:
            self._program = torch.export.load(io.BytesIO(content))
            self._call = self._program.module(check_guards=False)
        except Exception as error:  # torch raises almost anything for a program that is none
            reason = str(error).strip().rpartition("\n")[2][:200]
            raise DamagedCheckpointError(
                f"torch {torch.__version__} cannot load its program: {type(error).__name__}: {reason}"
            ) from None

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        try:
            return self._call(images)
        except (AssertionError, TypeError, ValueError) as error:  # of the checks of its inputs
            raise RuntimeError(str(error)) from None

    def to(self, device: Any) -> Self:  # type: ignore[override]
        """Moves the program, with the tensors that it makes."""
        from torch.export.passes import move_to_device_pass

        if torch.device(device).type != "cpu":
            self._program = move_to_device_pass(self._program, torch.device(device))
            self._call = self._program.module(check_guards=False)
        return self

    def train(self, mode: bool = True) -> Self:
        """Leaves the program as it was exported: in evaluation mode."""
        self.training = mode
        return self
