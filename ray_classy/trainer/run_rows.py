"""What the records of runs and sweeps say, read without torch: no checkpoint is opened."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ray_classy.config.changes import flat
from ray_classy.config.recipe_files import PREFIX
from ray_classy.errors import RayClassyError, RecordError
from ray_classy.records import damaged, parse_json, parse_json_object, read_record, what_is_wrong
from ray_classy.storage import Storage
from ray_classy.tasks.metrics import dotted
from ray_classy.trainer.lease import in_use
from ray_classy.trainer.ranking import default_metric, default_mode
from ray_classy.trainer.run_metrics import METRICS_FILE
from ray_classy.trainer.run_record import RUN_FILE, RunRecord
from ray_classy.urls import each, is_url, reason, shown, split_query

TRIAL_FILE = "trial.json"
_TRIAL_NAME = re.compile(r"t[0-9]{4,9}")
_MOST_NOTE = 80  # characters


@dataclass
class RunRow:
    """A run, a sweep or a trial of one.

    Attributes:
        name: of its folder.
        path: of its folder.
        kind: "run", "sweep" or "trial".
        state: "running", "finished", "failed", "interrupted", "stopped", "not started" (a trial), "died" (its process
            ended without a word), or "damaged" (its record cannot be read).
        config: the recipe or file that it was started with; of a trial its parameters.
        metric: by which checkpoints or trials are ranked; None before the first epoch.
        mode: whether the best value is the largest ("max") or the smallest ("min").
        best: the best value of the metric.
        epochs: passes over the train dataset that are over; of a sweep, trials that have ended.
        of: how many there will be; None if that is not known.
        seconds: spent in phases.
        started: date and time of the first start.
        resumed_from: the checkpoint that the last start resumed from, or the one that the run began with.
        note: why it failed, ended early or cannot be read.
        metrics: of the last phase of each type, by dotted name.
        values: what its config gives, by dotted key, without defaults; the parameters of a trial.
    """

    name: str
    path: str
    kind: str = "run"
    state: str = "damaged"
    config: str = ""
    metric: str | None = None
    mode: str | None = None
    best: float | None = None
    epochs: float | None = None
    of: float | None = None
    seconds: float | None = None
    started: str | None = None
    resumed_from: str | None = None
    note: str | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)


@dataclass
class _Trial:
    """What is read of `trial.json`."""

    params: dict[str, Any]
    state: str
    reason: str | None = None
    epoch: float = 0
    metrics: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    num_epochs: float | None = None


def rows_in(folder: Storage) -> list[RunRow]:
    """The runs and sweeps in a folder, the oldest first; of a store, many are read at once."""
    found = [row for row in each(lambda name: _row_in(folder, name), folder.names(), not folder.local) if row]
    return sorted(found, key=lambda row: (row.started or "", row.name))


def trials_in(sweep: Storage, facts: Mapping[str, Any]) -> list[RunRow]:
    """The trials of a sweep by number.

    Args:
        sweep: its folder.
        facts: its record.
    """
    return each(lambda name: _trial_row(_inside(sweep, name), name, facts), _trial_names(sweep), not sweep.local)


def row_of(folder: Storage) -> RunRow | None:
    """The run or sweep in a folder; None if there is none. A record that cannot be read is a row that says so."""
    name = os.path.basename(split_query(folder.path)[0].rstrip("/"))
    row = RunRow(name, shown(folder.path))
    try:
        facts = RunRecord(folder).facts()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (RayClassyError, OSError) as error:
        row.note = _why(error, folder, RUN_FILE)
        return row
    try:
        _fill(row, folder, facts)
    except (RayClassyError, OSError, RecursionError) as error:
        row.state, row.note = "damaged", _why(error, folder, METRICS_FILE)
    return row


def _row_in(folder: Storage, name: str) -> RunRow | None:
    if folder.local and not os.path.isdir(folder.join(name)):
        return None
    return row_of(_inside(folder, name))


def _inside(folder: Storage, name: str) -> Storage:
    return Storage(folder.join(name), folder.filesystem)


def _why(error: Exception, folder: Storage, name: str) -> str:
    """The reason why a file of a run cannot be read, without its path."""
    if isinstance(error, RecordError):
        return f"{name}: {what_is_wrong(error, shown(folder.join(name)))}"
    return f"{name} cannot be read: {reason(error)}"


def _fill(row: RunRow, folder: Storage, facts: Mapping[str, Any]) -> None:
    starts = [start for start in facts.get("starts") or [] if isinstance(start, Mapping)]
    row.kind = "sweep" if facts.get("kind") == "sweep" else "run"
    row.state = str(facts.get("status"))
    if row.state == "running" and in_use(folder) is None:
        row.state = "died"
    row.config = _config_name(facts, starts)
    row.started = starts[0].get("at") if starts and isinstance(starts[0].get("at"), str) else None
    given = facts.get("given") or (facts.get("config") if row.kind == "sweep" else None) or {}
    row.values = flat(given)
    resumed = starts[-1].get("resumed_from") if starts else None
    began = row.values.get("checkpoint")
    row.resumed_from = next((one for one in (resumed, began) if isinstance(one, str)), None)
    if row.resumed_from is None and len(starts) > 1:
        row.resumed_from = f"(start {len(starts)})"  # of a record that does not name the checkpoint
    row.note = _short(facts.get("error") or facts.get("stopped_early"))
    row.metric, row.mode = facts.get("metric"), facts.get("mode")
    if row.kind == "sweep":
        _fill_sweep(row, folder, facts)
    else:
        _fill_metrics(row, lines_of(folder))


def _config_name(facts: Mapping[str, Any], starts: list[Mapping[str, Any]]) -> str:
    """What the first command named: a recipe, a folder of images, or the file of a config."""
    command = starts[0].get("command") if starts else None
    words = [word for word in command if isinstance(word, str)] if isinstance(command, list) else []
    recipe = next((word for word in words if word.startswith(PREFIX)), None)
    if recipe is not None:
        return recipe
    if "--images" in words[:-1]:
        return f"--images {words[words.index('--images') + 1]}"
    file = facts.get("config_file")
    if isinstance(file, str):
        return shown(file) if is_url(file) else os.path.basename(file)
    return str(facts.get("task") or "")


def _fill_sweep(row: RunRow, folder: Storage, facts: Mapping[str, Any]) -> None:
    trials = each(lambda name: _trial(_inside(folder, name)), _trial_names(folder), not folder.local)
    known = [trial for trial in trials if isinstance(trial, _Trial)]
    ended = sum(trial.state not in ("running", "not started") for trial in known)
    row.epochs, row.of = float(ended), facts.get("total")
    row.seconds = sum(trial.seconds for trial in known)
    values = [number for trial in known if (number := _number(trial.metrics.get(row.metric or ""))) is not None]
    row.best = _best(values, row.mode)
    if len(known) < len(trials):
        row.note = row.note or f"{len(trials) - len(known)} of its trials cannot be read"


def _trial_names(folder: Storage) -> list[str]:
    return [name for name in folder.names() if is_trial_name(name)]


def is_trial_name(name: str) -> bool:
    """Whether a name is that of a trial's folder."""
    return bool(_TRIAL_NAME.fullmatch(name))


