"""The page of a sweep."""

from __future__ import annotations

from typing import Any

from ray_classy.errors import RayClassyError
from ray_classy.redact import redacted
from ray_classy.report.commands import sweep_commands
from ray_classy.report.importance import importances
from ray_classy.report.page import Page
from ray_classy.report.run_source import part
from ray_classy.report.sweep_figures import Trial, last_words, parameters, sweep_figures
from ray_classy.report.words import count, date_text, metric_name, number, setting, worker_time
from ray_classy.storage import Storage
from ray_classy.tasks.metrics import dotted
from ray_classy.trainer.ranking import default_mode
from ray_classy.trainer.run_record import RunRecord
from ray_classy.trainer.run_rows import RunRow, lines_of, row_of, trials_in
from ray_classy.urls import each

BEST_FILE = "best.yaml"
_KIND = ".search"
"""The key of a searched value that names its domain, such as `loguniform`."""


def sweep_page(folder: Storage) -> Page:
    """Makes the page of a sweep, from the records of its trials.

    Args:
        folder: of the sweep.

    Raises:
        RecordError: its record is damaged.
    """
    facts, row = RunRecord(folder).facts(), row_of(folder)
    assert row is not None, "a sweep has a record"
    metric = str(facts.get("metric") or "")
    mode = str(facts.get("mode") or default_mode(metric))
    trials = ranked(each(lambda one: _trial(folder, one, metric), trials_in(folder, facts), not folder.local), mode)
    page = Page("sweep.html.j2", row.name)
    known = [trial for trial in trials if trial.value is not None]
    found = importances([trial.params for trial in known], [trial.value or 0.0 for trial in known])
    figures, each_one = sweep_figures(trials, metric, mode, found, _logarithmic(row))
    best = known[0] if known else None
    names = parameters(trials)
    config = redacted(folder.read(BEST_FILE).decode(errors="replace")) if folder.exists(BEST_FILE) else ""
    if any(trial.state == "damaged" for trial in trials):
        page.notes.append("The records of some trials cannot be read; they are in the table as damaged.")
    page.context.update(
        row=row,
        metric=metric_name(metric),
        lead=_lead(row, trials, best, metric, mode),
        best=best,
        best_params=[(name, setting(value, 4)) for name, value in best.params.items()] if best is not None else [],
        trials=trials,
        names=names,
        short=last_words(names),
        figures=[page.figure(one) for one in figures],
        each=[page.figure(one) for one in each_one],
        few=not found,
        config=config,
        started=date_text(row.started),
        cost=worker_time(sum(trial.seconds or 0.0 for trial in trials) * _workers(facts)),
        commands=sweep_commands(
            folder.path,
            row.state == "finished",
            best.name if best else None,
            best.epochs[-1] if best and best.epochs else None,
            bool(config),
        ),
    )
    return page


def ranked(trials: list[Trial], mode: str) -> list[Trial]:
    """Sorts trials from the best to the worst; those without a value come last."""
    sign = 1 if mode == "min" else -1
    return sorted(trials, key=lambda one: (one.value is None, sign * (one.value or 0.0), one.name))


def _trial(sweep: Storage, row: RunRow, metric: str) -> Trial:
    try:
        lines = lines_of(Storage(sweep.join(row.name), sweep.filesystem))
    except (RayClassyError, OSError):
        lines = []
    kind = metric.partition(".")[0]
    epochs, curve = [], []
    for line in lines:
        value = dotted(line["metrics"], kind).get(metric) if line.get("phase_type") == kind else None
        if isinstance(value, int | float) and isinstance(line.get("epoch"), int | float):
            epochs.append(float(line["epoch"]))
            curve.append(float(value))
    value = row.best if row.state != "failed" else None
    return Trial(row.name, dict(row.values), value, row.state, epochs, curve, row.seconds)


def _logarithmic(sweep: RunRow) -> set[str]:
    """The parameters that are drawn on a logarithmic scale."""
    kinds = {name.removesuffix(_KIND): value for name, value in sweep.values.items() if name.endswith(_KIND)}
    return {name for name, kind in kinds.items() if "log" in str(kind)}


def _workers(facts: Any) -> int:
    asked = part(facts, "config", "ray").get("num_workers")
    return asked if isinstance(asked, int) and asked > 0 else 1


def _lead(row: RunRow, trials: list[Trial], best: Trial | None, metric: str, mode: str) -> str:
    better = "largest" if mode == "max" else "smallest"
    text = f"{count(len(trials), 'trial')} searched for the {better} {metric_name(metric)}."
    if best is not None:
        so_far = "" if row.state == "finished" else " so far"
        text += f" The best one{so_far} is {best.name}, with {number(best.value)}."
    said = {
        "stopped": ("was stopped early", "were stopped early"),
        "not started": ("was not started", "were not started"),
        "failed": ("failed", "failed"),
        "running": ("has not ended", "have not ended"),
    }
    parts = []
    for state, (one, several) in said.items():
        if amount := sum(trial.state == state for trial in trials):
            parts.append(f"{amount} {one if amount == 1 else several}")
    return f"{text} Of all trials, {', '.join(parts)}." if parts else text
