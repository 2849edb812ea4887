"""Piecewise constant schedules."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from ray_classy.errors import ArgumentTypeError, ComponentError
from ray_classy.optim.param_scheduler.classy_vision_param_scheduler import (
    WHERE_EPSILON,
    ClassyParamScheduler,
    UpdateInterval,
    register_param_scheduler,
)


def _check_values(values: Any) -> list[float]:
    if not isinstance(values, Sequence) or isinstance(values, str) or not values:
        raise ComponentError(f"values must be a list of at least one number, not {values!r}")
    return list(values)


def _check_num_updates(num_updates: Any) -> None:
    message = f"num_epochs must be a number above 0, not {num_updates!r}"
    if not isinstance(num_updates, (int, float)) or isinstance(num_updates, bool):
        raise ArgumentTypeError(message)
    if num_updates <= 0:
        raise ComponentError(message)


@register_param_scheduler("multistep")
class MultiStepParamScheduler(ClassyParamScheduler):
    """A sequence of values that changes at given epochs.

    Args:
        values: the values, in order.
        num_updates: the length of training in epochs (`num_epochs` in a config); None uses the last milestone.
        milestones: the epochs at which the next value begins, in ascending order and below `num_updates`; one fewer
            than `values`, or as many if `num_updates` is None. None divides training into equal parts of whole epochs.
        update_interval: when it is evaluated.

    Raises:
        ComponentError: the numbers of values and milestones differ, or a milestone is out of order.
    """

    def __init__(
        self,
        values: list[float],
        num_updates: float | None = None,
        milestones: list[int] | None = None,
        update_interval: UpdateInterval = UpdateInterval.EPOCH,
    ) -> None:
        super().__init__(update_interval)
        self._values = _check_values(values)
        jumps = len(self._values) - 1
        if milestones is not None and (not isinstance(milestones, Sequence) or isinstance(milestones, str)):
            raise ArgumentTypeError(f"milestones must be a list of epochs, not {milestones!r}")
        if num_updates is None:
            if not milestones or len(milestones) != jumps + 1:
                raise ComponentError(
                    f"multistep needs num_epochs, or as many milestones as values, not milestones {milestones!r} "
                    f"with values {self._values}"
                )
            num_updates, milestones = milestones[-1], milestones[:-1]
        _check_num_updates(num_updates)
        if milestones is None:
            if num_updates < len(self._values):
                raise ComponentError(f"num_epochs {num_updates} is too short for the {len(self._values)} values")
            milestones = [math.ceil(num_updates / (jumps + 1)) * (index + 1) for index in range(jumps)]
        elif len(milestones) != jumps:
            raise ComponentError(f"multistep with {jumps + 1} values needs {jumps} milestones, not {milestones!r}")
        elif any(later <= earlier for earlier, later in pairwise([*milestones, num_updates])):
            raise ComponentError(
                f"milestones must be in ascending order and below num_epochs, not {milestones!r} of {num_updates}"
            )
        self._num_updates = num_updates
        self._milestones = list(milestones)

    def __call__(self, where: float) -> float:
        """Returns the value at `where`, the fraction of training that is done."""
        epoch = int((where + WHERE_EPSILON) * self._num_updates)
        return self._values[bisect_right(self._milestones, epoch)]


@register_param_scheduler("step")
class StepParamScheduler(ClassyParamScheduler):
    """A sequence of values, each for an equal part of training.

    Args:
        num_updates: the length of training in epochs (`num_epochs` in a config), above 0; it has no effect.
        values: the values, in order.
        update_interval: when it is evaluated.

    Raises:
        ComponentError: `num_updates` is not above 0, or `values` is empty.
    """

    def __init__(
        self, num_updates: float, values: list[float], update_interval: UpdateInterval = UpdateInterval.EPOCH
    ) -> None:
        super().__init__(update_interval)
        _check_num_updates(num_updates)
        self._values = _check_values(values)

    def __call__(self, where: float) -> float:
        """Returns the value at `where`, the fraction of training that is done."""
        index = int((where + WHERE_EPSILON) * len(self._values))
        return self._values[min(index, len(self._values) - 1)]


@register_param_scheduler("step_with_fixed_gamma")
class StepWithFixedGammaParamScheduler(StepParamScheduler):
    """Divides training into `num_decays` + 1 equal parts and multiplies the value by `gamma` between two of them.

    Args:
        base_value: the first value, above 0.
        num_decays: the number of changes, at least 1.
        gamma: the factor of each change, above 0.
        num_updates: the length of training in epochs (`num_epochs` in a config), above 0; it has no effect.
        update_interval: when it is evaluated.

    Raises:
        ComponentError: an argument is out of its range.
    """

    def __init__(
        self,
        base_value: float,
        num_decays: int,
        gamma: float,
        num_updates: float,
        update_interval: UpdateInterval = UpdateInterval.STEP,
    ) -> None:
        for name, value in (("base_value", base_value), ("gamma", gamma)):
            if not isinstance(value, (int, float)) or isinstance(value, bool) or value <= 0:
                raise ComponentError(f"{name} must be a number above 0, not {value!r}")
        if type(num_decays) is not int or num_decays < 1:
            raise ComponentError(f"num_decays must be an integer of at least 1, not {num_decays!r}")
        values = [base_value * gamma**decays for decays in range(num_decays + 1)]
        super().__init__(num_updates, values, update_interval)
