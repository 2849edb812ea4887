"""The result of a sweep."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd
from ray import tune
from ray.tune import ResultGrid

from ray_classy.errors import RunError
from ray_classy.tasks.metrics import dotted
from ray_classy.tune.folder import FAILED, Reports, SweepFolder, TrialRecord
from ray_classy.tune.table import Table


class TrialError(RunError):
    """A trial failed; the message names it and says why."""


class SweepResult(ResultGrid):
    """Ray's `ResultGrid` of all trials of a sweep, also those before it was resumed, in the order of their numbers.

    Attributes:
        metric: dotted name of the metric by which trials are ranked.
        mode: "min" or "max".
        path: the folder of the sweep.
        trials: the records of all trials.
        best: the trial with the best last report; None if all failed.
        best_config: the plain task config of the best trial.
        best_checkpoint: path of the checkpoint of the best trial's last report.
    """

    def __init__(self, folder: SweepFolder, records: Mapping[str, TrialRecord], table: Table, metric: str, mode: str):
        self._folder, self._table = folder, table
        self.metric, self.mode, self.path = metric, mode, folder.path
        self.trials = sorted(records.values(), key=lambda record: record.index)
        order = table.best(
            record for record in self.trials if record.state != FAILED and is_number(record.metrics.get(metric))
        )
        self.best = order[0] if order else None

    # -- conveniences -------------------------------------------------------------------------------------------------

    def table(self) -> str:
        """Returns a table of the trials as text, from the best to the worst."""
        return self._table.text(self._table.best(self.trials))

    @property
    def best_config(self) -> dict[str, Any] | None:
        if self.best is None:
            return None
        return self.config_of(self.best)

    @property
    def best_checkpoint(self) -> str | None:
        return self.checkpoint_of(self.best) if self.best is not None else None

    def config_of(self, record: TrialRecord) -> dict[str, Any]:
        """Reads the plain task config of a trial."""
        return self._folder.trial_run(record.name, self._folder.storage.filesystem).record.config()[0]

    def checkpoint_of(self, record: TrialRecord) -> str | None:
        """Returns the path of the checkpoint of a trial's last report, else of its newest checkpoint."""
        run = self._folder.trial_run(record.name, self._folder.storage.filesystem)
        if record.checkpoint is not None and record.checkpoint in run.checkpoints.names():
            return run.storage.join(record.checkpoint)
        return run.checkpoints.latest()

    # -- Ray's ResultGrid ---------------------------------------------------------------------------------------------

    @property
    def experiment_path(self) -> str:
        """The folder of the sweep."""
        return self.path

    @property
    def filesystem(self) -> Any:
        """The file system of the folder; None if it is derived from the path."""
        return self._folder.storage.filesystem

    def __len__(self) -> int:
        return len(self.trials)

    def __getitem__(self, i: int) -> tune.Result:
        return self._result(self.trials[i])

    @property
    def errors(self) -> list[Exception]:
        """The errors of the trials that failed."""
        return [TrialError(f"{record.name}: {record.reason}") for record in self.trials if record.state == FAILED]

    @property
    def num_errors(self) -> int:
        """The number of trials that failed."""
        return len(self.errors)

    @property
    def num_terminated(self) -> int:
        """The number of trials that were finished or stopped."""
        return sum(record.ended and record.state != FAILED for record in self.trials)

    def get_best_result(
        self,
        metric: str | None = None,
        mode: str | None = None,
        scope: str = "last",
        filter_nan_and_inf: bool = True,
    ) -> tune.Result:
        """Returns the result of the best trial.

        Args:
            metric: dotted name of a metric; None for the metric of the sweep.
            mode: "min" or "max"; None for the mode of the sweep.
            scope: the reports of a trial that are compared: "last", "all", "avg", "last-5-avg" or "last-10-avg".
            filter_nan_and_inf: whether to ignore trials whose value is not finite.

        Raises:
            RuntimeError: no trial has reported the metric.
        """
        metric, mode = metric or self.metric, mode or self.mode
        values = []
        for record in self.trials:
            value = _scoped([r[metric] for r in self._reports(record) if metric in r], scope, mode)
            if value is not None and (math.isfinite(value) or not filter_nan_and_inf):
                values.append((value if mode == "min" else -value, record.index, record))
        if not values:
            raise RuntimeError(f"no trial has reported {metric!r}")
        return self._result(min(values)[2])

    def get_dataframe(self, filter_metric: str | None = None, filter_mode: str | None = None) -> pd.DataFrame:
        """Returns a row per trial: its parameters, and its last report or the one with the best `filter_metric`."""
        rows = []
        for record in self.trials:
            reports = self._reports(record)
            report = reports[-1] if reports else {}
            if filter_metric is not None:
                having = [one for one in reports if filter_metric in one]
                pick = min if (filter_mode or self.mode) == "min" else max
                report = pick(having, key=lambda one: one[filter_metric]) if having else {}
            params = {f"config/{name}": value for name, value in record.params.items()}
            rows.append({"trial_id": record.name, "state": record.state, **report, **params})
        return pd.DataFrame(rows)

    def __repr__(self) -> str:
        return f"SweepResult({self.path!r}, {len(self)} trials, metric {self.metric!r})"

    def _reports(self, record: TrialRecord) -> list[dict[str, Any]]:
        storage = self._folder.trial_run(record.name, self._folder.storage.filesystem).storage
        return [dotted(report) for report in Reports(storage).read()]

    def _result(self, record: TrialRecord) -> tune.Result:
        reports = self._reports(record)
        last = {**(reports[-1] if reports else {}), "config": record.params, "trial_id": record.name}
        checkpoint = self.checkpoint_of(record)
        kept = None
        if checkpoint is not None:
            kept = tune.Checkpoint(checkpoint, self.filesystem)
        return tune.Result(
            metrics=last,
            checkpoint=kept,
            error=TrialError(str(record.reason)) if record.state == FAILED else None,
            path=self._folder.storage.join(record.name),
            metrics_dataframe=pd.DataFrame(reports),
            best_checkpoints=[(kept, last)] if kept is not None else [],
            _storage_filesystem=self.filesystem,
        )


def is_number(value: Any) -> bool:
    """Returns whether a value of a metric is a finite number, by which trials can be ranked."""
    return isinstance(value, int | float) and math.isfinite(value)


def _scoped(values: list[float], scope: str, mode: str) -> float | None:
    if not values:
        return None
    if scope == "last":
        return values[-1]
    if scope == "all":
        return min(values) if mode == "min" else max(values)
    counts = {"avg": len(values), "last-5-avg": 5, "last-10-avg": 10}
    if scope not in counts:
        raise ValueError(f"scope must be last, all, {', '.join(counts)}, not {scope!r}")
    part = values[-counts[scope] :]
    return sum(part) / len(part)
