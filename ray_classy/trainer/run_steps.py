"""`steps.jsonl` in a run's folder: a line within phases, as often as the log has one."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ray_classy.storage import Storage
from ray_classy.trainer.log_file import LogFile
from ray_classy.trainer.record_lines import RecordLines

if TYPE_CHECKING:
    from ray_classy.trainer.progress_line import Figures

STEPS_FILE = "steps.jsonl"


@dataclass
class _Line:
    """What is read of a line."""

    train_step: int


class RunSteps:
    """The progress in a run's folder. A run is worth more than it: what cannot be written is dropped.

    Args:
        storage: the folder.
        owned: whether the folder is still this process's to write.
    """

    def __init__(self, storage: Storage, owned: Callable[[], bool]) -> None:
        self._storage = storage
        self._file = LogFile(storage, STEPS_FILE, owned=owned)

    def add(self, figures: Figures) -> None:
        """Adds a line; in a store, in the background."""
        with contextlib.suppress(OSError):
            self._file.add(json.dumps({**figures.record(), "at": time.strftime("%Y-%m-%dT%H:%M:%S%z")}))

    def lines(self) -> list[dict[str, Any]]:
        """The lines that can be read, oldest first."""
        return RecordLines(self._storage, STEPS_FILE, _Line).read()

    def flush(self) -> None:
        """Waits until the lines so far are written, or the store has refused them."""
        self._file.flush()

    def keep_until(self, train_step: int) -> None:
        """Drops the lines of steps that are about to be made again.

        Args:
            train_step: the last one that is not.
        """
        if self._storage.exists(STEPS_FILE):
            kept = [line for line in self.lines() if line["train_step"] <= train_step]
            RecordLines(self._storage, STEPS_FILE, _Line).replace(kept)


def train_steps_of(content: Mapping[str, Any]) -> int:
    """The train steps that were made when a checkpoint with this content was written."""
    counted = (content.get("ray_classy") or {}).get("counters") or {}
    steps = content["classy_state_dict"].get("num_train_steps", counted.get("num_train_steps"))
    return steps if isinstance(steps, int) else 0
