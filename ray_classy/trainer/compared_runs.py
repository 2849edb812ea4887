"""What differs between runs: the values of their configs, their versions and their metrics, by dotted name."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ray_classy.config.changes import flat
from ray_classy.redact import redacted_values
from ray_classy.storage import Storage
from ray_classy.trainer.near_runs import not_a_run
from ray_classy.trainer.ranking import default_mode
from ray_classy.trainer.run_record import CONFIG_FILE, RunRecord
from ray_classy.trainer.run_rows import RunRow, best_metric, final_metrics, lines_of, row_of
from ray_classy.urls import reading

MISSING = object()
"""In place of a value that a run does not have."""
_RECORDED = ("task", "seed", "config_file")


@dataclass
class Compared:
    """The parts of a run that are compared with those of others.

    Attributes:
        row: the run.
        config: its values, by dotted key.
        versions: of the packages, with what else is recorded of the code.
        final: metrics of the last phase of each type.
        best: the best value of each metric.
    """

    row: RunRow
    config: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, Any] = field(default_factory=dict)
    final: dict[str, Any] = field(default_factory=dict)
    best: dict[str, Any] = field(default_factory=dict)


def read_compared(path: str) -> Compared:
    """Reads what is compared of the run at a path.

    Raises:
        RunFolderError: there is none.
        RecordError, ConfigError: its record is damaged.
    """
    with reading(path):
        folder = Storage(path)
        row = row_of(folder)
        if row is None:
            raise not_a_run(path)
        record = RunRecord(folder)
        facts = record.facts()
        run = Compared(row)
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


def labels(rows: list[RunRow]) -> list[str]:
    """The names of runs, or their paths where two have one name."""
    names = [row.name for row in rows]
    return names if len(set(names)) == len(names) else [row.path for row in rows]


def every(values: list[dict[str, Any]], missing: Any = None) -> dict[str, list[Any]]:
    """The value of each run by name, in the order in which the names come up.

    Args:
        values: of each run, by name.
        missing: in place of a value that a run does not have.
    """
    names = dict.fromkeys(name for one in values for name in one)
    return {name: [one.get(name, missing) for one in values] for name in names}


def differing(values: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """Those of `every` that are not the same in all runs; `MISSING` where a run has none, which is as null."""
    with_null = every(values)
    return {name: found for name, found in every(values, MISSING).items() if len(set(map(repr, with_null[name]))) > 1}
