"""`ray-classy compare`: what differs between runs."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from typing import Any

from ray_classy.cli.arguments import UsageError
from ray_classy.cli.output import Answer
from ray_classy.cli.runs import RunRow, best_metric, final_metrics, lines_of, row_of
from ray_classy.config.changes import flat
from ray_classy.display import aligned
from ray_classy.printable import printable
from ray_classy.redact import redacted_values
from ray_classy.storage import Storage
from ray_classy.trainer.near_runs import not_a_run
from ray_classy.trainer.ranking import default_mode
from ray_classy.trainer.run_record import CONFIG_FILE, RunRecord
from ray_classy.urls import each, is_url, reading

_RECORDED = ("task", "seed", "config_file")
_MOST_CELL = 48  # characters
_NOTHING = "-"
_MISSING = object()  # in place of a value that a run does not have


@dataclass
class _Compared:
    """What is compared of a run, by dotted name."""

    row: RunRow
    config: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, Any] = field(default_factory=dict)
    final: dict[str, Any] = field(default_factory=dict)
    best: dict[str, Any] = field(default_factory=dict)


def compare(arguments: argparse.Namespace) -> Answer:
    """Prints what differs in the configs, the versions and the results of runs, each against the first.

    Raises:
        UsageError: there are fewer than two runs.
        RunFolderError: there is no run at a path.
        RecordError, ConfigError: the record of a run is damaged.
    """
    paths = [str(word) for word in arguments.words]
    if len(paths) < 2:
        raise UsageError("compare takes two runs or more; see ray-classy compare --help")
    runs = each(_read, paths, any(map(is_url, paths)))
    names = _labels([run.row for run in runs])
    sections = {
        "config": _differing([run.config for run in runs]),
        "versions and code": _differing([run.versions for run in runs]),
    }
    results = {"final": [run.final for run in runs], "best": [run.best for run in runs]}
    lines: list[str] = []
    for title, rows in sections.items():
        cells = [[key, *map(_cell, values)] for key, values in rows.items()]
        lines += [_titled(title, names, cells) if cells else f"{title}: no difference", ""]
    for title, metrics in results.items():
        cells = [[key, *_against(values)] for key, values in _all(metrics).items()]
        lines += [_titled(f"{title} metrics", names, cells) if cells else f"{title} metrics: none", ""]
    data = {
        "runs": [
            {"name": name, "path": run.row.path, "state": run.row.state} for name, run in zip(names, runs, strict=True)
        ],
        "config": _plain(sections["config"]),
        "versions": _plain(sections["versions and code"]),
        **{title: {key: _json(values) for key, values in _all(found).items()} for title, found in results.items()},
    }
    return Answer("\n".join(lines).rstrip(), data)


def _read(path: str) -> _Compared:
    with reading(path):
        folder = Storage(path)
        row = row_of(folder)
        if row is None:
            raise not_a_run(path)
        record = RunRecord(folder)
        facts = record.facts()
        run = _Compared(row)
        if folder.exists(CONFIG_FILE):
            run.config = flat(redacted_values(record.config()[0]))
        recorded = {name: facts[name] for name in _RECORDED if facts.get(name) is not None}
        start = (facts.get("starts") or [{}])[-1]
        commit = {"commit": start["commit"]} if "commit" in start else {}
        run.versions = flat({**recorded, **commit, **(facts.get("versions") or {})})
        lines = lines_of(folder)
        run.final = final_metrics(lines)
        for name in run.final:
            mode = row.mode if name == row.metric else default_mode(name)
            run.best[name] = best_metric(lines, name, mode)
        return run


def _labels(rows: list[RunRow]) -> list[str]:
    """The names of runs, or their paths where two have one name."""
    names = [row.name for row in rows]
    return names if len(set(names)) == len(names) else [row.path for row in rows]


def _all(values: list[dict[str, Any]], missing: Any = None) -> dict[str, list[Any]]:
    """The value of each run by name, in the order in which the names come up."""
    names = dict.fromkeys(name for one in values for name in one)
    return {name: [one.get(name, missing) for one in values] for name in names}


def _differing(values: list[dict[str, Any]]) -> dict[str, list[Any]]:
    return {name: found for name, found in _all(values, _MISSING).items() if len(set(map(repr, found))) > 1}


def _against(values: list[Any]) -> list[str]:
    """The cells of a metric: its values and, from the second run on, the difference from the first."""
    first, *others = values
    cells = [_number(first)]
    for value in others:
        difference = "" if first is None or value is None else f" ({value - first:+.4f})"
        cells.append(f"{_number(value)}{difference}")
    return cells


def _plain(rows: dict[str, list[Any]]) -> dict[str, list[Any]]:
    return {name: [None if value is _MISSING else value for value in values] for name, values in rows.items()}


def _json(values: list[Any]) -> dict[str, list[Any]]:
    first = values[0]
    return {"values": values, "difference": [None if None in (first, one) else one - first for one in values]}


def _number(value: Any) -> str:
    return _NOTHING if value is None else f"{value:.4f}"


def _cell(value: Any) -> str:
    text = _NOTHING if value is _MISSING else "null" if value is None else printable(value)
    return text if len(text) <= _MOST_CELL else f"...{text[3 - _MOST_CELL :]}"


def _titled(title: str, names: list[str], cells: list[list[str]]) -> str:
    return aligned([[title, *map(printable, names)], *cells])
