"""`ray-classy ls`: runs and sweeps in a folder, the trials of a sweep, or the checkpoints of a run."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import fnmatch
import operator
import re
from collections.abc import Callable, Sequence
from typing import Any

from ray_classy.cli.arguments import UsageError
from ray_classy.cli.output import Answer
from ray_classy.display import aligned, duration
from ray_classy.errors import RunFolderError
from ray_classy.printable import printable
from ray_classy.registry import nearest
from ray_classy.storage import Storage
from ray_classy.trainer.near_runs import not_a_run
from ray_classy.trainer.run_record import RUN_FILE, RunRecord
from ray_classy.trainer.run_rows import RunRow, row_of, rows_in, trials_in
from ray_classy.urls import reading, shown

DEFAULT_FOLDER = "runs"
_COLUMNS: dict[str, Callable[[RunRow], Any]] = {
    "name": lambda row: row.name,
    "kind": lambda row: row.kind,
    "state": lambda row: row.state,
    "config": lambda row: row.config,
    "best": lambda row: row.best,
    "metric": lambda row: row.metric,
    "epochs": lambda row: row.epochs,
    "time": lambda row: row.seconds,
    "started": lambda row: row.started,
    "from": lambda row: row.resumed_from,
    "note": lambda row: row.note,
}
"""What --sort and --filter know besides metrics and the keys of configs."""
_COMPARED: dict[str, Callable[[Any, Any], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "!=": operator.ne,
    "=": operator.eq,
    "<": operator.lt,
    ">": operator.gt,
}
_CONDITION = re.compile(r"(?P<key>[^=<>!]+)(?P<sign><=|>=|!=|=|<|>)(?P<value>.*)", re.S)


def ls(arguments: argparse.Namespace) -> Answer:
    """Lists what is at the paths, from records alone.

    Raises:
        UsageError: there is no such column, metric or key, or a condition is none.
        RunFolderError: there is no run.
    """
    paths = [str(word) for word in arguments.words] or [DEFAULT_FOLDER]
    chosen = bool(arguments.sort or arguments.filter or arguments.reverse)
    if len(paths) > 1:
        return _table([row for path in paths for row in _rows_at(path)], arguments)
    (path,) = paths
    with reading(path):
        folder = Storage(path)
        if folder.exists(RUN_FILE):
            facts = RunRecord(folder).facts()
            if facts.get("kind") == "sweep":
                state = row.state if (row := row_of(folder)) is not None else facts.get("status")
                head = f"{shown(folder.path)}: {state}, a sweep by {facts.get('metric')}"
                return _table(trials_in(folder, facts), arguments, head, sweep=shown(folder.path))
        elif rows := _rows_below(folder):
            return _table(rows, arguments, folder=shown(folder.path))
        elif not arguments.words:
            raise RunFolderError(f"there are no runs in {path!r} here: give the folder or URL of your runs")
        if chosen:
            raise UsageError("--sort, --reverse and --filter are for a folder of runs, or a sweep")
        from ray_classy.cli.ls_run import list_checkpoints

        return list_checkpoints(path)


def _rows_at(path: str) -> list[RunRow]:
    with reading(path):
        row = row_of(Storage(path))
        rows = [row] if row is not None else _rows_below(Storage(path))
        if not rows:
            raise not_a_run(path)
        return rows


def _rows_below(folder: Storage) -> list[RunRow]:
    with contextlib.suppress(NotADirectoryError):  # a file in a store
        return rows_in(folder)
    return []


def _table(rows: list[RunRow], arguments: argparse.Namespace, head: str = "", **more: Any) -> Answer:
    for condition in arguments.filter or []:
        rows = _filtered(rows, condition)
    if arguments.sort:
        rows = _sorted(rows, arguments.sort)
    if arguments.reverse:
        rows = rows[::-1]
    data = {**more, "runs": [dataclasses.asdict(row) for row in rows]}
    text = aligned(_cells(rows)) if rows else "none"
    return Answer("\n".join([*([printable(head)] if head else []), text]), data)


def _filtered(rows: list[RunRow], condition: str) -> list[RunRow]:
    found = _CONDITION.fullmatch(condition)
    if found is None:
        raise UsageError(f"--filter {condition}: write KEY=VALUE, such as state=finished, 'best>0.9' or 'name=abl*'")
    key, sign, value = found["key"].strip(), found["sign"], found["value"].strip()
    _check_key(rows, key)
    return [row for row in rows if _holds(_value(row, key), sign, value)]


def _holds(value: Any, sign: str, wanted: str) -> bool:
    with contextlib.suppress(ValueError):
        if isinstance(value, int | float) and not isinstance(value, bool):
            return _COMPARED[sign](value, float(wanted))
    text = "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    if sign in ("=", "!="):
        return fnmatch.fnmatchcase(text, wanted) == (sign == "=")
    return value is not None and _COMPARED[sign](text, wanted)


def _sorted(rows: list[RunRow], key: str) -> list[RunRow]:
    """Sorts rows; those without a value come last, and of metrics the best first."""
    _check_key(rows, key)
    known = [row for row in rows if _value(row, key) is not None]
    numbers = all(isinstance(_value(row, key), int | float) for row in known)
    known.sort(key=lambda row: _value(row, key) if numbers else str(_value(row, key)))
    modes = {row.mode for row in known}
    if (key == "best" and "max" in modes) or (_is_metric(key) and not key.endswith("loss")):
        known.reverse()
    return [*known, *(row for row in rows if _value(row, key) is None)]


def _value(row: RunRow, key: str) -> Any:
    return _COLUMNS[key](row) if key in _COLUMNS else row.metrics.get(key, row.values.get(key))


def _is_metric(key: str) -> bool:
    return key.startswith(("train.", "test."))


def _check_key(rows: Sequence[RunRow], key: str) -> None:
    names = {name for row in rows for name in (*row.metrics, *row.values)}
    if rows and key not in _COLUMNS and key not in names:
        near = nearest(key, [*_COLUMNS, *sorted(names)])
        hint = f"did you mean {near}? " if near else ""
        raise UsageError(
            f"no run has {key!r}: {hint}The columns are {', '.join(_COLUMNS)}; metrics (test.loss) and keys of the "
            f"config (optimizer.lr) may be given as well"
        )


def _cells(rows: Sequence[RunRow]) -> list[list[str]]:
    """A header and a row for each run; the metric is in the header if it is that of all."""
    metrics = {row.metric for row in rows if row.best is not None}
    one = next(iter(metrics)) if len(metrics) == 1 else None
    are_trials = all(row.kind == "trial" for row in rows)  # which are ranked by their last value
    value = "best" if one is None else one if are_trials else f"best {one}"
    head = ["name", "state", "config", value, "epochs", "time", "started", "resumed from", "note"]
    cells = [
        [
            row.name,
            row.state,
            row.config,
            "" if row.best is None else f"{row.best:.4f}" if one else f"{row.metric} {row.best:.4f}",
            _epochs(row),
            "" if row.seconds is None else duration(row.seconds),
            (row.started or "")[:16].replace("T", " "),
            row.resumed_from or "",
            row.note or "",
        ]
        for row in rows
    ]
    table = [head, *([printable(cell) for cell in line] for line in cells)]
    used = [index for index in range(len(head)) if index < 3 or any(line[index] for line in table[1:])]
    return [[line[index] for index in used] for line in table]


def _epochs(row: RunRow) -> str:
    if row.epochs is None:
        return ""
    of = "" if row.of is None else f"/{row.of:g}"
    return f"{row.epochs:g}{of}{' trials' if row.kind == 'sweep' else ''}"
