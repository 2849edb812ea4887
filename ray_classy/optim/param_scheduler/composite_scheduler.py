"""A sequence of schedulers."""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any, Literal

from ray_classy.errors import ComponentError
from ray_classy.optim.param_scheduler.classy_vision_param_scheduler import (
    NUM_EPOCHS_DOC,
    WHERE_EPSILON,
    ClassyParamScheduler,
    ParamScheduler,
    UpdateInterval,
    build_param_scheduler,
    choose,
    register_param_scheduler,
    with_num_epochs,
)
from ray_classy.registry import Key, Keys

LAST_WHERE = math.nextafter(1.0, 0.0)
"""The last position of training: schedules are not defined at 1."""


class IntervalScaling(enum.Enum):
    """What a part of a composite takes for progress: "rescaled", of the part, or "fixed", of the whole training."""

    RESCALED = "rescaled"
    FIXED = "fixed"


@register_param_scheduler("composite")
class CompositeParamScheduler(ClassyParamScheduler):
    """A sequence of schedulers, each for its part of training.

    All are evaluated at the composite's interval; their own is ignored. A linear part before another one is the gradual
    warm-up of Goyal et al. 2017 (arXiv:1706.02677, section 2.2).

    Args:
        schedulers: the parts, in order.
        lengths: each part's fraction of training, above 0; they sum to 1.
        interval_scaling: for each part "rescaled" (its `where` runs from 0 to 1) or "fixed" (its `where` is that of the
            whole training); None means "rescaled" for all.
        update_interval: when it is evaluated.

    Raises:
        ComponentError: the lists differ in length, or the lengths do not sum to 1.
    """

    def __init__(
        self,
        schedulers: list[ParamScheduler],
        lengths: list[float],
        interval_scaling: Sequence[IntervalScaling | str] | None = None,
        update_interval: UpdateInterval = UpdateInterval.STEP,
    ) -> None:
        super().__init__(update_interval)
        if not schedulers or len(schedulers) != len(lengths):
            raise ComponentError(f"composite needs a length for every scheduler: {len(schedulers)} and {len(lengths)}")
        if any(length <= 0 for length in lengths) or not math.isclose(sum(lengths), 1.0, abs_tol=1e-3):
            raise ComponentError(f"the lengths of a composite must be above 0 with sum 1, not {lengths!r}")
        if any(getattr(scheduler, "needs_length", False) for scheduler in schedulers):
            raise ComponentError("a warmup cannot be a part of a composite: write {name: warmup, then: {composite}}")
        if interval_scaling is None:
            interval_scaling = [IntervalScaling.RESCALED] * len(schedulers)
        if isinstance(interval_scaling, str) or len(interval_scaling) != len(schedulers):
            raise ComponentError(
                f"interval_scaling must be a list with one entry for every scheduler, not {interval_scaling!r}"
            )
        self._schedulers = list(schedulers)
        self._lengths = list(lengths)
        self._ends = list(accumulate(lengths))
        self._scaling = [choose(IntervalScaling, scaling, "interval_scaling") for scaling in interval_scaling]

    @classmethod
    def config_keys(cls) -> Keys:
        """Returns the constructor's arguments, and `num_epochs` for the parts that read it."""
        return {
            "schedulers": Key(list[ParamScheduler]),
            "lengths": Key(list[float]),
            "interval_scaling": Key(list[Literal["rescaled", "fixed"]] | None, None),
            "num_epochs": Key(float | None, None, NUM_EPOCHS_DOC),
            "update_interval": Key(Literal["epoch", "step"] | None, None),
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> ParamScheduler:
        """Builds the parts, then the composite; `num_epochs` is passed on to the parts that read it.

        Raises:
            ComponentError: `schedulers` or `lengths` is missing or not a list, or the constructor refuses them.
        """
        for key in ("schedulers", "lengths"):
            if not isinstance(config.get(key), Sequence) or isinstance(config[key], str):
                raise ComponentError(f"composite needs {key}, a list, not {config.get(key)!r}")
        num_epochs = config.get("num_epochs")
        parts = [build_param_scheduler(with_num_epochs(part, num_epochs)) for part in config["schedulers"]]
        rest = {key: value for key, value in config.items() if key != "num_epochs"}
        return super().from_config({**rest, "schedulers": parts})

    def __call__(self, where: float) -> float:
        """Returns the value at `where`, the fraction of training that is done."""
        passed = sum(where + WHERE_EPSILON > end for end in self._ends[:-1])
        if self._scaling[passed] is IntervalScaling.FIXED:
            return self._schedulers[passed](where)
        start = self._ends[passed] - self._lengths[passed]
        # WHERE_EPSILON begins a part slightly before its start, and rounding may move its end to 1.
        position = min(max((where - start) / self._lengths[passed], 0.0), LAST_WHERE)
        return self._schedulers[passed](position)
