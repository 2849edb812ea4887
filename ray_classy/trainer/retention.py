"""Which of a run's checkpoints is its best one, and which are kept."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ray_classy.config import mark_of
from ray_classy.errors import ConfigError
from ray_classy.registry import nearest
from ray_classy.trainer.ranking import default_metric, default_mode

_SCORE = ("ray", "checkpoint_score_attribute")


@dataclass(frozen=True)
class Retention:
    """A rule for keeping checkpoints, with the fields of Ray's CheckpointConfig; those inside an epoch do not count.

    Attributes:
        num_to_keep: that many of the best, or without a metric of the newest, and always the newest; None keeps all.
        metric: a dotted name (`test.accuracy.top_1`). None: the newest are kept, and the best one is chosen by the
            first meter of the test phases (of the train phases, where there are no others), else by the loss.
        order: "max" or "min".
    """

    num_to_keep: int | None = None
    metric: str | None = None
    order: str = "max"

    @classmethod
    def of(cls, fields: Any) -> Retention:
        """From a CheckpointConfig, a `ray` section of a config, or None."""
        get = fields.get if isinstance(fields, Mapping) else lambda name: getattr(fields, name, None)
        return cls(
            get("num_to_keep"), get("checkpoint_score_attribute") or None, get("checkpoint_score_order") or "max"
        )

    def check(self, names: Sequence[str], config: Mapping[str, Any] | None = None) -> None:
        """Refuses a metric that is not reported.

        Args:
            names: the metrics that are reported; empty if that is not known beforehand.
            config: of the task, for an error with its line.

        Raises:
            ConfigError: the metric is not among them; the message lists them.
        """
        if self.metric is not None and names and self.metric not in names:
            near = nearest(self.metric, list(names))
            hint = f"did you mean {near}? " if near else ""
            place = f"{mark_of(config, _SCORE)}: " if ((config or {}).get("ray") or {}).get(_SCORE[1]) else ""
            raise ConfigError(
                f"{place}ray.checkpoint_score_attribute: no metric named {self.metric!r} is reported: {hint}The task "
                f"reports {', '.join(names)}"
            )

    def best(self, metrics: Mapping[str, Mapping[str, Any]]) -> str | None:
        """The best of some checkpoints, and of equals the first; None if there is none with the metric.

        Args:
            metrics: of their rounds, by dotted name, by checkpoint, oldest first.
        """
        ranked = self._ranked(metrics)
        return ranked[0] if ranked else None

    def superfluous(self, metrics: Mapping[str, Mapping[str, Any]]) -> list[str]:
        """Those of some checkpoints that are not kept; the argument is that of `best`."""
        names = list(metrics)
        if self.num_to_keep is None or not names:
            return []
        ranked = self._ranked(metrics) if self.metric is not None else names[::-1]
        kept = {*ranked[: self.num_to_keep], names[-1]}
        return [name for name in names if name not in kept]

    def _ranked(self, metrics: Mapping[str, Mapping[str, Any]]) -> list[str]:
        """The checkpoints that have the metric, the best first."""
        metric = self.metric
        if metric is None and metrics:
            metric = default_metric(list(list(metrics.values())[-1]))
        if metric is None:
            return []
        largest = (self.order if self.metric is not None else default_mode(metric)) == "max"
        scores = {name: values.get(metric) for name, values in metrics.items()}
        known = {n: s for n, s in scores.items() if isinstance(s, int | float) and not math.isnan(s)}
        return sorted(known, key=lambda name: -known[name] if largest else known[name])
