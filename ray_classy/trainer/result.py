"""What `train` returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Result:
    """The outcome of `train`, the same from every trainer.

    Attributes:
        metrics: of the last phase of each type: `{"train": {"loss": ..., "accuracy": {"top_1": ...}}, "test": ...}`.
        metrics_history: one entry per phase, oldest first: `phase_idx`, `phase_type`, `epoch`, `where`, `metrics`, ...
        checkpoint: path of the last checkpoint folder, or None.
        path: the run folder.
        best_checkpoint: path of the best checkpoint folder at the end of a round, or None.
        stopped_early: why a hook ended the run before its last phase; None if it did not.
    """

    metrics: dict[str, Any]
    metrics_history: list[dict[str, Any]] = field(repr=False)
    checkpoint: str | None
    path: str
    best_checkpoint: str | None = None
    stopped_early: str | None = None
