"""A warm-up before another schedule."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ray_classy.distributed import is_primary
from ray_classy.errors import ArgumentTypeError, ComponentError, TaskError
from ray_classy.optim.param_scheduler.classy_vision_param_scheduler import (
    NUM_EPOCHS_DOC,
    ClassyParamScheduler,
    ParamScheduler,
    UpdateInterval,
    build_param_scheduler,
    choose,
    register_param_scheduler,
    with_num_epochs,
)
from ray_classy.optim.param_scheduler.composite_scheduler import LAST_WHERE, IntervalScaling
from ray_classy.registry import Key, Keys

_log = logging.getLogger(__name__)

_ROUNDING = 1e-6  # in train steps


@dataclass(frozen=True)
class TrainingLength:
    """The length of a training, in updates of the parameters.

    Attributes:
        steps: number of train steps of each train phase.
        period: train steps per update; a phase ends with an update.
        phases_per_epoch: train phases per pass over the train dataset.
    """

    steps: tuple[int, ...]
    period: int = 1
    phases_per_epoch: int = 1

    @property
    def updates(self) -> int:
        """Number of updates."""
        return sum(self._updates(steps) for steps in self.steps)

    @property
    def epochs(self) -> float:
        """Number of passes over the train dataset."""
        return len(self.steps) / self.phases_per_epoch

    def _updates(self, steps: int) -> int:
        return -(-steps // self.period)

    def update_at(self, where: float) -> int:
        """Returns the number, from 0, of the update that is made at a position of the training, in [0, 1)."""
        position = where * len(self.steps)
        phase = min(int(position + _ROUNDING / max(self.steps)), len(self.steps) - 1)
        done = (position - phase) * self.steps[phase] + _ROUNDING
        return sum(map(self._updates, self.steps[:phase])) + int(done) // self.period

    def start_of(self, update: float) -> float:
        """Returns the position at which an update begins, in [0, 1]; fractions of an update lie in between."""
        for phase, steps in enumerate(self.steps):
            if update < self._updates(steps):
                return (phase + min(update * self.period / steps, 1.0)) / len(self.steps)
            update -= self._updates(steps)
        return 1.0

    def updates_in(self, epochs: float) -> float:
        """Returns the number of updates in so many epochs; training goes on beyond its end as in its last phase."""
        phases = epochs * self.phases_per_epoch
        whole = min(int(phases), len(self.steps))
        rest = self.steps[whole] if whole < len(self.steps) else self.steps[-1]
        return sum(map(self._updates, self.steps[:whole])) + (phases - whole) * self._updates(rest)


@register_param_scheduler("warmup")
class WarmupParamScheduler(ClassyParamScheduler):
    """A straight line up to the first value of another schedule, and then that schedule over the rest of training.

    This is the gradual warm-up of Goyal et al. 2017 (arXiv:1706.02677, section 2.2). In a warm-up of n updates, update
    k (from 0) has start_value + (v - start_value) * k / n, where v is the value of the other schedule at its start, and
    update n has v. A task gives the length of its training when it is prepared, so that accumulated steps count as one
    update, and another `num_epochs` leaves the warm-up as long as it is.

    Args:
        then: the schedule that follows, or its config.
        steps: length of the warm-up in updates; this or `epochs`.
        epochs: length of the warm-up in passes over the train dataset.
        start_value: the value at 0.
        interval_scaling: "rescaled" (the other schedule runs from its start to its end over the rest of training) or
            "fixed" (it has at each position the value that it has without a warm-up: milestones stay where they are).
        update_interval: when it is evaluated; that of the other schedule is ignored.

    Raises:
        ComponentError: there is no length, or there are two, or a value is out of its range.
    """

    needs_length = True

    def __init__(
        self,
        then: ParamScheduler,
        steps: int | None = None,
        epochs: float | None = None,
        start_value: float = 0.0,
        interval_scaling: IntervalScaling | str = IntervalScaling.RESCALED,
        update_interval: UpdateInterval = UpdateInterval.STEP,
    ) -> None:
        super().__init__(update_interval)
        if (steps is None) == (epochs is None):
            raise ComponentError("warmup needs its length: either steps (updates) or epochs")
        for name, value in (("steps", steps), ("epochs", epochs), ("start_value", start_value)):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
                raise ArgumentTypeError(f"{name} of a warmup must be a number, not {value!r}")
            if value is not None and not 0 <= value < math.inf:
                raise ComponentError(f"{name} of a warmup must be at least 0, not {value!r}")
        if steps is not None and not isinstance(steps, int):
            raise ArgumentTypeError(f"steps of a warmup must be an integer, not {steps!r}")
        self._schedulers = [build_param_scheduler(then) if isinstance(then, Mapping) else then]
        if getattr(self._schedulers[0], "needs_length", False):
            raise ComponentError("a warmup cannot follow a warmup: use one, with a composite of linear parts after it")
        self._steps, self._epochs, self._start_value = steps, epochs, start_value
        self._scaling = choose(IntervalScaling, interval_scaling, "interval_scaling")
        self._length: TrainingLength | None = None

    @classmethod
    def config_keys(cls) -> Keys:
        """Returns the constructor's arguments, and `num_epochs` for the other schedule."""
        return {
            "then": Key(ParamScheduler),
            "steps": Key(int | None, None),
            "epochs": Key(float | None, None),
            "start_value": Key(float, 0.0),
            "interval_scaling": Key(Literal["rescaled", "fixed"], "rescaled"),
            "num_epochs": Key(float | None, None, NUM_EPOCHS_DOC),
            "update_interval": Key(Literal["epoch", "step"] | None, None),
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> ParamScheduler:
        """Builds the other schedule, then the warm-up; `num_epochs` is passed on.

        Raises:
            ComponentError: `then` is missing, or the constructor refuses an argument.
        """
        if not isinstance(config.get("then"), Mapping):
            raise ComponentError(f"warmup needs then, the config of the schedule after it, not {config.get('then')!r}")
        then = build_param_scheduler(with_num_epochs(config["then"], config.get("num_epochs")))
        return super().from_config({**{k: v for k, v in config.items() if k != "num_epochs"}, "then": then})

    def set_length(self, length: TrainingLength) -> None:
        """Takes the length of the training; a warm-up that is longer is logged as a warning."""
        self._length = length
        if self._updates(length) > length.updates and is_primary():
            ours = f"{self._steps} steps" if self._steps is not None else f"{self._epochs} epochs"
            _log.warning(
                "the warm-up of %s is longer than the training, of %d steps in %g epochs: it ends before its end",
                ours,
                length.updates,
                length.epochs,
            )

    def _updates(self, length: TrainingLength) -> float:
        return self._steps if self._steps is not None else length.updates_in(self._epochs or 0.0)

    def __call__(self, where: float) -> float:
        """Returns the value at `where`, the fraction of training that is done.

        Raises:
            TaskError: the length of the training is not known yet, and `where` is not 0.
        """
        if self._length is None:
            if where > 0:
                raise TaskError("a warmup needs the length of the training: call its set_length(TrainingLength(...))")
            return self._start_value if self._steps != 0 and self._epochs != 0 else self._schedulers[0](0.0)
        update, updates = self._length.update_at(where), self._updates(self._length)
        then, begin = self._schedulers[0], min(self._length.start_of(updates), LAST_WHERE)
        fixed = self._scaling is IntervalScaling.FIXED
        if update < updates:
            target = then(begin if fixed else 0.0)
            return self._start_value + (target - self._start_value) * update / updates
        now = self._length.start_of(update)
        position = now if fixed else (now - begin) / (1 - begin)
        return then(min(max(position, 0.0), LAST_WHERE))
