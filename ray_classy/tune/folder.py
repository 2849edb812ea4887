"""The folder of a sweep.

config.yaml            the config with its search nodes
run.json               command, seed, versions, metric, and how the sweep ended
lease.json             the lock: the process that runs the sweep
t0000/                 a trial: an ordinary run folder, and
t0000/trial.json       its parameters, how far it is, and how it ended
t0000/reports.jsonl    what it reported, one line per round
best.yaml              the config of the best trial
ray/                   what Ray Tune keeps for itself
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Container, Mapping
from typing import Any

from ray_classy.checkpoint.files import is_checkpoint_name
from ray_classy.errors import RecordError, RunFolderError
from ray_classy.printable import printable
from ray_classy.records import damaged, parse_json_object, read_record
from ray_classy.redact import redacted_values
from ray_classy.storage import Storage
from ray_classy.trainer.record_lines import RecordLines
from ray_classy.trainer.run_folder import RunFolder
from ray_classy.trainer.run_metrics import latest_by_phase_type, train_phase_of
from ray_classy.trainer.run_record import RUN_FILE
from ray_classy.trainer.run_rows import TRIAL_FILE, is_trial_name
from ray_classy.urls import shown

REPORTS_FILE, BEST_FILE = "reports.jsonl", "best.yaml"

RUNNING, FINISHED, STOPPED, FAILED = "running", "finished", "stopped", "failed"
NOT_STARTED = "not started"
_STATES = (RUNNING, FINISHED, STOPPED, FAILED, NOT_STARTED)


@dataclasses.dataclass
class Clone:
    """A state that a trial adopts from another one.

    Attributes:
        of: the other trial; None if Ray Tune did not say which.
        checkpoint: the name of the other's checkpoint.
        epoch: passes over the train dataset that were over at it.
        params: what the trial has instead of its former parameters.
        done: whether the trial has reported since.
    """

    of: str | None
    checkpoint: str | None
    epoch: float | None
    params: dict[str, Any]
    done: bool


@dataclasses.dataclass
class TrialRecord:
    """The record of a trial.

    Attributes:
        name: `t0007`, the name of its folder.
        index: its number, from 0.
        params: label by name of search node, as they are now.
        state: "running" (also before it began, and while it waits), "finished", "stopped" (by the scheduler, a
            threshold or the time budget), "not started" (the time budget was spent before) or "failed".
        reason: why it was stopped, ended early or failed.
        epoch: passes over the train dataset that are over.
        metrics: of its last report, by dotted name.
        checkpoint: the name of the checkpoint of that report.
        seconds: training time.
        num_epochs: to which `--extend` has it trained, in place of what its config says; None if it is not extended.
        clones: states adopted from other trials, oldest first.
    """

    name: str
    index: int
    params: dict[str, Any]
    state: str = RUNNING
    reason: str | None = None
    epoch: int | float = 0
    metrics: dict[str, Any] = dataclasses.field(default_factory=dict)
    checkpoint: str | None = None
    seconds: float = 0.0
    num_epochs: int | float | None = None
    clones: list[Clone] = dataclasses.field(default_factory=list)

    @property
    def pending_clone(self) -> Clone | None:
        """The state of another trial that this one must adopt, unless it has reported since."""
        return self.clones[-1] if self.clones and not self.clones[-1].done else None

    @property
    def ended(self) -> bool:
        """Whether there is nothing left to do."""
        return self.state != RUNNING


class SweepFolder(RunFolder):
    """A sweep's folder: the folder of a run, with trials in it."""

    KIND = "sweep"
    FILES_OF_A_START = RunFolder.FILES_OF_A_START | {"ray"}

    def write_trial(self, record: TrialRecord) -> None:
        """Records a trial, so that it survives a crash at any moment."""
        self.check_owner()
        content = json.dumps(redacted_values(dataclasses.asdict(record)), default=str) + "\n"
        self.storage.write(f"{record.name}/{TRIAL_FILE}", content.encode())

    def trials(self) -> list[TrialRecord]:
        """All trials that were started, in the order of their numbers.

        Raises:
            RecordError: the record of one is damaged.
            OSError: one cannot be read.
        """
        names = [name for name in self.storage.names() if is_trial_name(name)]
        found = [name for name in names if self.storage.exists(f"{name}/{TRIAL_FILE}")]
        return sorted(map(self._trial, found), key=lambda record: record.index)

    def _trial(self, name: str) -> TrialRecord:
        """Reads the record of a trial, and checks what is used as a path."""
        where = shown(self.storage.join(f"{name}/{TRIAL_FILE}"))
        record = read_record(TrialRecord, parse_json_object(self.storage.read(f"{name}/{TRIAL_FILE}"), where), where)
        if (record.name, record.index) != (name, int(name[1:])):
            raise damaged(where, f"it is the record of trial {record.index}, {printable(record.name)!r}")
        if record.state not in _STATES:
            raise damaged(where, f"state is {printable(record.state)!r}, and must be one of {', '.join(_STATES)}")
        for trial in (clone.of for clone in record.clones):
            if trial is not None and not is_trial_name(trial):
                raise damaged(where, f"{printable(trial)!r} is not the name of a trial")
        for checkpoint in (record.checkpoint, *(clone.checkpoint for clone in record.clones)):
            if checkpoint is not None and not is_checkpoint_name(checkpoint):
                raise damaged(where, f"{printable(checkpoint)!r} is not the name of a checkpoint")
        return record

    def check_params(self, record: TrialRecord, labels: Mapping[str, Container[Any] | None]) -> None:
        """Checks that a record has a value for each search node, and no other.

        Args:
            record: of a trial.
            labels: what the values of a node can be, by its name; None for a range.

        Raises:
            RecordError: it has other values.
        """
        where = shown(self.storage.join(f"{record.name}/{TRIAL_FILE}"))
        if record.params.keys() != labels.keys():
            found = printable(", ".join(record.params)) or "nothing"
            raise damaged(where, f"it has parameters for {found}, not for {', '.join(labels)}")
        for name, allowed in labels.items():
            value = record.params[name]
            if allowed is not None and (isinstance(value, dict | list) or value not in allowed):
                raise damaged(where, f"the parameter {name} has no value {printable(value)!r}")

    def trial_run(self, name: str, filesystem: Any = None) -> RunFolder:
        """The run folder of a trial."""
        return RunFolder(self.storage.join(name), filesystem)

    def _used(self) -> bool:
        """Whether a trial began."""
        return bool(self.trials())