def _trial(folder: Storage) -> _Trial | Exception:
    """The record of a trial, or why it cannot be read."""
    where = shown(folder.join(TRIAL_FILE))
    try:
        return read_record(_Trial, parse_json_object(folder.read(TRIAL_FILE), where), where)
    except (RayClassyError, OSError) as error:
        return error


def _trial_row(folder: Storage, name: str, facts: Mapping[str, Any]) -> RunRow:
    trial = _trial(folder)
    row = RunRow(name, shown(folder.path), "trial", metric=facts.get("metric"), mode=facts.get("mode"))
    if not isinstance(trial, _Trial):
        row.note = _why(trial, folder, TRIAL_FILE)
        return row
    try:
        _fill_metrics(row, lines_of(folder))
    except (RayClassyError, OSError) as error:
        row.note = _why(error, folder, METRICS_FILE)
    row.state, row.seconds, row.epochs = trial.state, trial.seconds, trial.epoch
    row.best = _number(trial.metrics.get(row.metric or ""))  # of the last report, by which the sweep ranks them
    row.of = trial.num_epochs or _number(trial.params.get("num_epochs")) or _number(facts.get("epochs"))
    row.values, row.note = trial.params, row.note or _short(trial.reason)
    row.config = "  ".join(f"{key.rpartition('.')[2]} {_value(value)}" for key, value in trial.params.items())
    return row


