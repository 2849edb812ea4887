"""Gauges of a run for Prometheus, which Ray exports from each node and its dashboard's Grafana shows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ray.util.metrics import Gauge

from ray_classy.tasks.metrics import summary
from ray_classy.trainer.progress_line import Figures

_FIGURES = {
    "loss": "Mean loss of the train steps since the last line of progress.",
    "lr": "Learning rate of the first parameter group.",
    "samples_per_second": "Rows per second of all workers.",
    "data_wait": "Share of the time in which steps waited for their batch.",
}


class RunGauges:
    """The gauges of one run; each has the tag `run`. They are set where lines are logged, not in each step.

    `ray_classy_train_step`, `ray_classy_epoch`, `ray_classy_metric` (tag `metric`, such as test.accuracy.top_1), and
    `ray_classy_` before loss, lr, samples_per_second and data_wait (tag `phase_type`).

    Args:
        run: its name.
    """

    def __init__(self, run: str) -> None:
        self._run = _tag(run)
        self._step = Gauge("ray_classy_train_step", "Train steps of the run.", ("run",))
        self._epoch = Gauge("ray_classy_epoch", "Epochs of the run that are over.", ("run",))
        self._metric = Gauge("ray_classy_metric", "Metrics of the last phase of each type.", ("run", "metric"))
        self._figures = {
            name: Gauge(f"ray_classy_{name}", text, ("run", "phase_type")) for name, text in _FIGURES.items()
        }

    def set_figures(self, figures: Figures) -> None:
        """Sets the gauges of the progress within a phase."""
        self._step.set(figures.train_step, {"run": self._run})
        for name, value in figures.values().items():
            if name in self._figures:
                self._figures[name].set(value, {"run": self._run, "phase_type": figures.phase_type})

    def set_report(self, report: Mapping[str, Any]) -> None:
        """Sets the gauges of a round.

        Args:
            report: the metrics by phase type, and `epoch`.
        """
        self._epoch.set(report["epoch"], {"run": self._run})
        phases = {kind: report[kind] for kind in ("train", "test") if kind in report}
        for name, value in summary(phases).items():
            if isinstance(value, int | float):
                self._metric.set(value, {"run": self._run, "metric": _tag(name)})


def _tag(text: str) -> str:
    """A text as Ray takes tags: characters beyond ASCII are escaped."""
    return text.encode("ascii", "backslashreplace").decode()
