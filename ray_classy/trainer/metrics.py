"""The metrics of a phase, and their two forms: nested (in files) and dotted (`test.accuracy.top_1`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch


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
