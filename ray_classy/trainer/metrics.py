"""The metrics of a run: which of a round's metrics says how good a checkpoint is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ray_classy.tasks.metrics import dotted, plain

__all__ = ["default_metric", "default_mode", "dotted", "latest_by_phase_type", "plain", "train_phase_of"]


def latest_by_phase_type(lines: list[dict[str, Any]]) -> dict[str, Any]:
    """The metrics of the last phase of each type: `{"train": {...}, "test": {...}}`."""
    return {line["phase_type"]: line["metrics"] for line in lines}


def train_phase_of(line: Mapping[str, Any]) -> int:
    """Returns the number of train phases at the end of a line of metrics; older lines call it `epoch`."""
    return line.get("train_phase", line["epoch"])


def default_metric(names: list[str]) -> str | None:
    """The metric that ranks models unless another is given: the first meter of the test phases, else a loss."""
    last = [name for name in names if name.startswith("test.")] or names
    better = [name for name in last if not name.endswith(".loss")] or last
    return better[0] if better else None


def default_mode(metric: str) -> str:
    """Whether a smaller ("min") or a larger ("max") value of a metric is better, unless it is given."""
    return "min" if metric.endswith("loss") else "max"