def existing_sweep(path: str, filesystem: Any = None) -> SweepFolder:
    """The folder of an earlier sweep.

    Raises:
        RunFolderError: it is none.
    """
    folder = SweepFolder.existing(path, filesystem)
    facts = folder.record.facts()
    if facts.get("kind") != SweepFolder.KIND:
        raise RunFolderError(f"{shown(path)!r} is a run, not a sweep: resume it with ray-classy train --resume")
    for name in ("metric", "mode", "config"):
        if facts.get(name) is None:
            raise damaged(shown(folder.storage.join(RUN_FILE)), f"it has no {name!r}")
    return folder


@dataclasses.dataclass
class _Report:
    """What is read of a line of `reports.jsonl`."""

    epoch: float
    phase_idx: int
    where: float
    train_phase: int = 0
    checkpoint: str | None = None
    train: dict[str, Any] | None = None
    test: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.checkpoint is not None and not is_checkpoint_name(self.checkpoint):
            raise RecordError(f"{printable(self.checkpoint)!r} is not the name of a checkpoint")


def trial_name(index: int) -> str:
    """The name of a trial."""
    return f"t{index:04d}"


class Reports:
    """The reports of a trial, round by round, in its run folder.

    Args:
        storage: the run folder.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._file = RecordLines(storage, REPORTS_FILE, _Report)

    def read(self) -> list[dict[str, Any]]:
        """All reports that can be read."""
        return self._file.read()

    def add(self, report: Mapping[str, Any]) -> None:
        """Adds a report."""
        self._file.add(report)

    def begin(self, lines: list[dict[str, Any]], epoch: int, checkpoint: str | None) -> list[dict[str, Any]]:
        """Cuts the reports back to the state that a trial resumes from, and returns them.

        Args:
            lines: the metrics of the phases up to that state.
            epoch: its train phases.
            checkpoint: the name of the checkpoint it was read from.
        """
        reports = [report for report in self.read() if train_phase_of(report) <= epoch] if epoch else []
        last = [line for line in lines if train_phase_of(line) == epoch]
        if last and (not reports or train_phase_of(reports[-1]) < epoch):  # killed between checkpoint and report
            kept = ("phase_idx", "epoch", "train_phase", "where", "stopped_early")
            progress: dict[str, Any] = {key: last[-1][key] for key in kept if key in last[-1]}
            reports.append({**latest_by_phase_type(last), **progress, "checkpoint": checkpoint})
        if reports or self._storage.exists(REPORTS_FILE):  # also to be rid of a line that was cut off
            self._file.replace(reports)
        return reports
