"""Which metric ranks models and checkpoints unless another is given."""

from __future__ import annotations


def default_metric(names: list[str]) -> str | None:
    """The metric that ranks models unless another is given: the first meter of the test phases (of the train
    phases, where there are no others), else a loss."""
    last = [name for name in names if name.startswith("test.")] or names
    better = [name for name in last if not name.endswith(".loss")] or last
    return better[0] if better else None


def default_mode(metric: str) -> str:
    """Whether a smaller ("min") or a larger ("max") value of a metric is better, unless it is given."""
    return "min" if metric.endswith("loss") else "max"
