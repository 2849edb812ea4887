"""Ends a run before its last epoch when a metric no longer improves."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any, Literal

from ray_classy.distributed import broadcast_object, is_primary
from ray_classy.errors import ArgumentTypeError, ComponentError, DamagedCheckpointError
from ray_classy.hooks.classy_hook import ClassyHook, register_hook
from ray_classy.registry import nearest

_log = logging.getLogger(__name__)


@register_hook("early_stopping")
class EarlyStoppingHook(ClassyHook):
    """Ends the run when a metric has not improved for some phases, or has reached a value.

    The run ends after a whole round (a train phase and its test phase), with a checkpoint; its record and its result
    say why. The primary rank's value decides for all ranks. A run that has stopped ends at once when it is resumed,
    unless `patience` or `stop_at` say otherwise by then.

    Args:
        metric: dotted name as in the metrics of the run, such as `test.loss` or `test.accuracy.top_1`.
        mode: "min" or "max", which values are better; None for "min" of a loss and "max" of all others.
        patience: phases without an improvement after which the run ends, at least 1; None to wait for `stop_at`.
        min_delta: smallest change that is an improvement, at least 0.
        stop_at: value at which the run ends; None for none.

    Raises:
        ComponentError: an argument has an invalid value, or the run would never stop early.
    """

    on_phase_start = ClassyHook._noop
    on_step = ClassyHook._noop
    on_end = ClassyHook._noop

    def __init__(
        self,
        metric: str,
        mode: Literal["max", "min"] | None = None,
        patience: int | None = None,
        min_delta: float = 0.0,
        stop_at: float | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(metric, str) or not metric.startswith(("train.", "test.")):
            raise ComponentError(f"metric must be a name such as test.loss or train.accuracy.top_1, not {metric!r}")
        if mode not in ("min", "max", None):
            raise ComponentError(f"mode must be 'min' or 'max', not {mode!r}")
        if patience is None and stop_at is None:
            raise ComponentError("early_stopping needs patience, a number of phases, or stop_at, a value of the metric")
        if patience is not None and (type(patience) is not int or patience < 1):
            raise ComponentError(f"patience must be an integer of at least 1, not {patience!r}")
        for name, value in (("min_delta", min_delta), ("stop_at", stop_at)):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
                raise ArgumentTypeError(f"{name} must be a number, not {value!r}")
        if not 0 <= min_delta < math.inf:
            raise ComponentError(f"min_delta must be at least 0, not {min_delta!r}")
        self.metric = metric
        self.mode = mode or ("min" if metric.endswith("loss") else "max")
        self.patience = patience
        self.min_delta = min_delta
        self.stop_at = stop_at
        self._forget()

    def _forget(self) -> None:
        self.state.last = None  # value of the last phase
        self.state.best = None
        self.state.best_epoch = None  # after how many epochs
        self.state.without_improvement = 0  # phases

    def set_classy_state(self, state: Mapping[str, Any]) -> None:
        """Restores what `get_classy_state` returned."""
        numbers = [state.get(name) for name in ("last", "best", "best_epoch", "without_improvement")]
        if not all(value is None or type(value) in (int, float) for value in numbers) or numbers[3] is None:
            raise DamagedCheckpointError(f"the checkpoint's state of hook {self.name()!r} is damaged: {numbers}")
        super().set_classy_state(state)

    def check(self, task: Any) -> None:
        """Refuses a metric that the task does not report."""
        names = [] if task.test_only else task.reported_metrics()
        if names and self.metric not in names:
            near = nearest(self.metric, names)
            hint = f"did you mean {near}? " if near else ""
            raise ComponentError(
                f"early_stopping: no metric named {self.metric!r} is reported: {hint}The task reports "
                f"{', '.join(names)}"
            )

    def on_start(self, task: Any) -> None:
        """Ends a resumed run that has stopped already."""
        if task.num_updates == 0:  # the hook has the state of another run
            self._forget()
        if not task.test_only:
            self._stop_if_due(task)
        if task.stopped_early and is_primary():
            _log.warning("the run has stopped early: %s. %s", task.stopped_early, self.remedy)

    @property
    def remedy(self) -> str:
        """How to go on with a run that has stopped early."""
        return "To go on, resume it with a larger patience, another stop_at, or without the hook early_stopping"

    def on_phase_end(self, task: Any) -> None:
        """Compares the metric of the phase with the best so far, and ends the run at the end of the round."""
        if task.test_only:
            return
        phase_type, _, name = self.metric.partition(".")
        if task.phase_type == phase_type:
            self._compare(_find(task.phase_metrics(), name), task)
        self._stop_if_due(task)

    def _compare(self, value: Any, task: Any) -> None:
        value = broadcast_object(value)  # the last bits may differ between ranks
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ComponentError(f"early_stopping needs a number, and the metric {self.metric!r} is {value!r}")
        state, sign = self.state, 1 if self.mode == "max" else -1
        state.last = value
        if state.best is None or math.isnan(state.best) or sign * (value - state.best) > self.min_delta:
            state.best, state.best_epoch, state.without_improvement = value, task.epochs_of(task.train_phase_idx + 1), 0
        else:
            state.without_improvement += 1

    def _stop_if_due(self, task: Any) -> None:
        """Ends the run, if a round is over, another one would follow, and there is a reason."""
        following = task.phase_idx + 1
        over = 0 < following < len(task.phases) and task.phases[following]["train"]
        task.stopped_early = self._reason() if over else None

    def _reason(self) -> str | None:
        """Why the run ends; None if it does not."""
        state = self.state
        if state.last is None:
            return None
        sign = 1 if self.mode == "max" else -1
        if self.stop_at is not None and sign * (state.last - self.stop_at) >= 0:
            return f"{self.metric} is {state.last:.4g}, and stop_at is {self.stop_at:g}"
        if self.patience is None or state.without_improvement < self.patience:
            return None
        times = f"{state.without_improvement} phase{'' if state.without_improvement == 1 else 's'}"
        return f"{self.metric} has not improved for {times}; its best is {state.best:.4g}, of epoch {state.best_epoch}"


def _find(metrics: Mapping[str, Any], name: str) -> Any:
    """Returns the metric of a dotted name in nested metrics; None if there is none."""
    for key, value in metrics.items():
        if key == name:
            return value
        if isinstance(value, Mapping) and name.startswith(f"{key}."):
            return _find(value, name[len(key) + 1 :])
    return None
