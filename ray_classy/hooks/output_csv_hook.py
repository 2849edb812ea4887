"""A hook that writes the predictions of test phases to a CSV file."""

from __future__ import annotations

import csv
import logging
import os
from collections.abc import Mapping
from typing import Any

import torch

from ray_classy.distributed import broadcast_object, gather_objects, is_primary
from ray_classy.errors import ArgumentTypeError, ComponentError, DamagedCheckpointError
from ray_classy.hooks.classy_hook import ClassyHook, register_hook

DEFAULT_FILE_NAME = "predictions.csv"
SUPERSEDED_FILE_NAME = "predictions.superseded.csv"
_HEADER = ("sample_id", "prediction", "target")

_log = logging.getLogger(__name__)


@register_hook("output_csv")
class OutputCSVHook(ClassyHook):
    """Appends a line for each evaluated row to `predictions.csv`: its id, the predicted class and the target.

    On any number of ranks every evaluated row has one line, in one file, which the primary rank writes at the end of
    each test phase. A run that resumes from a checkpoint moves the lines of phases after it, which it repeats, to
    `predictions.superseded.csv`. Outputs and targets of shape (N, C) are written as the class of the largest value.

    Args:
        folder: of the file, relative to the working directory; created if it does not exist.
        id_key: the entry of a sample that names the row. Test phases without it are left out, with a warning.
        delimiter: one character between two columns.

    Raises:
        ComponentError: an argument has an invalid value.
    """

    on_phase_start = on_end = ClassyHook._noop

    def __init__(self, folder: str, id_key: str = "id", delimiter: str = "\t") -> None:
        super().__init__()
        if not isinstance(folder, str | os.PathLike):
            raise ArgumentTypeError(f"folder must be a path, not {folder!r}")
        if not isinstance(delimiter, str) or len(delimiter) != 1 or delimiter in '\r\n"':
            raise ComponentError(f"delimiter must be one character, not {delimiter!r}")
        self.folder = os.fspath(folder)
        self.output_path = os.path.join(self.folder, DEFAULT_FILE_NAME)
        self.id_key = id_key
        self.delimiter = delimiter
        self.state.size = None  # bytes of the file at the end of the last test phase
        self._batches: list[tuple[Any, torch.Tensor, torch.Tensor]] = []
        self._warned = False

    def set_classy_state(self, state: Mapping[str, Any]) -> None:
        """Restores what `get_classy_state` returned."""
        size = state.get("size")
        if size is not None and (type(size) is not int or size < 0):
            raise DamagedCheckpointError(f"the checkpoint's state of hook {self.name()!r} has the size {size!r}")
        super().set_classy_state(state)

    def on_start(self, task: Any) -> None:
        """Creates the file, or sets aside the lines that a resumed run writes again.

        Raises:
            ComponentError: the file cannot be written.
        """
        self._batches = []
        if not is_primary():
            return
        try:
            os.makedirs(self.folder, exist_ok=True)
            self._set_aside()
            self._append([] if os.path.exists(self.output_path) and os.path.getsize(self.output_path) else [_HEADER])
        except OSError as error:
            raise ComponentError(f"cannot write {self.output_path!r} (folder): {error.strerror or error}") from None

    def on_step(self, task: Any) -> None:
        """Keeps the ids, classes and targets of a test batch on their device."""
        if task.train or task.last_batch is None:
            return
        sample, output = task.last_batch.sample, task.last_batch.output
        if self.id_key not in sample:
            if not self._warned:
                _log.warning("samples have no %r: %s is not written (id_key)", self.id_key, self.output_path)
            self._warned = True
            return
        if not isinstance(output, torch.Tensor) or output.ndim != 2:
            raise ComponentError(f"the hook output_csv needs model outputs of shape (N, C), not {_kind(output)}")
        share = getattr(task.data_iterator, "share", None)
        rows = len(output) if share is None else share.rows
        target = task.last_batch.target
        classes = target.argmax(1) if target.ndim == 2 and target.shape[1] > 1 else target.reshape(len(target))
        self._batches.append((sample[self.id_key][:rows], output.argmax(1)[:rows], classes[:rows]))

    def on_phase_end(self, task: Any) -> None:
        """Writes the lines of a test phase, those of rank 0 first."""
        if task.train:
            return
        batches, self._batches = self._batches, []
        parts = gather_objects([(_listed(ids), output.tolist(), target.tolist()) for ids, output, target in batches])
        if is_primary():
            self._append([row for part in parts for batch in part for row in zip(*batch, strict=True)])
        self.state.size = broadcast_object(os.path.getsize(self.output_path) if is_primary() else None)

    def _append(self, rows: list[Any]) -> None:
        with open(self.output_path, "a", encoding="utf-8", newline="") as file:
            csv.writer(file, delimiter=self.delimiter, lineterminator="\n").writerows(rows)

    def _set_aside(self) -> None:
        """Moves what was written after the checkpoint that the run resumes from to a file of its own."""
        size = self.state.size
        if size is None or not os.path.exists(self.output_path) or os.path.getsize(self.output_path) <= size:
            return
        aside = os.path.join(self.folder, SUPERSEDED_FILE_NAME)
        with open(self.output_path, "r+b") as file, open(aside, "ab") as other:
            file.seek(size)
            other.write(file.read())
            file.truncate(size)
        _log.info("lines of %s after the checkpoint are in %s: their phases are repeated", self.output_path, aside)


def _listed(ids: Any) -> list[Any]:
    return ids.tolist() if isinstance(ids, torch.Tensor) else list(ids)


def _kind(value: Any) -> str:
    return str(tuple(value.shape)) if isinstance(value, torch.Tensor) else type(value).__name__
