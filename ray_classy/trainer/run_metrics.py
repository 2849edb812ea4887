"""`metrics.jsonl` in a run's folder: one line per phase, as it happens."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ray_classy.storage import Storage
from ray_classy.trainer.record_lines import RecordLines

METRICS_FILE = "metrics.jsonl"


@dataclass
class _Line:
    """What is read of a line; older versions did not write all of it."""

    phase_type: str
    epoch: float
    metrics: dict[str, Any]
    phase_idx: int = 0
    train_phase: int = 0
    num_updates: int = 0
    where: float = 0.0
    stopped_early: str | None = None


class RunMetrics:
    """The metrics in a run's folder.

    Args:
        storage: the folder.
        check_owner: raises an error if another process has taken the folder over.
    """

    def __init__(self, storage: Storage, check_owner: Callable[[], None] = lambda: None) -> None:
        self._storage, self._check_owner = storage, check_owner
        self._file = RecordLines(storage, METRICS_FILE, _Line)

    def lines(self) -> list[dict[str, Any]]:
        """The lines that can be read, oldest first."""
        return self._file.read()

    def stopped_early(self) -> str | None:
        """Why the run ended early, if it did so after the last line."""
        last = self.lines()[-1:]
        return last[0].get("stopped_early") if last else None

    def add(self, line: Mapping[str, Any]) -> None:
        """Adds the line of a phase.

        Raises:
            RunFolderError: another process has taken the run over.
        """
        self._check_owner()
        self._file.add(line)

    def set_aside(self) -> str | None:
        """Moves the lines to another file, before the run is trained from its start again.

        Returns:
            The name of that file; None if there are no lines.

        Raises:
            RunFolderError: another process has taken the run over.
        """
        if not self.lines():
            return None
        self._check_owner()
        name = self._storage.free_name(f"{METRICS_FILE}.before")
        self._storage.write(name, self._storage.read(METRICS_FILE))
        self._file.replace([])
        return name

    def keep_until(self, epoch: int, tested: bool) -> None:
        """Drops the lines of phases that are about to be run again.

        Args:
            epoch: the last train phase that is over, counted from 1; 0 drops all.
            tested: whether the test phase after it is over as well.

        Raises:
            RunFolderError: another process has taken the run over.
        """
        if not self._storage.exists(METRICS_FILE):
            return
        self._check_owner()
        last = (epoch, tested)
        lines = self.lines()
        self._file.replace(
            line for line in lines if epoch and (train_phase_of(line), line["phase_type"] == "test") <= last
        )


def latest_by_phase_type(lines: list[dict[str, Any]]) -> dict[str, Any]:
    """The metrics of the last phase of each type: `{"train": {...}, "test": {...}}`."""
    return {line["phase_type"]: line["metrics"] for line in lines}


def train_phase_of(line: Mapping[str, Any]) -> int:
    """Returns the number of train phases at the end of a line of metrics; older lines call it `epoch`."""
    return line.get("train_phase", line["epoch"])