def _value(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def lines_of(folder: Storage) -> list[dict[str, Any]]:
    """The lines of a run's metrics that can be read; those of a run that has none yet are none.

    Raises:
        RecordError: no line can be read.
        OSError: the file cannot be read.
    """
    try:
        content = folder.read(METRICS_FILE)
    except FileNotFoundError:
        return []
    with contextlib.suppress(ValueError, RecursionError):  # all at once: a run may have thousands of lines
        whole = json.loads(b"[" + b",".join(content.splitlines()) + b"]")
        if all(map(_is_line, whole)):
            return list(whole)
    lines: list[dict[str, Any]] = []
    first: RecordError | None = None
    where = shown(folder.join(METRICS_FILE))
    for number, raw in enumerate(content.splitlines(), 1):
        try:
            line = parse_json(raw, f"{where}, line {number}")
            if not _is_line(line):
                raise damaged(where, f"line {number} holds no metrics")
            lines.append(line)
        except RecordError as error:
            first = first or error
    if first is not None and not lines:
        raise first
    return lines


def _is_line(line: Any) -> bool:
    return isinstance(line, dict) and isinstance(line.get("metrics"), dict)


def _fill_metrics(row: RunRow, lines: list[dict[str, Any]]) -> None:
    if not lines:
        return
    row.metrics = final_metrics(lines)
    if row.metric is None:
        row.metric = default_metric(list(row.metrics))
        row.mode = default_mode(row.metric) if row.metric else None
    if row.metric is not None:
        row.best = best_metric(lines, row.metric, row.mode)
    row.epochs, where = _number(lines[-1].get("epoch")), _number(lines[-1].get("where"))
    row.of = round(row.epochs / where, 3) if row.epochs and where else None
    row.seconds = sum(_number(line.get("seconds")) or 0.0 for line in lines)


def final_metrics(lines: list[dict[str, Any]]) -> dict[str, float]:
    """The numbers of the last phase of each type, by dotted name."""
    latest = {str(line.get("phase_type")): line["metrics"] for line in lines}
    return {
        name: number
        for name, value in dotted(latest).items()
        if "per_class." not in name and (number := _number(value)) is not None
    }


def best_metric(lines: list[dict[str, Any]], metric: str, mode: str | None) -> float | None:
    """The best value of a metric over all phases; None if there is none."""
    kind = metric.partition(".")[0]
    values = (dotted(line["metrics"], kind).get(metric) for line in lines if line.get("phase_type") == kind)
    return _best([number for value in values if (number := _number(value)) is not None], mode)


def _best(values: list[float], mode: str | None) -> float | None:
    known = [value for value in values if math.isfinite(value)]
    return (min if mode == "min" else max)(known) if known else None


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _short(text: Any) -> str | None:
    lines = text.strip().splitlines() if isinstance(text, str) else []
    return (lines[0] if len(lines[0]) <= _MOST_NOTE else f"{lines[0][: _MOST_NOTE - 3]}...") if lines else None
