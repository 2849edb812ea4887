"""`ray-classy compare`: what differs between runs."""

from __future__ import annotations

import argparse
from typing import Any

from ray_classy.cli.arguments import UsageError
from ray_classy.cli.output import Answer
from ray_classy.display import aligned
from ray_classy.printable import printable
from ray_classy.trainer.compared_runs import MISSING, differing, every, labels, read_compared
from ray_classy.urls import each, is_url

_MOST_CELL = 48  # characters
_NOTHING = "-"


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
    runs = each(read_compared, paths, any(map(is_url, paths)))
    names = labels([run.row for run in runs])
    sections = {
        "config": differing([run.config for run in runs]),
        "versions and code": differing([run.versions for run in runs]),
    }
    results = {"final": [run.final for run in runs], "best": [run.best for run in runs]}
    lines: list[str] = []
    for title, rows in sections.items():
        cells = [[key, *map(_cell, values)] for key, values in rows.items()]
        lines += [_titled(title, names, cells) if cells else f"{title}: no difference", ""]
    for title, metrics in results.items():
        cells = [[key, *_against(values)] for key, values in every(metrics).items()]
        lines += [_titled(f"{title} metrics", names, cells) if cells else f"{title} metrics: none", ""]
    data = {
        "runs": [
            {"name": name, "path": run.row.path, "state": run.row.state} for name, run in zip(names, runs, strict=True)
        ],
        "config": _plain(sections["config"]),
        "versions": _plain(sections["versions and code"]),
        **{title: {key: _json(values) for key, values in every(found).items()} for title, found in results.items()},
    }
    return Answer("\n".join(lines).rstrip(), data)


def _against(values: list[Any]) -> list[str]:
    """The cells of a metric: its values and, from the second run on, the difference from the first."""
    first, *others = values
    cells = [_number(first)]
    for value in others:
        difference = "" if first is None or value is None else f" ({value - first:+.4f})"
        cells.append(f"{_number(value)}{difference}")
    return cells


def _plain(rows: dict[str, list[Any]]) -> dict[str, list[Any]]:
    return {name: [None if value is MISSING else value for value in values] for name, values in rows.items()}


def _json(values: list[Any]) -> dict[str, list[Any]]:
    first = values[0]
    return {"values": values, "difference": [None if None in (first, one) else one - first for one in values]}


def _number(value: Any) -> str:
    return _NOTHING if value is None else f"{value:.4f}"


def _cell(value: Any) -> str:
    text = _NOTHING if value is MISSING else "null" if value is None else printable(value)
    return text if len(text) <= _MOST_CELL else f"...{text[3 - _MOST_CELL :]}"


def _titled(title: str, names: list[str], cells: list[list[str]]) -> str:
    return aligned([[title, *map(printable, names)], *cells])
