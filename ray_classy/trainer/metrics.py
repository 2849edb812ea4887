"""The metrics of a phase, and their two forms: nested (in files) and dotted (`test.accuracy.top_1`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from ray_classy.tasks import ClassificationTask


def plain(value: Any) -> Any:
    """The value as plain Python numbers, strings, lists and dicts."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, torch.Tensor | np.ndarray | np.generic):
        return value.tolist()
    return value


def dotted(metrics: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested metrics by dotted names, as Ray and schedulers of trials see them."""
    flat: dict[str, Any] = {}
    for key, value in metrics.items():
        name = f"{prefix}.{key}" if prefix else str(key)
        if isinstance(value, Mapping):
            flat.update(dotted(value, name))
        else:
            flat[name] = value
    return flat


def phase_metrics(task: Any) -> dict[str, Any]:
    """What is known of the phase that just ended: its loss and the meters' values, by meter name."""
    metrics: dict[str, Any] = {}
    losses = getattr(task, "losses", None)
    if losses is not None and len(losses):
        metrics["loss"] = losses.row_mean() if hasattr(losses, "row_mean") else sum(losses) / len(losses)
    for meter in getattr(task, "meters", []):
        metrics[meter.name] = meter.value
    return plain(metrics)


def latest_by_phase_type(lines: list[dict[str, Any]]) -> dict[str, Any]:
    """The metrics of the last phase of each type: `{"train": {...}, "test": {...}}`."""
    return {line["phase_type"]: line["metrics"] for line in lines}


def reported_metrics(task: Any) -> list[str]:
    """The names of the metrics that a task will report after a round; empty if it does not tell beforehand."""
    if not isinstance(task, ClassificationTask):
        return []
    run = {"train" if phase["train"] else "test" for phase in task._build_phases()}
    names = []
    for kind in (kind for kind in ("train", "test") if kind in run):
        names.append(f"{kind}.loss")
        for meter in task.meters:
            names += [f"{kind}.{name}" for name in dotted({meter.name: plain(meter.value)})]
    return names


def default_metric(names: list[str]) -> str | None:
    """What tells how good a model is, where nobody says: the first meter of the test phases, else a loss."""
    last = [name for name in names if name.startswith("test.")] or names
    better = [name for name in last if not name.endswith(".loss")] or last
    return better[0] if better else None


def default_mode(metric: str) -> str:
    """Whether a metric is better when it is smaller ("min") or larger ("max"), where nobody says."""
    return "min" if metric.endswith("loss") else "max"
