"""What is read of a run for its report: records alone, no checkpoint."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ray_classy.errors import ConfigError, RecordError
from ray_classy.records import read_record
from ray_classy.redact import redacted_values
from ray_classy.storage import Storage
from ray_classy.trainer.near_runs import not_a_run
from ray_classy.trainer.record_lines import RecordLines
from ray_classy.trainer.run_folder import RunFolder
from ray_classy.trainer.run_record import CONFIG_FILE
from ray_classy.trainer.run_rows import RunRow, row_of
from ray_classy.trainer.run_steps import STEPS_FILE
from ray_classy.urls import reading


@dataclass
class _Step:
    """What is read of a line of `steps.jsonl`."""

    phase_type: str
    where: float
    phase: int | None = None
    step: int | None = None
    steps: int | None = None
    loss: float | None = None
    lr: list[float] | None = None
    samples_per_second: float | None = None
    data_wait: float | None = None


@dataclass
class _Resume:
    """What is read of the moment in which the workers of a start resumed."""

    checkpoint: str
    at: str | None = None


@dataclass
class _Start:
    """What is read of a start in `run.json`."""

    command: list[str] = field(default_factory=list)
    at: str | None = None
    cwd: str | None = None
    job: str | None = None
    commit: str | None = None
    uncommitted_changes: bool | None = None
    host: str | None = None
    cpus: int | None = None
    resumed_from: str | None = None
    resumes: list[_Resume] = field(default_factory=list)


@dataclass(frozen=True)
class RunSource:
    """The records of a run.

    Attributes:
        folder: of the run.
        row: what `ray-classy ls` says of it.
        facts: of `run.json`.
        config: the resolved one, without secrets; empty for a task that was built in Python.
        lines: of `metrics.jsonl`.
        steps: of `steps.jsonl`; none if the run has no such file.
        starts: of the run, oldest first.
    """

    folder: RunFolder
    row: RunRow
    facts: Mapping[str, Any]
    config: dict[str, Any]
    lines: list[dict[str, Any]]
    steps: list[dict[str, Any]]
    starts: list[_Start]

    @property
    def epochs(self) -> float:
        """How many epochs the run has in all."""
        return self.row.of or self.row.epochs or 1.0

    @property
    def name(self) -> str:
        """Of the folder."""
        return self.row.name

    @property
    def seconds(self) -> float:
        """The time of all workers together in phases."""
        return sum((number_in(line, "seconds") or 0.0) * self.workers_of(line) for line in self.lines)

    def epoch_of(self, step: Mapping[str, Any]) -> float:
        """Where a line of `steps.jsonl` is, in epochs; its `where` refers to the length that the run had then."""
        phase, made, steps = (number_in(step, key) for key in ("phase", "step", "steps"))
        train_phase = number_in(self.lines[-1], "train_phase") if self.lines else None
        if phase is None or made is None or not steps or not train_phase:
            return float(step["where"]) * self.epochs
        return (phase - 1 + made / steps) * float(self.lines[-1]["epoch"]) / train_phase

    def workers_of(self, line: Mapping[str, Any]) -> int:
        """The workers of a phase; of a run that did not record them, those that its config asks for."""
        recorded = line.get("world_size")
        if isinstance(recorded, int) and recorded > 0:
            return recorded
        asked = part(self.config, "ray").get("num_workers")
        return asked if isinstance(asked, int) and not self.local and asked > 0 else 1

    @property
    def local(self) -> bool:
        """Whether the last start was one without Ray."""
        return bool(self.starts) and "--local" in self.starts[-1].command


def part(config: Any, *keys: str) -> Mapping[str, Any]:
    """A section of a config; an empty one in place of what is no section."""
    for key in keys:
        config = config.get(key) if isinstance(config, Mapping) else None
    return config if isinstance(config, Mapping) else {}


def number_in(line: Mapping[str, Any], key: str) -> float | None:
    """A finite number in a record; None in place of anything else."""
    value = line.get(key)
    known = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if known and value is not None else None


def read_run(path: str) -> RunSource:
    """Reads the records of a run.

    Raises:
        RunFolderError: there is none.
        RecordError: its record is damaged.
    """
    with reading(path):
        folder = RunFolder.existing(path)
        row = row_of(folder.storage)
        if row is None:
            raise not_a_run(path)
        facts = folder.record.facts()
        return RunSource(
            folder=folder,
            row=row,
            facts=facts,
            config=_config(folder),
            lines=folder.metrics.lines(),
            steps=steps_of(folder.storage),
            starts=[_start(one) for one in facts.get("starts") or []],
        )


def steps_of(storage: Storage) -> list[dict[str, Any]]:
    """The lines within phases that a run's folder has, oldest first."""
    return RecordLines(storage, STEPS_FILE, _Step).read()


def _config(folder: RunFolder) -> dict[str, Any]:
    if not folder.storage.exists(CONFIG_FILE):
        return {}
    try:
        return redacted_values(folder.record.config()[0])
    except ConfigError:  # of a task that was built in Python, with arguments that no file can give
        return {}


def _start(recorded: Mapping[str, Any]) -> _Start:
    """A start; an empty one in place of one that cannot be read."""
    try:
        return read_record(_Start, recorded, "run.json")
    except RecordError:
        return _Start()
