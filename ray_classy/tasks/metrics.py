"""The metrics of a phase, nested (in files) or by dotted name (`test.accuracy.top_1`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def plain(value: Any) -> Any:
    """Converts a value to plain Python numbers, strings, lists and dicts."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if value is None or type(value) in (bool, int, float, str):
        return value
    import numpy as np  # what only reads records, such as `ray-classy ls`, needs neither
    import torch

    return value.tolist() if isinstance(value, torch.Tensor | np.ndarray | np.generic) else value


def dotted(metrics: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flattens nested metrics to dotted names, as Ray and trial schedulers see them."""
    flat: dict[str, Any] = {}
    for key, value in metrics.items():
        name = f"{prefix}.{key}" if prefix else str(key)
        if isinstance(value, Mapping):
            flat.update(dotted(value, name))
        else:
            flat[name] = value
    return flat


def summary(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Flattens nested metrics for a screen: without matrices, lists of names, and the values of each class."""
    return {
        name: value for name, value in dotted(metrics).items() if type(value) is not list and "per_class." not in name
    }


def phase_metrics(losses: Any, meters: Sequence[Any]) -> dict[str, Any]:
    """Returns the mean loss of a phase, if there are losses, and the meters' values by meter name."""
    metrics: dict[str, Any] = {}
    if len(losses):
        metrics["loss"] = losses.row_mean() if hasattr(losses, "row_mean") else sum(losses) / len(losses)
    metrics.update({meter.name: meter.value for meter in meters})
    return plain(metrics)


def metric_names(phase_types: Sequence[str], meters: Sequence[Any]) -> list[str]:
    """Returns the dotted names of the metrics of phases with a loss and meters, train metrics first."""
    names = []
    for phase_type in (kind for kind in ("train", "test") if kind in phase_types):
        names.append(f"{phase_type}.loss")
        for meter in meters:
            values = dotted({meter.name: plain(meter.value)})
            names += [f"{phase_type}.{name}" for name, value in values.items() if not isinstance(value, list)]
    return names
